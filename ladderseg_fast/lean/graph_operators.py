"""The lean network as an operator of a compiler's graph.

`lean_network` is what torch.compile sees in a model's forward. To autograd it is a function whose forward and backward
pass are operators, `lean_network_forward` and `lean_network_backward`; both run what the model runs uncompiled.
They find the model by its handle (handles.py). Its parameters and buffers are arguments, so that a compiler knows what
the network depends on and changes. What forward keeps for backward stays outside of the graph (kept_call.py).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from ..ops import autocast, layout
from ..ops.registration import no_double_backward
from ..ops.transforms import refuse_tangents
from .handles import module_of
from .kept_call import KeptCall, empty_token, take, token_of
from .plan import MemoryPlan
from .program import Call, Program
from .traced_state import as_traced, modules_of, parameter_keys_of
from .workspace import Workspace

_WHO = 'memory="lean"'


class GraphNetwork(Protocol):
    """A network that can be an operator; it returns one map or two."""

    def program_for_sizes(self) -> tuple[Program, Sequence[int]]:
        """Its program for any plan, and the channels of each output; run while a compiler traces it."""

    def program_to_run(self, images: Tensor) -> tuple[Program, MemoryPlan, Workspace]:
        """Its program for a step on `images`.

        Raises: what a lean step raises for modules that it cannot follow, or images.
        """


def _network(handle: str) -> GraphNetwork:
    return cast(GraphNetwork, module_of(handle))


_calls = count()


def _run_network(
    handle: str,
    training: Sequence[bool],
    images: Tensor,
    parameters: Sequence[Tensor],
    fixed: Sequence[Tensor],
    updated: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    refuse_tangents(_WHO, [images, *parameters])
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (images, *parameters))
    dtype = autocast.feature_dtype(images.dtype, images.device)
    if keep:
        facts = handle, list(training), dtype, len(parameters), len(fixed)
        first, second, _ = _Network.apply(facts, images, *parameters, *fixed, *updated)
    else:
        first, second, _ = _forward(handle, -1, training, dtype, images, parameters, fixed, updated)
    return first, second


class _Network(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, facts: tuple[Any, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
        handle, training, dtype, parameters, fixed = facts
        images, *rest = tensors
        split = parameters + fixed
        given, unchanged, updated = rest[:parameters], rest[parameters:split], rest[split:]
        with torch._C._AutoDispatchBelowAutograd():
            # The number makes each call another: two calls on the same images must not become one.
            first, second, token = _forward(handle, next(_calls), training, dtype, images, given, unchanged, updated)
        ctx.handle, ctx.buffers = handle, len(rest) - parameters
        ctx.save_for_backward(token, images, *given)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(token)
        return first, second, token

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        token, images, *parameters = ctx.saved_tensors
        network = module_of(ctx.handle)
        program, _ = cast(GraphNetwork, network).program_for_sizes()
        present = grads[: len(program.outputs)]
        features, modules = program.reached([name for name, grad in zip(program.outputs, present) if grad is not None])
        keys = parameter_keys_of(modules_of(network))
        reached = [not features.isdisjoint(program.inputs), *(module in modules for module, _ in keys)]
        wanted = [need and reach for need, reach in zip(ctx.needs_input_grad[1:], reached)]
        first, second = (*present, None)[:2]
        gradients = iter(_backward(ctx.handle, token, images, parameters, first, second, wanted))
        of_tensors = [next(gradients) if want else None for want in wanted]
        return None, *of_tensors, *(None for _ in range(ctx.buffers))


def _outputs(images: Tensor, dtype: torch.dtype, program: Program, channels: Sequence[int]) -> list[Tensor]:
    """Outputs of the shapes and strides that they will have."""
    n, _, height, width = images.shape
    like = images.new_empty(0, dtype=dtype)
    return [layout.empty(like, n, c, h, w) for c, (h, w) in zip(channels, program.sizes((height, width)), strict=True)]


def _two(outputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The outputs; in place of a second one that there is not, an empty tensor."""
    return outputs[0], outputs[1] if len(outputs) == 2 else outputs[0].new_empty(0)


@contextmanager
def _as_in_graph(dtype: torch.dtype, images: Tensor, keep: bool) -> Iterator[None]:
    """Region with the autocast and the gradients of the traced call: a graph runs without them."""
    casts = dtype != images.dtype
    with (
        torch.autocast(images.device.type, dtype=dtype) if casts else autocast.disabled(images.device),
        torch.set_grad_enabled(keep),
    ):
        yield


