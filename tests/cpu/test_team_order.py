"""csrc/cpu/team_order.h: ThreadSanitizer sees the order of a team's members, and no more order than there is."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from cpu.headers import HERE, ROOT

SOURCES = [HERE / "programs" / "team_order.cpp", ROOT / "csrc" / "cpu" / "runtime" / "contention.cpp"]
DEFINED = ["-DLADDERSEG_ISA=baseline", "-DLADDERSEG_VECTOR_BYTES=16"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("team_order") / "program"
    include = [f"-I{ROOT / 'csrc' / folder}" for folder in ("include", "cpu")]
    flags = ["-std=c++17", "-O1", "-g1", "-fopenmp", "-fsanitize=thread", *DEFINED, *include]
    command = [*shlex.split(os.environ.get("CXX", "g++")), *flags, *map(str, SOURCES), "-o", str(path)]
    subprocess.run(command, check=True)
    return path


@pytest.mark.slow
def test_fork_barriers_and_join_are_no_races(program: Path) -> None:
    result = subprocess.run([program], capture_output=True, text=True)
    # 64 elements, 4 members, 3 phases: what the last one leaves, of all repeats.
    assert (result.returncode, int(result.stdout)) == (0, 64 * 4 * 3 * sum(range(50))), result.stderr


@pytest.mark.slow
def test_a_missing_barrier_is_one(program: Path) -> None:
    result = subprocess.run([program, "race"], capture_output=True, text=True)
    assert result.returncode == 66 and "data race" in result.stderr
