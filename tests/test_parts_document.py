"""The examples of docs/parts.md run, and its table names what there is."""

import re
from pathlib import Path

import pytest
import torch

from ladderseg_fast import lean, nn

TEXT = (Path(__file__).parents[1] / "docs" / "parts.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^<!-- example: ([^\n]+) -->\n```python\n(.+?)^```$", TEXT, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str) -> None:
    names: dict[str, object] = {}
    exec(compile(EXAMPLES[name], f"docs/parts.md, {name}", "exec"), names)
    modules = [value for value in names.values() if isinstance(value, torch.nn.Module)]
    assert modules
    for module in modules:
        assert all(parameter.grad is not None for parameter in module.parameters())
    shapes = re.findall(r"^(\w+) = .+# (\[[\d, ]+\])", EXAMPLES[name], re.MULTILINE)
    assert shapes and [(variable, str(list(names[variable].shape))) for variable, _ in shapes] == shapes


def test_every_python_block_is_an_example() -> None:
    assert TEXT.count("```python") == len(EXAMPLES) >= 3


def test_table_names_all_modules_and_functions() -> None:
    rows = re.findall(r"^\| (.+?) \| `(\w+)` \|", TEXT, re.MULTILINE)
    functions = {function for _, function in rows}
    assert functions == {name for name in lean.__all__ if name.islower()} - {"opaque"}
    named = set(re.findall(r"`(\w+)`", " ".join(modules for modules, _ in rows)))
    assert named - {"nn.Sequential"} <= set(nn.__all__)
