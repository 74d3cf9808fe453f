"""ladderseg_fast/_core.pyi says what the compiled module has."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from ladderseg_fast import _core

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stub", ROOT / "csrc" / "bindings" / "stub.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_stub_is_that_of_the_module(generator: ModuleType) -> None:
    stub = Path(_core.__file__).with_name("_core.pyi")
    assert stub.read_text() == generator.stub(_core), "run python csrc/bindings/stub.py"


def test_every_kernel_is_a_function() -> None:
    assert _core.kernel_names() and all(callable(getattr(_core, name)) for name in _core.kernel_names())


def test_commas_within_brackets_separate_no_parameters(generator: ModuleType) -> None:
    assert generator.split("a: Callable[[str, tuple[int, int]], bytes], b: int") == [
        "a: Callable[[str, tuple[int, int]], bytes]",
        "b: int",
    ]