@torch.library.custom_op(
    "ladderseg_fast::lean_network_forward",
    mutates_args=("updated",),
    schema="(str handle, int call, bool[] training, ScalarType dtype, Tensor images, Tensor[] parameters, "
    "Tensor[] fixed, Tensor(a!)[] updated) -> (Tensor, Tensor, Tensor)",
)
def _forward(
    handle: str,
    call: int,
    training: Sequence[bool],
    dtype: torch.dtype,
    images: Tensor,
    parameters: Sequence[Tensor],
    fixed: Sequence[Tensor],
    updated: Sequence[Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """One or two outputs, and the token of the call; `call` is negative if no backward pass follows."""
    network, keep = module_of(handle), call >= 0
    modules = modules_of(network)
    images = images.resolve_neg()
    with _as_in_graph(dtype, images, keep), as_traced(modules, training, fixed, updated):
        program, plan, workspace = cast(GraphNetwork, network).program_to_run(images)
        given = program.given_parameters(dict(zip(parameter_keys_of(modules), parameters, strict=True)))
        tensors = (images, *given.values())
        this = Call.checked(program, plan, workspace, [images], tensors, tuple(given), keep, hooked=False)
        with torch.no_grad():
            outputs = cast("tuple[Tensor, ...]", this.forward(tensors))
    token = token_of(KeptCall(this, [images])) if keep else empty_token()
    return *_two(outputs), token


@_forward.register_fake
def _fake_forward(
    handle: str,
    call: int,
    training: Sequence[bool],
    dtype: torch.dtype,
    images: Tensor,
    parameters: Sequence[Tensor],
    fixed: Sequence[Tensor],
    updated: Sequence[Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    program, channels = _network(handle).program_for_sizes()
    return *_two(_outputs(images, dtype, program, channels)), empty_token()


@torch.library.custom_op(
    "ladderseg_fast::lean_network_backward",
    mutates_args=(),
    schema="(str handle, Tensor token, Tensor images, Tensor[] parameters, Tensor? first, Tensor? second, "
    "bool[] wanted) -> Tensor[]",
)
def _backward(
    handle: str,
    token: Tensor,
    images: Tensor,
    parameters: Sequence[Tensor],
    first: Tensor | None,
    second: Tensor | None,
    wanted: Sequence[bool],
) -> list[Tensor]:
    """The `wanted` gradients of images and parameters, from those of the outputs."""
    keys = parameter_keys_of(modules_of(module_of(handle)))
    kept, final = take(token)
    given, wants = dict(zip(keys, parameters, strict=True)), dict(zip(keys, wanted[1:], strict=True))
    images = images.resolve_neg()
    grads = [None if grad is None else grad.resolve_neg() for grad in (first, second)]
    with torch.no_grad():
        of_images, *of_kept = kept.backward(
            [images],
            [given[key] for key in kept.parameter_keys],
            [wanted[0], *(wants[key] for key in kept.parameter_keys)],
            grads,
            final,
        )
    found = dict(zip(kept.parameter_keys, of_kept))
    of_parameters = [found.get(key) for key in keys]
    results = [_pixel_major(of_images, images)] if wanted[0] else []
    every = zip(of_parameters, parameters, wanted[1:], strict=True)
    return results + [_like(gradient, parameter) for gradient, parameter, want in every if want]


def _empty_images(images: Tensor) -> Tensor:
    return layout.empty(images, *images.shape)


def _pixel_major(gradient: Tensor | None, images: Tensor) -> Tensor:
    """The gradient of the images with the dtype and strides that the operator promises."""
    place = _empty_images(images)
    return place.zero_() if gradient is None else place.copy_(gradient)


def _like(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    """The same for a parameter."""
    if gradient is None:
        return torch.zeros_like(parameter)
    if gradient.dtype == parameter.dtype and gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


@_backward.register_fake
def _fake_backward(
    handle: str,
    token: Tensor,
    images: Tensor,
    parameters: Sequence[Tensor],
    first: Tensor | None,
    second: Tensor | None,
    wanted: Sequence[bool],
) -> list[Tensor]:
    of_images = [_empty_images(images)] if wanted[0] else []
    return of_images + [torch.empty_like(each) for each, want in zip(parameters, wanted[1:], strict=True) if want]


_library = torch.library.Library("ladderseg_fast", "FRAGMENT")
_library.define(
    "lean_network(str handle, bool[] training, Tensor images, Tensor[] parameters, Tensor[] fixed, "
    "Tensor(a!)[] updated) -> (Tensor, Tensor)"
)
_library.impl("lean_network", _run_network, "CompositeImplicitAutograd")

no_double_backward(_backward)
