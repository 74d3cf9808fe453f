"""`ladderseg export` as a user runs it."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ladderseg_fast.cli.main import main
from ladderseg_fast.data import STREET_LABELS, StreetScenes
from ladderseg_fast.engine import build_model, load_checkpoint

needs_onnx = "the extra ladderseg_fast[onnx] is not installed"


def test_a_trained_model_labels_pixels(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxscript", reason=needs_onnx)
    onnxruntime = pytest.importorskip("onnxruntime", reason=needs_onnx)
    file = tmp_path / "model.onnx"
    assert main(["export", str(trained), str(file)]) == 0
    assert capsys.readouterr().out.startswith(f"written to {file}: labels by tiny, onnxruntime computes what")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["class_names"]) == list(STREET_LABELS.names)
    assert [tuple(colour) for colour in json.loads(facts["palette"])] == list(STREET_LABELS.palette)
    assert json.loads(facts["training_size"]) == [64, 96]
    checkpoint = load_checkpoint(trained)
    assert json.loads(facts["mean"]) == list(checkpoint.normalisation.mean)
    assert json.loads(facts["std"]) == list(checkpoint.normalisation.std)

    image = StreetScenes(1, (97, 131))[0].image
    (labels,) = session.run(None, {"images": np.ascontiguousarray(image.transpose(2, 0, 1))[None]})
    model = build_model(checkpoint, torch.device("cpu"))
    expected = model.predict(checkpoint.normalisation(image)[None]).numpy()
    assert labels.dtype == np.uint8
    assert np.count_nonzero(labels != expected) <= 5  # of 12707, where two scores are as large as each other


def test_refusals(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript", reason=needs_onnx)
    for checkpoint in (trained, trained / "last.pt"):
        before = (trained / "last.pt").read_bytes()
        assert main(["export", str(checkpoint), str(trained / "last.pt"), "--no-check"]) == 2
        assert "which would be lost: choose another file" in capsys.readouterr().err
        assert (trained / "last.pt").read_bytes() == before
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["export", str(trained), str(tmp_path / "model.onnx")]) == 2
    error = capsys.readouterr().err
    assert "needs the package onnxruntime" in error and 'pip install "ladderseg_fast[onnx]"' in error
    assert list(tmp_path.iterdir()) == []


def test_missing_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxscript", reason=needs_onnx)
    assert main(["export", str(tmp_path / "a.pt"), str(tmp_path / "a.onnx"), "--no-check"]) == 2
    assert re.fullmatch(r"ladderseg: error: .*a\.pt.*\n", capsys.readouterr().err)
