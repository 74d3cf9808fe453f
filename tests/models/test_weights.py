"""Pretrained weights: every layout of checkpoint fills the encoder, and whatever does not fit is named."""

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.encoder_checkpoints import ENCODERS, network_state, old_names, tiny_densenet, tiny_resnet, without_counts
from torch import Tensor, nn

from ladderseg_fast.models.state import describe, state_problems
from ladderseg_fast.models.weights import load_encoder_weights
from ladderseg_fast.models.weights.recognise import recognise
from ladderseg_fast.nn import DENSENETS, DenseNetFeatures


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


LAYOUTS = {
    "network": lambda state: state,
    "without counts": without_counts,
    "old names": old_names,
    "data parallel": lambda state: prefixed(state, "module."),
    "compiled data parallel": lambda state: prefixed(state, "_orig_mod.module."),
    "state_dict": lambda state: {"epoch": 3, "state_dict": prefixed(state, "module."), "optimizer": {"lr": 0.1}},
    "model": lambda state: {"model": old_names(state), "epoch": 3},
    "no classifier": lambda state: {n: t for n, t in state.items() if not n.startswith(("classifier.", "fc."))},
    "parameters": lambda state: {name: nn.Parameter(tensor) for name, tensor in without_counts(state).items()},
}


def assert_same_state(actual: nn.Module, expected: nn.Module) -> None:
    state = expected.state_dict()
    assert actual.state_dict().keys() == state.keys()
    for name, tensor in actual.state_dict().items():
        assert torch.equal(tensor, state[name]) and tensor.dtype == state[name].dtype, name


def save(state: object, path: Path) -> Path:
    torch.save(state, path)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("architecture", ENCODERS)
def test_layouts(tmp_path: Path, architecture: str, layout: str) -> None:
    make = ENCODERS[architecture]
    source, target = make(seed=1), make(seed=2)
    path = save(LAYOUTS[layout](network_state(source, architecture)), tmp_path / "weights.pth")
    load_encoder_weights(target, path, architecture)
    assert_same_state(target, source)


@pytest.mark.parametrize("architecture", ENCODERS)
def test_encoder_alone_and_path_as_str(tmp_path: Path, architecture: str) -> None:
    make = ENCODERS[architecture]
    source, target = make(seed=1), make(seed=2)
    load_encoder_weights(target, str(save(source.state_dict(), tmp_path / "weights.pt")), architecture)
    assert_same_state(target, source)


@pytest.mark.parametrize("architecture", ENCODERS)
def test_safetensors(tmp_path: Path, architecture: str) -> None:
    make = ENCODERS[architecture]
    source, target = make(seed=1), make(seed=2)
    save_file(network_state(source, architecture), tmp_path / "model.safetensors")
    load_encoder_weights(target, tmp_path / "model.safetensors", architecture)
    assert_same_state(target, source)


def test_file_of_the_first_torch_format(tmp_path: Path) -> None:
    """torchvision's files are older than the zip format."""
    source, target = tiny_densenet(seed=1), tiny_densenet(seed=2)
    state = old_names(network_state(source, "densenet121"))
    torch.save(state, tmp_path / "weights.pth", _use_new_zipfile_serialization=False)
    load_encoder_weights(target, tmp_path / "weights.pth", "densenet121")
    assert_same_state(target, source)


def test_counts_are_loaded_or_else_kept(tmp_path: Path) -> None:
    source, target = tiny_densenet(), tiny_densenet()
    source.norm0.num_batches_tracked.fill_(40)
    target.norm0.num_batches_tracked.fill_(30)
    state = network_state(source, "densenet121")
    load_encoder_weights(target, save(without_counts(state), tmp_path / "without.pth"), "densenet121")
    assert target.norm0.num_batches_tracked == 30
    load_encoder_weights(target, save(state, tmp_path / "with.pth"), "densenet121")
    assert target.norm0.num_batches_tracked == 40


HALF, SINGLE, DOUBLE = torch.float16, torch.float32, torch.float64


@pytest.mark.parametrize(("of_file", "of_module"), [(HALF, SINGLE), (SINGLE, DOUBLE)])
def test_values_get_the_modules_dtype(tmp_path: Path, of_file: torch.dtype, of_module: torch.dtype) -> None:
    source, target = tiny_densenet(seed=1, dtype=of_file), tiny_densenet(seed=2, dtype=of_module)
    parameters = dict(target.named_parameters())
    load_encoder_weights(target, save(network_state(source, "densenet121"), tmp_path / "weights.pth"), "densenet121")
    assert_same_state(target, source.to(of_module))
    assert all(parameter is parameters[name] for name, parameter in target.named_parameters())
    assert target.norm0.running_var.dtype == of_module
    assert target.norm0.num_batches_tracked.dtype == torch.int64


