"""memory="lean" computes what memory="plain" does: outputs, gradients, running statistics, over several steps."""

from collections.abc import Callable, Sequence

import pytest
import torch
from support.comparison import relative_error
from support.ladder_models import (
    TINY,
    in_mode,
    make_images,
    make_labels,
    make_model,
    make_narrow_model,
    training_loss,
)
from support.lean_equals_plain import MODES, assert_lean_equals_plain, away_from_kinks, run_steps, set_mode
from torch import Tensor

from ladderseg_fast import LadderOutput, SegmentationModel
from ladderseg_fast.lean import MemoryPlan

#: Even sizes, odd ones, and more than one pixel at 1/64.
SIZES = [(64, 64), (65, 97), (64, 128), (131, 129)]


def check(model: SegmentationModel, inputs: Sequence[Sequence[Tensor]], learning_rate: float = 1e-3) -> None:
    assert_lean_equals_plain(model, in_mode("lean"), in_mode("plain"), inputs, learning_rate)


def steps(count: int, n: int, *size: int, dtype: torch.dtype = torch.float64) -> list[list[Tensor]]:
    return [[make_images(n, *size, dtype=dtype, seed=seed)] for seed in range(count)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_narrow_ladder(size: tuple[int, int], mode: str) -> None:
    # Of two or three values batch norm's gradient is almost 0, and what is left is mostly rounding.
    batch = 6 if mode in ("train", "mixed") and min(size) < 128 else 2
    model = make_narrow_model()
    set_mode(model, mode)
    check(model, steps(2, batch, *size))


@pytest.mark.parametrize("mode", MODES)
def test_usual_numbers_of_channels(mode: str) -> None:
    model = make_model()
    set_mode(model, mode)
    check(model, steps(2, 2, 131, 129))


def test_five_steps() -> None:
    check(make_narrow_model(), steps(5, 6, 64, 97), learning_rate=1e-5)


@pytest.mark.parametrize("mode", ["eval", "frozen"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_single_image(size: tuple[int, int], mode: str) -> None:
    model = make_narrow_model()
    set_mode(model, mode)
    check(model, steps(1, 1, *size))


def test_single_image_in_training() -> None:
    model = make_narrow_model()
    check(model, steps(1, 1, 193, 200))


@pytest.mark.parametrize("backbone", ["densenet121", pytest.param("densenet169", marks=pytest.mark.slow)])
def test_real_ladders(backbone: str) -> None:
    check(make_model(backbone), steps(1, 6, 64, 64))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("backbone", ["densenet121", "densenet169"])
def test_real_ladders_over_steps(backbone: str, mode: str) -> None:
    model = make_model(backbone)
    set_mode(model, mode)
    check(model, steps(3, 2, 131, 200), learning_rate=1e-5)


@pytest.mark.parametrize(
    "backbone",
    [TINY, *(pytest.param(name, marks=pytest.mark.slow) for name in ("densenet121", "densenet169"))],
)
@pytest.mark.parametrize("mode", ["train", "frozen"])
def test_as_accurate_as_plain_in_float32(backbone: str, mode: str) -> None:
    """Over all parameters, the distance from float64 is at most twice that of plain float32.

    In so large a network some activations are so near 0 that rounding decides whether their gradients pass, in
    plain PyTorch too; so the norm of all errors is compared, not the worst one. Plain runs in the memory
    layout in which PyTorch's own 3x3 convolutions are at their most accurate, NCHW.
    """

    def run(memory: str, dtype: torch.dtype) -> dict[str, Tensor]:
        model = away_from_kinks(make_model(backbone, dtype=dtype))
        set_mode(model, mode)
        return run_steps(model, in_mode(memory), steps(1, 2, 129, 193, dtype=dtype)).floats

    lean, plain, exact = run("lean", torch.float32), run("plain", torch.float32), run("plain", torch.float64)
    parts = ["output 0", "output 1", "gradient", *(["running_mean", "running_var"] if mode == "train" else [])]
    for part in parts:
        names = [name for name in exact if part in name]
        assert names
        lean_error, plain_error = (
            relative_error([way[name] for name in names], [exact[name] for name in names]) for way in (lean, plain)
        )
        assert lean_error <= 2 * plain_error, f"{part}: {lean_error:.3g} is more than twice {plain_error:.3g}"


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("strip_bytes", [1, 24_000, 1 << 30])  # the second: strips of different sizes
def test_any_memory_plan(strip_bytes: int, mode: str) -> None:
    model = make_model()
    set_mode(model, mode)
    model.memory_plan = MemoryPlan(chunk_bytes=strip_bytes, transition_up_bytes=strip_bytes)
    check(model, steps(1, 2, 131, 129))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("channels", [1, 24])
def test_kept_bottlenecks(channels: int, mode: str) -> None:
    """Of every layer, and of those that read 24 channels or more."""
    model = make_narrow_model()
    set_mode(model, mode)
    model.memory_plan = MemoryPlan(keep_bottlenecks_from=channels)
    check(model, steps(2, 2, 131, 129))


@pytest.mark.parametrize("channels", [None, 1])
def test_memory_is_free_after_backward(channels: int | None) -> None:
    """Even while the user holds on to the outputs and their graph, unless it is retained."""
    model = make_narrow_model()
    model.memory_plan = MemoryPlan(keep_bottlenecks_from=channels)
    output = model(make_images(2, 64, 96))
    loss = output.logits.sum() + output.aux.sum()
    loss.backward(retain_graph=True)
    gradient = model.head.conv.weight.grad.clone()
    model.zero_grad()
    loss.backward()
    assert torch.equal(model.head.conv.weight.grad, gradient)
    model.release_workspace()
    assert model._workspace.resident == 0


def test_released_workspace() -> None:
    """Buffers can be given back at any time, and the next step makes new ones."""

    def lean(model: SegmentationModel, images: Tensor) -> LadderOutput:
        output = in_mode("lean")(model, images)
        model.release_workspace()
        return output

    assert_lean_equals_plain(make_narrow_model(), lean, in_mode("plain"), steps(2, 2, 131, 129), 1e-3)


@pytest.mark.parametrize("part", ["logits", "aux"])
def test_loss_of_one_output_only(part: str) -> None:
    """The other output's head has no gradient then."""

    def one(memory: str) -> Callable[[SegmentationModel, Tensor], Tensor]:
        return lambda model, images: getattr(in_mode(memory)(model, images), part)

    assert_lean_equals_plain(make_narrow_model(), one("lean"), one("plain"), steps(2, 6, 64, 96))


def test_images_can_have_a_gradient() -> None:
    check(make_narrow_model(), [[images.requires_grad_()] for (images,) in steps(2, 6, 65, 97)])


@pytest.mark.parametrize(
    "frozen",
    [
        "features",
        "features.conv0",
        "features.norm0",
        "features.denseblock2",
        "features.denseblock4.denselayer2",
        "context",
        "up2",
        "head",
        "",
    ],
)
def test_frozen_parts(frozen: str) -> None:
    """requires_grad_(False) on a part: no gradient there, the others as always."""
    model = make_narrow_model()
    model.get_submodule(frozen).requires_grad_(False)
    check(model, steps(1, 6, 64, 64))


def test_only_batch_norm_parameters_train() -> None:
    model = make_narrow_model()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("norm" in name)
    check(model, steps(1, 6, 64, 64))


def test_channels_last_images_and_parameters() -> None:
    model = make_narrow_model().to(memory_format=torch.channels_last)
    check(model, [[images.contiguous(memory_format=torch.channels_last)] for (images,) in steps(2, 6, 65, 97)])


def test_training_with_the_loss() -> None:
    """Three steps of Adam with the lean loss go where the plain ones go."""
    ends = {}
    for memory in ("lean", "plain"):
        model = make_narrow_model(memory)
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
        losses = []
        for step in range(3):
            optimiser.zero_grad()
            loss = training_loss(model, make_images(4, 64, 64, seed=step), make_labels(4, 64, 64, seed=step))
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        ends[memory] = losses
    assert ends["lean"] == pytest.approx(ends["plain"], rel=1e-6)
