"""The gradient of a feature: corrections of readers with different statistics, of one process and of several."""

import pytest
import torch
from support.comparison import assert_near
from torch import Tensor

from ladderseg_fast.lean.feature import Feature, FeatureGradient
from ladderseg_fast.lean.joint_batch import JointBatch
from ladderseg_fast.ops.affine_correction import settled
from ladderseg_fast.ops.channel_statistics import mean_and_variance
from ladderseg_fast.ops.layout import pixel_major

CHANNELS = 6


def test_statistics_of_channels_after_a_gap() -> None:
    """Those of the channels in the gap are not known, whatever is stored behind it."""
    data = pixel_major(torch.randn(2, CHANNELS, 3, 4, dtype=torch.float64))
    feature = Feature(data)
    feature.new_statistics(2, 4).fill_(7.0)
    assert_near(feature.statistics(CHANNELS), mean_and_variance(data), "statistics")


def test_corrections_of_two_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its own mean; that of a joint batch is exchanged once a channel, however often it is read."""
    exchanged = []

    def all_reduce(both: Tensor, group: object) -> None:
        exchanged.append(both.shape[1])
        both.mul_(3)  # two other processes with the same sums

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    x, data = (pixel_major(torch.randn(2, CHANNELS, 3, 4, dtype=torch.float64)) for _ in range(2))
    feature, gradient = Feature(x), FeatureGradient(data.clone())
    positions = torch.tensor(72.0, dtype=torch.float64)
    expected = data.clone()
    for joint in (None, JointBatch(object(), positions)):
        found = gradient.deferred(feature, joint)
        for each in (found.mean, found.constant, found.slope):
            each.copy_(torch.randn(CHANNELS, dtype=torch.float64))
        mean, constant, slope = (each.clone().view(1, -1, 1, 1) for each in (found.mean, found.constant, found.slope))
        expected -= (1 if joint is None else 3 / positions) * (constant + slope * (x - mean))

    def corrected(start: int, stop: int) -> Tensor:
        return settled(gradient.corrected(start, stop))

    for _ in range(2):
        assert_near(corrected(4, 6), expected[:, 4:], "the last channels")
    assert exchanged == [2]
    assert_near(corrected(0, 6), expected, "all channels")
    assert exchanged == [2, 4]
