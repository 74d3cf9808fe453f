"""Five hundred steps of training, lean and plain: they must part no more than plain trainings do from each other.

    python checks/drift.py --record
    python checks/drift.py --steps 100                            # shorter
    python checks/drift.py --camvid FOLDER                        # photographs instead of drawn streets

Every training starts from one seed and sees the same batches, in float32. Rounding makes any two part: plain PyTorch
sums in another order with channels_last maps, with the images of a batch in reverse order, and with both. These are the
plain trainings. Of lean there are two: one thread, and three with the batch reversed.

At twenty points, half of them in the first fifty steps, the distance of the weights (relative to how far they have
moved) and of the loss (root mean square over the steps since the last point) between lean and plain may be at most
twice the largest between two plain trainings. Without Adam, which makes full steps of gradients that are nothing but
rounding.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from record import record
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.ladder_models import TINY
from support.operator_suite import threads
from support.tiny_training import register_tiny_model

from ladderseg_fast import LadderDenseNet, LadderLoss
from ladderseg_fast.data import IMAGENET_NORMALISATION, CamVid, SegmentationTensors, StreetScenes

#: How much farther than any two plain trainings lean may be from a plain one.
LIMIT = 2.0

#: Steps after which trainings are compared; many early ones, when they have not parted much yet.
POINTS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 75, 100, 150, 200, 250, 300, 350, 400, 450, 500)

#: Distances of the loss that are never held against a training: some units in the last place.
FLOOR = 2e-6

_SIZE = (96, 128)
_SCENES, _BATCH = 16, 2


@dataclass(frozen=True)
class Way:
    """Order in which a training sums: nothing of it changes what is computed but for rounding."""

    memory: str = "plain"
    layout: torch.memory_format = torch.contiguous_format
    reversed: bool = False
    threads: int = 1


WAYS = {
    "plain": Way(),
    "plain, channels_last": Way(layout=torch.channels_last),
    "plain, reversed batch": Way(reversed=True),
    "plain, channels_last, reversed batch": Way(layout=torch.channels_last, reversed=True),
    "lean": Way("lean"),
    "lean, 3 threads, reversed batch": Way("lean", reversed=True, threads=3),
}


@dataclass
class Training:
    """Weights at each point, less those at the start, and the loss of every step."""

    moved: list[Tensor]
    losses: Tensor


def train(way: Way, examples: Sequence[tuple[Tensor, Tensor]], classes: int, steps: int, seed: int) -> Training:
    torch.manual_seed(seed)
    model = LadderDenseNet(TINY, classes, memory=way.memory).to(memory_format=way.layout)
    loss_of = LadderLoss(memory=way.memory)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    batches, at_first = torch.Generator().manual_seed(seed), _weights(model)
    moved, losses = [], torch.zeros(steps, dtype=torch.float64)
    with threads(way.threads):
        for step in range(steps):
            chosen = torch.randperm(len(examples), generator=batches)[:_BATCH].tolist()
            images, labels = (torch.stack(each) for each in zip(*(examples[i] for i in chosen)))
            if way.reversed:
                images, labels = images.flip(0), labels.flip(0)
            optimizer.zero_grad()
            loss = loss_of(model(images.contiguous(memory_format=way.layout)), labels)
            loss.backward()
            optimizer.step()
            losses[step] = loss.detach()
            if step + 1 in POINTS:
                moved.append(_weights(model) - at_first)
    return Training(moved, losses)


def _weights(model: LadderDenseNet) -> Tensor:
    return torch.cat([each.detach().double().flatten() for each in model.parameters()])


def distances(one: Training, other: Training) -> dict[str, list[float]]:
    """Distances of weights and losses, at each point."""
    ends = [0, *POINTS[: len(one.moved)]]
    losses = [(one.losses - other.losses)[a:b].square().mean().sqrt() for a, b in itertools.pairwise(ends)]
    weights = [(a - b).norm() / b.norm() for a, b in zip(one.moved, other.moved)]
    return {"weights": [float(each) for each in weights], "loss": [max(FLOOR, float(each)) for each in losses]}


def examples_of(camvid: Path | None, seed: int) -> tuple[list[tuple[Tensor, Tensor]], int]:
    """Images [3, H, W], labels [H, W], and the number of classes."""
    scenes = StreetScenes(_SCENES, _SIZE, seed) if camvid is None else CamVid(camvid, "train")
    tensors = SegmentationTensors(scenes, _SIZE, IMAGENET_NORMALISATION)
    return [tensors[i][:2] for i in range(_SCENES)], len(scenes.label_set)


def compare(trainings: dict[str, Training]) -> dict[str, dict[str, list[float]]]:
    """Largest distances of weights and loss, at each point, of plain trainings and of lean from a plain one."""
    of = {"plain": [], "lean": []}
    for one, other in itertools.combinations(trainings, 2):
        kinds = {WAYS[one].memory, WAYS[other].memory}
        if "plain" in kinds:
            of["lean" if "lean" in kinds else "plain"].append(distances(trainings[one], trainings[other]))
    return {
        what: {kind: [max(values) for values in zip(*(pair[what] for pair in pairs))] for kind, pairs in of.items()}
        for what in ("weights", "loss")
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500, help="of each training, at most 500 (default: 500)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, scenes and batches (default: 0)")
    parser.add_argument("--camvid", type=Path, help="CamVid's folder, whose first images to train on, not on streets")
    parser.add_argument("--record", action="store_true", help="write the result, see checks/README.md")
    options = parser.parse_args()
    if not 1 <= options.steps <= POINTS[-1]:
        parser.error(f"--steps must be between 1 and {POINTS[-1]}, got {options.steps}")
    torch.set_num_threads(1)
    register_tiny_model()
    started = time.process_time()
    examples, classes = examples_of(options.camvid, options.seed)
    trainings = {}
    for name, way in WAYS.items():
        trainings[name] = train(way, examples, classes, options.steps, options.seed)
        ends = [f"{trainings[name].losses[part].mean():.4f}" for part in (slice(10), slice(-10, None))]
        print(f"{name}: loss {' to '.join(ends)}, {time.process_time() - started:.0f} s of CPU", flush=True)
    found = compare(trainings)
    ratios = {}
    for what, of in found.items():
        ratios[what] = [lean / plain for lean, plain in zip(of["lean"], of["plain"])]
        for i, ratio in enumerate(ratios[what]):
            print(f"{what}, step {POINTS[i]}: plain {of['plain'][i]:.3g}, lean {of['lean'][i]:.3g}, ratio {ratio:.2f}")
    worst = {what: max(each) for what, each in ratios.items()}
    holds = max(worst.values()) <= LIMIT
    if options.record:
        record(
            "drift",
            claim="Lean and plain trainings part no more than plain ones that sum in another order, within a factor of "
            f"{LIMIT:g}",
            found=f"{options.steps} steps, {len(ratios['loss'])} points: at most {worst['weights']:.2f} (weights) and "
            f"{worst['loss']:.2f} (loss) times as far",
            figures={
                "seed": options.seed,
                "distances": found,
                "ratios": ratios,
                "last_losses": {name: float(each.losses[-10:].mean()) for name, each in trainings.items()},
                "cpu_seconds": round(time.process_time() - started, 1),
            },
        )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
