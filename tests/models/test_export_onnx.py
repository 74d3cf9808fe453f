"""ONNX files of models, run by onnxruntime."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.ladder_models import CLASSES, TINY, TINY_SHAPE, make_images, make_model
from support.lean_equals_plain import randomise

from ladderseg_fast import SegmentationModel, create_model, list_models
from ladderseg_fast.models.densenets import DenseNet
from ladderseg_fast.models.design import Design
from ladderseg_fast.models.export import Pixels, onnx_check, onnx_file
from ladderseg_fast.models.export.adaptive_pooling import average_bins
from ladderseg_fast.models.export.graph import ExportedNetwork
from ladderseg_fast.models.export.onnx_check import TOLERANCE, compare
from ladderseg_fast.models.weights import MissingPackageError
from ladderseg_fast.nn import DENSENETS

onnx = pytest.importorskip("onnx", reason="the extra ladderseg_fast[onnx] is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra ladderseg_fast[onnx] is not installed")
pytest.importorskip("onnxscript", reason="the extra ladderseg_fast[onnx] is not installed")


def pyramid() -> SegmentationModel:
    """A lean model with pyramid pooling, whose averages ONNX has for fixed sizes only.

    Most of the time of an export goes into the sizes of what is upsampled. So there is one transition-up.
    """
    design = Design(DenseNet(TINY), (4,), transitions_up=1, context="pyramid")
    return randomise(SegmentationModel(design, CLASSES), 0).float()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DENSENETS, TINY, TINY_SHAPE)
        model = pyramid().to(memory_format=torch.channels_last)
    model.export_onnx(path, "logits", metadata={"weather": "rain"})
    assert model.training and model.memory == "lean"
    return path


def run(path: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


@pytest.mark.parametrize("size", [(1, 64, 64), (3, 65, 97), (2, 300, 517), (1, 640, 448)])
def test_logits_of_any_size(file: Path, size: tuple[int, int, int]) -> None:
    images = make_images(*size, torch.float32)
    model = pyramid().eval()
    with torch.no_grad():
        scores = model(images).logits
    expected = torch.nn.functional.interpolate(scores, size[1:], mode="bilinear", align_corners=False)
    found = run(file, images.numpy())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-4 * expected.abs().max().item())


def test_content(file: Path) -> None:
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 18)]
    assert {node.domain for node in model.graph.node} == {""} and not model.functions
    (images,), (logits,) = model.graph.input, model.graph.output
    assert (images.name, shape(images)) == ("images", ["batch", 3, "height", "width"])
    assert (logits.name, shape(logits)) == ("logits", ["batch", CLASSES, "height", "width"])
    facts = {each.key: each.value for each in model.metadata_props}
    assert facts["weather"] == "rain"
    assert (facts["min_size"], facts["num_classes"]) == ("64", str(CLASSES))
    assert facts["logits"] == f"float32 [batch, {CLASSES}, height, width]"
    assert facts["images"].startswith("float32 [batch, 3, height, width], normalised")
    assert str(Path(__file__).parents[2]).encode() not in file.read_bytes()


def shape(value: Any) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_the_check_finds_other_weights(file: Path) -> None:
    model, content = pyramid().eval(), file.read_bytes()
    compare(content, ExportedNetwork(model, "logits", None), None)
    with torch.no_grad():
        model.head.conv.bias[0] += 10.0 * TOLERANCE
        with pytest.raises(RuntimeError, match=r"a score differs by .*, allowed is .*shape \(1, 3, 65, 163\)"):
            compare(content, ExportedNetwork(model, "logits", None), None)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (6, 12), (13, 4)])
def test_averages_over_bins(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    for bins in (1, (2, 3), (6, 6)):
        torch.testing.assert_close(average_bins(x, bins), torch.nn.functional.adaptive_avg_pool2d(x, bins))


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, model = tmp_path / "model.onnx", make_model(dtype=torch.float32)
    with pytest.raises(ValueError, match="output must be labels or logits, got 'scores'"):
        model.export_onnx(path, "scores")
    with pytest.raises(ValueError, match="pixels must have 3 channels, got means of 1"):
        model.export_onnx(path, pixels=Pixels((0.5,), (0.2,)))
    with pytest.raises(TypeError, match="takes models of torch.float32, this one is of torch.float64"):
        make_model().export_onnx(path)
    with pytest.raises(RuntimeError, match="several devices"):
        make_model(dtype=torch.float32).place(["cpu", "cpu"], after="db2").export_onnx(path)
    with monkeypatch.context() as patch:
        patch.delattr(torch.compiler, "is_exporting")
        with pytest.raises(RuntimeError, match="the export to ONNX needs torch 2.7 or newer"):
            model.export_onnx(path)
    for name, message in (
        (
            "onnxruntime",
            r"the check of an exported model .*--no-check.* needs the package onnxruntime: pip install .*onnx",
        ),
        ("onnxscript", r"the export to ONNX needs the package onnxscript: pip install \"ladderseg_fast\[onnx\]\""),
    ):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingPackageError, match=message):
            model.export_onnx(path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0.5,), (0.2, 0.2)), "as long as each other, got 1 and 2"),
        (((0.5,), (0.0,)), "std must be positive"),
        (((float("nan"),), (1.0,)), "finite"),
        (((0.5,), (0.2,), 65536), "largest must be from 1 to 65535, got 65536"),
    ],
)
def test_impossible_pixels(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pixels(*arguments)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in list_models() if name != TINY])
def test_registered_models(name: str, tmp_path: Path) -> None:
    create_model(name, 3).export_onnx(tmp_path / "model.onnx", pixels=Pixels((0.5,) * 3, (0.2,) * 3, 65535))


def test_a_file_is_written_without_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(onnx_file, "_serialized", lambda *arguments: b"content")
    make_model(dtype=torch.float32).export_onnx(tmp_path / "model.onnx", check=False)
    assert (tmp_path / "model.onnx").read_bytes() == b"content"


def test_results_of_another_shape_are_named() -> None:
    scores = torch.zeros(1, 3, 4, 5)
    assert onnx_check._difference(scores[:, :2], scores) == "shape (1, 2, 4, 5) instead of (1, 3, 4, 5)"
    labels = torch.zeros(1, 4, 5, dtype=torch.int64)
    expected = "labels torch.int64 (1, 4, 5) instead of torch.uint8 (1, 4, 5)"
    assert onnx_check._wrong_labels(labels, scores) == expected
    assert onnx_check._wrong_labels(labels.byte(), scores) is None
