"""The names and shapes of the parameters: the backbone's are torchvision's, so that its checkpoints load."""

import pytest
import torch
from support.ladder_models import TINY, make_model

from ladderseg_fast import LadderDenseNet

LAYERS = {"densenet121": (6, 12, 24, 16), "densenet169": (6, 12, 32, 32)}
GROWTH = 32


def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    vectors = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (channels,))
    return {f"{name}.{key}": shape for key, shape in (vectors | {"num_batches_tracked": ()}).items()}


def conv(name: str, out_channels: int, in_channels: int, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out_channels, in_channels, size, size)}


def torchvision_features(backbone: str) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of torchvision's models.densenet `features`, without its final norm5."""
    expected = conv("features.conv0", 64, 3, 7) | norm("features.norm0", 64)
    channels = 64
    for block, layers in enumerate(LAYERS[backbone], start=1):
        for layer in range(1, layers + 1):
            name = f"features.denseblock{block}.denselayer{layer}"
            expected |= norm(f"{name}.norm1", channels) | conv(f"{name}.conv1", 4 * GROWTH, channels, 1)
            expected |= norm(f"{name}.norm2", 4 * GROWTH) | conv(f"{name}.conv2", GROWTH, 4 * GROWTH, 3)
            channels += GROWTH
        if block < 4:
            name = f"features.transition{block}"
            expected |= norm(f"{name}.norm", channels) | conv(f"{name}.conv", channels // 2, channels, 1)
            channels //= 2
    return expected


def ladder(backbone: str, classes: int) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of what the ladder adds: context layer, transitions up, heads."""
    skips = {"densenet121": (768, 1024, 512, 256), "densenet169": (1152, 1280, 512, 256)}[backbone]
    deepest = {"densenet121": 1024, "densenet169": 1664}[backbone]
    expected = norm("context.norm1", deepest) | conv("context.conv1", 512, deepest, 1)
    expected |= norm("context.norm2", 512) | conv("context.conv2", 128, 512, 3)
    for i, skip in enumerate(skips, start=1):
        expected |= norm(f"up{i}.skip_norm", skip) | conv(f"up{i}.skip_conv", 128, skip, 1)
        expected |= norm(f"up{i}.norm", 256) | conv(f"up{i}.conv", 128, 256, 3)
    for head in ("head", "aux_head"):
        expected |= norm(f"{head}.norm", 128) | conv(f"{head}.conv", classes, 128, 1)
        expected[f"{head}.conv.bias"] = (classes,)
    return expected


@pytest.mark.parametrize("backbone", LAYERS)
def test_keys_and_shapes(backbone: str) -> None:
    for memory in ("lean", "plain"):
        state = LadderDenseNet(backbone, num_classes=19, memory=memory).state_dict()
        actual = {key: tuple(tensor.shape) for key, tensor in state.items()}
        assert actual == torchvision_features(backbone) | ladder(backbone, 19)


def test_some_keys_literally() -> None:
    keys = LadderDenseNet("densenet121").state_dict().keys()
    assert {
        "features.conv0.weight",
        "features.norm0.running_var",
        "features.denseblock1.denselayer1.norm1.weight",
        "features.transition3.conv.weight",
        "features.denseblock4.denselayer8.conv1.weight",
        "features.denseblock4.denselayer9.norm1.bias",
        "features.denseblock4.denselayer16.conv2.weight",
    } <= keys


@pytest.mark.parametrize(("backbone", "millions"), [("densenet121", 9.589), ("densenet169", 15.530)])
def test_parameter_count(backbone: str, millions: float) -> None:
    count = sum(parameter.numel() for parameter in LadderDenseNet(backbone, num_classes=19).parameters())
    assert round(count / 1e6, 3) == millions


def test_block_outputs_of_densenet169() -> None:
    """Channels where the ladder takes its features: DB1, DB2, DB3, DB4a, DB4b (Figure 1 of the paper)."""
    model = LadderDenseNet("densenet169")
    readers = (model.up4.skip_norm, model.up3.skip_norm, model.up2.skip_norm, model.up1.skip_norm, model.context.norm1)
    assert [reader.num_features for reader in readers] == [256, 512, 1280, 1152, 1664]
    assert [layer.conv1.in_channels for layer in model.features.denseblock4.layers[15:17]] == [1120, 1152]


def test_lean_and_plain_exchange_their_state() -> None:
    source, target = make_model(TINY, "plain", seed=1), make_model(TINY, "lean", seed=2)
    target.load_state_dict(source.state_dict())
    for key, tensor in target.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[key]), key
