"""What every stage of the lean step promises, tested by one suite: tests/lean/test_NAME.py subclasses it."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial

import pytest
import torch
from support.comparison import assert_near, assert_same_bits
from support.lean_equals_plain import (
    MODES,
    assert_lean_equals_plain,
    away_from_kinks,
    batch_norms,
    random_maps,
    randomise,
    run_steps,
    set_mode,
)
from support.operator_suite import LAYOUTS, instruction_set, threads
from torch import Tensor, nn

from ladderseg_fast import _core
from ladderseg_fast.lean import MemoryPlan, Workspace

Shapes = tuple[tuple[int, ...], ...]


def _no_running_statistics(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(norm.num_features, track_running_stats=False)


def _not_affine(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(norm.num_features, affine=False)


#: Options of nn.BatchNorm2d, as what takes one's place; `index` counts the batch norms of a module.
BATCH_NORM_OPTIONS = {
    "momentum=None": lambda norm, index: nn.BatchNorm2d(norm.num_features, momentum=None),
    "momentum differs": lambda norm, index: nn.BatchNorm2d(norm.num_features, momentum=(0.0, 0.3, 1.0)[index % 3]),
    "track_running_stats=False": lambda norm, index: _no_running_statistics(norm),
    "some track_running_stats=False": lambda norm, index: norm if index % 2 else _no_running_statistics(norm),
    "affine=False": lambda norm, index: _not_affine(norm),
    "some affine=False": lambda norm, index: norm if index % 2 else _not_affine(norm),
    "eps differs": lambda norm, index: nn.BatchNorm2d(norm.num_features, eps=10.0 ** (-1 - index % 5)),
}


def _every_second_channel_constant(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, ::2] = x[:1, ::2, :1, :1]
    return x


#: What batch norms may find: means beside which variances are small, or no variance at all.
EXTREME_NUMBERS = {
    "large means": lambda x: x + 100.0,
    "constant channels": _every_second_channel_constant,
    "denormals": lambda x: 1e-310 * x,
}


def replace_batch_norms(module: nn.Module, option: str) -> None:
    for index, norm in enumerate(list(batch_norms(module))):
        path = next(name for name, child in module.named_modules() if child is norm)
        parent, _, name = path.rpartition(".")
        setattr(module.get_submodule(parent), name, BATCH_NORM_OPTIONS[option](norm, index))


class StageSuite(ABC):
    """A subclass makes a module and says how the stage is called and what it takes."""

    #: For each case, the shapes of the inputs.
    shapes: list[Shapes]
    #: The case for the tests that need one only.
    usual: Shapes
    #: Inputs that give every batch norm in training mode a single value per channel.
    single_value: Shapes
    #: The smallest inputs; None: those of `single_value`.
    single_pixel: Shapes | None = None

    @abstractmethod
    def make(self) -> nn.Module:
        """The module, drawn anew."""

    @abstractmethod
    def lean(self, module: nn.Module, *inputs: Tensor, **options: object) -> Tensor:
        """What the stage makes of the inputs; `options` are its `plan` and `workspace`."""

    def plain(self, module: nn.Module, *inputs: Tensor) -> Tensor:
        return module(*inputs)

    def module(self, dtype: torch.dtype = torch.float64, mode: str = "train") -> nn.Module:
        module = randomise(self.make()).to(dtype)
        set_mode(module, mode)
        return module

    def inputs(self, shapes: Shapes | None = None, dtype: torch.dtype = torch.float64, seed: int = 1) -> list[Tensor]:
        maps = random_maps(shapes or self.usual, seed)
        return [x.to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_() for x in maps]

    def steps(self, shapes: Shapes | None = None, dtype: torch.dtype = torch.float64) -> list[list[Tensor]]:
        return [self.inputs(shapes, dtype, seed) for seed in (1, 2, 3)]

    def check(
        self,
        module: nn.Module,
        steps: Sequence[Sequence[Tensor]],
        learning_rate: float = 0.01,
        **options: object,
    ) -> None:
        assert_lean_equals_plain(module, partial(self.lean, **options), self.plain, steps, learning_rate)

    # Results: outputs, gradients of inputs and parameters, running statistics, parameters after three SGD steps

    @pytest.mark.parametrize("mode", MODES)
    def test_equals_plain(self, shape: Shapes, mode: str) -> None:
        self.check(self.module(mode=mode), self.steps(shape))

    @pytest.mark.parametrize("mode", ["train", "frozen"])
    def test_as_accurate_as_plain_in_float32(self, mode: str) -> None:
        module = away_from_kinks(self.module(torch.float32, mode))
        self.check(module, self.steps(dtype=torch.float32), learning_rate=0.0)

    @pytest.mark.parametrize("mode", ["train", "frozen"])
    @pytest.mark.parametrize("strip_bytes", [1, 3000, 20000])
    def test_strips(self, shape: Shapes, strip_bytes: int, mode: str) -> None:
        """Whatever the pieces that it works in: single rows, a few rows, some images."""
        plan = MemoryPlan(chunk_bytes=strip_bytes, transition_up_bytes=strip_bytes)
        self.check(self.module(mode=mode), self.steps(shape)[:1], plan=plan)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
    @pytest.mark.parametrize("name", _core.supported_instruction_sets())
    def test_instruction_set(self, name: str, dtype: torch.dtype) -> None:
        with instruction_set(name):
            module = self.module(dtype)
            if dtype == torch.float32:
                module = away_from_kinks(module)
            self.check(module, self.steps(dtype=dtype), learning_rate=0.0)

    def test_workspace_is_reused(self) -> None:
        """By several steps, and by two whose backward passes come late."""
        workspace = Workspace()
        self.check(self.module(), self.steps(), workspace=workspace)

        def two_forwards(stage):
            def forward(module, *inputs):
                return [stage(module, *inputs), stage(module, *(x.flip(2) for x in inputs))]

            return forward

        lean, plain = two_forwards(partial(self.lean, workspace=workspace)), two_forwards(self.plain)
        assert_lean_equals_plain(self.module(), lean, plain, self.steps(), 0.01)

    @pytest.mark.parametrize("numbers", EXTREME_NUMBERS)
    def test_extreme_numbers(self, numbers: str) -> None:
        inputs = [EXTREME_NUMBERS[numbers](x.detach()).requires_grad_() for x in self.inputs()]
        self.check(self.module(), [inputs])

    def test_large_means_in_float32(self) -> None:
        """Sums of squares would leave nothing of the variance."""
        inputs = [(x.detach() + 1000.0).requires_grad_() for x in self.inputs(dtype=torch.float32)]
        self.check(away_from_kinks(self.module(torch.float32)), [inputs])

    @pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=str)
    def test_nan_and_infinity_propagate(self, value: float) -> None:
        """In evaluation, where no statistics carry them everywhere. Tiles of Winograd's filtering may, a little."""
        module, inputs = self.module(mode="eval"), [x.detach() for x in self.inputs()]
        n, c, h, w = inputs[-1].shape
        inputs[-1][n - 1, c // 2, h // 2, w // 2] = value
        with torch.no_grad():
            actual, expected = self.lean(module, *inputs), self.plain(module, *inputs)
        assert not expected.isfinite().all()
        assert not (actual.isfinite() & ~expected.isfinite()).any()
        assert actual[: n - 1].isfinite().all()

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_memory_layout(self, layout: str) -> None:
        steps = [[LAYOUTS[layout](x.detach()).requires_grad_() for x in self.inputs()]]
        self.check(self.module(), steps)

    @pytest.mark.parametrize("mode", ["train", "eval", "mixed"])
    @pytest.mark.parametrize("option", BATCH_NORM_OPTIONS)
    def test_batch_norm_options(self, option: str, mode: str) -> None:
        module = self.make()
        replace_batch_norms(module, option)
        randomise(module).double()
        set_mode(module, mode)
        self.check(module, self.steps())

    def test_channels_last_parameters(self) -> None:
        self.check(self.module().to(memory_format=torch.channels_last), self.steps())

    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_threads(self, count: int) -> None:
        with threads(count):
            self.check(self.module(), self.steps())

    def test_same_bits_every_time(self) -> None:
        module = self.module(torch.float32)
        with threads(2):
            first, second = (
                run_steps(copy.deepcopy(module), self.lean, self.steps(dtype=torch.float32), 0.01) for _ in range(2)
            )
        for name in first.floats:
            assert_same_bits(second.floats[name], first.floats[name], name)

    # Gradients that are wanted or not

    @pytest.mark.parametrize("mode", ["train", "frozen"])
    def test_constant_parameters(self, mode: str) -> None:
        """A parameter without requires_grad gets no gradient, and the others get theirs."""
        count = len(list(self.module().parameters()))
        for constant in [{0}, {1}, {count - 1}, set(range(0, count, 2)), set(range(1, count, 2)), set(range(count))]:
            module = self.module(mode=mode)
            for i, parameter in enumerate(module.parameters()):
                parameter.requires_grad_(i not in constant)
            self.check(module, self.steps()[:1])

    @pytest.mark.parametrize("mode", ["train", "frozen"])
    def test_inputs_without_gradient(self, mode: str) -> None:
        for constant in range(len(self.usual)):
            inputs = [x.detach().requires_grad_(i != constant) for i, x in enumerate(self.inputs())]
            self.check(self.module(mode=mode), [inputs])

    def test_only_the_inputs_have_a_gradient(self) -> None:
        self.check(self.module().requires_grad_(False), self.steps()[:1])

    def test_no_grad(self) -> None:
        """The same numbers and running statistics, and no graph."""
        module = self.module()
        with_gradient, without = copy.deepcopy(module), copy.deepcopy(module)
        expected = self.lean(with_gradient, *self.inputs())
        with torch.no_grad():
            actual = self.lean(without, *self.inputs())
        assert not actual.requires_grad
        assert_near(actual, expected.detach(), "output")
        for (name, a), b in zip(without.state_dict().items(), with_gradient.state_dict().values()):
            assert torch.equal(a, b), name

    def test_nothing_requires_a_gradient(self) -> None:
        module = self.module().requires_grad_(False)
        inputs = [x.detach() for x in self.inputs()]
        assert not self.lean(module, *inputs).requires_grad
        self.check(module, [inputs])

    def test_gradients_accumulate(self) -> None:
        """A second backward adds to .grad, as for any module."""
        module = self.module(mode="frozen")
        once = run_steps(copy.deepcopy(module), self.lean, [self.inputs()])
        for _ in range(2):
            inputs = self.inputs()
            output = self.lean(module, *inputs)
            output.backward(random_maps([output.shape], seed=50)[0])
        for name, parameter in module.named_parameters():
            assert_near(parameter.grad, 2 * once.floats[f"step 0: gradient of {name}"], name)

    def test_graph_goes_on_before_and_after(self) -> None:
        """The stage is one node of a larger graph, whose leaves and loss are elsewhere; used twice."""

        def around(stage):
            def forward(module, *inputs):
                output = stage(module, *(3.0 * x for x in inputs))
                return stage(module, *(x.flip(3) for x in inputs)) * torch.sigmoid(output)

            return forward

        assert_lean_equals_plain(self.module(), around(self.lean), around(self.plain), self.steps())

    # Backward, once, twice, and refused

    def test_retain_graph(self) -> None:
        module = self.module()
        inputs = self.inputs()
        leaves = [*inputs, *module.parameters()]
        output = self.lean(module, *inputs)
        incoming = torch.ones_like(output)
        first = torch.autograd.grad(output, leaves, incoming, retain_graph=True)
        second = torch.autograd.grad(output, leaves, incoming)
        for i, (a, b) in enumerate(zip(first, second)):
            assert_near(b, a, f"gradient {i}")

    def test_second_backward_is_refused(self) -> None:
        output = self.lean(self.module(), *self.inputs())
        output.sum().backward()
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            output.sum().backward()

    def test_modified_parameter_is_noticed(self) -> None:
        count = len(list(self.module().parameters()))
        for i in range(count):
            module = self.module()
            name, parameter = list(module.named_parameters())[i]
            if _backward_does_not_read(name):
                continue
            output = self.lean(module, *self.inputs())
            with torch.no_grad():
                parameter.add_(1.0)
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                output.sum().backward()

    def test_running_statistics_may_change_before_backward(self) -> None:
        """In training mode backward does not read them, so another forward may come first."""
        module = self.module()
        first, second = self.inputs(seed=1), self.inputs(seed=2)
        outputs = self.lean(module, *first), self.lean(module, *second)
        for inputs, output in zip((first, second), outputs):
            actual = torch.autograd.grad(output.sum(), inputs)
            expected = torch.autograd.grad(self.plain(module, *inputs).sum(), inputs)
            for i, (a, b) in enumerate(zip(actual, expected)):
                assert_near(a, b, f"gradient of input {i}")

    @pytest.mark.parametrize("linear", [False, True], ids=["of the output's square", "of the output"])
    def test_double_backward_is_refused(self, linear: bool) -> None:
        """Neither silently: a loss may have another way to its gradient beside the second derivative.

        The inputs are contiguous, so that the stage works on copies and not on the tensors that are asked for.
        """
        module = self.module()
        inputs = [x.detach().contiguous().requires_grad_() for x in self.inputs()]
        leaves = [*inputs, *(p for name, p in module.named_parameters() if not _backward_does_not_read(name))]

        def gradient_penalty() -> Tensor:
            output = self.lean(module, *inputs)
            loss = output.sum() if linear else output.square().sum()
            gradients = torch.autograd.grad(loss, leaves, create_graph=True)
            return sum(gradient.square().sum() for gradient in gradients) + sum(leaf.sum() for leaf in leaves)

        with pytest.raises(RuntimeError, match="second derivative"):
            gradient_penalty().backward()
        for i, leaf in enumerate(leaves):
            with pytest.raises(RuntimeError, match="second derivative"):
                torch.autograd.grad(gradient_penalty(), leaf)
                pytest.fail(f"leaf {i}")

    # Bad input

    def test_single_value_per_channel(self) -> None:
        """nn.BatchNorm2d refuses it in training mode, and so does the stage; running statistics stay."""
        module = self.module()
        for run in (self.plain, self.lean):
            with pytest.raises(ValueError, match="more than 1 value per channel"):
                run(module, *self.inputs(self.single_value))

    @pytest.mark.parametrize("mode", ["eval", "frozen"])
    def test_single_pixel_with_constant_statistics(self, mode: str) -> None:
        self.check(self.module(mode=mode), [self.inputs(self.single_pixel or self.single_value)])

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
    def test_half_precision(self, dtype: torch.dtype) -> None:
        with pytest.raises(TypeError, match="float32"):
            self.lean(self.module(dtype), *self.inputs(dtype=dtype))

    def test_inputs_of_another_dtype_than_the_parameters(self) -> None:
        for i in range(len(self.usual)):
            inputs = self.inputs()
            inputs[i] = inputs[i].detach().float()
            with pytest.raises(TypeError):
                self.lean(self.module(), *inputs)

    @pytest.mark.parametrize("wrong", ["twice", "one less"])
    def test_other_channel_count(self, wrong: str) -> None:
        for i in range(len(self.usual)):
            inputs = self.inputs()
            inputs[i] = torch.cat([inputs[i], inputs[i]], dim=1) if wrong == "twice" else inputs[i][:, 1:]
            with pytest.raises((ValueError, RuntimeError)):
                self.lean(self.module(), *inputs)


def _backward_does_not_read(name: str) -> bool:
    """Biases of convolutions have a gradient but no part in other gradients."""
    return name.endswith("conv.bias")
