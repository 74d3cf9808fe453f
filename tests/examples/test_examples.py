"""The scripts of examples/, each as a whole and at a size that takes seconds."""

import importlib.util
import io
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import torchvision_networks
from support.ladder_models import TINY
from support.tiny_training import register_tiny_model

from ladderseg_fast.data import IMAGENET_NORMALISATION, STREET_LABELS, StreetScenes
from ladderseg_fast.engine import Checkpoint, build_model, predict_image, save_checkpoint
from ladderseg_fast.models import create_model

EXAMPLES = Path(__file__).parents[2] / "examples"

Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs an example, given its name and options; returns what it prints."""

    def run_example(name: str, *options: str) -> str:
        path = str(EXAMPLES / f"{name}.py")
        monkeypatch.setattr(sys, "argv", [path, *options])
        runpy.run_path(path, run_name="__main__")
        return capsys.readouterr().out

    return run_example


def losses(output: str) -> list[float]:
    return [float(loss) for loss in re.findall(r"loss (\d+\.\d+)", output)]


def needs(library: str) -> None:
    if importlib.util.find_spec("torchvision") is not None:
        torchvision_networks.torchvision()  # which these libraries import if it is there
    pytest.importorskip(library, reason=f"the example is about {library}, an optional dependency")


def test_every_example_is_in_the_table_and_tested() -> None:
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert set(re.findall(r"^\| `(\w+\.py)` \|", (EXAMPLES / "README.md").read_text(), re.MULTILINE)) == scripts
    assert {f"{name.removeprefix('test_')}.py" for name in globals() if name.startswith("test_")} >= scripts


def test_finetune_densenet121(run: Run) -> None:
    needs("torchvision")
    output = run("finetune_densenet121", *"--size 64 --batch 4 --steps 3".split())
    assert len(losses(output)) == 3
    assert "features" in output.partition("step 1")[0]
    assert float(re.search(r"differ from torchvision's by at most (\S+)", output)[1]) < 1e-4


def test_smp_unet(run: Run) -> None:
    needs("segmentation_models_pytorch")
    output = run("smp_unet", *"--size 64 --batch 2 --steps 2".split())
    assert len(losses(output)) == 2
    assert "encoder" in output.partition("step 1")[0]


def test_tiramisu(run: Run) -> None:
    output = run("tiramisu", *"--size 32 --batch 2 --steps 3".split())
    assert len(losses(output)) == 3


def test_loss_below_full_size(run: Run) -> None:
    output = run("loss_below_full_size", *"--size 64 --steps 3".split())
    assert losses(output)[2] < losses(output)[0]
    assert float(re.search(r"PyTorch's loss differs by (\S+)", output)[1]) < 1e-5


def test_lightning_ladder(run: Run, tmp_path: Path) -> None:
    needs("lightning")
    output = run("lightning_ladder", *"--size 64 --steps 2 --out".split(), str(tmp_path))
    assert "holds a model with memory='lean'" in output
    assert list(tmp_path.rglob("*.ckpt"))


def test_accelerate_ladder(run: Run, tmp_path: Path) -> None:
    needs("accelerate")
    output = run("accelerate_ladder", *"--size 64 --steps 2 --out".split(), str(tmp_path / "model.safetensors"))
    assert len(losses(output)) == 4
    assert "holds a model of" in output
    assert (tmp_path / "model.safetensors").is_file()


def test_label_server(tmp_path: Path) -> None:
    for library in ("fastapi", "httpx"):
        needs(library)
    from fastapi.testclient import TestClient

    register_tiny_model()
    state = create_model(TINY, len(STREET_LABELS)).state_dict()
    config = {"data": {"size": [64, 96]}}
    checkpoint = Checkpoint(1, TINY, "lean", STREET_LABELS, (64, 96), IMAGENET_NORMALISATION, config, state)
    save_checkpoint(tmp_path / "model.pt", checkpoint)
    application = runpy.run_path(str(EXAMPLES / "label_server.py"))["label_server"](tmp_path / "model.pt")
    client = TestClient(application)
    pixels = StreetScenes(1, (70, 110))[0].image
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    answer = client.post("/labels", content=file.getvalue())
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    labels = Image.open(io.BytesIO(answer.content))
    model = build_model(checkpoint, torch.device("cpu"))
    expected = predict_image(model, pixels, IMAGENET_NORMALISATION, (64, 96))
    assert labels.mode == "P" and (np.asarray(labels) == expected).all()
    refused = client.post("/labels", content=file.getvalue()[:100])
    assert refused.status_code == 400 and "cannot read the image" in refused.json()["detail"]
