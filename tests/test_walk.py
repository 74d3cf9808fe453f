"""The walk of the images: through few files from a model to the first kernel.

Decorators' wrappers do not count: they hand on what they get, and nobody has to read them to follow the images.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType

import pytest
from support.ladder_models import make_images, make_model
from torch import Tensor

import ladderseg_fast
from ladderseg_fast import LadderDenseNet
from ladderseg_fast.models import segmentation_model

PACKAGE = Path(ladderseg_fast.__file__).parent

#: Files of the package that functions are in to which the images are handed.
MOST = 8


class _Reached(Exception):
    """The first kernel."""


def holds(value: object, memory: int, depth: int = 2) -> bool:
    """Whether `value` is a tensor in this memory, or a container that has one."""
    if isinstance(value, Tensor):
        return value.untyped_storage().data_ptr() == memory
    if depth == 0:
        return False
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return any(holds(each, memory, depth - 1) for each in inside)


def arguments(frame: FrameType) -> Iterator[object]:
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 0x04) + bool(code.co_flags & 0x08)
    return (frame.f_locals.get(name) for name in code.co_varnames[:count])


def is_wrapper(code: CodeType) -> bool:
    """Whether this is what a decorator puts around a function."""
    return code.co_name == "call" and "function" in code.co_freevars


def walk(model: LadderDenseNet, images: Tensor) -> list[str]:
    """Files in which functions are handed the images, in order, until the core's first kernel works on them."""
    memory = images.untyped_storage().data_ptr()
    files: list[str] = []

    def look(frame: FrameType, event: str, called: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "c_call" and getattr(called, "__name__", "") == "stem_forward":
            raise _Reached
        if event != "call" or not path.is_relative_to(PACKAGE) or is_wrapper(frame.f_code):
            return
        name = path.relative_to(PACKAGE).as_posix()
        if name not in files and any(holds(value, memory) for value in arguments(frame)):
            files.append(name)

    sys.setprofile(look)
    try:
        model(images)
    except _Reached:
        return files
    finally:
        sys.setprofile(None)
    raise AssertionError("no kernel has been reached")


def test_images_pass_few_files() -> None:
    files = walk(make_model(), make_images(2, 64, 64))
    assert files[0] == "models/segmentation_model.py" and "lean/stages/stem.py" in files
    assert len(files) <= MOST, files


def test_a_detour_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One file more, whose function the images go through, is one more in the walk."""
    model, images = make_model(), make_images(2, 64, 64)
    before = walk(model, images)
    source = "def detour(program, inputs, plan, workspace):\n    return run(program, inputs, plan, workspace)\n"
    names = {"run": segmentation_model.run}
    exec(compile(source, str(PACKAGE / "lean" / "detour.py"), "exec"), names)
    monkeypatch.setattr(segmentation_model, "run", names["detour"])
    assert walk(model, images) == [*before[:1], "lean/detour.py", *before[1:]]
