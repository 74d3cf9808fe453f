"""Documentation: the files and functions that the walkthrough and CONTRIBUTING.md name exist, and lines are short."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WALKTHROUGH = ROOT / "docs" / "walkthrough.md"

TEXTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def named_files() -> list[str]:
    return sorted(set(re.findall(r"`([\w/]+\.(?:py|cpp|h|def|cu|cuh|md))`", WALKTHROUGH.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("name", named_files())
def test_files_of_the_walkthrough_exist(name: str) -> None:
    assert (ROOT / name).is_file() or (ROOT / "ladderseg_fast" / name).is_file()


def test_functions_of_the_walkthrough_are_where_it_says() -> None:
    rows = re.findall(r"\| `([\w/.]+)` \| `(?:\w+(?:\.|::))?(\w+)`", WALKTHROUGH.read_text(encoding="utf-8"))
    assert len(rows) >= 8
    missing = [(file, name) for file, name in rows if not re.search(rf"\b{name}\(", (ROOT / file).read_text())]
    assert missing == []


@pytest.mark.parametrize("section, name", [("Add an operator", "bn_relu"), ("Add a data set", "camvid"), (None, None)])
def test_files_that_contributing_names_exist(section: str | None, name: str | None) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    if section is not None:
        (text,) = re.findall(rf"^## {section}$(.+?)^## ", text, re.MULTILINE | re.DOTALL)
    named = {path for path in re.findall(r"`(\.?\w+/[\w./]*)`", text) if name is not None or "NAME" not in path}
    assert len(named) >= 4
    assert [path for path in named if not (ROOT / path.replace("NAME", name or "")).exists()] == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_lines_are_short(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


def test_examples_of_losses_run() -> None:
    """One after the other, as a reader types them."""
    examples = re.findall(r"^```python\n(.+?)^```", (ROOT / "docs" / "losses.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(examples) == 4
    names: dict[str, object] = {}
    for example in examples:
        exec(example, names)
    assert names["prediction"].shape == names["labels"].shape
    assert all(names[loss].isfinite() for loss in ("loss", "ohem", "hardest_quarter", "dice", "both"))
