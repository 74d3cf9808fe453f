"""One call of an operator with arguments drawn from a seed and a number."""

from dataclasses import dataclass
from typing import Any

import torch
from argument_faults import break_one
from drawn_tensors import Draw
from operator_arguments import draw_arguments
from operator_comparison import check_equals_reference, check_refused
from torch import Tensor

from ladderseg_fast import _core, ops

OPERATORS = [name for name in ops.__all__ if name != "reference"]


@dataclass
class Case:
    """Description of a call, for counts and messages."""

    operator: str
    wrong: bool
    described: str


def run_case(seed: int, number: int, about: list[Case]) -> None:
    """Makes the call and checks it; appends to `about` what it is before it is made.

    Raises:
        AssertionError: the operator does something else than it should.
    """
    draw = Draw(f"{seed}/{number}")
    name = draw.choice(OPERATORS)
    _core.set_instruction_set(draw.choice(_core.supported_instruction_sets()))
    threads = draw.choice((1, 1, 2, 3))
    torch.set_num_threads(threads)
    dtypes = [torch.float32, torch.float32, torch.float64, *([torch.bfloat16] if _core.has_bfloat16() else [])]
    arguments = draw_arguments(draw, name, draw.choice(dtypes))
    wrong = draw.chance(0.5)
    pattern = ""
    if wrong:
        arguments, pattern = break_one(draw, arguments)
    where = f"{_core.instruction_set()}, {threads} threads"
    described = ", ".join(f"{key}={_described(value)}" for key, value in arguments.items())
    about.append(Case(name, wrong, f"{name}({described}), {where}"))
    if wrong:
        check_refused(name, arguments, pattern)
    else:
        check_equals_reference(draw, name, arguments)


def _described(value: Any) -> str:
    if not isinstance(value, Tensor):
        return repr(value)
    kind = f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if value.layout is not torch.strided:
        return f"{kind} {value.layout}"
    return f"{kind} strides {list(value.stride())}" + (" meta" if value.is_meta else "")
