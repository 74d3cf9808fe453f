"""Environment variable that chooses the instruction set of the core's CPU code."""

import os

from . import _core

_VARIABLE = "LADDERSEG_FAST_ISA"


def choose_instruction_set() -> None:
    """Uses the instruction set that the environment names, if it names one.

    Raises:
        ImportError: this CPU has no instruction set of that name.
    """
    name = os.environ.get(_VARIABLE)
    if not name:
        return
    try:
        _core.set_instruction_set(name)
    except ValueError as error:
        raise ImportError(
            f"the environment variable {_VARIABLE} must be one of {', '.join(_core.supported_instruction_sets())}, "
            f"which this CPU has, or not set; got {name!r}",
            name=__package__,
        ) from error
