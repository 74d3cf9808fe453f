"""Entry point of the command `ladderseg`: one file per sub-command, errors in one line."""

import argparse
import signal
import sys
from collections.abc import Sequence

from .._version import __version__
from ..engine import Interrupted, NonFiniteError
from ..models.weights import MissingPackageError
from . import data, evaluate, plan, predict, report, train

#: Exit statuses besides 0. An error is 2, as argparse has it; what a signal ends has 128 more than the signal's number.
ERROR, INTERRUPTED = 2, 128 + signal.SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command with the arguments `argv` (None: the process's) and returns its exit status.

    What a user can mend (bad arguments, files, data, a diverging training) ends in one line on stderr; anything
    else is a bug and shows its traceback.
    """
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except (OSError, ValueError, MissingPackageError, NonFiniteError) as error:
        print(f"ladderseg: error: {one_line(error)}", file=sys.stderr)
        return ERROR
    except Interrupted as error:
        print(f"ladderseg: {error}", file=sys.stderr)
        return 128 + error.signal
    except KeyboardInterrupt:
        print("ladderseg: interrupted", file=sys.stderr)
        return INTERRUPTED


def one_line(error: Exception) -> str:
    """The message of `error`; one from a DataLoader worker comes with a traceback before it, which is left out.

    It is one line, except where it names many files.
    """
    text = str(error).strip()
    if "Traceback (most recent call last)" not in text:
        return text
    return text.split("\n")[-1].removeprefix(f"{type(error).__name__}: ")


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
    report.add_parser(commands)
    data.add_parser(commands)
    plan.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
