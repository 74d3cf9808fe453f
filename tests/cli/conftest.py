"""One short training that the tests of the commands share."""

from pathlib import Path

import pytest

from ladderseg_fast.cli.main import main

#: Options of a training that takes seconds.
SHORT = ["--size", "64x96", "--steps", "2", "--memory", "plain"]


@pytest.fixture(scope="session")
def short() -> list[str]:
    return SHORT


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run directory of two steps on street scenes."""
    run = tmp_path_factory.mktemp("cli") / "run"
    assert main(["train", *SHORT, "--out", str(run)]) == 0
    return run