@pytest.mark.parametrize("architecture", ENCODERS)
def test_first_convolution_of_grey_images(tmp_path: Path, architecture: str) -> None:
    """A grey image gives what it gives as RGB."""
    make = ENCODERS[architecture]
    source, target = make(seed=1, dtype=torch.float64), make(1, seed=2, dtype=torch.float64)
    load_encoder_weights(target, save(network_state(source, architecture), tmp_path / "weights.pth"), architecture)
    grey = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    expected = next(source.children())(grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(next(target.children())(grey), expected)


@pytest.mark.parametrize("channels", [2, 4, 7])
def test_first_convolution_of_many_channels(tmp_path: Path, channels: int) -> None:
    """R, G, B, R, ... times 3 / n."""
    source, target = tiny_densenet(seed=1), tiny_densenet(channels, seed=2)
    said = load_encoder_weights(
        target, save(network_state(source, "densenet121"), tmp_path / "weights.pth"), "densenet121"
    )
    weight, rgb = target.conv0.weight, source.conv0.weight
    assert (
        said == f"the first convolution's weights are those of R, G, B, R, ... for {channels} bands, times 3/{channels}"
    )
    assert weight.shape[1] == channels
    for channel in range(channels):
        torch.testing.assert_close(weight[:, channel], rgb[:, channel % 3] * 3 / channels)


def test_file_of_as_many_channels_is_taken_as_it_is(tmp_path: Path) -> None:
    source, target = tiny_densenet(4, seed=1), tiny_densenet(4, seed=2)
    load_encoder_weights(target, save(network_state(source, "densenet121"), tmp_path / "weights.pth"), "densenet121")
    assert_same_state(target, source)


def refused(tmp_path: Path, state: object, target: nn.Module | None = None, architecture: str = "densenet121") -> str:
    """The message of the ValueError that loading `state` raises; `target` has to stay as it is."""
    target = target or tiny_densenet(seed=2)
    before = copy.deepcopy(target)
    with pytest.raises(ValueError, match=r"weights\.pth: ") as caught:
        load_encoder_weights(target, save(state, tmp_path / "weights.pth"), architecture)
    assert_same_state(target, before)
    return str(caught.value)


@pytest.fixture
def state() -> dict[str, Tensor]:
    return network_state(tiny_densenet(seed=1), "densenet121")


def test_missing(tmp_path: Path, state: dict[str, Tensor]) -> None:
    del state["features.denseblock2.denselayer2.norm1.running_var"]
    message = refused(tmp_path, state)
    assert message.endswith("not weights of densenet121: missing: denseblock2.denselayer2.norm1.running_var")


def test_left_over(tmp_path: Path, state: dict[str, Tensor]) -> None:
    extra = {"features.norm6.weight": torch.ones(3), "head.weight": torch.ones(3), "features.conv0.bias": torch.ones(8)}
    assert refused(tmp_path, state | extra).endswith("121: left over: norm6.weight, head.weight, conv0.bias")


def test_many_names_are_abbreviated(tmp_path: Path, state: dict[str, Tensor]) -> None:
    few = {name: tensor for name, tensor in state.items() if "denseblock" not in name}
    message = refused(tmp_path, few)
    # Six layers of two norms (weight, bias, mean, variance) and two convolutions; five names are listed.
    assert message.count("denselayer") == 5
    assert message.endswith("and 55 more")


def test_classifier_of_the_other_family_is_left_over(tmp_path: Path, state: dict[str, Tensor]) -> None:
    assert refused(tmp_path, state | {"fc.weight": torch.ones(2)}).endswith("left over: fc.weight")


def test_another_shape(tmp_path: Path, state: dict[str, Tensor]) -> None:
    state["features.transition1.conv.weight"] = torch.ones(6, 13, 1, 1)
    assert refused(tmp_path, state).endswith(
        "of another shape: transition1.conv.weight [6, 13, 1, 1] instead of [6, 12, 1, 1]"
    )


def test_first_convolution_that_cannot_be_adapted(tmp_path: Path, state: dict[str, Tensor]) -> None:
    state["features.conv0.weight"] = torch.ones(8, 4, 7, 7)
    assert refused(tmp_path, state).endswith(
        "conv0.weight [8, 4, 7, 7] instead of [8, 3, 7, 7]; only weights for RGB are adapted: of 4 channels nobody "
        "knows which of 3 each is"
    )


def test_integers(tmp_path: Path, state: dict[str, Tensor]) -> None:
    state["features.conv0.weight"] = torch.ones(8, 3, 7, 7, dtype=torch.int8)
    assert refused(tmp_path, state).endswith("of another kind: conv0.weight torch.int8")


def test_not_finite(tmp_path: Path, state: dict[str, Tensor]) -> None:
    state["features.norm0.running_mean"][3] = torch.nan
    assert refused(tmp_path, state).endswith("not finite: norm0.running_mean")


def test_every_kind_of_problem_is_reported(tmp_path: Path, state: dict[str, Tensor]) -> None:
    state["features.norm0.wait"] = state.pop("features.norm0.weight")
    state["features.norm0.bias"] = torch.ones(9)
    message = refused(tmp_path, state)
    assert "missing: norm0.weight; left over: norm0.wait; of another shape: norm0.bias [9] instead of [8]" in message


def test_one_weight_in_two_styles(tmp_path: Path, state: dict[str, Tensor]) -> None:
    message = refused(tmp_path, state | old_names(state))
    name = "denseblock1.denselayer1.norm1.weight"
    assert message.endswith(f": {name} is there twice, in an old and in a new style of names")


def test_prefix_on_some_names_only(tmp_path: Path, state: dict[str, Tensor]) -> None:
    state["module.features.conv0.weight"] = state.pop("features.conv0.weight")
    message = refused(tmp_path, state)
    assert message.endswith("missing: conv0.weight; left over: module.features.conv0.weight")


def densenet(name: str) -> DenseNetFeatures:
    shape = DENSENETS[name]
    return DenseNetFeatures(shape.block_layers, shape.stem_channels, shape.growth_rate)


def test_another_architecture_is_named(tmp_path: Path) -> None:
    state = old_names(prefixed(densenet("densenet169").state_dict(), "module.features."))
    message = refused(tmp_path, state, densenet("densenet121"))
    assert "not weights of densenet121 but of densenet169: left over: denseblock3.denselayer25.norm1.w" in message
    assert "of another shape: transition3.norm.weight [1280] instead of [1024], " in message


def test_other_family_is_named(tmp_path: Path) -> None:
    state = prefixed(densenet("densenet121").state_dict(), "features.")
    message = refused(tmp_path, state, tiny_resnet(), "resnet50")
    assert "not weights of resnet50 but of densenet121: missing: conv1.weight" in message


@pytest.mark.parametrize("name", DENSENETS)
def test_densenets_are_recognised(name: str) -> None:
    with torch.device("meta"):
        state = densenet(name).state_dict()
    assert recognise(state) == recognise(prefixed(state, "features.")) == name
    assert recognise({key: tensor for key, tensor in state.items() if "denseblock3.denselayer7." not in key}) is None


@pytest.mark.parametrize(
    ("name", "blocks", "convolutions", "inner"),
    [
        ("resnet18", (2, 2, 2, 2), 2, (64, 64)),
        ("resnet34", (3, 4, 6, 3), 2, (64, 64)),
        ("resnet50", (3, 4, 6, 3), 3, (64, 64)),
        ("resnet101", (3, 4, 23, 3), 3, (64, 64)),
        ("wide_resnet50_2", (3, 4, 6, 3), 3, (128, 128)),
        (None, (3, 4, 6, 4), 3, (64, 64)),
    ],
)
def test_resnets_are_recognised(name: str | None, blocks: tuple, convolutions: int, inner: tuple) -> None:
    state = {
        f"layer{stage}.{block}.conv{i}.weight": torch.empty(*inner, 3, 3, device="meta")
        for stage, count in enumerate(blocks, start=1)
        for block in range(count)
        for i in range(1, convolutions + 1)
    }
    assert recognise(state) == name


def test_arguments(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match='weights must be a file\'s path or "imagenet", got bool'):
        load_encoder_weights(tiny_densenet(), True, "densenet121")
    with pytest.raises(ValueError, match="architecture must be one of .*, densenet201, .*resnet152.*, got 'vgg16'"):
        load_encoder_weights(tiny_densenet(), tmp_path / "weights.pth", "vgg16")


def test_tensors_without_values() -> None:
    state, target = {"a": torch.ones(2, device="meta")}, {"a": torch.ones(2)}
    assert describe(state_problems(state, target)) == "of another kind: a without values"
