"""The plain modules, against the formulas of the paper spelled out."""

import pytest
import torch
import torch.nn.functional as F
from support.comparison import assert_near
from support.lean_equals_plain import batch_norms, randomise
from torch import Tensor, nn

from ladderseg_fast.nn import (
    DENSENETS,
    BasicDenseBlock,
    Context,
    DenseBlock,
    DenseNetFeatures,
    Head,
    Transition,
    TransitionUp,
)


def prepared(module: nn.Module) -> nn.Module:
    return randomise(module).double()


def norm_relu(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch norm in training mode and ReLU."""
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = (x - mean).square().mean(dim=(0, 2, 3), keepdim=True)
    gamma, beta = norm.weight.view(1, -1, 1, 1), norm.bias.view(1, -1, 1, 1)
    return F.relu((x - mean) / (variance + norm.eps).sqrt() * gamma + beta)


def features(channels: int, height: int = 5, width: int = 7) -> Tensor:
    return torch.randn(2, channels, height, width, dtype=torch.float64)


def test_dense_block() -> None:
    """Layer i reads all channels before it, makes growth_rate more of them, and all of them come out."""
    block = prepared(DenseBlock(6, layers=3, growth_rate=4, bottleneck_width=2))
    x = features(6)
    expected = x
    for i, layer in enumerate(block.layers):
        assert layer.conv1.weight.shape == (8, 6 + 4 * i, 1, 1)
        hidden = F.conv2d(norm_relu(layer.norm1, expected), layer.conv1.weight)
        new = F.conv2d(norm_relu(layer.norm2, hidden), layer.conv2.weight, padding=1)
        expected = torch.cat([expected, new], dim=1)
    actual = block(x)
    assert actual.shape[1] == block.out_channels == 18
    assert_near(actual, expected, "output")


def test_dense_block_in_parts() -> None:
    block = prepared(DenseBlock(6, layers=3, growth_rate=4))
    x = features(6)
    assert_near(block(block(x, stop=2), start=2), block(x), "output")


@pytest.mark.parametrize("new_only", [False, True])
def test_basic_dense_block(new_only: bool) -> None:
    """No bottleneck, a bias, and whole channels dropped."""
    block = prepared(BasicDenseBlock(6, layers=3, growth_rate=4, dropout=0.5, new_only=new_only))
    x = features(6)
    torch.manual_seed(1)
    actual = block(x)
    torch.manual_seed(1)
    expected = x
    for i, layer in enumerate(block.layers):
        assert layer.conv.weight.shape == (4, 6 + 4 * i, 3, 3)
        new = F.conv2d(norm_relu(layer.norm, expected), layer.conv.weight, layer.conv.bias, padding=1)
        dropped = F.dropout2d(new, 0.5)
        assert (dropped == 0).flatten(2).all(dim=2).any()
        expected = torch.cat([expected, dropped], dim=1)
    assert_near(actual, expected[:, 6:] if new_only else expected, "output")


def test_transition() -> None:
    module = prepared(Transition(6, 3))
    x = features(6)
    expected = F.avg_pool2d(F.conv2d(norm_relu(module.norm, x), module.conv.weight), 2)
    assert expected.shape == (2, 3, 2, 3)
    assert_near(module(x), expected, "output")


def test_transition_up() -> None:
    """[coarse, skip] in this order: upsampled with half-pixel centres, and projected."""
    module = prepared(TransitionUp(coarse_channels=4, skip_in_channels=6, skip_channels=3, out_channels=5))
    coarse, skip = features(4, 3, 4), features(6)
    upsampled = F.interpolate(coarse, (5, 7), mode="bilinear", align_corners=False)
    projected = F.conv2d(norm_relu(module.skip_norm, skip), module.skip_conv.weight)
    both = torch.cat([upsampled, projected], dim=1)
    expected = F.conv2d(norm_relu(module.norm, both), module.conv.weight, padding=1)
    assert_near(module(coarse, skip), expected, "output")


def test_context() -> None:
    """1x1 to 512, then 3x3 with dilation 2 to 128, as in the paper."""
    module = prepared(Context(6))
    x = features(6)
    hidden = F.conv2d(norm_relu(module.norm1, x), module.conv1.weight)
    assert hidden.shape[1] == 512
    expected = F.conv2d(norm_relu(module.norm2, hidden), module.conv2.weight, padding=2, dilation=2)
    assert expected.shape == (2, 128, 5, 7)
    assert_near(module(x), expected, "output")


def test_head() -> None:
    module = prepared(Head(6, num_classes=3))
    x = features(6)
    expected = F.conv2d(norm_relu(module.norm, x), module.conv.weight, module.conv.bias)
    assert_near(module(x), expected, "output")


def test_stem() -> None:
    module = prepared(DenseNetFeatures((1,), stem_channels=8))
    images = features(3, 13, 18)
    convolved = F.conv2d(images, module.conv0.weight, stride=2, padding=3)
    expected = F.max_pool2d(norm_relu(module.norm0, convolved), 3, stride=2, padding=1)
    assert expected.shape == (2, 8, 4, 5)
    assert_near(module.stem(images), expected, "output")


@pytest.mark.parametrize(("backbone", "channels"), [("densenet121", 1024), ("densenet169", 1664)])
def test_densenet(backbone: str, channels: int) -> None:
    """Transitions halve the channels; nothing is normalised after the last block."""
    module = DenseNetFeatures(DENSENETS[backbone].block_layers)
    assert module.denseblock4.out_channels == channels
    for i in (1, 2, 3):
        transition = getattr(module, f"transition{i}")
        assert transition.conv.in_channels == getattr(module, f"denseblock{i}").out_channels
        assert transition.conv.out_channels * 2 == transition.conv.in_channels
        assert transition.conv.out_channels == getattr(module, f"denseblock{i + 1}").in_channels
    layers = sum(DENSENETS[backbone].block_layers)
    assert len(list(batch_norms(module))) == 2 * layers + 3 + 1
