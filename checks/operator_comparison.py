"""One call of an operator: equal to its plain-torch reference, or refused; its arguments are left as they were."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from drawn_tensors import Draw, bits_of_storage
from operator_arguments import DIFFERENTIABLE, Arguments
from torch import Tensor

from ladderseg_fast import ops

#: Errors, relative to the size of the results. The numerics have tests of their own; a wrong index shows in any case.
_TOLERANCES = {torch.float64: 1e-10, torch.float32: 5e-5, torch.bfloat16: 5e-2}

REFUSALS = (TypeError, ValueError, RuntimeError, MemoryError)


def check_equals_reference(draw: Draw, name: str, arguments: Arguments) -> None:
    """Compares the outputs, and the gradients of some arguments, with those of the reference in float64.

    Raises:
        AssertionError: they differ, or the call has changed an argument.
    """
    wanted = [key for key in DIFFERENTIABLE if isinstance(arguments.get(key), Tensor) and draw.chance(0.6)]
    if draw.chance(0.1):
        with torch.inference_mode():
            wanted = []
    incoming: list[Tensor] = []
    with arguments_unchanged(arguments):
        actual = _evaluate(draw, getattr(ops, name), arguments, wanted, incoming)
    if "weight" in arguments and 0 in arguments.get("x", arguments.get("skip")).shape[2:]:
        # Plain torch has no convolutions of maps without pixels.
        assert not any(each.any() for each in actual.values()), "something comes of no pixels"
        return
    reference = getattr(ops.reference, name)
    plain = _evaluate(draw, reference, _copies(arguments), wanted, [each.contiguous() for each in incoming])
    wide = [each.double().contiguous() for each in incoming]
    exact = _evaluate(draw, reference, _copies(arguments, torch.float64), wanted, wide)
    assert actual.keys() == exact.keys(), f"{list(actual)} instead of {list(exact)}"
    if name == "upsample_ohem_cross_entropy" and _selection_is_close(arguments):
        return
    for key, found in actual.items():
        expected = plain[key]
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype), (
            f"{key}: {found.dtype} {tuple(found.shape)} instead of {expected.dtype} {tuple(expected.shape)}"
        )
        if name == "upsample_argmax":
            _assert_best(found, arguments)
        else:
            _assert_near(found, exact[key], key, arguments, incoming)


def check_refused(name: str, arguments: Arguments, pattern: str) -> None:
    """Expects an error that contains `pattern`.

    Raises:
        AssertionError: the call raises nothing, or something else.
    """
    with arguments_unchanged(arguments):
        try:
            getattr(ops, name)(**arguments)
        except REFUSALS as error:
            named = isinstance(error, MemoryError) or re.search(pattern, str(error))
            assert named, f"{type(error).__name__} does not name the argument: {error}"
        except Exception as error:
            raise AssertionError(f"{type(error).__name__} instead of {REFUSALS}: {error}") from error
        else:
            raise AssertionError("nothing is raised")


@contextmanager
def arguments_unchanged(arguments: Arguments) -> Iterator[None]:
    """Region that must leave every byte of the arguments' storages as it is, also between their elements."""
    tensors = {key: value for key, value in arguments.items() if _has_memory(value)}
    before = {key: bits_of_storage(value) for key, value in tensors.items()}
    yield
    for key, value in tensors.items():
        assert torch.equal(bits_of_storage(value), before[key]), f"the memory of {key} has changed"


