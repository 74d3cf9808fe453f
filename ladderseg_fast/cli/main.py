"""Entry point of the command `ladderseg`: one file per sub-command, errors in one line."""

import argparse
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import TextIO

from .._version import __version__
from ..cuda.images import KernelsUnavailableError
from ..engine import Interrupted, NonFiniteError, SystemRefusal
from ..engine.distributed import check_alone
from ..engine.refusals import refusals_named
from ..engine.terminal import show
from ..models.weights import MissingPackageError
from . import data, evaluate, export, plan, predict, report, train

#: Exit statuses besides 0. An error is 2, as argparse has it; what a signal ends has 128 more than the signal's number.
ERROR, INTERRUPTED, CLOSED_PIPE = 2, 128 + signal.SIGINT, 128 + signal.SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command with the arguments `argv` (None: the process's) and returns its exit status.

    An error that a user can mend (bad arguments, files, data, a diverging training, too little memory) ends in one line
    on stderr; anything else is a bug and shows its traceback. If nobody reads stdout any more, as behind `| head`, the
    command ends silently.
    """
    if sys.stderr is None:  # closed: else a file of ours would get its number, and what libraries print
        sys.stderr = open(os.devnull, "w")
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name that cannot be printed must not end a run
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    try:
        with refusals_named():
            if arguments.run not in (train.run, evaluate.run):
                check_alone()
            status = arguments.run(arguments)
            if sys.stdout is not None:
                sys.stdout.flush()
            return status
    except BrokenPipeError:
        _silence(sys.stdout)
        return CLOSED_PIPE
    except KernelsUnavailableError as error:
        _say(f"error: {one_line(error)}; --device cpu does without them")
        return ERROR
    except (OSError, ValueError, MissingPackageError, NonFiniteError, SystemRefusal) as error:
        _say(f"error: {one_line(error)}")
        return ERROR
    except Interrupted as error:
        _say(str(error))
        return 128 + error.signal
    except KeyboardInterrupt as error:
        _say(str(error) or "interrupted")
        return INTERRUPTED


def one_line(error: Exception) -> str:
    """Returns the message of `error`, without the traceback that a DataLoader worker puts before its message.

    The message is one line, unless it names many files.
    """
    text = str(error).strip()
    if "Traceback (most recent call last)" not in text:
        return text
    return text.split("\n")[-1].removeprefix(f"{type(error).__name__}: ")


def _say(text: str) -> None:
    """Prints one line about the command on stderr, or on stdout if nobody reads stderr."""
    for stream in (sys.stderr, sys.stdout):
        try:
            show(f"ladderseg: {text}", stream=stream)
            return
        except OSError:
            _silence(stream)


def _silence(stream: TextIO) -> None:
    """Discards what `stream` still holds, so that Python does not complain at its end that it cannot be written."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ladderseg",
        description="Train ladder-style DenseNets for semantic segmentation in little memory, and predict with them.",
    )
    parser.add_argument("--version", action="version", version=f"ladderseg {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    train.add_parser(commands)
    predict.add_parser(commands)
    evaluate.add_parser(commands)
    export.add_parser(commands)
    report.add_parser(commands)
    data.add_parser(commands)
    plan.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
