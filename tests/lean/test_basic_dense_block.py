import copy

import pytest
import torch
from emulator.emulation import emulated
from support.comparison import assert_near, assert_same_bits, relative_error
from support.kept_bytes import kept_bytes
from support.lean_equals_plain import assert_lean_equals_plain, randomise
from support.stage_suite import StageSuite
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ladderseg_fast import lean
from ladderseg_fast.nn import BasicDenseBlock
from ladderseg_fast.ops.backend import using
from ladderseg_fast.ops.layout import is_channels_last


class BasicDenseBlockSuite(StageSuite):
    """Dropout draws the same numbers in either way, from the same seed."""

    shapes = [((2, 13, 5, 7),), ((1, 13, 9, 4),), ((3, 13, 1, 1),), ((2, 13, 20, 33),)]
    usual = ((2, 13, 5, 7),)
    single_value = ((1, 13, 1, 1),)
    options: dict[str, object] = {}

    def make(self) -> BasicDenseBlock:
        return BasicDenseBlock(13, layers=4, growth_rate=5, **self.options)

    def lean(self, module: nn.Module, features: Tensor, **options: object) -> Tensor:
        torch.manual_seed(7)
        return lean.basic_dense_block(module, features, **options)

    def plain(self, module: nn.Module, features: Tensor) -> Tensor:
        torch.manual_seed(7)
        return module(features)


class First(nn.Module):
    def forward(self, vector: Tensor) -> Tensor:
        return vector[:1]


class TestBasicDenseBlock(BasicDenseBlockSuite):
    options = {"dropout": 0.0}

    def test_usual_widths(self) -> None:
        """Growth rate 16, over more than one tile of pixels."""
        torch.manual_seed(0)
        block = BasicDenseBlock(48, layers=3, dropout=0.0).double()
        self.check(block, [self.inputs(((2, 48, 17, 37),))])

    def test_no_layers(self) -> None:
        (x,) = self.inputs()
        assert torch.equal(lean.basic_dense_block(BasicDenseBlock(13, layers=0, growth_rate=5), x), x)

    def test_parametrized_bias_of_another_shape(self) -> None:
        """Nothing knows the shape before it is computed, and one number would be added to all channels."""
        block = self.module()
        parametrize.register_parametrization(block.layers[1].conv, "bias", First(), unsafe=True)
        with pytest.raises(ValueError, match=r"a layer's bias must be \[5\], got shape \(1,\)"):
            lean.basic_dense_block(block, *self.inputs())

    @pytest.mark.parametrize("dilation", [2, 4])
    def test_dilation(self, dilation: int) -> None:
        block = self.module()
        for layer in block.layers:
            layer.conv.dilation = layer.conv.padding = (dilation, dilation)
        self.check(block, self.steps())
        self.check(block, self.steps()[:1], plan=lean.MemoryPlan(transition_up_bytes=1))  # in single rows

    def test_large_bias(self) -> None:
        """In float32, where the bias is far larger than what varies."""
        block = self.module(torch.float32)
        for layer in block.layers:
            nn.init.constant_(layer.conv.bias, 100.0)
        self.check(block, self.steps(dtype=torch.float32), learning_rate=0.0)

    def test_output_starts_with_the_input(self) -> None:
        (x,) = self.inputs()
        output = lean.basic_dense_block(self.module(), x)
        assert_near(output[:, :13], x, "first channels", tolerance=0.0)

    def test_keeps_one_buffer(self) -> None:
        """Between forward and backward it keeps one map of all channels, where the plain block keeps many more."""
        block = BasicDenseBlock(48, layers=8)
        x = torch.randn(1, 48, 32, 32, requires_grad=True)
        parameters = sum(parameter.numel() for parameter in block.parameters())
        kept = kept_bytes(lambda: lean.basic_dense_block(block, x))
        assert kept < 1.1 * (48 + 8 * 16) * 32 * 32 * 4 + 8 * parameters
        assert kept < 0.2 * kept_bytes(lambda: copy.deepcopy(block)(x))


class TestNewChannelsOnly(BasicDenseBlockSuite):
    """With dropout of channels."""

    options = {"dropout": 0.4, "new_only": True}


class TestDropoutOfElements(BasicDenseBlockSuite):
    """Without bias."""

    options = {"bias": False}

    def make(self) -> BasicDenseBlock:
        block = super().make()
        for layer in block.layers:
            layer.drop = nn.Dropout(0.3)
        return block


