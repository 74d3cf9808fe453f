"""`ladderseg train`, killed with SIGKILL at random moments and resumed, ends with the bits of a run in peace."""

import json
import os
import random
import time
from pathlib import Path

import pytest
import torch
from support.processes import context
from support.tiny_training import differences, run_command

from ladderseg_fast.engine import RunDirectory, load_checkpoint

OPTIONS = """
--model tiny --size 64x96 --checkpoint-every 3
--set training.ema_decay=0.9 --set data.scale=[0.7,1.4] --set data.crop=[64,64] --set output.overlays=1
""".split()


class Training:
    """A run and the process that works on it."""

    def __init__(self, path: Path, *options: str) -> None:
        self.run = RunDirectory(path)
        self.options = [*OPTIONS, *options]

    def start(self) -> None:
        """Begins the run, or resumes it as soon as it has its settings."""
        if self.run.config.exists():
            arguments = ["--resume", str(self.run.path)]
        else:
            arguments = [*self.options, "--out", str(self.run.path)]
        self.lines = len(self._log())
        # Not a daemon, which could have no processes that load images.
        self.process = context.Process(target=run_command, args=(["train", *arguments], self.run.path.parent))
        self.process.start()

    def finish(self) -> None:
        """Waits for the end."""
        self.process.join(timeout=300)
        assert self.process.exitcode == 0, self._output()

    def kill(self, kind: str, rng: random.Random) -> None:
        """Waits for a moment of `kind`, and a little longer, and kills the process then."""
        if kind == "step":
            # The record that the life begins with, and some steps.
            lines = rng.randint(1, 5)
            self._wait_until(lambda: len(self._log()) >= self.lines + lines)
        elif kind == "checkpoint":
            partial = self.run.path / f".{self.run.last.name}.{self.process.pid}.partial"
            self._wait_until(partial.exists)
        longer = rng.uniform(0.0, {"start": 3.0, "step": 0.2, "checkpoint": 0.03}[kind])
        print(f"kill: {kind} and {longer:.3f} s, after step {self._last_step()}")
        time.sleep(longer)
        assert self.process.exitcode is None, "the training ended before it was killed"
        self.process.kill()
        self.process.join()

    def _wait_until(self, reached) -> None:
        while not reached():
            assert self.process.exitcode is None, self._output()
            time.sleep(0.0005)

    def _output(self) -> str:
        return (self.run.path.parent / f"{self.process.pid}.txt").read_text()

    def _log(self) -> list[str]:
        """The complete lines of the log."""
        return self.run.log.read_text().split("\n")[:-1] if self.run.log.exists() else []

    def _last_step(self) -> int:
        return json.loads(self._log()[-1]).get("step", 0) if self._log() else 0


def check(directory: Path, kinds: list[str], seed: int, *options: str) -> None:
    """Compares a training that is killed len(kinds) times with one that is left in peace."""
    print(f"seed {seed}, kills {kinds}")
    rng = random.Random(seed)
    peaceful, killed = Training(directory / "peaceful", *options), Training(directory / "killed", *options)
    peaceful.start()
    for kind in kinds:
        killed.start()
        killed.kill(kind, rng)
    killed.start()
    killed.finish()
    peaceful.finish()
    assert differences(killed.run.path, peaceful.run.path) == []
    best, expected = (load_checkpoint(training.run.best) for training in (killed, peaceful))
    assert best.step == expected.step
    assert all(torch.equal(best.state[name], value) for name, value in expected.state.items())
    assert losses(killed.run) == losses(peaceful.run)
    assert not list(killed.run.path.glob(".*.partial"))


def losses(run: RunDirectory) -> list[tuple[int, float]]:
    records = map(json.loads, run.log.read_text().splitlines())
    return [(record["step"], record["loss"]) for record in records if record["kind"] == "step"]


def test_two_kills(tmp_path):
    check(tmp_path, ["step", "checkpoint"], 0, "--steps", "9")


@pytest.mark.slow
def test_ten_kills(tmp_path):
    seed = int(os.environ.get("LADDERSEG_FAST_KILL_SEED", random.randrange(2**32)))
    kinds = ["start"] * 2 + ["step"] * 5 + ["checkpoint"] * 3
    random.Random(seed).shuffle(kinds)
    options = ["--steps", "70", "--eval-every", "10", "--workers", "1", "--set", "training.accumulate=2"]
    check(tmp_path, kinds, seed, *options)
