"""Text for a terminal: names of files and classes may come from somebody else, and must not command it."""

import re
from typing import TextIO

#: What terminals act on: control characters except the end of a line and the tabulator, and those that change the
#: direction of text (Unicode, UAX #9) or end a line in another way.
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """`text` with everything that a terminal would act on as an escape, such as "\\x1b"; ends of lines stay."""
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def in_one_line(text: str) -> str:
    """`text` made printable, with an escape for each end of a line: a name must not pass for lines of the program."""
    return printable(text).replace("\n", "\\n")


def show(*texts: object, stream: TextIO | None = None) -> None:
    """Prints `texts`, with spaces between them, made printable, as one or more lines, at once.

    Args:
        stream: None for the standard output.
    """
    print(printable(" ".join(map(str, texts))), file=stream, flush=True)
