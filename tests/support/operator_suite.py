"""What every operator promises, tested by one suite: tests/ops/test_NAME.py subclasses it for its operator."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest
import torch
from support.comparison import FLOORS, assert_as_accurate, assert_near, assert_same_bits
from support.devices import CPU, cpu_only
from torch import Tensor

from ladderseg_fast import _core, ops
from ladderseg_fast.ops.backend import real_dtype

Arguments = dict[str, Tensor | tuple[int, int] | int | None]


def _channel_slice(x: Tensor) -> Tensor:
    """Channels [2, 2 + C) of a wider channels_last map: how a dense block's readers see its buffer."""
    n, c, h, w = x.shape
    wide = x.new_full((n, c + 5, h, w), torch.nan).to(memory_format=torch.channels_last)
    wide[:, 2 : 2 + c] = x
    return wide[:, 2 : 2 + c]


def _every_second(x: Tensor) -> Tensor:
    wide = x.new_full((*x.shape[:3], 2 * x.shape[3]), torch.nan)
    wide[..., ::2] = x
    return wide[..., ::2]


def _expanded(x: Tensor) -> Tensor:
    """One image stands for all: stride 0 in the first dimension."""
    return x[:1].expand_as(x)


#: Ways in which a feature map [N, C, H, W] can lie in memory. What a view leaves out is NaN.
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x.contiguous(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "channel_slice": _channel_slice,
    "every_second": _every_second,
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "expanded": _expanded,
}


#: Those that kernels read. The others are copied before, whatever their dtype.
READ_IN_PLACE = ("channels_last", "channel_slice")


def parametrize_shapes(metafunc: pytest.Metafunc) -> None:
    """The argument `shape` of a suite's test runs over the table `shapes` of its class."""
    if "shape" in metafunc.fixturenames:
        ids = [str(shape).replace(" ", "") for shape in metafunc.cls.shapes]
        metafunc.parametrize("shape", metafunc.cls.shapes, ids=ids)


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def instruction_set(name: str) -> Iterator[None]:
    before = _core.instruction_set()
    _core.set_instruction_set(name)
    assert _core.instruction_set() == name
    try:
        yield
    finally:
        _core.set_instruction_set(before)


