import copy

import pytest
import torch
from emulator.emulation import emulated
from support.comparison import relative_error
from support.devices import cpu_only
from support.kept_bytes import kept_bytes
from support.lean_equals_plain import assert_lean_equals_plain, random_maps, randomise, set_mode
from support.stage_suite import StageSuite
from torch import Tensor, nn

from ladderseg_fast import lean
from ladderseg_fast.lean import MemoryPlan, SectionPlan
from ladderseg_fast.lean.program import Program, run
from ladderseg_fast.lean.stages.head import HeadStage
from ladderseg_fast.lean.stages.residual import ResidualStage
from ladderseg_fast.nn import BasicBlock, Bottleneck, Head
from ladderseg_fast.ops.backend import backend_of, using


class ResidualSuite(StageSuite):
    """Layers read what a ReLU gives."""

    def lean(self, module: nn.Module, x: Tensor, **options: object) -> Tensor:
        return lean.residual_layer(module, x.relu(), **options)

    def plain(self, module: nn.Module, x: Tensor) -> Tensor:
        return module(x.relu())


class TestBottlenecks(ResidualSuite):
    """A stride, a projection, and units without either."""

    shapes = [((2, 6, 5, 7),), ((1, 6, 10, 4),), ((3, 6, 2, 1),), ((2, 6, 21, 34),)]
    usual = ((2, 6, 5, 7),)
    single_value = ((1, 6, 1, 1),)

    def make(self) -> nn.Module:
        return nn.Sequential(Bottleneck(6, 3, stride=2), Bottleneck(12, 3), Bottleneck(12, 3))

    def test_input_that_another_stage_reads(self) -> None:
        """As an auxiliary head does, whose backward comes first: the layer adds to its gradient."""
        both = nn.ModuleList([self.module(), randomise(Head(6, num_classes=4), 1).double()])

        def in_one_program(modules: nn.ModuleList, x: Tensor) -> Tensor:
            stages = [ResidualStage(modules[0], "x", "layer"), HeadStage(modules[1], "x", "scores")]
            return _joined(*run(Program(stages, ("x",), ("layer", "scores")), [x.relu()]))

        assert_lean_equals_plain(
            both, in_one_program, lambda modules, x: _joined(*(each(x.relu()) for each in modules)), self.steps()
        )

    def test_empty_input(self) -> None:
        with pytest.raises(ValueError, match=r"x must be \[N, C, H, W\] and not empty, got shape \(0, 6, 5, 7\)"):
            self.lean(self.module(), *self.inputs(((0, 6, 5, 7),)))