KINDS = {"channels": nn.Dropout2d, "elements": nn.Dropout}


def with_dropout(kind: str, p: float, dtype: torch.dtype = torch.float64) -> BasicDenseBlock:
    block = randomise(BasicDenseBlock(6, layers=3, growth_rate=4)).to(dtype)
    for layer in block.layers:
        layer.drop = KINDS[kind](p, inplace=p > 0.5)
    return block


def make_input(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(3, 6, 8, 9, dtype=dtype).requires_grad_()


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "range of channels", "weights channels_last"])
@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_draws_what_the_plain_block_draws(kind: str, p: float, layout: str) -> None:
    """The same zeros in the same places, and torch's generator ends in the same state."""
    block, x = with_dropout(kind, p, torch.float32), make_input(torch.float32).detach()
    if layout == "weights channels_last":
        block.to(memory_format=torch.channels_last)
    elif layout != "contiguous":
        x = x.contiguous(memory_format=torch.channels_last)
    if layout == "range of channels":
        x = torch.cat([x, x], dim=1)[:, :6]
    torch.manual_seed(3)
    expected = copy.deepcopy(block)(x)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    actual = lean.basic_dense_block(block, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(actual == 0, expected == 0)
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_draws_nothing(kind: str) -> None:
    block, x = with_dropout(kind, 0.5).eval(), make_input()
    state = torch.get_rng_state()
    assert_near(lean.basic_dense_block(block, x), block(x), "output")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", KINDS)
def test_mode_and_probability_are_followed(kind: str) -> None:
    """Those of each call: with dropout in evaluation too, as for an estimate of uncertainty."""
    block, x = with_dropout(kind, 0.5), make_input()

    def both(run):
        def forward(module: nn.Module, x: Tensor) -> list[Tensor]:
            torch.manual_seed(1)
            outputs = [run(module, x)]
            module.eval()
            outputs.append(run(module, x))
            for layer in module.layers:
                layer.drop.train()
            outputs.append(run(module, x))
            for layer in module.layers:
                layer.drop.p = 0.1
            return [*outputs, run(module, x)]

        return forward

    assert_lean_equals_plain(block, both(lean.basic_dense_block), both(lambda module, x: module(x)), [[x]])


def test_infinite_values_where_dropout_is_zero() -> None:
    """Infinity times 0 is NaN, as in the plain block."""
    block, x = with_dropout("channels", 0.5).eval(), make_input()
    block.layers[2].drop.train()
    with torch.no_grad():
        block.layers[2].conv.bias.fill_(float("inf"))
    torch.manual_seed(0)
    expected = block(x)
    torch.manual_seed(0)
    assert_same_bits(lean.basic_dense_block(block, x).isnan(), expected.isnan(), "NaN")
    assert expected.isnan().any() and expected[:, -4:].isinf().any()


def test_spectral_norm() -> None:
    """It changes its state whenever the weight is computed: once a step."""
    block, inputs = with_dropout("elements", 0.3), [[make_input()] for _ in range(3)]
    for layer in block.layers:
        nn.utils.parametrizations.spectral_norm(layer.conv)

    def lean_step(module: nn.Module, x: Tensor) -> Tensor:
        torch.manual_seed(6)
        return lean.basic_dense_block(module, x)

    def plain(module: nn.Module, x: Tensor) -> Tensor:
        torch.manual_seed(6)
        return module(x)

    assert_lean_equals_plain(block, lean_step, plain, inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_backward_twice_has_the_same_mask(kind: str) -> None:
    block, x = with_dropout(kind, 0.5), make_input()
    output = lean.basic_dense_block(block, x)
    incoming = torch.randn_like(output)
    first, second = (torch.autograd.grad(output, x, incoming, retain_graph=True)[0] for _ in range(2))
    assert_same_bits(second, first, "gradient")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda layer: setattr(layer, "drop", nn.AlphaDropout()), "layers.1.drop is an AlphaDropout"),
        (lambda layer: setattr(layer, "relu", nn.ELU()), "layers.1.relu is an ELU"),
        (lambda layer: setattr(layer.conv, "groups", 2), "layers.1.conv has groups"),
        (lambda layer: layer.register_forward_hook(lambda *arguments: None), "layers.1 has a forward hook"),
        (lambda layer: setattr(layer, "conv", nn.Conv2d(8, 4, 3, padding=1)), "layers.1.conv reads 8 channels"),
    ],
)
def test_edits_are_refused(edit, message: str) -> None:
    block = with_dropout("channels", 0.5)
    lean.basic_dense_block(block, make_input())
    edit(block.layers[1])
    with pytest.raises(lean.UnsupportedModuleError, match=message):
        lean.basic_dense_block(block, make_input())