def random(*shape: int, seed: int, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Uniform float64 numbers that float32 can hold, so that every dtype sees the same input."""
    numbers = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return (low + (high - low) * numbers).double()


def evaluate(function: Callable, arguments: Arguments) -> dict[str, Tensor]:
    """Outputs of function(**arguments), and the gradients of all arguments that require one.

    The gradients that come in are positive, so that sums over pixels do not cancel: rounding stays small
    against their results.
    """
    leaves = {
        key: value.detach().requires_grad_()
        for key, value in arguments.items()
        if isinstance(value, Tensor) and value.requires_grad
    }
    outputs = function(**{**arguments, **leaves})
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    results = {f"output {i}": output for i, output in enumerate(outputs)}
    if leaves:
        grads = [
            random(*output.shape, seed=90 + i, low=0.5).to(output.dtype).contiguous(memory_format=_format(output))
            for i, output in enumerate(outputs)
        ]
        gradients = torch.autograd.grad(outputs, list(leaves.values()), grads)
        results |= {f"gradient of {key}": gradient for key, gradient in zip(leaves, gradients)}
    return results


def _format(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.dim() == 4 else torch.contiguous_format


class OperatorSuite(ABC):
    """A subclass names the operator, lists the shapes that hurt, and makes the arguments for one of them."""

    name: str
    #: What `arguments` takes as `shape`; the class says what it means.
    shapes: list[tuple[int, ...]]
    #: Small enough for gradcheck.
    small: tuple[int, ...]
    #: Several tiles of pixels, for more than one thread.
    large: tuple[int, ...]
    #: Arguments that are feature maps [N, C, H, W].
    maps: tuple[str, ...] = ("x",)
    #: Other arguments that are of the dtype of the maps; vectors are float32 beside 16-bit maps.
    like_maps: tuple[str, ...] = ("weight",)
    #: Arguments that may be None.
    optional: tuple[str, ...] = ()
    #: Tensors of any dtype.
    converted: tuple[str, ...] = ()
    #: Arguments that have a gradient.
    differentiable: tuple[str, ...] = ()

    @property
    def floors(self) -> Mapping[torch.dtype, int]:
        """Errors that are never held against a dtype: see FLOORS."""
        return FLOORS

    @abstractmethod
    def arguments(self, shape: tuple[int, ...]) -> Arguments:
        """Arguments in the order of the operator's signature, tensors in float64 and contiguous."""

    def prepared(
        self,
        shape: tuple[int, ...],
        dtype: torch.dtype = torch.float32,
        layout: str = "channels_last",
        gradients: bool = True,
        **replaced: object,
    ) -> Arguments:
        """`arguments` with some replaced, then in `dtype`, feature maps in `layout`, requiring gradients."""
        arguments = self.arguments(shape) | replaced
        for key, value in arguments.items():
            if not isinstance(value, Tensor):
                continue
            if value.is_floating_point():
                value = value.to(dtype if key in (*self.maps, *self.like_maps) else real_dtype(dtype))
            if key in self.maps:
                value = LAYOUTS[layout](value)
            arguments[key] = value.requires_grad_(gradients and key in self.differentiable)
        return arguments

    def operator(self) -> Callable:
        return getattr(ops, self.name)

    def reference(self) -> Callable:
        return getattr(ops.reference, self.name)

    def overload(self) -> Callable:
        return getattr(torch.ops.ladderseg_fast, self.name).default

    def check(self, arguments: Arguments) -> None:
        """The operator is as accurate as the reference, in outputs and gradients, and leaves its inputs alone."""
        before = {key: value.detach().clone() for key, value in arguments.items() if isinstance(value, Tensor)}
        actual = evaluate(self.operator(), arguments)
        for key, value in before.items():
            assert_same_bits(arguments[key].detach(), value, f"{key} after the call")
        plain = evaluate(self.reference(), arguments)
        exact = evaluate(self.reference(), {key: _to_float64(value) for key, value in arguments.items()})
        assert actual.keys() == exact.keys()
        for key in exact:
            dtype = arguments[self.maps[0]].dtype
            assert_as_accurate(actual[key], plain[key], exact[key], key, dtype=dtype, floors=self.floors)

    # Results

    def test_equals_reference(self, shape: tuple[int, ...], map_dtype: torch.dtype) -> None:
        self.check(self.prepared(shape, map_dtype))

    @pytest.mark.parametrize("layout", READ_IN_PLACE)
    def test_memory_layout(self, layout: str, map_dtype: torch.dtype) -> None:
        self.check(self.prepared(self.large, map_dtype, layout))

    @pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout not in READ_IN_PLACE])
    def test_memory_layout_that_is_copied(self, layout: str) -> None:
        self.check(self.prepared(self.large, layout=layout))

    @cpu_only
    @pytest.mark.parametrize("name", _core.supported_instruction_sets())
    def test_instruction_set(self, name: str, map_dtype: torch.dtype) -> None:
        with instruction_set(name):
            if map_dtype == torch.bfloat16 and not _core.has_bfloat16():
                pytest.skip("this instruction set does not multiply bfloat16")
            self.check(self.prepared(self.large, map_dtype))

    @cpu_only
    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_threads(self, count: int) -> None:
        with threads(count):
            self.check(self.prepared(self.large))

    @pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf], ids=str)
    def test_nan_and_infinity_propagate(self, value: float) -> None:
        for key in self.maps:
            arguments = self.arguments(self.small)
            arguments[key].view(-1)[arguments[key].numel() // 2] = value
            self.check(self.prepared(self.small, **{key: arguments[key]}))

    def test_same_bits_every_time(self) -> None:
        arguments = self.prepared(self.large)
        with threads(2):
            first, *others = [evaluate(self.operator(), arguments) for _ in range(3)]
        for other in others:
            for key in first:
                assert_same_bits(other[key], first[key], key)

    def test_feature_maps_come_out_channels_last(self) -> None:
        for key, output in evaluate(self.operator(), self.prepared(self.large, layout="contiguous")).items():
            if key.startswith("output"):
                assert output.is_contiguous(memory_format=_format(output)), key

    # Registration

    @pytest.mark.filterwarnings("ignore")
    def test_opcheck(self, device: str) -> None:
        """Schema, fake implementation, autograd registration and tracing agree with what the operator does."""
        layouts = ("channels_last", "contiguous") if device == CPU else ("contiguous", "channels_last")
        torch.library.opcheck(self.overload(), tuple(self.prepared(self.small, layout=layouts[0]).values()))
        without = self.prepared(self.small, layout=layouts[1], gradients=False, **dict.fromkeys(self.optional))
        torch.library.opcheck(self.overload(), tuple(without.values()))

    @cpu_only
    def test_torch_compile_breaks_no_graph(self) -> None:
        arguments = self.prepared(self.small)
        expected = evaluate(self.operator(), arguments)
        torch._dynamo.reset()
        found = evaluate(torch.compile(self.operator(), backend="aot_eager", fullgraph=True), arguments)
        for key, value in expected.items():
            assert_same_bits(found[key].detach(), value.detach(), key)

    def test_signature_is_the_references(self) -> None:
        actual, expected = (inspect.signature(f).parameters.values() for f in (self.operator(), self.reference()))
        assert [(p.name, p.default) for p in actual] == [(p.name, p.default) for p in expected]

    # Bad input

    def test_wrong_rank(self) -> None:
        for key in self.maps:
            arguments = self.prepared(self.small)
            arguments[key] = arguments[key].detach()[0]
            with pytest.raises(ValueError, match=rf"\b{key}\b"):
                self.operator()(**arguments)

    @pytest.mark.real_use
    def test_what_is_no_tensor(self) -> None:
        """Torch's own error for it is a RuntimeError."""
        for key in (*self.maps, *(key for key in self.like_maps if key in self.prepared(self.small))):
            for value in (None, {"out": torch.zeros(1)}):
                with pytest.raises((TypeError, RuntimeError), match=rf"\b{key}\b"):
                    self.operator()(**self.prepared(self.small) | {key: value})

    @pytest.mark.real_use
    def test_tensors_without_memory_of_their_own(self) -> None:
        """Sparse ones, and those whose storage has been freed: torch ends the process when it reads the latter."""
        for key, value in self.prepared(self.small, gradients=False).items():
            if isinstance(value, Tensor):
                freed = value.clone()
                freed.untyped_storage().resize_(0)
                for other, error in ((value.to_sparse(), TypeError), (freed, ValueError)):
                    with pytest.raises(error, match=rf"\b{key}\b"):
                        self.operator()(**self.prepared(self.small, gradients=False) | {key: other})

    def test_other_dtypes(self, refused_dtype: torch.dtype) -> None:
        arguments = self.prepared(self.small, refused_dtype, gradients=False)
        with pytest.raises(TypeError, match=rf"\b({'|'.join(self.maps)})\b.*float32"):
            self.operator()(**arguments)

    def test_mixed_dtypes(self) -> None:
        """Every floating-point tensor must have the dtype of the first; the message names the one that has not."""
        for key, value in list(self.prepared(self.small).items())[1:]:
            if isinstance(value, Tensor) and value.is_floating_point() and key not in self.converted:
                arguments = self.prepared(self.small) | {key: value.detach().double()}
                with pytest.raises(TypeError, match=rf"\b{key}\b"):
                    self.operator()(**arguments)


class DifferentiableOperatorSuite(OperatorSuite):
    """An operator with a gradient."""

    def test_gradcheck(self) -> None:
        arguments = self.prepared(self.small, torch.float64)
        assert torch.autograd.gradcheck(self.overload(), tuple(arguments.values()))

    def test_each_argument_alone_requires_a_gradient(self) -> None:
        """The others, constants, get none: parameters that are frozen, a frozen batch norm's statistics."""
        for wanted in self.differentiable:
            arguments = self.prepared(self.small)
            for key in self.differentiable:
                arguments[key].requires_grad_(key == wanted)
            self.check(arguments)
            output = self.operator()(**arguments)
            _sum(output).backward()
            for key in self.differentiable:
                assert (arguments[key].grad is None) == (key != wanted), key

    def test_without_gradients(self) -> None:
        arguments = self.prepared(self.small, gradients=False)
        self.check(arguments)
        assert not _sum(self.operator()(**arguments)).requires_grad
        with torch.no_grad():
            assert not _sum(self.operator()(**self.prepared(self.small))).requires_grad

    def test_absent_optional_arguments(self) -> None:
        for absent in [*((key,) for key in self.optional), self.optional]:
            self.check(self.prepared(self.small, **dict.fromkeys(absent)))

    def test_incoming_gradient_in_any_layout(self, device: str) -> None:
        """That of sum() is one number, expanded; others come as slices of wider maps."""
        arguments = self.prepared(self.large if device == CPU else self.small, torch.float64)
        leaves = [arguments[key] for key in self.differentiable]
        outputs = self.operator()(**arguments)
        output = outputs if isinstance(outputs, Tensor) else outputs[0]
        ones = torch.ones_like(output)
        expected = torch.autograd.grad(output, leaves, ones, retain_graph=True, allow_unused=True)
        others = {"sum": torch.ones((), dtype=output.dtype).expand_as(output)}
        if output.dim() == 4:
            others |= {layout: lay_out(ones) for layout, lay_out in LAYOUTS.items()}
        for layout, incoming in others.items():
            actual = torch.autograd.grad(output, leaves, incoming, retain_graph=True, allow_unused=True)
            for key, a, b in zip(self.differentiable, actual, expected):
                assert (a is None) == (b is None)
                if a is not None:
                    assert_near(a, b, f"gradient of {key}, incoming gradient {layout}")

    def test_double_backward_is_refused(self) -> None:
        """For every argument; and not silently, where the loss has another way to it beside the second derivative."""
        arguments = self.prepared(self.small)
        leaves = [arguments[key] for key in self.differentiable]

        def gradient_penalty() -> Tensor:
            output = self.operator()(**arguments)
            gradients = torch.autograd.grad(_sum(output).square(), leaves, create_graph=True)
            return sum(gradient.square().sum() for gradient in gradients) + sum(leaf.sum() for leaf in leaves)

        for leaf in leaves:
            with pytest.raises(RuntimeError, match="second derivative|differentiated once"):
                torch.autograd.grad(gradient_penalty(), leaf)

    def test_modified_input_is_noticed(self) -> None:
        """As in PyTorch: what backward needs must not have changed since forward."""
        arguments = self.prepared(self.small)
        output = self.operator()(**arguments)
        with torch.no_grad():
            arguments[self.maps[-1]].add_(1.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            _sum(output).backward()


def _sum(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    return outputs.sum() if isinstance(outputs, Tensor) else sum(output.sum() for output in outputs)


def _to_float64(value: object) -> object:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().double().requires_grad_(value.requires_grad)
    return value