def _joined(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat([first.flatten(), second.flatten()])


class TestDilatedBottlenecks(ResidualSuite):
    """A projection with stride 1."""

    shapes = [((2, 6, 5, 7),), ((2, 6, 17, 20),)]
    usual = ((2, 6, 5, 7),)
    single_value = ((1, 6, 1, 1),)

    def make(self) -> nn.Module:
        return nn.Sequential(Bottleneck(6, 3), Bottleneck(12, 3, dilation=2))


@cpu_only
class TestWideBottlenecks(ResidualSuite):
    """Maps wide and large enough for backward to do without the results of the last convolutions."""

    shapes = [((2, 20, 31, 35),), ((1, 20, 44, 45),)]
    usual = ((2, 20, 31, 35),)
    single_value = ((1, 20, 1, 1),)

    def make(self) -> nn.Module:
        return nn.Sequential(Bottleneck(20, 33, stride=2), Bottleneck(132, 33), Bottleneck(132, 33))


@cpu_only
class TestWideDilatedBottlenecks(ResidualSuite):
    """The same with a projection that reads the input itself."""

    shapes = [((2, 35, 15, 19),)]
    usual = ((2, 35, 15, 19),)
    single_value = ((1, 35, 1, 1),)

    def make(self) -> nn.Module:
        return nn.Sequential(Bottleneck(35, 32), Bottleneck(128, 32, dilation=2))


def test_hidden_maps_wider_than_the_output() -> None:
    """Without the result of the last convolution, too."""
    layer = nn.Sequential(Bottleneck(8, 40), Bottleneck(8, 40))
    for unit in layer:
        unit.conv3, unit.bn3, unit.downsample = nn.Conv2d(40, 8, 1, bias=False), nn.BatchNorm2d(8), None
    randomise(layer).double()
    steps = [[x.double().relu().requires_grad_()] for x in random_maps([(1, 8, 19, 20)], seed=3)]
    assert_lean_equals_plain(layer, lambda m, x: lean.residual_layer(m, x.relu()), lambda m, x: m(x.relu()), steps)


@cpu_only
@pytest.mark.parametrize("channels, size, unmade", [(32, 16, 2), (31, 16, 0), (32, 15, 0)])
def test_which_units_do_without_the_widest_map(channels: int, size: int, unmade: int) -> None:
    """Those with a register block of channels, and eight pixels for each; one moment and one weight gradient."""
    layer = nn.Sequential(Bottleneck(4 * channels, channels))
    calls = []
    with backend_of(torch.device("cpu")).observed_by(lambda kernel, cost: calls.append(kernel)):
        lean.residual_layer(layer, torch.rand(1, 4 * channels, size, size)).sum().backward()
    assert calls.count("bn_relu_conv1x1_weight") == unmade


class TestBasicBlocks(ResidualSuite):
    shapes = [((2, 6, 5, 7),), ((1, 6, 10, 4),), ((3, 6, 2, 1),), ((2, 6, 21, 34),)]
    usual = ((2, 6, 5, 7),)
    single_value = ((1, 6, 1, 1),)

    def make(self) -> nn.Module:
        return nn.Sequential(BasicBlock(6, 9, stride=2), BasicBlock(9, 9))


class TestUnitsWithoutProjection(ResidualSuite):
    """The first unit adds its input itself."""

    shapes = [((2, 12, 5, 7),)]
    usual = ((2, 12, 5, 7),)
    single_value = ((1, 12, 1, 1),)

    def make(self) -> nn.Module:
        return nn.Sequential(Bottleneck(12, 3), BasicBlock(12, 12))


def test_negative_input() -> None:
    """What no ReLU gives would go through one all the same."""
    layer = nn.Sequential(Bottleneck(4, 1))
    with pytest.raises(ValueError, match="x must not be negative"):
        lean.residual_layer(layer, torch.full((1, 4, 3, 3), -1.0))


def test_repeated_unit() -> None:
    """The maps that backward needs are kept once for each module."""
    unit = BasicBlock(4, 4)
    with pytest.raises(
        lean.UnsupportedModuleError, match="^Sequential.1.conv1 is the same module as Sequential.0.conv1"
    ):
        lean.residual_layer(nn.Sequential(unit, unit), torch.rand(1, 4, 3, 3))


@pytest.mark.parametrize("mode", ["train", "frozen"])
@pytest.mark.parametrize(
    "plan",
    [
        SectionPlan(1, keep_skip=True),
        SectionPlan(None, bottleneck_bytes=200),
        SectionPlan(None, recompute=True, keep_skip=True),
        SectionPlan(1, bottleneck_bytes=1, recompute=True, keep_skip=True),
        SectionPlan(None, keep_outputs_from=8),
    ],
    ids=["kept", "strips", "made again", "made again, then kept", "outputs kept"],
)
def test_section_plans(plan: SectionPlan, mode: str) -> None:
    """On a layer of more units than backward makes again at once."""
    basic = [BasicBlock(8, 8) for _ in range(2)]
    layer = nn.Sequential(Bottleneck(4, 2, stride=2), *(Bottleneck(8, 2) for _ in range(6)), *basic).double()
    set_mode(randomise(layer), mode)
    steps = [[x.double().requires_grad_()] for x in random_maps([(2, 4, 9, 10)], seed=3)]
    options = {"plan": MemoryPlan(sections={"layer": plan})}
    assert_lean_equals_plain(
        layer,
        lambda module, x: lean.residual_layer(module, x.relu(), **options),
        lambda module, x: module(x.relu()),
        steps,
    )


@pytest.mark.parametrize("first", [1, 2, 8])
def test_first_units_are_constant(first: int) -> None:
    """Backward ends at the first unit that has a gradient to make."""
    layer = nn.Sequential(Bottleneck(4, 2, stride=2), *(Bottleneck(8, 2) for _ in range(8))).double()
    randomise(layer)
    for unit in layer[:first]:
        unit.requires_grad_(False)
    maps = [[x.double().relu()] for x in random_maps([(2, 4, 9, 10)], seed=3)]
    assert_lean_equals_plain(layer, lean.residual_layer, lambda module, x: module(x), maps)


def test_gradient_that_is_given_stays() -> None:
    """Backward overwrites the gradient of the output, but not the caller's tensor."""
    layer = nn.Sequential(Bottleneck(4, 1))
    output = lean.residual_layer(layer, torch.rand(2, 4, 5, 5))
    grad = torch.randn(output.shape).contiguous(memory_format=torch.channels_last)
    before = grad.clone()
    output.backward(grad)
    assert torch.equal(grad, before)


def test_keeps_a_map_and_a_quarter() -> None:
    """Of eight maps as large as the output that a plain layer of two units keeps, with their quarters."""
    layer = nn.Sequential(Bottleneck(64, 16), Bottleneck(64, 16))
    x = torch.rand(1, 64, 32, 32).contiguous(memory_format=torch.channels_last).requires_grad_()
    kept = kept_bytes(lambda: lean.residual_layer(layer, x))
    parameters = sum(parameter.numel() for parameter in layer.parameters())
    assert kept < 1.02 * (2 + 2 / 4) * 64 * 32 * 32 * 4 + 8 * parameters  # the input, too
    assert kept < 0.4 * kept_bytes(lambda: copy.deepcopy(layer)(x))


@pytest.mark.parametrize("units", ["bottlenecks", "basic blocks"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 5e-6), (torch.float16, 1e-2)], ids=str
)
def test_on_an_emulated_device(units: str, dtype: torch.dtype, tolerance: float) -> None:
    """Outputs and all gradients are near those of plain float64; float16 is that of torch.autocast."""
    if units == "bottlenecks":
        layer = nn.Sequential(Bottleneck(8, 4, stride=2), Bottleneck(16, 4))
    else:
        layer = nn.Sequential(BasicBlock(8, 8), BasicBlock(8, 16, stride=2))
    exact = randomise(layer).double()
    layer = copy.deepcopy(exact).to(torch.float64 if dtype == torch.float64 else torch.float32)
    x, grad = random_maps([(2, 8, 7, 10), (2, 16, 4, 5)], seed=3)
    inputs = x.relu().requires_grad_(), x.relu().to(layer[0].conv1.weight.dtype).requires_grad_()
    exact(inputs[0]).backward(grad)
    with using(emulated("sm_80")):
        with torch.autocast("cpu", dtype=torch.float16, enabled=dtype == torch.float16):
            output = lean.residual_layer(layer, inputs[1])
        output.backward(grad.to(output.dtype))
    assert output.dtype == dtype
    # Where the input is 0, only the shortcut's gradient counts: what lies before would stop it.
    found = [torch.where(x > 0, each.grad.double(), 0.0) for each in inputs]
    pairs = {"x": (found[1], found[0])}
    pairs |= {n: (p.grad, q.grad) for (n, p), q in zip(layer.named_parameters(), exact.parameters())}
    for name, (actual, expected) in pairs.items():
        assert relative_error([actual], [expected]) < tolerance, name
