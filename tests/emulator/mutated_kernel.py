"""Runs operators with kernels from given directories, emulated: a program for tests/cuda/test_kernel_mutations.py.

It reads a list of jobs from standard input (JSON) and writes the list of what went wrong in each, or null. A job:

    image, directory    the kernel image that comes from another directory, or null and null
    case                what is run: the keywords of `run_case`
"""

import ctypes
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from emulator import emulation
from emulator.library import build_library
from ops.test_bn_relu_conv1x1 import TestBnReluConv1x1
from support.comparison import assert_near
from support.operator_suite import OperatorSuite
from support.operator_suites import SUITES

from ladderseg_fast.cuda import kernel_sources, nvrtc
from ladderseg_fast.ops import backend, layout, reference
from ladderseg_fast.ops.arguments import Norm
from ladderseg_fast.ops.bn_relu_conv1x1 import bn_relu_conv1x1_forward


class ProductStatistics(TestBnReluConv1x1):
    """The statistics of its output that a product leaves for the next batch norm, which no operator asks for."""

    def check(self, arguments) -> None:
        x, *vectors, weight = (argument.detach() for argument in arguments.values())
        out = layout.empty(x, x.shape[0], weight.shape[0], *x.shape[2:])
        actual = bn_relu_conv1x1_forward(x, Norm.of(*vectors), weight, out, statistics=True)
        expected = reference.channel_statistics(out.double())
        for name, a, b in zip(("mean", "variance"), actual, expected):
            assert_near(a, b, name, tolerance=1e-5)


def suite_of(name: str) -> OperatorSuite:
    return ProductStatistics() if name == "product_statistics" else SUITES[name]


def run_case(suite: str, shape: list[int], dtype: str, layout: str, method: str) -> None:
    """`method` of a suite, or its comparison with the reference at this shape."""
    operator = suite_of(suite)
    if method:
        getattr(operator, method)()
    else:
        operator.check(operator.prepared(tuple(shape), getattr(torch, dtype), layout))


def provider(image: str | None, directory: str | None) -> Callable[[str, tuple[int, int], int], bytes]:
    """Images of the package's sources, but for those of the operator `image`."""

    def provide(name: str, architecture: tuple[int, int], driver_version: int) -> bytes:
        operator, element = kernel_sources.operator_and_element(name)
        if operator != image:
            return emulation.ptx(name, architecture, driver_version)
        target = f"sm_{architecture[0]}{architecture[1]}"
        source = Path(directory) / f"{operator}.cu"
        return nvrtc.compile(source, Path(directory), element, target, kind="ptx").image

    return provide


def main() -> None:
    torch.set_num_threads(2)
    emulator = build_library()
    capability = int(emulation.ARCHITECTURE.removeprefix("sm_"))
    failures = []
    with tempfile.TemporaryDirectory() as directory:
        for number, job in enumerate(json.load(sys.stdin)):
            ctypes.CDLL(str(emulator)).emulator_configure(capability, ctypes.c_uint64(emulation.SEED))
            # The core keeps the kernels that it has loaded by the path of the driver.
            driver = os.path.join(directory, f"driver{number}.so")
            os.symlink(emulator, driver)
            backend.use(backend.EmulatedCuda(driver, provider(job["image"], job["directory"])))
            try:
                run_case(**job["case"])
                failures.append(None)
            except (AssertionError, RuntimeError, ValueError) as error:
                failures.append(f"{type(error).__name__}: {error}")
    json.dump(failures, sys.stdout)


if __name__ == "__main__":
    main()
