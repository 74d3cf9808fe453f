"""The rates of this machine, which are measured once and kept in the user's cache directory."""

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..atomic_file import atomic_write
from ..cuda import image_cache
from ..lean import Workspace, dense_block
from ..nn import DenseBlock
from ..ops.arguments import Gradient, Norm
from ..ops.backend import backend_of, real_dtype
from ..ops.bn_relu import bn_relu_forward
from ..ops.bn_relu_conv1x1 import bn_relu_conv1x1_backward, bn_relu_conv1x1_forward
from ..ops.bn_relu_conv3x3 import bn_relu_conv3x3_backward, bn_relu_conv3x3_forward
from ..ops.cost import Cost
from ..ops.layout import pixel_major
from ..ops.loss_kernels import loss_and_gradient
from ..ops.stem import stem_forward
from .cost_model import Rates

#: Height and width of the maps for calibration: too large for most caches, as in real steps.
_SIZE, _SIZE_ON_CUDA = (256, 384), (512, 768)

#: Measurements of each kernel; the median counts.
_MEASUREMENTS = 15

#: Calls in a row per measurement on CUDA, so that waiting for the device does not count.
_CALLS_ON_CUDA = 10


def load_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """Rates measured on this machine with as many threads and maps of `dtype`, or defaults; `source` says which.

    Raises:
        ValueError: the file with the measured rates is damaged.
    """
    path = rates_file()
    if path is not None and path.exists():
        try:
            known = json.loads(path.read_text())
            if _key(device, dtype) in known:
                return Rates.from_json(known[_key(device, dtype)])
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not a file of `ladderseg plan --calibrate` ({error}); remove it") from error
    return Rates.default(device.type, torch.get_num_threads(), bfloat16=dtype == torch.bfloat16)


def rates_file() -> Path | None:
    """File in which measured rates are kept; None if there is no cache directory."""
    try:
        return image_cache.directory() / "rates.json"
    except RuntimeError:
        return None


def store_rates(device: torch.device, dtype: torch.dtype, rates: Rates) -> Path:
    """Stores `rates` for this machine and maps of `dtype`; returns the file.

    Raises:
        OSError: the file cannot be written.
    """
    path = rates_file()
    if path is None:
        raise OSError("there is no home directory to keep rates in; LADDERSEG_FAST_CACHE may name another")
    known = json.loads(path.read_text()) if path.exists() else {}
    known[_key(device, dtype)] = rates.to_json()
    image_cache.make_directory()
    with atomic_write(path) as file:
        file.write((json.dumps(known, indent=2) + "\n").encode())
    return path


def measure_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """Measures every kind of kernel on this machine, on maps of `dtype` like those of a network.

    It takes a few seconds and 400 MB (1.6 GB on CUDA).
    """
    maps = _Maps(device, dtype)
    backend = backend_of(device)
    kinds = {
        "conv1x1_forward": lambda: bn_relu_conv1x1_forward(maps.wide, maps.norm, maps.weight1, maps.hidden),
        "conv1x1_backward": lambda: bn_relu_conv1x1_backward(
            Gradient(maps.hidden), maps.wide, maps.norm, maps.weight1, maps.grad_wide, True
        ),
        "conv3x3_forward": lambda: bn_relu_conv3x3_forward(maps.hidden, maps.hidden_norm, maps.weight3, 1, maps.grown),
        "conv3x3_backward": lambda: bn_relu_conv3x3_backward(
            Gradient(maps.grown), maps.hidden, maps.hidden_norm, maps.weight3, 1, maps.grad_hidden
        ),
        "stem": lambda: stem_forward(maps.images, maps.weight7, maps.stem_norm.scale, None, maps.stem, True),
        "cross_entropy": lambda: loss_and_gradient(maps.scores, maps.labels, None, 255, maps.grad_scores),
    }
    measured = {}
    for kind, run in kinds.items():
        cost, seconds = _time(run, device)
        measured[kind] = cost.operations / seconds
    cost, seconds = _time(lambda: bn_relu_forward(maps.wide, maps.norm, maps.grad_wide), device)
    return Rates(
        **measured,
        bandwidth=cost.bytes / seconds,
        call=_seconds_per_call(device, dtype),
        asynchronous=backend.on_gpu,
        source=f"measured on {_machine(device)}",
    )


class _Maps:
    """Maps of a dense layer that reads 256 channels and of the stem, and class scores, at 1/4 of an image."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        h, w = _SIZE_ON_CUDA if backend_of(device).on_gpu else _SIZE
        real = real_dtype(dtype)
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(device, dtype)

        def feature(channels: int) -> Tensor:
            return pixel_major(random(1, channels, 1, 1).expand(-1, -1, h, w))

        def norm(channels: int) -> Norm:
            return Norm(*(torch.full((channels,), value, dtype=real, device=device) for value in (0.1, 0.9, 0.2)))

        self.wide, self.grad_wide = feature(256), feature(256)
        self.hidden, self.grad_hidden = feature(128), feature(128)
        self.grown, self.stem = feature(32), feature(64)
        self.scores, self.grad_scores = feature(19).to(real), feature(19).to(real)
        self.norm, self.hidden_norm, self.stem_norm = norm(256), norm(128), norm(64)
        self.weight1, self.weight3, self.weight7 = random(128, 256, 1, 1), random(32, 128, 3, 3), random(64, 3, 7, 7)
        self.images = random(1, 3, 1, 1).expand(-1, -1, 4 * h, 4 * w).contiguous()
        self.labels = torch.zeros(1, 4 * h, 4 * w, dtype=torch.uint8, device=device)


def _time(run: Callable[[], object], device: torch.device) -> tuple[Cost, float]:
    """Cost and seconds of `run`, which calls one kernel."""
    costs: list[Cost] = []
    with backend_of(device).observed_by(lambda kernel, cost: costs.append(cost)):
        run()
    calls = _CALLS_ON_CUDA if device.type == "cuda" else 1
    return costs[0], statistics.median(_seconds(run, device, calls) for _ in range(_MEASUREMENTS))


def _seconds_per_call(device: torch.device, dtype: torch.dtype) -> float:
    """Seconds per call of a kernel, from a dense block so small that only the work around its kernels takes time."""
    block = DenseBlock(64, 16).to(device, real_dtype(dtype))
    x = torch.randn(1, 64, 4, 4, dtype=dtype, device=device)
    workspace = Workspace()
    calls: list[str] = []

    def run() -> None:
        dense_block(block, x, workspace=workspace).sum().backward()

    with backend_of(device).observed_by(lambda kernel, cost: calls.append(kernel)):
        run()
    return statistics.median(_seconds(run, device) for _ in range(_MEASUREMENTS)) / len(calls)


def _seconds(run: Callable[[], object], device: torch.device, calls: int = 1) -> float:
    """Seconds per call, averaged over `calls`."""
    started = _now(device)
    for _ in range(calls):
        run()
    return (_now(device) - started) / calls


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _key(device: torch.device, dtype: torch.dtype) -> str:
    return f"{_machine(device)}, {str(dtype).removeprefix('torch.')}"


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device) if torch.cuda.is_available() else "cuda"
    return f"{platform.node()}, {platform.machine()}, {torch.get_num_threads()} threads"