@pytest.mark.parametrize("architecture", ["sm_61", "sm_80"])
@pytest.mark.parametrize("kind", KINDS)
def test_on_cuda(kind: str, architecture: str) -> None:
    """In float64, on an emulated device, what the plain block computes on the CPU; bias and dropout included."""
    block, inputs = with_dropout(kind, 0.5), [[make_input()] for _ in range(2)]

    def on_device(module: nn.Module, x: Tensor) -> Tensor:
        torch.manual_seed(6)
        return lean.basic_dense_block(module, x)

    def plain(module: nn.Module, x: Tensor) -> Tensor:
        torch.manual_seed(6)
        return module(x)

    with using(emulated(architecture)):
        assert_lean_equals_plain(block, on_device, plain, inputs, learning_rate=0.01)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_16_bits_on_cuda(dtype: torch.dtype) -> None:
    """On an emulated device with tensor cores: at most twice as far from float64 as the plain block in 16 bits."""
    block, x = with_dropout("channels", 0.5), make_input()

    def results(block: nn.Module, run, dtype: torch.dtype) -> list[Tensor]:
        block = copy.deepcopy(block).to(dtype)
        x16 = x.detach().to(dtype).requires_grad_()
        torch.manual_seed(6)
        output = run(block, x16)
        output.backward(torch.linspace(-1, 1, output.numel()).view_as(output).to(dtype))
        return [each.detach().double() for each in (output, x16.grad, *(p.grad for p in block.parameters()))]

    block = block.to(dtype).double()
    x = x.detach().to(dtype).double()
    exact = results(block, lambda module, x: module(x), torch.float64)
    plain = results(block, lambda module, x: module(x), dtype)
    with using(emulated("sm_80")):
        actual = results(block, lean.basic_dense_block, dtype)
    assert relative_error(actual, exact) <= 2 * relative_error(plain, exact)


def test_repeated_steps_on_cuda_draw_new_masks() -> None:
    """Dropout of channels is recorded and repeated, and takes the generator's next numbers; that of elements is not."""
    results = {}
    for repeats in (False, True):
        backend = emulated("sm_80")
        with using(backend):
            backend.repeats_steps = repeats
            block, workspace = with_dropout("channels", 0.5, torch.float32), lean.Workspace()
            block.new_only = True  # a step whose output backward reads is not repeated
            torch.manual_seed(0)
            results[repeats] = []
            for _ in range(4):
                x = torch.linspace(-1, 1, 2 * 6 * 4 * 6).view(2, 6, 4, 6).requires_grad_()
                output = lean.basic_dense_block(block, x, workspace=workspace)
                output.square().sum().backward()
                results[repeats] += [output.detach().clone(), x.grad]
            counts = dict(workspace.recordings.counts)
            backend.repeats_steps = True
        assert counts.get("repeated", 0) == (4 if repeats else 0), counts
    for actual, expected in zip(results[True], results[False]):
        assert_same_bits(actual, expected, "step")
    assert not torch.equal(results[True][4], results[True][6])


def test_channels_last_is_what_torch_takes_for_it() -> None:
    for shape in [(2, 3, 4, 5), (1, 3, 1, 5), (2, 1, 4, 5), (2, 3, 1, 1), (1, 1, 1, 1), (1, 4, 1, 1), (3, 1, 1, 2)]:
        base = torch.randn(shape)
        maps = [
            base,
            base.contiguous(memory_format=torch.channels_last),
            base.transpose(2, 3),
            torch.cat([base] * 2, 1),
        ]
        maps += [torch.cat([maps[1]] * 2, 1)[:, : shape[1]], maps[0].expand(2, -1, -1, -1) if shape[0] == 1 else base]
        for x in maps:
            suggested = torch._prims_common.suggest_memory_format(x)
            assert is_channels_last(x) == (suggested == torch.channels_last), (x.shape, x.stride())


def test_maps_without_values_of_their_own_are_not_channels_last() -> None:
    assert not is_channels_last(torch.empty(0, 3, 4, 4).contiguous(memory_format=torch.channels_last))
    assert not is_channels_last(torch.randn(2, 1, 4, 5).expand(-1, 3, -1, -1))
