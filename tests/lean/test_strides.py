"""Stages say whether they take features of any strides; all others get them pixel-major."""

import torch
from torch import nn

from ladderseg_fast.lean.program import Program
from ladderseg_fast.lean.stages import CopyStage, StemStage


def test_only_the_stem_takes_any_strides() -> None:
    stem = StemStage(nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), "photographs", "stem", 8)
    copy = CopyStage("features", "copy", 8)
    data = torch.zeros(2, 3, 8, 8)
    program = Program([stem, copy], ("photographs", "features"), ("stem", "copy"))
    assert program.readable("photographs", data) is data
    assert program.readable("features", data).is_contiguous(memory_format=torch.channels_last)
    both = Program([stem, CopyStage("photographs", "copy", 8)], ("photographs",), ("stem", "copy"))
    assert both.readable("photographs", data).is_contiguous(memory_format=torch.channels_last)
