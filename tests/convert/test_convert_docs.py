"""docs/convert.md: its examples run, in their order, and print what it says."""

import re
from pathlib import Path

import pytest
from support import torchvision_networks

pytestmark = pytest.mark.real_use

TEXT = (Path(__file__).parents[2] / "docs" / "convert.md").read_text(encoding="utf-8")


def test_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    torchvision_networks.segmentation_models()
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        exec(compile(block, "docs/convert.md", "exec"), names)
    printed = capsys.readouterr().out
    (shown,) = re.findall(r"```\n(runs lean:.*?)```", TEXT, re.DOTALL)
    comments = re.findall(r"^# (features.*)$", TEXT, re.MULTILINE)
    assert shown in printed
    assert comments and all(comment in printed for comment in comments)
