"""Training steps of a module in two ways, lean and plain, and their comparison; used for stages and models."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from support.comparison import assert_as_accurate, assert_near, magnitude
from torch import Tensor, nn

#: A gradient this much smaller than the largest one is compared as if it were of this size: batch norm of few values
#: cancels some to nothing but rounding.
_CANCELLED = 1e-3

#: How batch norms may behave in a forward pass whose gradients are wanted.
MODES = ("train", "eval", "frozen", "mixed")


@dataclass
class Steps:
    """What a few training steps computed, by name: outputs, gradients, running statistics, parameters."""

    floats: dict[str, Tensor] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    """num_batches_tracked of each batch norm, at the end."""


def batch_norms(module: nn.Module) -> Iterator[nn.BatchNorm2d]:
    return (child for child in module.modules() if isinstance(child, nn.BatchNorm2d))


def set_mode(module: nn.Module, mode: str) -> None:
    """train; eval; frozen: in training, but every batch norm in eval mode; mixed: every second one of them."""
    module.train(mode != "eval")
    for i, norm in enumerate(batch_norms(module)):
        if mode == "frozen" or (mode == "mixed" and i % 2):
            norm.eval()


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Parameters and running statistics that are all different; float32 holds them, so every dtype sees the same."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor: Tensor, low: float, high: float) -> None:
        tensor.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))

    with torch.no_grad():
        for child in module.modules():
            if isinstance(child, nn.Conv2d):
                bound = (3.0 / child.weight[0].numel()) ** 0.5
                uniform(child.weight, -bound, bound)
                if child.bias is not None:
                    uniform(child.bias, -0.5, 0.5)
            if isinstance(child, nn.BatchNorm2d):
                if child.affine:
                    uniform(child.weight, -1.0, 1.5)
                    uniform(child.bias, -0.5, 0.8)
                if child.track_running_stats:
                    uniform(child.running_mean, -0.3, 0.3)
                    uniform(child.running_var, 0.5, 1.5)
                    child.num_batches_tracked.fill_(7)
    return module


def away_from_kinks(module: nn.Module) -> nn.Module:
    """Batch norms' gamma is small beside |beta|, so that hardly any activation is near the ReLU's kink.

    There rounding decides whether a gradient passes, and float32 errors would be a matter of luck.
    """
    with torch.no_grad():
        for norm in batch_norms(module):
            norm.weight.mul_(0.15)
            norm.bias.copy_(torch.where(torch.arange(len(norm.bias)) % 4 == 0, -1.0, 1.0))
    return module


def random_maps(shapes: Sequence[Sequence[int]], seed: int) -> list[Tensor]:
    """Feature maps (float64, normal; float32 holds them)."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator).double() for shape in shapes]


def run_steps(
    module: nn.Module,
    forward: Callable[..., Tensor | Sequence[Tensor]],
    steps: Sequence[Sequence[Tensor]],
    learning_rate: float = 0.0,
) -> Steps:
    """forward(module, *inputs) and its backward for every step's inputs, with plain SGD in between.

    Results are not copied: a later step that wrote into them would be found out.
    """
    done = Steps()
    for number, step in enumerate(steps):
        inputs = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in step]
        module.zero_grad()
        outputs = forward(module, *inputs)
        outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        for i, output in enumerate(outputs):
            done.floats[f"step {number}: output {i}"] = output.detach()
        if any(output.requires_grad for output in outputs):
            incoming = [random_maps([output.shape], seed=50 + i)[0] for i, output in enumerate(outputs)]
            torch.autograd.backward(outputs, [grad.to(output.dtype) for grad, output in zip(incoming, outputs)])
        gradients = {f"input {i}": tensor.grad for i, tensor in enumerate(inputs)}
        gradients |= {name: parameter.grad for name, parameter in module.named_parameters()}
        for name, gradient in gradients.items():
            if gradient is not None:
                done.floats[f"step {number}: gradient of {name}"] = gradient
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.grad is not None:
                    parameter.sub_(learning_rate * parameter.grad)
    for name, tensor in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            done.counters[name] = int(tensor)
        else:
            done.floats[f"{name} at the end"] = tensor.clone()
    return done


def assert_lean_equals_plain(
    module: nn.Module,
    lean: Callable[..., Tensor | Sequence[Tensor]],
    plain: Callable[..., Tensor | Sequence[Tensor]],
    steps: Sequence[Sequence[Tensor]],
    learning_rate: float = 0.0,
) -> None:
    """Both ways give the same numbers and gradients of the same tensors. In float64: up to rounding.

    In float32 `lean` may be twice as far from float64 as `plain` is. The plain steps are those of `module` itself, the
    others of copies.
    """
    dtype = steps[0][0].dtype
    actual = run_steps(copy.deepcopy(module), lean, steps, learning_rate)
    double = copy.deepcopy(module).double() if dtype != torch.float64 else None
    expected = run_steps(module, plain, steps, learning_rate)
    assert actual.counters == expected.counters
    assert actual.floats.keys() == expected.floats.keys()
    if dtype == torch.float64:
        largest = max((magnitude(grad) for name, grad in expected.floats.items() if "gradient" in name), default=0.0)
        for name in expected.floats:
            scale = _CANCELLED * largest if "gradient" in name else 0.0
            assert_near(actual.floats[name], expected.floats[name], name, scale=scale)
    else:
        exact_steps = [[t.detach().double().requires_grad_(t.requires_grad) for t in step] for step in steps]
        exact = run_steps(double, plain, exact_steps, learning_rate)
        # The gradient of a bias before batch norm is 0, a sum that cancels: rounding is as that of other gradients.
        scale = max(magnitude(gradient) for name, gradient in exact.floats.items() if "gradient" in name)
        for name in expected.floats:
            ways = actual.floats[name], expected.floats[name], exact.floats[name]
            assert_as_accurate(*ways, name, scale if "gradient" in name else 0.0)
