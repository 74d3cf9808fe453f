"""Ways to turn images into labels that the benchmarks compare, all with the same parameters.

Those of alternatives.py, and two that only predict: `onnxruntime` runs the file that `export_onnx` wrote of the model;
`lean-bfloat16` is lean under torch.autocast with bfloat16.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from alternatives import METHODS, build
from arguments import autocast
from torch import Tensor
from train_step import NUM_CLASSES, SEED

from ladderseg_fast import SegmentationModel
from ladderseg_fast.ops.backend import backend_of

LEAN_BFLOAT16, ONNXRUNTIME = "lean-bfloat16", "onnxruntime"
PREDICTION_METHODS = (*METHODS, LEAN_BFLOAT16, ONNXRUNTIME)


class NotAvailable(Exception):
    """The method cannot run on this machine."""


#: In the reason for which a method has no numbers though nothing is wrong.
NOT_AVAILABLE = NotAvailable.__name__


def seeded_model(method: str, options: argparse.Namespace) -> SegmentationModel:
    """Model of a method of alternatives.py in evaluation mode on the CPU, always with the same parameters."""
    torch.manual_seed(SEED)
    model, _ = build(method, options.model, NUM_CLASSES, options.channels_last)
    return model.eval()


def predictor(options: argparse.Namespace, onnx: Path | None) -> Callable[[Tensor], Tensor]:
    """Function of `options.method` from images [N, 3, H, W] on `options.device` to labels [N, H, W] uint8.

    onnx: the exported model, for `onnxruntime`.

    Raises:
        NotAvailable: this machine or installation does not have what it takes.
    """
    if options.method == ONNXRUNTIME:
        return _session(onnx, options)
    bfloat16 = options.method == LEAN_BFLOAT16
    device = torch.device(options.device)
    if bfloat16 and torch.bfloat16 not in backend_of(device).dtypes:
        raise NotAvailable(f"lean computes no bfloat16 on this {device.type}; python -m ladderseg_fast.info says more")
    model = seeded_model("lean" if bfloat16 else options.method, options).to(device)

    def predict(images: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16) if bfloat16 else autocast(options):
            return model.predict(images)

    return predict


def _session(onnx: Path | None, options: argparse.Namespace) -> Callable[[Tensor], Tensor]:
    try:
        import onnxruntime
    except ImportError as error:
        raise NotAvailable('onnxruntime is not installed: pip install "ladderseg_fast[onnx]"') from error
    if onnx is None or options.device != "cpu":
        raise NotAvailable("onnxruntime needs --onnx FILE and --device cpu")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(onnx), settings, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
