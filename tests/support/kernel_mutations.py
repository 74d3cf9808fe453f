"""The package's own kernels, each with one deliberate mistake, on the emulator: every mistake is found.

Either the launch fails, with the report that belongs to the mistake, or the result is not the reference's. So these
tests are about the other tests: they show what those would notice.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from emulator.emulation import Emulator, emulated, ptx, require_compiler
from ops import (
    test_bn_add_relu,
    test_bn_relu_conv1x1,
    test_bn_relu_conv3x3,
    test_bn_relu_patches,
    test_prepared_norms,
    test_prepared_weights,
    test_stem,
    test_upsample_dice_loss,
)
from support.comparison import FLOAT64_TOLERANCE, assert_near
from support.operator_suite import Arguments
from support.operator_suites import SUITES

from ladderseg_fast.cuda import images, kernel_sources
from ladderseg_fast.ops import layout, reference
from ladderseg_fast.ops.arguments import Norm
from ladderseg_fast.ops.backend import using
from ladderseg_fast.ops.bn_relu_conv1x1 import bn_relu_conv1x1_forward
from ladderseg_fast.ops.prepared_weights import Form


@dataclass(frozen=True)
class Case:
    """What is run: `method` of a suite, or its comparison with the reference at a shape.

    The stem, prepared weights and prepared norms have no suite: there, `method` is a function of their tests. Strips
    and the backward of a unit's end are checked by functions of their operators' tests.
    """

    suite: str
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    layout: str = "channels_last"
    method: str = ""

    def __str__(self) -> str:
        shape = f"{'x'.join(map(str, self.shape))}-{self.dtype}-{self.layout}"
        return "-".join([self.suite, *([self.method] if self.method else []), *([shape] if self.shape else [])])


@dataclass(frozen=True)
class Mutation:
    """In `file`, as it is compiled for the kernel image `image`, the one occurrence of `snippet` is replaced."""

    name: str
    case: Case
    image: str
    file: str
    snippet: str
    replacement: str
    #: Pattern of the emulator's report or of the comparison's message.
    message: str

    def __str__(self) -> str:
        return self.name.replace(" ", "_")


# What is seen of a missing barrier depends on the order in which the threads run.
RACE = r"race: shared\[|read of shared\[\d+\], which was never written"
WRONG = r"AssertionError: .* are off by more than"
NOT_EQUAL = r"AssertionError: assert False\n \+  where False = .*equal"
NEVER_WRITTEN = r"read of shared\[\d+\], which was never written"


def of_each_case(mutations: Sequence[Mutation]) -> pytest.MarkDecorator:
    """Parametrises a test by the cases of some mutations, of which only that of the first is not slow."""
    return pytest.mark.parametrize("case", _first(list(dict.fromkeys(one.case for one in mutations))), ids=str)


def of_each_mutation(mutations: Sequence[Mutation]) -> pytest.MarkDecorator:
    """Parametrises a test by mutations, of which only the first is not slow: each is a compilation."""
    return pytest.mark.parametrize("mutation", _first(mutations), ids=str)


def _first(values: Sequence[Any]) -> list[Any]:
    """`values`, all but the first marked as slow."""
    return [*values[:1], *(pytest.param(value, marks=pytest.mark.slow) for value in values[1:])]


def check_as_it_is(case: Case) -> None:
    """Runs a case with the kernels as they are."""
    with using(emulated("sm_80")):
        run_case(case)


def check_mistake_is_found(mutation: Mutation, directory: Path) -> None:
    """Runs a mutation's case with its mistake, in sources that are written to `directory`, and expects its report."""
    require_compiler("sm_80")
    sources = mutated(mutation, directory / "kernels")

    def provider(name: str, architecture: tuple[int, int], driver_version: int) -> bytes:
        operator, _ = kernel_sources.operator_and_element(name)
        return ptx(name, architecture, directory=sources if operator == mutation.image else None)

    with using(Emulator("sm_80", provider)), pytest.raises((AssertionError, RuntimeError, ValueError)) as caught:
        run_case(mutation.case)
    failure = f"{caught.type.__name__}: {caught.value}"
    assert re.search(mutation.message, failure), failure


def mutated(mutation: Mutation, directory: Path) -> Path:
    """The kernels' sources with the mistake, in `directory`, which does not exist."""
    kernel_sources.copy(images.sources(), directory)
    path = directory / mutation.file
    path.write_text(mistaken(mutation, path.read_text()))
    return directory


def mistaken(mutation: Mutation, text: str) -> str:
    """The mutation's file, of which `text` is the content, with the mistake."""
    count = text.count(mutation.snippet)
    assert count == 1, f"{mutation.name}: {mutation.file} has the snippet {count} times: adapt the mutation"
    return text.replace(mutation.snippet, mutation.replacement)


class ProductStatistics(test_bn_relu_conv1x1.TestBnReluConv1x1):
    """The statistics of its output that a product leaves for the next batch norm, which no operator asks for."""

    def check(self, arguments: Arguments) -> None:
        x, *vectors, weight = (argument.detach() for argument in arguments.values())
        out = layout.empty(x, x.shape[0], weight.shape[0], *x.shape[2:])
        actual = bn_relu_conv1x1_forward(x, Norm.of(*vectors), weight, out, statistics=True)
        expected = reference.channel_statistics(out.double())
        for name, a, b in zip(("mean", "variance"), actual, expected):
            assert_near(a, b, name, tolerance=1e-5)


def run_case(case: Case) -> None:
    """A test of a suite, or its comparison with the reference at a shape."""
    if case.suite == "conv3x3_strip":
        tolerance = 4e-3 if case.dtype == "float16" else FLOAT64_TOLERANCE
        test_bn_relu_conv3x3.check_strip((3, 8), 2, case.shape, getattr(torch, case.dtype), tolerance)
        return
    if case.suite == "bn_add_relu_backward":
        test_bn_add_relu.check_added(case.shape, getattr(torch, case.dtype), projected=True, corrected=True)
        return
    if case.suite == "bn_relu_patches_strips":
        test_bn_relu_patches.check_strips(case.shape, (0, 2, 5, 6), getattr(torch, case.dtype))
        return
    if case.suite == "stem":
        *size, outputs = case.shape
        getattr(test_stem, case.method)(getattr(torch, case.dtype), tuple(size), outputs, 5000)
        return
    if case.suite == "prepared_weights":
        arguments = (Form.forward,) if case.method == "test_some_input_channels" else ()
        getattr(test_prepared_weights, case.method)(getattr(torch, case.dtype), *arguments)
        return
    if case.suite == "prepared_norms":
        test_prepared_norms.test_each_has_the_bits_that_it_has_alone(getattr(torch, case.dtype))
        return
    if case.suite == "dice":
        test_upsample_dice_loss.test_equals_reference(case.shape, {}, getattr(torch, case.dtype))
        return
    if case.suite == "smoothed_losses":
        losses, options = SUITES["upsample_cross_entropy"], {"label_smoothing": 0.2, "reduction": "none"}
        losses.check(losses.prepared(case.shape, getattr(torch, case.dtype), align_corners=True, **options))
        return
    suite = ProductStatistics() if case.suite == "product_statistics" else SUITES[case.suite]
    if case.method:
        getattr(suite, case.method)()
    else:
        suite.check(suite.prepared(case.shape, getattr(torch, case.dtype), case.layout))
