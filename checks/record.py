"""Results of the checks: one file each in checks/results, and their table in docs/trust.md."""

import datetime
import json
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

from ladderseg_fast.atomic_file import atomic_write
from ladderseg_fast.engine.git_revision import git_revision

ROOT = Path(__file__).parents[1]
FOLDER = Path(__file__).with_name("results")
DOCUMENT = ROOT / "docs" / "trust.md"

_TABLE = re.compile(r"(?<=<!-- table: claims -->\n).*?(?=<!-- end -->)", re.DOTALL)


def record(name: str, *, claim: str, found: str, figures: dict[str, Any]) -> None:
    """Writes checks/results/NAME.json and the table of docs/trust.md.

    Args:
        name: of the script, without ".py"; of a part of it "script-part".
        claim: what was checked, as a sentence.
        found: the figures that matter, as a short phrase: they become a cell of the table.
        figures: everything else that was found, for JSON.
    """
    result = {
        "claim": claim,
        "command": " ".join(["python", f"checks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "found": found,
        "date": datetime.date.today().isoformat(),
        "revision": str(git_revision(ROOT)),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "figures": figures,
    }
    FOLDER.mkdir(exist_ok=True)
    with atomic_write(FOLDER / f"{name}.json") as file:
        file.write((json.dumps(result, indent=1) + "\n").encode())
    text = DOCUMENT.read_text()
    with atomic_write(DOCUMENT) as file:
        file.write(filled(text).encode())


def filled(text: str) -> str:
    """docs/trust.md with the table that the files of checks/results make."""
    return _TABLE.sub(lambda _: table(), text)


def table() -> str:
    """Claims, what was found, when and of which revision, and the commands, as a table of Markdown."""
    rows = ["| claim | found | date, revision | command |", "| --- | --- | --- | --- |"]
    for path in sorted(FOLDER.glob("*.json")):
        each = json.loads(path.read_text())
        when = f"{each['date']}, {each['revision'][:7]}"
        rows.append(f"| {each['claim']} | {each['found']} | {when} | `{each['command']}` |")
    return "\n".join(rows) + "\n"