def _has_memory(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device.type == "cpu" and value.layout is torch.strided


def _evaluate(
    draw: Draw, function: Callable[..., Any], arguments: Arguments, wanted: list[str], incoming: list[Tensor]
) -> dict[str, Tensor]:
    """Outputs, and gradients of the arguments `wanted`; one that is given twice has one gradient.

    `incoming` are the gradients of the outputs; if there are none yet, they are drawn and appended.
    """
    leaves: dict[int, Tensor] = {}
    for key in wanted:
        leaves.setdefault(id(arguments[key]), arguments[key].detach().requires_grad_())
    replaced = {key: leaves.get(id(value), value) for key, value in arguments.items()}
    outputs = function(**replaced)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    results = {f"output {i}": output.detach() for i, output in enumerate(outputs)}
    if leaves and outputs[0].requires_grad:
        if not incoming:
            # Positive, so that sums over pixels do not cancel.
            incoming += [draw.placed(draw.uniform(output.shape, 0.5, 1.0, output.dtype)) for output in outputs]
        found = torch.autograd.grad(outputs, list(leaves.values()), incoming)
        names = [key for key in wanted if id(arguments[key]) in leaves]
        first = {id(arguments[key]): key for key in reversed(names)}
        results |= {f"gradient of {first[number]}": gradient for number, gradient in zip(leaves, found)}
    return results


def _copies(arguments: Arguments, dtype: torch.dtype | None = None) -> Arguments:
    """The same for plain torch, floating-point tensors in `dtype`; contiguous, for it may not read all views."""
    copies: dict[int, Any] = {}
    for value in arguments.values():
        if isinstance(value, Tensor):
            kind = dtype if dtype is not None and value.is_floating_point() else value.dtype
            copies.setdefault(id(value), value.resolve_neg().to(kind, copy=True).contiguous())
    result = {key: copies.get(id(value), value) for key, value in arguments.items()}
    if "dilation" in result:
        # From here on all pixels but the one in the middle are padding, for which torch would need memory.
        result["dilation"] = min(result["dilation"], 1 + max(result["x"].shape[2:]))
    return result


def _assert_near(found: Tensor, exact: Tensor, name: str, arguments: Arguments, incoming: list[Tensor]) -> None:
    maps = next(value for value in arguments.values() if isinstance(value, Tensor) and value.dim() == 4)
    scale = _size(exact, name, arguments, incoming)
    errors = (found.double() - exact).abs()
    errors = errors.masked_fill((found.double() == exact) | (found.isnan() & exact.isnan()), 0.0).nan_to_num(torch.inf)
    worst = errors.amax().item() if errors.numel() else 0.0
    assert worst <= _TOLERANCES[maps.dtype] * scale, f"{name} is off by {worst:.3g}, of numbers of about {scale:.3g}"


def _size(exact: Tensor, name: str, arguments: Arguments, incoming: list[Tensor]) -> float:
    """Size of the numbers that a result is the sum of; sums may cancel by chance."""
    finite = exact[exact.isfinite()].abs()
    largest = finite.amax().item() if finite.numel() else 0.0
    if name.startswith("output"):
        return max(largest, 1.0)
    grads = max((each.abs().amax().item() for each in incoming if each.numel()), default=0.0)
    if "logits" in arguments:
        logits, labels = arguments["logits"], arguments["labels"]
        pixels = 1 if incoming[0].dim() == 0 and arguments.get("reduction") != "sum" else labels.numel()
        return max(largest, 8.0 * grads * pixels / max(1, logits.numel() // logits.shape[1]))
    if exact.dim() == 4 and not name.endswith("weight"):
        return max(largest, 1.0)
    summands = max(each.numel() for each in incoming)
    return max(largest, 4.0 * summands**0.5)


def _assert_best(labels: Tensor, arguments: Arguments) -> None:
    """Each label has the highest score but for rounding."""
    scores = arguments["scores"]
    options = {"size": arguments["size"], "mode": "bilinear", "align_corners": arguments["align_corners"]}
    upsampled = F.interpolate(scores.double(), **options)
    chosen = upsampled.gather(1, labels[:, None].long()).squeeze(1)
    short = (upsampled.amax(dim=1) - chosen).amax().item() if labels.numel() else 0.0
    assert short <= 8 * _TOLERANCES[scores.dtype], f"a label's score is {short:.3g} below the best"


def _selection_is_close(arguments: Arguments) -> bool:
    """Whether rounding may decide which pixels are the hardest: several are nearly as hard as the last."""
    logits, labels, ignored = (arguments[key] for key in ("logits", "labels", "ignore_index"))
    options = {"mode": "bilinear", "align_corners": arguments["align_corners"]}
    upsampled = F.interpolate(logits.detach().double(), labels.shape[1:], **options)
    hardness = F.cross_entropy(upsampled, labels.long(), ignore_index=ignored, reduction="none")
    hardness = hardness[labels.long() != ignored].sort().values
    gaps = hardness.diff()
    close = 1e-8 if logits.dtype == torch.float64 else 1e-3 if logits.dtype == torch.float32 else 1.0
    threshold = arguments["threshold"]
    near = threshold is not None and bool((hardness + torch.tensor(threshold).double().log()).abs().lt(close).any())
    return near or bool((gaps < close).any())
