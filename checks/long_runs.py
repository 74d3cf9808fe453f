"""Checks that long runs hold no more at their end than at their middle.

    python checks/long_runs.py
    python checks/long_runs.py --steps 200 --models 20      # shorter
    python checks/long_runs.py --only steps-of-fifty-sizes

A small ladder trains, and predicts, on one size and on fifty in turn; with a budget too. Models are made, copied,
pickled, used and dropped. Twenty times during each run the process counts what it holds: resident memory, Python's
objects, tensors, descriptors, threads. Over the last half, the line of least squares through these counts may rise by
no more than LIMITS says; the workspace must hold what one step needs, and know of eight kinds of steps at most.
"""

import argparse
import copy
import gc
import pickle
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import torch
from record import record
from resources import Holdings, growth, holdings

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.ladder_models import make_images, make_labels, make_model, training_loss
from support.tiny_training import register_tiny_model

from ladderseg_fast import LadderDenseNet
from ladderseg_fast.lean.recordings import _MOST as MOST_RECORDINGS
from ladderseg_fast.lean.workspace import _MAX_PLACEMENTS as MOST_PLACEMENTS

#: Height and width: fifty, of which few lie next to each other in size.
SIZES = [(64 + 8 * (i * 13 % 50 // 10), 64 + 4 * (i * 13 % 10)) for i in range(50)]
SAMPLES = 20

#: Most that each number may grow over the last half of a run.
LIMITS = Holdings(resident=4_000_000, objects=100, tensors=2, descriptors=0, threads=0)

Action = Callable[[int], None]


class Run:
    """One model, and what is done with it again and again."""

    def __init__(self, memory: str | int = "lean", sizes: list[tuple[int, int]] | None = None) -> None:
        self.model: LadderDenseNet = make_model(memory=str(memory), dtype=torch.float32)
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.sizes = sizes or SIZES[-1:]
        self.examples = [
            (make_images(2, *size, torch.float32, seed), make_labels(2, *size, seed))
            for seed, size in enumerate(self.sizes)
        ]

    def step(self, number: int) -> None:
        images, labels = self.examples[number % len(self.examples)]
        self.model.train()
        loss = training_loss(self.model, images, labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def predict(self, number: int) -> None:
        images, _ = self.examples[number % len(self.examples)]
        self.model.predict(images)

    def problems(self, method: str) -> list[str]:
        """Returns what the workspace holds too much of."""
        workspace, found = self.model._workspace, []
        kinds, placements = len(workspace.recordings._entries), len(workspace._placements)
        if kinds > MOST_RECORDINGS or placements > MOST_PLACEMENTS:
            found.append(f"{kinds} recordings and {placements} placements are kept")
        if workspace.in_use:
            found.append(f"{workspace.in_use} bytes of the workspace stay in use")
        before = workspace.resident
        self.model.release_workspace()
        most = 0  # sizes in turn leave more or less, as they happen to be placed in what others have left
        for number in range(3 * len(self.examples)):
            getattr(self, method)(number)
            most = max(most, workspace.resident)
        if before > most:
            found.append(f"the workspace held {before} bytes, and a new one at most {most}")
        return found


def use_models(number: int) -> None:
    """Makes, uses, copies and drops a model; raises AssertionError unless it is gone then."""
    run = Run(sizes=SIZES[:2])
    for each in range(4):
        run.step(each)
        run.predict(each)
        run.predict(each)
    run.predict(2)
    others = [copy.deepcopy(run.model), pickle.loads(pickle.dumps(run.model))]
    for other in others:
        other.predict(run.examples[0][0])
    references = [weakref.ref(each) for each in (run.model, run.model._workspace, *others)]
    del run, others, other
    gc.collect()
    assert not any(reference() for reference in references), f"model {number} is still there"


def watch(name: str, action: Action, count: int) -> tuple[dict[str, float], list[str]]:
    """Does `action` `count` times; returns growth, and what grew too much."""
    samples = []
    for number in range(count):
        action(number)
        if (number + 1) % max(1, count // SAMPLES) == 0:
            samples.append(holdings())
    grown = growth(samples, len(samples) // 2)
    text = ", ".join(f"{key} {value:+.0f}" for key, value in grown.items())
    print(f"{name}: {count} times, over the last half: {text}; {samples[-1].resident / 1e6:.0f} MB", flush=True)
    problems = [
        f"{name}: {key} grew by {value:.0f} over the last half, at most {getattr(LIMITS, key)} is allowed"
        for key, value in grown.items()
        if value > getattr(LIMITS, key)
    ]
    return grown, problems


def runs(steps: int, models: int) -> dict[str, Callable[[], tuple[dict[str, float], list[str]]]]:
    """The runs by name."""

    def of(name: str, method: str, count: int, memory: str, sizes: list[tuple[int, int]] | None):
        def watched() -> tuple[dict[str, float], list[str]]:
            run = Run(memory, sizes)
            grown, problems = watch(name, getattr(run, method), count)
            return grown, problems + [f"{name}: {each}" for each in run.problems(method)]

        return watched

    found = {
        name: of(name, method, count, memory, sizes)
        for name, method, count, memory, sizes in (
            ("steps-of-one-size", "step", steps, "lean", None),
            ("steps-of-fifty-sizes", "step", steps, "lean", SIZES),
            ("predictions-of-one-size", "predict", steps, "lean", None),
            ("predictions-of-fifty-sizes", "predict", steps, "lean", SIZES),
            ("steps-within-a-budget", "step", steps // 2, "1GiB", SIZES),
        )
    }
    return found | {"models": lambda: watch("models", use_models, models)}


def main() -> int:
    names = list(runs(0, 0))
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1000, help="steps, and predictions, of each run (default: 1000)")
    parser.add_argument("--models", type=int, default=100, help="models that are made and dropped (default: 100)")
    parser.add_argument("--only", choices=names, action="append", help="this run alone; may be repeated")
    parser.add_argument("--record", action="store_true", help="write the result, see checks/README.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    register_tiny_model()
    figures, problems = {}, []
    for name, run in runs(arguments.steps, arguments.models).items():
        if arguments.only is None or name in arguments.only:
            figures[name], found = run()
            problems += found
    print("\n".join(problems) or "nothing grows")
    if arguments.record and not problems:
        most = max(each["resident"] for each in figures.values())
        record(
            "long_runs",
            claim="Long runs hold no more at their end than at their middle: memory, objects, descriptors, threads.",
            found=f"{arguments.steps} steps and predictions, of one size and of fifty, and {arguments.models} models: "
            f"resident memory grew by {max(0.0, most) / 1e6:.1f} MB at most over a last half",
            figures=figures,
        )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
