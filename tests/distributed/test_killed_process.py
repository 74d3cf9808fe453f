"""One of torchrun's processes is killed: the run ends, names it, and can go on."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from ladderseg_fast.engine import RunDirectory, load_checkpoint

#: A real model, as torchrun starts nothing but the command itself.
COMMAND = """
-m torch.distributed.run --standalone --nproc-per-node 2 -m ladderseg_fast train --size 64x128 --batch 2 --steps 1000
--checkpoint-every 1 --device cpu --workers 0
""".split()


def children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task").iterdir()
    return sorted(int(child) for task in tasks for child in (task / "children").read_text().split())


def rank_of(process: int) -> int:
    variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    return next(int(text.removeprefix(b"RANK=")) for text in variables if text.startswith(b"RANK="))


def test_killed_process_is_named(tmp_path):
    run = RunDirectory(tmp_path / "run")
    launcher = subprocess.Popen(
        [sys.executable, *COMMAND, "--out", str(run.path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        end = time.monotonic() + 120
        while not run.last.exists():
            assert launcher.poll() is None and time.monotonic() < end, launcher.communicate()
            time.sleep(0.05)
        victim = next(child for child in children(launcher.pid) if rank_of(child) == 1)
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        output = launcher.communicate(timeout=60)[0]
    finally:
        launcher.kill()
    assert time.monotonic() - killed < 30, "torchrun has not had to kill the other"
    assert launcher.returncode != 0
    said = re.findall(r"ladderseg: .*", output)
    assert len(said) == 1, output
    assert said[0].startswith(f"ladderseg: error: rank 1 (process {victim} on ")
    assert f"; the last checkpoint is {run.last}" in said[0] or f"; saved {run.last}" in said[0]
    assert load_checkpoint(run.last).training_state["processes"] == 2
    assert not list(run.path.glob("*.lock"))
