"""The rates of this machine: measured once, kept in the user's cache directory."""

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
from ..ops import kernels
from ..ops.kernels import CorrectedGradient, Norm
from .work import Rates, Work, work_of

#: Images, height and width of the maps that calibration works on: too large for most caches, as real ones are.
_SHAPE = (1, 256, 384)

#: Each kernel is called so often; the median counts.
_CALLS = 5


def load_rates(device: torch.device) -> Rates:
    """Those measured on this machine with as many threads, or defaults; `source` says which.

    Raises:
        ValueError: the file with the measured ones is damaged.
    """
    path = rates_file()
    if path is not None and path.exists():
        try:
            known = json.loads(path.read_text())
            if _machine(device) in known:
                return Rates(**known[_machine(device)])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: not a file of `ladderseg plan --calibrate` ({error}); remove it") from error
    return Rates.default(device.type, torch.get_num_threads())


def rates_file() -> Path | None:
    """Where measured rates are kept; None: there is no place."""
    try:
        return image_cache.directory() / "rates.json"
    except RuntimeError:
        return None


def store_rates(device: torch.device, rates: Rates) -> Path:
    """Keep `rates` for this machine; returns the file.

    Raises:
        OSError: it cannot be written.
    """
    path = rates_file()
    if path is None:
        raise OSError("there is no home directory to keep rates in; LADDERSEG_FAST_CACHE may name another")
    known = json.loads(path.read_text()) if path.exists() else {}
    known[_machine(device)] = rates.to_json()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write((json.dumps(known, indent=2) + "\n").encode())
    return path


def measure_rates(device: torch.device) -> Rates:
    """What this machine does, in a few seconds and 400 MB: every kind of kernel on maps like those of a network."""
    maps = _Maps(device)
    kinds = {
        "conv1x1_forward": lambda: kernels.bn_relu_conv1x1_forward(maps.wide, maps.norm, maps.weight1, maps.hidden),
        "conv1x1_backward": lambda: kernels.bn_relu_conv1x1_backward(
            CorrectedGradient(maps.hidden), maps.wide, maps.norm, maps.weight1, maps.grad_wide, True
        ),
        "conv3x3_forward": lambda: kernels.bn_relu_conv3x3_forward(
            maps.hidden, maps.hidden_norm, maps.weight3, 1, maps.grown
        ),
        "conv3x3_backward": lambda: kernels.bn_relu_conv3x3_backward(
            CorrectedGradient(maps.grown), maps.hidden, maps.hidden_norm, maps.weight3, 1, maps.grad_hidden
        ),
        "stem": lambda: kernels.stem_forward(maps.images, maps.weight7, maps.stem_norm.scale, None, maps.stem, True),
        "cross_entropy": lambda: kernels.upsample_cross_entropy(maps.scores, maps.labels, None, 255, maps.grad_scores),
    }
    measured = {}
    for kind, run in kinds.items():
        work, seconds = _time(run, device)
        measured[kind] = work.operations / seconds
    work, seconds = _time(lambda: kernels.bn_relu_forward(maps.wide, maps.norm, maps.grad_wide), device)
    return Rates(**measured, bandwidth=work.bytes / seconds, call=_seconds_per_call(device), source=_source(device))


class _Maps:
    """Maps of a dense layer that reads 256 channels, of the stem, and class scores, at 1/4 of an image."""

    def __init__(self, device: torch.device) -> None:
        n, h, w = _SHAPE
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(device)

        def feature(channels: int) -> Tensor:
            return random(1, channels, 1, 1).expand(n, -1, h, w).contiguous(memory_format=torch.channels_last)

        def norm(channels: int) -> Norm:
            return Norm(*(torch.full((channels,), value, device=device) for value in (0.1, 0.9, 0.2)))

        self.wide, self.grad_wide = feature(256), feature(256)
        self.hidden, self.grad_hidden = feature(128), feature(128)
        self.grown, self.stem = feature(32), feature(64)
        self.scores, self.grad_scores = feature(19), feature(19)
        self.norm, self.hidden_norm, self.stem_norm = norm(256), norm(128), norm(64)
        self.weight1, self.weight3, self.weight7 = random(128, 256, 1, 1), random(32, 128, 3, 3), random(64, 3, 7, 7)
        self.images = random(1, 3, 1, 1).expand(n, -1, 4 * h, 4 * w).contiguous()
        self.labels = torch.zeros(n, 4 * h, 4 * w, dtype=torch.uint8, device=device)


def _time(run: Callable[[], object], device: torch.device) -> tuple[Work, float]:
    """What `run`, which calls one kernel, does, and how long that takes."""
    works: list[Work] = []
    with kernels.observing(lambda kernel, arguments: works.append(work_of(kernel, arguments))):
        run()
    return works[0], statistics.median(_seconds(run, device) for _ in range(_CALLS))


def _seconds_per_call(device: torch.device) -> float:
    """Of a dense block so small that nothing but what surrounds its kernels takes time."""
    block = DenseBlock(64, 16).to(device)
    x = torch.randn(1, 64, 4, 4, device=device)
    workspace = Workspace()
    calls: list[str] = []

    def run() -> None:
        dense_block(block, x, workspace=workspace).sum().backward()

    with kernels.observing(lambda kernel, arguments: calls.append(kernel)):
        run()
    return statistics.median(_seconds(run, device) for _ in range(_CALLS)) / len(calls)


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    started = _now(device)
    run()
    return _now(device) - started


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device) if torch.cuda.is_available() else "cuda"
    return f"{platform.node()}, {platform.machine()}, {torch.get_num_threads()} threads"


def _source(device: torch.device) -> str:
    return f"measured on {_machine(device)}"
