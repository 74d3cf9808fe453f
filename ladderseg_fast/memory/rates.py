"""The rates of this machine: measured once, kept in the user's cache directory."""

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..atomic_file import atomic_write
from ..cuda import image_cache
from ..ops import kernels
from ..ops.kernels import CorrectedGradient, Norm
from .work import Rates, Work, work_of

#: Pixels of the maps that calibration works on.
_SHAPE = (1, 96, 192)

#: Each kernel is called so often; the fastest call counts.
_CALLS = 7


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
    """What this machine does, in a second or two: every kind of kernel on maps like those of a network."""
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
    }
    measured = {}
    for kind, run in kinds.items():
        work, seconds = _time(run, device)
        measured[kind] = work.operations / seconds
    work, seconds = _time(lambda: kernels.bn_relu_forward(maps.wide, maps.norm, maps.grad_wide), device)
    small = maps.wide[:, :, :1]
    _, call = _time(lambda: kernels.bn_relu_forward(small, maps.norm, maps.grad_wide[:, :, :1]), device)
    # The stem is one layer; its rate is near that of the other forward convolutions.
    stem = measured["conv3x3_forward"]
    return Rates(
        **measured, stem=stem, bandwidth=work.bytes / seconds, call=_CALL_SHARE * call, source=_source(device)
    )


#: Python around a kernel takes several times what a call of the smallest one does: batch norm's vectors.
_CALL_SHARE = 4.0


class _Maps:
    """Maps [1, C, 96, 192] of a dense layer that reads 256 channels."""

    def __init__(self, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(device)

        def feature(channels: int) -> Tensor:
            n, h, w = _SHAPE
            return random(n, channels, h, w).contiguous(memory_format=torch.channels_last)

        def norm(channels: int) -> Norm:
            return Norm(*(torch.full((channels,), value, device=device) for value in (0.1, 0.9, 0.2)))

        self.wide, self.grad_wide = feature(256), feature(256)
        self.hidden, self.grad_hidden = feature(128), feature(128)
        self.grown = feature(32)
        self.norm, self.hidden_norm = norm(256), norm(128)
        self.weight1, self.weight3 = random(128, 256, 1, 1), random(32, 128, 3, 3)


def _time(run: Callable[[], object], device: torch.device) -> tuple[Work, float]:
    """What `run`, which calls one kernel, does, and how long that takes."""
    works: list[Work] = []
    with kernels.observing(lambda kernel, arguments: works.append(work_of(kernel, arguments))):
        run()
    best = float("inf")
    for _ in range(_CALLS):
        started = _now(device)
        run()
        best = min(best, _now(device) - started)
    return works[0], best


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


