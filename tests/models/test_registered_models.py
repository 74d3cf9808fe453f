"""What every registered model promises: two test classes, run over every name.

What only repeats with more layers has few of them by default; the slow tests have all.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.comparison import assert_same_bits, relative_error
from support.ladder_models import CLASSES, make_images, make_labels
from support.lean_equals_plain import assert_lean_equals_plain, batch_norms, randomise, set_mode
from support.parameter_counts import PARAMETER_COUNTS
from torch import Tensor, nn

from ladderseg_fast import LadderLoss, SegmentationModel, create_model, list_models
from ladderseg_fast.nn import DENSENETS, RESNETS

#: Resolution of the scores, and of the auxiliary ones, in image pixels.
STRIDES = {
    "densenet121_32x": (32, None),
    "dilated_densenet121": (4, 8),
    "dilated_resnet50": (4, 8),
    "ladder_densenet121_single": (4, None),
    "ladder_densenet169_split34": (4, 128),
    "resnet50_32x": (32, None),
}


def odd_size(model: SegmentationModel) -> tuple[int, int]:
    """A little more than the smallest that it takes."""
    return max(model.min_size, 64) + 1, max(model.min_size, 64) + 37


def make(name: str, dtype: torch.dtype = torch.float64, **options: object) -> SegmentationModel:
    return randomise(create_model(name, CLASSES, **options)).to(dtype)


def way(memory: str) -> Callable[[nn.Module, Tensor], list[Tensor]]:
    def forward(model: SegmentationModel, images: Tensor) -> list[Tensor]:
        model.memory = memory
        return [scores for scores in model(images) if scores is not None]

    return forward


#: With few layers they are what others are.
DEEPER = ("ladder_densenet169", "ladder_densenet201", "ladder_resnet34", "ladder_resnet101")

of_each_depth = pytest.mark.parametrize(
    ("name", "depth"),
    [
        *((name, "few layers") for name in list_models() if name not in DEEPER),
        *(pytest.param(name, "all layers", marks=pytest.mark.slow) for name in list_models()),
    ],
    indirect=["depth"],
)


@pytest.fixture
def depth(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many layers the backbones have; their widths and the kinds of their layers stay."""
    if request.param == "few layers":
        shortened: list[tuple[Mapping[str, Any], dict[str, Any]]] = [
            (DENSENETS, {"block_layers": (1, 2, 2, 2)}),
            (RESNETS, {"units": (1, 2, 1, 2)}),
        ]
        for shapes, layers in shortened:
            for name, shape in shapes.items():
                monkeypatch.setitem(shapes, name, replace(shape, **layers))


@pytest.mark.parametrize("name", list_models())
class TestRegisteredModel:
    def test_parameter_count(self, name: str) -> None:
        with torch.device("meta"):
            model = create_model(name)
        assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETER_COUNTS[name]

    def test_output_shapes(self, name: str) -> None:
        main, auxiliary = STRIDES.get(name, (4, 64))
        n, (height, width) = 1, (256, 384)
        with torch.device("meta"):
            model = create_model(name, CLASSES, memory="plain").eval()
            output = model(torch.empty(n, 3, height, width))
        assert output.logits.shape == (n, CLASSES, height // main, width // main)
        if auxiliary is None:
            assert output.aux is None
        else:
            assert output.aux.shape == (n, CLASSES, height // auxiliary, width // auxiliary)
        assert model.min_size == (auxiliary or (64 if main == 4 else main))


@of_each_depth
@pytest.mark.usefixtures("depth")
class TestLayers:
    def test_trains_at_odd_sizes(self, name: str) -> None:
        """The loss and every gradient are finite, and no parameter is without one."""
        model = make(name, torch.float32).train()
        height, width = odd_size(model)
        images, labels = make_images(2, height, width, torch.float32), make_labels(2, height, width)
        loss = LadderLoss()(model(images), labels)
        loss.backward()
        assert math.isfinite(loss.item())
        for parameter_name, parameter in model.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name
        assert model.predict(images).shape == (2, height, width)

    # In evaluation the statistics are those of test_frozen_bn.
    @pytest.mark.parametrize("mode", ["train", pytest.param("eval", marks=pytest.mark.slow)])
    def test_lean_equals_plain(self, name: str, mode: str) -> None:
        model = make(name)
        set_mode(model, mode)
        images = make_images(4 if mode == "train" else 2, *odd_size(model)).requires_grad_()
        assert_lean_equals_plain(model, way("lean"), way("plain"), [[images]])

    def test_frozen_bn(self, name: str) -> None:
        """Running statistics normalise and stay, whatever train() is called with; lean equals plain."""
        model = make(name, frozen_bn=True).train()
        assert model.training
        assert not any(norm.training for norm in batch_norms(model))
        before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        images = make_images(1, *odd_size(model))
        assert_lean_equals_plain(model, way("lean"), way("plain"), [[images]])
        twin = copy.deepcopy(model)
        training, evaluating = way("lean")(twin.train(), images), way("lean")(twin.eval(), images)
        for i, (a, b) in enumerate(zip(training, evaluating, strict=True)):
            assert_same_bits(a.detach(), b.detach(), f"output {i}")
        for key, tensor in twin.state_dict().items():
            assert_same_bits(tensor, before[key], key)

    def test_float32_agrees_with_float64(self, name: str) -> None:
        model = make(name).eval()
        images = make_images(1, *odd_size(model), torch.float32)
        exact = way("plain")(model, images.double())
        single = copy.deepcopy(model).float()
        lean, plain = way("lean")(single, images), way("plain")(single, images)
        assert relative_error(lean, exact) < max(2 * relative_error(plain, exact), 1e-6)

    def test_evaluation_is_deterministic(self, name: str) -> None:
        model = make(name, torch.float32).eval()
        images = make_images(2, *odd_size(model), torch.float32)
        with torch.no_grad():
            first, second = (way("lean")(model, images) for _ in range(2))
        for i, (a, b) in enumerate(zip(first, second, strict=True)):
            assert_same_bits(a, b, f"output {i}")

    def test_state_dict_round_trip(self, name: str, tmp_path: Path) -> None:
        """Through load_state_dict, which is strict, and through a file with the configuration."""
        model = make(name, torch.float32, in_channels=2, frozen_bn=True)
        other = create_model(name, CLASSES, in_channels=2)
        other.load_state_dict(model.state_dict())
        model.save_pretrained(tmp_path / "model.safetensors")
        loaded = SegmentationModel.from_pretrained(tmp_path / "model.safetensors")
        assert type(loaded) is type(model)
        assert loaded.configuration == model.configuration
        assert loaded.frozen_bn and not loaded.training
        for twin in (other, loaded):
            for (key, tensor), again in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
                assert_same_bits(again, tensor, key)
