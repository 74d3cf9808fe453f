"""ONNX files of models."""

import importlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from ..._version import __version__
from ...atomic_file import atomic_write
from ..network import Network
from ..weights import MissingPackageError
from .graph import ExportedNetwork, exported
from .images import Pixels
from .onnx_check import compare
from .outputs import check_output

#: Version of ONNX's operators: what onnxruntime has known since 1.14, and TensorRT since 10.
OPSET = 18

_EXTRA = 'pip install "ladderseg_fast[onnx]"'


def check_packages(check: bool = True) -> None:
    """Raises MissingPackageError if a package that export needs is not installed; `check`: those of the check too."""
    for name in ("onnx", "onnxscript"):
        _package(name, "the export to ONNX")
    if check:
        _package("onnxruntime", "the check of an exported model (check=False, --no-check: leave it out)")


def write_onnx(
    network: Network,
    path: str | os.PathLike[str],
    output: str,
    pixels: Pixels | None,
    metadata: Mapping[str, str],
    check: bool,
) -> None:
    """Writes `network`, in evaluation mode, to the file `path`; SegmentationModel.export_onnx documents it."""
    check_output(output)
    if not hasattr(torch.compiler, "is_exporting"):
        raise RuntimeError(f"the export to ONNX needs torch 2.7 or newer, this is torch {torch.__version__}")
    check_packages(check)
    parameter = next(network.parameters())
    if parameter.dtype != torch.float32:
        raise TypeError(f"the export to ONNX takes models of torch.float32, this one is of {parameter.dtype}")
    if pixels is not None and len(pixels.mean) != network.in_channels:
        raise ValueError(f"pixels must have {network.in_channels} channels, got means of {len(pixels.mean)}")
    exporter = ExportedNetwork(network, output, pixels).eval()
    content = _serialized(exporter, pixels, {**_description(network, output, pixels), **metadata})
    if check:
        compare(content, exporter, pixels)
    with atomic_write(Path(path)) as file:
        file.write(content)


def _serialized(network: ExportedNetwork, pixels: Pixels | None, metadata: Mapping[str, str]) -> bytes:
    onnx = _package("onnx", "the export to ONNX")
    model = network.network
    height, width = 2 * model.min_size, 4 * model.min_size
    images = torch.zeros(2, model.in_channels, height, width, device=next(model.parameters()).device)
    images = images if pixels is None else images.to(pixels.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch and onnxscript about themselves
        program = torch.onnx.export(
            exported(network, images),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=[network.output],
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    _tidy(proto)
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


def _tidy(proto: Any) -> None:
    """Names the sizes that may vary, and removes what describes the source of each node on this machine."""
    graph = proto.graph
    graph.name = "ladderseg_fast"
    for value in (graph.input[0], graph.output[0]):
        batch, *_, height, width = value.type.tensor_type.shape.dim
        batch.dim_param, height.dim_param, width.dim_param = "batch", "height", "width"
    del graph.value_info[:]  # sizes of inner maps, as expressions of the names that were
    for element in (*graph.node, *graph.input, *graph.output, *graph.initializer, graph):
        element.ClearField("metadata_props")
        element.ClearField("doc_string")


def _description(network: Network, output: str, pixels: Pixels | None) -> dict[str, str]:
    """Facts about images and output for programs that run the file."""
    channels, least = network.in_channels, network.min_size
    facts = {
        "producer": f"ladderseg_fast {__version__}",
        "min_size": str(least),
        "num_classes": str(network.num_classes),
    }
    layout = f"[batch, {channels}, height, width]"
    if pixels is None:
        facts["images"] = f"float32 {layout}, normalised: (pixels / largest - mean) / std"
    else:
        kind = str(pixels.dtype).removeprefix("torch.")
        facts["images"] = f"{kind} {layout}, from 0 to {pixels.largest}; the model normalises them"
        facts |= {"mean": json.dumps(pixels.mean), "std": json.dumps(pixels.std), "largest": str(pixels.largest)}
    shape = "[batch, height, width]" if output == "labels" else f"[batch, {network.num_classes}, height, width]"
    facts[output] = f"{'uint8' if output == 'labels' else 'float32'} {shape}"
    return facts


def _package(name: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingPackageError(f"{what} needs the package {name}: {_EXTRA}") from error
