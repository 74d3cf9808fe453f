"""Measurements of benchmarks/on_device.py, in the order of worth."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

#: Seconds that a process takes to start, to make its model and images, and to compile what is not in the cache.
_START_S = 8.0

#: float16: torch.autocast; tf32: float32 with products rounded to tf32; float32: with full products.
DTYPES = ("float16", "tf32", "float32")

ADAM = "adam"

#: Tools of compute-sanitizer.
SANITIZERS = ("memcheck", "racecheck", "initcheck", "synccheck")


@dataclass(frozen=True)
class Task:
    """One measurement, made in a process of its own.

    kind: a function of on_device_step.py; options: what it is given, and what the file of results says.
    least_s: it is left out if less time is left. most_s: it is stopped after so many seconds.
    environment: variables of the process.
    """

    name: str
    kind: str
    options: dict[str, Any]
    least_s: float = _START_S
    most_s: float = 60.0
    environment: dict[str, str] = field(default_factory=dict)


def tasks(model: str, size: str, batch: int, device: str, seconds: float) -> list[Task]:
    """All tasks for a device, the most valuable first.

    Args:
        model: full name of a registered model.
        size: "HxW" of the steps.
        device: "cuda", or "cpu": what works there, to try the command.
        seconds: time for all of them.
    """
    plan = _Plan({"model": model, "batch": batch, "size": size, "device": device})
    return list(plan.cuda(seconds) if device == "cuda" else plan.cpu())


class _Plan:
    def __init__(self, step: dict[str, Any]) -> None:
        self._step = step

    def cuda(self, seconds: float) -> Iterator[Task]:
        yield Task("tests marked cuda", "tests", {}, least_s=30.0, most_s=0.3 * seconds)
        for dtype in DTYPES:
            yield self._timed("lean", dtype)
            yield self._timed("plain-lean-loss", dtype)
            yield self._kernels("lean", dtype)
        for method in ("lean", "plain"):
            yield self._prediction(method, "float16", 1, "448x1024")
        yield self._memory(1, "512x1024", "float32", "none", "fastest")
        yield self._memory(2, "512x1024", "float32", ADAM, "smallest")
        yield self._memory(2, "1024x2048", "float16", ADAM, "fastest")
        yield self._largest_batch("float16", 8_000_000_000)
        yield self._timed("checkpoint-layer-lean-loss", "float16")
        yield self._timed("plain", "float16")
        yield self._timed("plain-lean-loss", "float16", cudnn_benchmark=True)
        yield self._timed("lean", "float16", allocator="expandable_segments:True")
        yield self._kernels("plain-lean-loss", "float16")
        yield self._calibration("float16")
        yield self._memory(4, "512x1024", "float32", ADAM, "fastest")
        yield self._memory(2, "1024x2048", "float32", ADAM, "smallest")
        yield self._timed("compile-lean-loss", "float16", least_s=150.0, most_s=400.0)
        yield self._timed("compile-lean-loss", "tf32", least_s=150.0, most_s=400.0)
        for dtype in ("tf32", "float32"):
            yield self._timed("plain", dtype)
            yield self._timed("plain-lean-loss", dtype, cudnn_benchmark=True, least_s=30.0, most_s=120.0)
            yield self._timed("checkpoint-layer-lean-loss", dtype)
        yield self._timed("checkpoint-layer", "float16")
        yield self._calibration("float32")
        for tool in SANITIZERS:
            options = {"tool": tool, "device": self._step["device"]}
            yield Task(f"compute-sanitizer {tool}", "sanitizer", options, least_s=20.0, most_s=90.0)

    def cpu(self) -> Iterator[Task]:
        for method in ("lean", "plain-lean-loss", "plain"):
            yield self._timed(method, "float32")
        for method in ("lean", "plain"):
            yield self._prediction(method, "float32", self._step["batch"], self._step["size"])
        yield self._memory(self._step["batch"], self._step["size"], "float32", "none", "fastest")
        yield self._calibration("float32")

    def _timed(
        self,
        method: str,
        dtype: str,
        *,
        cudnn_benchmark: bool = False,
        allocator: str | None = None,
        least_s: float = _START_S,
        most_s: float = 60.0,
    ) -> Task:
        """A step. With cudnn.benchmark, which tries large workspaces, its memory means nothing: a task of its own."""
        options = self._step | {"method": method, "dtype": dtype, "cudnn_benchmark": cudnn_benchmark}
        what, environment = f"step {method} {dtype}", {}
        if cudnn_benchmark:
            what += ", cudnn.benchmark"
        if allocator is not None:
            what += f", {allocator}"
            options["allocator"] = allocator
            # Torch 2.9 and newer read the first, older ones the second.
            environment = {"PYTORCH_ALLOC_CONF": allocator, "PYTORCH_CUDA_ALLOC_CONF": allocator}
        return Task(what, "step", options, least_s, most_s, environment)

    def _kernels(self, method: str, dtype: str) -> Task:
        return Task(f"kernels {method} {dtype}", "kernels", self._step | {"method": method, "dtype": dtype})

    def _prediction(self, method: str, dtype: str, batch: int, size: str) -> Task:
        options = self._step | {"method": method, "dtype": dtype, "batch": batch, "size": size}
        return Task(f"prediction {method} {dtype} {batch} x {size}", "prediction", options)

    def _memory(self, batch: int, size: str, dtype: str, optimizer: str, plan: str) -> Task:
        options = self._step | {"batch": batch, "size": size, "dtype": dtype, "optimizer": optimizer, "plan": plan}
        return Task(f"memory {batch} x {size} {dtype}, {optimizer}, {plan}", "memory", options)

    def _largest_batch(self, dtype: str, budget: int) -> Task:
        options = {key: self._step[key] for key in ("model", "size", "device")}
        options |= {"dtype": dtype, "optimizer": ADAM, "budget_bytes": budget}
        return Task(f"largest batch in {budget / 1e9:.0f} GB, {dtype}", "largest_batch", options, 40.0, 90.0)

    def _calibration(self, dtype: str) -> Task:
        return Task(f"calibration {dtype}", "calibration", self._step | {"dtype": dtype}, least_s=20.0)
