"""Commands that two processes have run together, once for all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ladder_models import TINY
from support.rank_processes import Command, Ended, run_ranks
from support.tiny_training import register_tiny_model, scenes_drawn_once

#: A training whose result does not depend on how images are shared: batch norm's statistics are frozen.
FROZEN = [
    *("--model", TINY, "--size", "64x96", "--batch", "4", "--steps", "4", "--eval-every", "2", "--device", "cpu"),
    *("--workers", "0", "--lr", "0.05", "--set", "output.overlays=1", "--set", "model.frozen_bn=true"),
    *("--set", "training.optimizer=sgd", "--set", "data.scale=[0.7,1.4]", "--set", "data.crop=[64,64]"),
]
#: The same with what else has a state; the steps are of two batches.
MORE = [
    *(*FROZEN, "--set", "training.accumulate=2", "--set", "training.ema_decay=0.9"),
    *("--set", "training.class_weights=[1,2,0,1,1,3,1,1,1,1,1]", "--set", "training.clip_norm=0.5"),
]
#: Batches with a loss of NaN are left out.
SKIP = ["--set", "training.on_nonfinite=skip"]
#: The paper's recipe, where each process has its own batch norm.
OWN = ["--model", TINY, "--size", "64x96", "--batch", "4", "--steps", "4", "--device", "cpu", "--workers", "0"]


#: The classes are weighed by their pixels, which all processes count.
BALANCED = [*OWN, "--set", "training.class_weights=balanced"]
#: Batch norm over the batch of all processes.
JOINT = ["--sync-bn", "--set", "training.optimizer=sgd"]


def commands(at: Path) -> dict[str, Command]:
    """The commands by name; runs are in the directory `at`."""
    train = ["train", *FROZEN, "--out"]
    return {
        "frozen": Command([*train, str(at / "frozen")]),
        "evaluated": Command(
            ["evaluate", str(at / "frozen"), "--data", "street", "--json", str(at / "two.json")],
            (1, "no checkpoint", 1),
        ),
        "drawn": Command(
            [*("evaluate", str(at / "frozen"), "--data", "street", "--worst", "3"), "--out", str(at / "worst")]
        ),
        "stopped by Ctrl-C": Command(["evaluate", str(at / "frozen"), "--data", "street"], (None, "Ctrl-C", 1)),
        "own": Command(["train", *OWN, "--out", str(at / "own")]),
        "first step": Command(["train", *OWN, "--steps", "1", "--out", str(at / "first")]),
        "joint": Command(["train", *OWN, *JOINT, "--out", str(at / "joint")]),
        "repeated": Command(["train", *OWN, "--out", str(at / "repeated")], (1, "signal", 2)),
        "went on": Command(["train", "--resume", str(at / "repeated")], (1, "no settings", 1)),
        "stopped": Command(["train", *MORE, "--out", str(at / "stopped")], (1, "signal", 3)),
        "skipped": Command([*train, str(at / "skipped"), *SKIP], (1, "not a number", 2)),
        "not finite": Command([*train, str(at / "stopped early")], (1, "not a number", 2)),
        "odd": Command(["train", *FROZEN, "--batch", "3", "--out", str(at / "odd")]),
        "plain": Command(["train", *OWN, "--memory", "plain", "--sync-bn", "--out", str(at / "plain")]),
        "several": Command(["train", *FROZEN, "--device", "cpu,cpu", "--out", str(at / "several")]),
        "predicted": Command(["predict", str(at / "frozen"), "none.jpg", "--out", str(at / "predicted")]),
        "full disk": Command([*train, str(at / "full")], (0, "full disk", 4)),
        "broken image": Command([*train, str(at / "broken"), "--eval-every", "4"], (1, "broken image", 6)),
        "uncounted": Command(["train", *BALANCED, "--out", str(at / "uncounted")], (1, "signal while counting", 3)),
        "bug": Command([*train, str(at / "bug")], (1, "bug", 2)),
    }


@pytest.fixture(scope="package", autouse=True)
def tiny_model() -> Iterator[None]:
    """A model with few layers beside the real ones, and street scenes that are drawn once."""
    register_tiny_model()
    with scenes_drawn_once():
        yield


@pytest.fixture(scope="package")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the runs."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="package")
def ended(runs: Path) -> dict[str, list[Ended]]:
    """What the commands came to, by name and rank."""
    listed = commands(runs)
    return dict(zip(listed, run_ranks(2, list(listed.values())), strict=True))
