"""Steps and predictions that are interrupted at a line, or refused memory: part of training_faults.py.

Afterwards a model must be what one with the same state_dict is: the same bits in the next step, and as much memory.
"""

import gc
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import failing_calls
import torch
from support.ladder_models import make_images, make_labels, make_model, training_loss
from torch import Tensor

import ladderseg_fast
from ladderseg_fast import LadderDenseNet
from ladderseg_fast.lean import tensor_guards

_PACKAGE = str(Path(ladderseg_fast.__file__).parent)
_SIZE = (2, 64, 96)

Run = Callable[[LadderDenseNet], list[Tensor]]


def step(model: LadderDenseNet) -> list[Tensor]:
    """Loss and gradients of a training step."""
    model.train()
    model.zero_grad()
    loss = training_loss(model, make_images(*_SIZE, torch.float32), make_labels(*_SIZE))
    loss.backward()
    return [loss.detach(), *(parameter.grad for parameter in model.parameters() if parameter.grad is not None)]


def prediction(model: LadderDenseNet) -> list[Tensor]:
    """Labels, of images whose prediction is interpreted at first, then recorded, then repeated."""
    labels = model.predict(make_images(*_SIZE, torch.float32))
    assert isinstance(labels, Tensor)
    return [labels]


#: What is interrupted, by name: the run, and how often it has run before.
RUNS: dict[str, tuple[Run, int]] = {
    "first step": (step, 0),
    "later step": (step, 2),
    "recorded prediction": (prediction, 1),
    "repeated prediction": (prediction, 2),
}


def count_lines(name: str) -> int:
    """Number of the package's lines that run in a run."""
    run, before = RUNS[name]
    model = _model(run, before)
    with _interrupted_at(0) as seen:
        run(model)
    return seen.lines


def check_interrupt(name: str, line: int) -> Iterator[str]:
    """Yields problems after a KeyboardInterrupt at line number `line` of a run."""
    run, before = RUNS[name]
    model = _model(run, before)
    # A finalizer cannot raise: Python reports the exception and goes on.
    reported: list[Any] = []
    hook, sys.unraisablehook = sys.unraisablehook, reported.append
    outcome = "no error"
    try:
        with _interrupted_at(line) as seen:
            run(model)
    except KeyboardInterrupt:
        outcome = ""
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"
    finally:
        sys.unraisablehook = hook
    where = f"{name}, interrupted at {seen.where}"
    if seen.where and outcome and not (outcome == "no error" and reported):
        yield f"{where}: {outcome}"
    yield from _wrong_afterwards(where, run, model)


def count_requests(name: str, least_bytes: int) -> int:
    """Number of requests for at least so much memory in a run."""
    run, before = RUNS[name]
    model = _model(run, before)
    with _refused_memory(0, least_bytes) as calls:
        run(model)
    return calls.count


def check_refusal(name: str, number: int, least_bytes: int) -> Iterator[str]:
    """Yields problems after request number `number` of a run for memory is refused."""
    run, before = RUNS[name]
    model = _model(run, before)
    where = f"{name}, refused request {number}"
    try:
        with _refused_memory(number, least_bytes):
            run(model)
    except (MemoryError, RuntimeError) as error:
        if "alloc" not in str(error) and "memory" not in str(error) and not isinstance(error, MemoryError):
            yield f"{where}: {type(error).__name__}: {error}"
    yield from _wrong_afterwards(where, run, model)


@contextmanager
def _refused_memory(number: int, least_bytes: int) -> Iterator[failing_calls.Calls]:
    """failing_memory_call, except while torch makes guards of tensors, whose C++ lets a refusal end the process."""
    make_guards = tensor_guards._made

    def made(kind: Callable[..., tensor_guards.Guards], *tensors: Tensor) -> tensor_guards.Guards:
        with failing_calls.no_failing_memory_call():
            return make_guards(kind, *tensors)

    with failing_calls.failing_memory_call(number, least_bytes) as calls:
        with mock.patch.object(tensor_guards, "_made", made):
            yield calls


def _model(run: Run, before: int) -> LadderDenseNet:
    model = make_model(dtype=torch.float32)
    for _ in range(before):
        run(model)
    return model


def _wrong_afterwards(where: str, run: Run, model: LadderDenseNet) -> Iterator[str]:
    fresh = make_model(dtype=torch.float32)
    fresh.load_state_dict(model.state_dict())
    try:
        for _ in range(3):
            if not _equal(run(model), run(fresh)):
                yield f"{where}: the next runs have other bits"
                return
    except Exception as error:
        yield f"{where}: the next run: {type(error).__name__}: {error}"
        return
    gc.collect()
    held, needed = model._workspace, fresh._workspace
    if held.in_use or held.resident > needed.resident:
        yield f"{where}: {held.in_use} bytes stay in use, {held.resident} are held where {needed.resident} do"


def _equal(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


class _Seen:
    lines = 0
    where = ""


@contextmanager
def _interrupted_at(number: int) -> Iterator[_Seen]:
    """Block in which the package's line number `number` (from 1; 0: none), as lines run, raises KeyboardInterrupt."""
    seen = _Seen()

    def trace_lines(frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            seen.lines += 1
            if seen.lines == number:
                seen.where = f"{frame.f_code.co_filename.removeprefix(_PACKAGE)[1:]}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return trace_lines

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        return trace_lines if frame.f_code.co_filename.startswith(_PACKAGE) else None

    sys.settrace(trace)
    try:
        yield seen
    finally:
        sys.settrace(None)


def chosen(count: int, every: int, seed: int) -> list[int]:
    """Numbers from 1 to `count`: one at random of `every` each."""
    generator = random.Random(seed)
    starts = range(1, count + 1, every)
    return [generator.randrange(start, min(start + every, count + 1)) for start in starts]
