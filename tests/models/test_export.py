"""torch.export of models, lean ones too."""

from typing import Any

import pytest
import torch
from support.comparison import assert_near
from support.ladder_models import CLASSES, TINY, make_images, make_model
from support.lean_equals_plain import randomise
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ladderseg_fast import SegmentationModel, create_model, list_models
from ladderseg_fast.models.densenets import DenseNet
from ladderseg_fast.models.design import Design

pytestmark = pytest.mark.skipif(
    not hasattr(torch.compiler, "is_exporting"), reason="torch before 2.7 exports plain only"
)

#: Without a promise that no map has a side of one pixel: 2 * min_size.
SIZES = {0: Dim("batch", min=1), 2: Dim("height", min=128), 3: Dim("width", min=128)}
TRACED = (2, 128, 192)


def exported(model: nn.Module, strict: bool = False, **options: Any) -> ExportedProgram:
    """Graph of any size, of a model in float64."""
    program = torch.export.export(model, (make_images(*TRACED),), dynamic_shapes=(SIZES,), strict=strict, **options)
    operators = {node.target for node in program.graph.nodes if node.op == "call_function"}
    namespaces = {operator.namespace for operator in operators if isinstance(operator, torch._ops.OpOverload)}
    assert namespaces == {"aten"}
    return program


def short_ladder() -> SegmentationModel:
    """One transition-up: most of the time of an export goes into the sizes of what is upsampled."""
    design = Design(DenseNet(TINY), (4,), transitions_up=1)
    return randomise(SegmentationModel(design, CLASSES)).double().eval()


def test_any_size_of_a_lean_model() -> None:
    model = short_ladder()
    program = exported(model).module()
    assert model.memory == "lean"
    for size in ((1, 128, 128), (3, 129, 191), (2, 256, 135)):
        images = make_images(*size)
        for found, expected in zip(program(images), model(images), strict=True):
            assert_near(found, expected, f"scores of {size}")


class Labels(nn.Module):
    def __init__(self, model: SegmentationModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.predict(images)


def test_predict() -> None:
    model, images = short_ladder(), make_images(1, 131, 255)
    assert torch.equal(exported(Labels(model)).module()(images), model.predict(images))


def test_training_after_export() -> None:
    """The graph in training mode, and lean steps before and after it."""
    model, images = make_model(), make_images(*TRACED)
    before = model(images).logits
    torch.export.export(model, (images,), strict=False)
    assert "Convolution" not in type(model(images).logits.grad_fn).__name__
    assert torch.equal(model(images).logits, before)


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["lean", "plain"])
def test_strict_export(memory: str) -> None:
    model, images = make_model(memory=memory).eval(), make_images(3, 129, 191)
    for found, expected in zip(exported(model, strict=True).module()(images), model(images), strict=True):
        assert_near(found, expected, "scores")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in list_models() if name != TINY])
def test_registered_models(name: str) -> None:
    model, images = create_model(name, 3).double().eval(), make_images(1, 191, 129)
    program = exported(model).module()
    with torch.no_grad():
        assert_near(program(images).logits, model(images).logits, "logits")
