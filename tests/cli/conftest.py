"""One short training that the tests of the commands share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ladder_models import TINY
from support.tiny_training import register_tiny_model, scenes_drawn_once

from ladderseg_fast.cli.main import main

#: Options of a training that takes seconds.
SHORT = ["--model", TINY, "--size", "64x96", "--steps", "2", "--device", "cpu", "--memory", "plain"]


@pytest.fixture(scope="package", autouse=True)
def tiny_model() -> Iterator[None]:
    """A model with few layers beside the real ones, and street scenes that are drawn once."""
    register_tiny_model()
    with scenes_drawn_once():
        yield


@pytest.fixture
def short() -> list[str]:
    return SHORT


@pytest.fixture(scope="package")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run directory of two steps on street scenes."""
    run = tmp_path_factory.mktemp("cli") / "run"
    assert main(["train", *SHORT, "--out", str(run)]) == 0
    return run
