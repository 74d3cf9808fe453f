"""Registration of operators with torch.library, and of their plain-torch references with ops.reference."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import reference
from .arguments import BnSums, Norm
from .checks import check_batch_norm, check_grad, check_weight
from .layout import empty, pixel_major
from .transforms import refuse_tangents

Plain = Callable[..., Any]


def reference_of(operator: Callable[..., Any]) -> Callable[[Plain], Plain]:
    """Decorates the plain-PyTorch form of `operator`, and puts it into ops.reference under the operator's name."""

    def add(plain: Plain) -> Plain:
        name = operator.__name__
        plain.__name__ = plain.__qualname__ = name
        plain.__module__ = reference.__name__
        setattr(reference, name, plain)
        reference.__all__.append(name)
        return plain

    return add


def operator(name: str, schema: str) -> Callable[[Callable[..., Any]], Any]:
    """torch.library.custom_op for a function that passes tensors to the kernels and changes none of its arguments.

    Its tensors have their values in memory (the negative bit is resolved), and no tangents.
    """
    names = [argument.split("=")[0].split()[-1] for argument in schema[1 : schema.index(")")].split(", ")]

    def register(function: Callable[..., Any]) -> Any:
        def implementation(*arguments: Any) -> Any:
            refuse_tangents(name, (argument for argument in arguments if isinstance(argument, Tensor)))
            return function(*map(_in_memory, names, arguments))

        implementation.__doc__ = function.__doc__
        return torch.library.custom_op(f"ladderseg_fast::{name}", implementation, mutates_args=(), schema=schema)

    return register


def _in_memory(name: str, argument: Any) -> Any:
    """The argument `name`, without the negative bit if it is a tensor.

    Raises:
        ValueError: its memory has been freed. Torch itself does not look, and the process ends when it reads such a
            tensor.
    """
    if not isinstance(argument, Tensor):
        return argument
    if argument.layout is torch.strided and argument.untyped_storage().nbytes() == 0 and argument.numel() > 0:
        raise ValueError(f"{name} has no memory: its storage has been freed, as fully sharded training does")
    return argument.resolve_neg() if argument.is_neg() else argument


def no_double_backward(operator: Any) -> None:
    """Makes `operator`, a backward, raise RuntimeError if it is differentiated."""
    name = operator._qualname.split("::")[1]

    def backward(ctx: Any, *grads: Tensor) -> None:
        raise RuntimeError(
            f"{name} has no second derivative: its operator can be differentiated once; "
            'for double backward use memory="plain" or ladderseg_fast.ops.reference'
        )

    operator.register_autograd(backward)


def bn_relu_operator(
    name: str,
    arguments: str,
    output_shape: Callable[..., tuple[int, ...]],
    forward: Callable[..., object],
    backward: Callable[..., tuple[Tensor | None, BnSums]],
    check: Callable[..., None] = lambda *inputs: None,
    kernel_size: int = 1,
) -> Any:
    """Registers ladderseg_fast::NAME, which begins with batch norm and ReLU, and its backward.

    Args:
        name: name of the operator.
        arguments: arguments of its schema: maps, the last of which is normalised; mean, invstd, gamma and beta; others,
            including `weight` if there is one.
        output_shape: shape of the result, from the operator's arguments.
        forward: forward(*maps, norm, *others, out) fills `out`.
        backward: backward(grad, *maps, norm, *others, *grad_maps) fills `grad_maps`; returns the gradient of the
            weight, if there is one, and batch norm's sums.
        check: raises for wrong arguments, beyond the checks of batch norm and of convolutions with a square kernel.
        kernel_size: size of the convolution's kernel.
    """
    names = [argument.split()[-1] for argument in arguments.split(", ")]
    tensors = [argument.startswith("Tensor") for argument in arguments.split(", ")].count(True)
    vectors = slice(names.index("mean"), names.index("beta") + 1)
    has_weight = "weight" in names
    normalised = vectors.start - 1

    def check_all(*inputs: Any) -> None:
        name, x = names[normalised], inputs[normalised]
        check_batch_norm(name, x, *inputs[vectors])
        if has_weight:
            check_weight(inputs[names.index("weight")], name, x, kernel_size)
        check(*inputs)

    def split(inputs: tuple[Any, ...]) -> tuple[list[Tensor], Norm, tuple[Any, ...]]:
        return [pixel_major(x) for x in inputs[: vectors.start]], Norm.of(*inputs[vectors]), inputs[vectors.stop :]

    def empty_output(*inputs: Any) -> Tensor:
        check_all(*inputs)
        return empty(inputs[normalised], *output_shape(*inputs))

    @operator(name, f"({arguments}) -> Tensor")
    def forward_operator(*inputs: Any) -> Tensor:
        out = empty_output(*inputs)
        maps, norm, others = split(inputs)
        forward(*maps, norm, *others, out)
        return out

    results = ", ".join(["Tensor"] * (vectors.start + has_weight + 2))

    @operator(f"{name}_backward", f"(Tensor grad, {arguments}) -> ({results})")
    def backward_operator(grad: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
        """Gradients of the maps and of the weight, and the two sums of BnSums in the dtype of mean."""
        check_all(*inputs)
        check_grad(grad, output_shape(*inputs), inputs[normalised])
        maps, norm, others = split(inputs)
        grad_maps = [empty(x, *x.shape) for x in maps]
        grad_weight, sums = backward(pixel_major(grad), *maps, norm, *others, *grad_maps)
        weights = () if grad_weight is None else (grad_weight.to(maps[-1].dtype),)
        return *grad_maps, *weights, *(each.to(norm.mean.dtype, copy=True) for each in (sums.masked, sums.centred))

    def fake_backward(grad: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
        named = dict(zip(names, inputs))
        weights = (named["weight"].new_empty(named["weight"].shape),) if has_weight else ()
        mean = named["mean"]
        grad_maps = (empty(x, *x.shape) for x in inputs[: vectors.start])
        return *grad_maps, *weights, torch.empty_like(mean), torch.empty_like(mean)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:tensors])
        ctx.numbers = inputs[tensors:]

    def autograd(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        *gradients, masked, centred = backward_operator(grad, *inputs, *ctx.numbers)
        _, invstd, gamma, beta = inputs[vectors]
        of_vectors = vector_gradients(masked, centred, invstd, gamma, beta)
        grad_maps, weights = gradients[: vectors.start], gradients[vectors.start :]
        return *grad_maps, *of_vectors, *weights, *(None for _ in ctx.numbers)

    forward_operator.register_fake(empty_output)
    backward_operator.register_fake(fake_backward)
    forward_operator.register_autograd(autograd, setup_context=setup_context)
    no_double_backward(backward_operator)
    return forward_operator


def vector_gradients(
    masked: Tensor, centred: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of mean, invstd, gamma and beta from the sums [C] of BnSums.

    With y = (x - mean) * invstd * gamma + beta, and m the gradient of y where y > 0, else 0:
    d mean = -gamma * invstd * sum(m), d invstd = gamma * sum(m * (x - mean)),
    d gamma = invstd * sum(m * (x - mean)), d beta = sum(m).
    """
    scale = invstd if gamma is None else invstd * gamma
    grad_mean = -scale * masked
    grad_invstd = centred if gamma is None else gamma * centred
    grad_gamma = None if gamma is None else invstd * centred
    grad_beta = None if beta is None else masked
    return grad_mean, grad_invstd, grad_gamma, grad_beta
