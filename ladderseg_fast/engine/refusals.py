"""Words for what the system may refuse a process, or take from it."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from ..memory import format_bytes
from .errors import SystemRefusal

#: Messages of the allocators of NumPy, torch, CUDA, C++ and this package (ops.layout), also inside the traceback of a
#: process that loads images.
_MEMORY = re.compile(
    r"can't allocate memory|out of memory|\w*MemoryError\b|Cannot allocate memory|std::bad_alloc|has no memory for"
)
_AMOUNT = re.compile(r"(?:to allocate|Unable to allocate|no memory for) (?P<amount>[\d.]+) (?P<unit>bytes|[KMGTPE]iB)")
_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (?:is killed by signal: (?P<signal>[^.]+)|exited)")


def refusal(error: BaseException) -> str | None:
    """Name of what the system refused, if that is why `error` was raised; None if not."""
    text = str(error)
    if isinstance(error, BrokenPipeError):
        return text
    if isinstance(error, OSError):
        if error.errno == errno.EAGAIN:
            return "the system refused another process"
        return "the system refused memory" if error.errno == errno.ENOMEM else None
    if isinstance(error, RuntimeError) and (match := _WORKER.match(text)):
        reason = f", signal {match['signal'].strip()}" if match["signal"] else ""
        return f"the system ended a process that loads images{reason}, as it does where memory is short"
    if isinstance(error, RuntimeError) and "can't start new thread" in text:
        return "the system refused another thread"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _MEMORY.search(text)):
        match = _AMOUNT.search(text)
        return "the system refused memory" if match is None else f"the system refused {_amount(match)} of memory"
    return None


@contextmanager
def refusals_named() -> Iterator[None]:
    """Block whose errors become a SystemRefusal if they stem from a refusal."""
    try:
        yield
    except (SystemRefusal, BrokenPipeError):  # who reads what is printed is the caller's to know
        raise
    except Exception as error:
        text = refusal(error)
        if text is None:
            raise
        raise SystemRefusal(text) from error


def _amount(match: re.Match[str]) -> str:
    if match["unit"] == "bytes":
        return format_bytes(float(match["amount"]))
    return f"{match['amount']} {match['unit']}"
