"""Users' own dense blocks without bottleneck, declared and converted."""

import copy
import io
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from emulator.emulation import emulated
from support.comparison import assert_near, assert_same_bits
from support.kept_bytes import kept_bytes
from support.lean_equals_plain import MODES, assert_lean_equals_plain, randomise, set_mode
from support.processes import output_of
from torch import Tensor, nn

from ladderseg_fast import convert, lean
from ladderseg_fast.convert import declare_dense_block
from ladderseg_fast.ops.backend import using

pytestmark = pytest.mark.real_use


class NamedLayer(nn.Sequential):
    """As in pytorch_tiramisu: a Sequential with a forward of its own that adds nothing."""

    def __init__(self, channels: int, growth: int, p: float = 0.2) -> None:
        modules = nn.BatchNorm2d(channels), nn.ReLU(True), nn.Conv2d(channels, growth, 3, padding=1), nn.Dropout2d(p)
        super().__init__(OrderedDict(zip(("norm", "relu", "conv", "drop"), modules)))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


@declare_dense_block
class NamedBlock(nn.Module):
    """As in pytorch_tiramisu."""

    def __init__(self, channels: int, growth: int, count: int, upsample: bool = False) -> None:
        super().__init__()
        self.upsample = upsample
        self.layers = nn.ModuleList(NamedLayer(channels + i * growth, growth) for i in range(count))

    def forward(self, x: Tensor) -> Tensor:
        if not self.upsample:
            for layer in self.layers:
                x = torch.cat([x, layer(x)], 1)
            return x
        new_features = []
        for layer in self.layers:
            out = layer(x)
            x = torch.cat([x, out], 1)
            new_features.append(out)
        return torch.cat(new_features, 1)


@declare_dense_block
class ChildrenBlock(nn.Module):
    """Layers are children of the block; dropout of elements, or none."""

    def __init__(self, channels: int, growth: int, count: int, p: float | None = None) -> None:
        super().__init__()
        for i in range(count):
            width = channels + i * growth
            layer = [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, growth, 3, padding="same", bias=False)]
            self.add_module(f"layer{i}", nn.Sequential(*layer, *([] if p is None else [nn.Dropout(p)])))

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for layer in self.children():
            maps.append(layer(torch.cat(maps, 1)))
        return torch.cat(maps, 1)


@declare_dense_block
class NewFirst(NamedBlock):
    """New channels come before the old ones, as in the first implementation, in Lasagne."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([layer(x), x], 1)
        return x


@declare_dense_block
class Scaled(NamedBlock):
    def forward(self, x: Tensor) -> Tensor:
        return 1.0001 * super().forward(x)


@declare_dense_block
class DropsMore(NamedBlock):
    """Differs in training only."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(super().forward(x), 0.1, self.training)


@declare_dense_block
class NeedsTwo(NamedBlock):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return super().forward(x + y)


BLOCKS = {
    "all channels": lambda: NamedBlock(6, 4, 3),
    "new channels": lambda: NamedBlock(6, 4, 3, upsample=True),
    "children": lambda: ChildrenBlock(6, 4, 3),
    "dropout of elements": lambda: ChildrenBlock(6, 4, 3, p=0.3),
}


def make_input(channels: int = 6, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(2, channels, 7, 9, generator=torch.Generator().manual_seed(seed)).to(dtype).requires_grad_()


def plain(module: nn.Module, x: Tensor) -> Tensor:
    torch.manual_seed(4)
    return module(x)


def converted(module: nn.Module, x: Tensor) -> Tensor:
    assert convert(module).converted == {"": "dense block without bottleneck"}
    return plain(module, x)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", BLOCKS)
def test_converted_equals_plain(name: str, mode: str) -> None:
    block = randomise(BLOCKS[name]()).double()
    set_mode(block, mode)
    assert_lean_equals_plain(block, converted, plain, [[make_input(seed=i)] for i in range(3)], learning_rate=0.01)


@pytest.mark.parametrize("name", BLOCKS)
def test_mode_and_probability_are_followed(name: str) -> None:
    block, x = randomise(BLOCKS[name]()).double(), make_input()

    def settings(module: nn.Module):
        yield module
        for layer in module.modules():
            if isinstance(layer, (nn.Dropout, nn.Dropout2d)):
                layer.p = 0.6
        yield module
        yield module.eval()

    def plain_outputs(module: nn.Module, x: Tensor) -> list[Tensor]:
        return [plain(each, x) for each in settings(module)]

    def converted_outputs(module: nn.Module, x: Tensor) -> list[Tensor]:
        convert(module)
        return plain_outputs(module, x)

    assert_lean_equals_plain(block, converted_outputs, plain_outputs, [[x]])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_layout_and_draws_stay(layout: torch.memory_format) -> None:
    block, x = ChildrenBlock(6, 4, 3, p=0.5), make_input(dtype=torch.float32).detach().contiguous(memory_format=layout)
    expected = plain(copy.deepcopy(block), x)
    actual = converted(block, x)
    assert actual.stride() == expected.stride()
    assert torch.equal(actual == 0, expected == 0)


@pytest.mark.parametrize("upsample", [False, True])
def test_steps_on_cuda_are_repeated(upsample: bool) -> None:
    """On an emulated device: the third step and later ones, whose dropout takes the generator's next numbers."""
    results = {}
    for repeats in (False, True):
        backend = emulated("sm_80")
        with using(backend):
            backend.repeats_steps = repeats
            block = randomise(NamedBlock(6, 4, 3, upsample)).float()
            convert(block)
            torch.manual_seed(0)
            results[repeats] = []
            for step in range(4):
                x = make_input(dtype=torch.float32, seed=step).detach().requires_grad_()
                output = block(x)
                output.square().sum().backward()
                results[repeats] += [output.detach().clone(), x.grad]
            counts = block.lean_state.workspace.recordings.counts
            backend.repeats_steps = True
        assert counts["repeated"] == (4 if repeats else 0)
    for actual, expected in zip(results[True], results[False]):
        assert_near(actual, expected, "step", tolerance=1e-5)


def test_conversion_changes_nothing_that_others_see() -> None:
    block = NamedBlock(6, 4, 3)
    before = {name: (tensor, tensor.clone()) for name, tensor in (*block.named_parameters(), *block.named_buffers())}
    state = torch.get_rng_state()
    convert(block)
    assert torch.equal(torch.get_rng_state(), state)
    after = dict((*block.named_parameters(), *block.named_buffers()))
    assert list(after) == list(before)
    for name, (tensor, values) in before.items():
        assert after[name] is tensor
        assert_same_bits(tensor.detach(), values.detach(), name)
    assert isinstance(block, NamedBlock) and block.training


def test_synchronised_batch_norms_of_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are compared by this process alone, on the CPU, where torch's module refuses to run."""
    block = nn.SyncBatchNorm.convert_sync_batchnorm(NamedBlock(6, 4, 3))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group=None: 2)
    assert convert(block).converted == {"": "dense block without bottleneck"}
    assert type(block.layers[0].norm) is nn.SyncBatchNorm


def test_it_runs_lean() -> None:
    block, x = NamedBlock(48, 16, 5), torch.randn(1, 48, 32, 32, requires_grad=True)
    before = kept_bytes(lambda: block(x))
    convert(block)
    assert kept_bytes(lambda: block(x)) < 0.25 * before


@pytest.mark.parametrize("kind", [NewFirst, Scaled, DropsMore])
def test_another_forward_is_left_alone(kind: type[NamedBlock]) -> None:
    block = kind(6, 4, 3)
    report = convert(block)
    assert report.converted == {}
    assert report.left == {"": "computes something else than a dense block without bottleneck"}
    assert type(block) is kind


def test_a_forward_that_fails_is_left_alone() -> None:
    assert "raises TypeError for a map" in convert(NeedsTwo(6, 4, 3)).left[""]


EDITS = {
    "group norm": (lambda block: setattr(block.layers[1], "norm", nn.GroupNorm(2, 10)), "is a GroupNorm"),
    "activation": (lambda block: setattr(block.layers[1], "relu", nn.ELU()), "is an ELU"),
    "dropout": (lambda block: setattr(block.layers[1], "drop", nn.AlphaDropout(0.2)), "is an AlphaDropout"),
    "hook": (lambda block: block.layers[1].conv.register_forward_hook(lambda *a: None), "has a forward hook"),
    "no layers": (lambda block: block.layers.__delitem__(slice(None)), "has no layers"),
    "fifth module": (lambda block: block.layers[1].append(nn.Identity()), "has 5 modules"),
    "forward": (lambda block: setattr(block, "forward", lambda x: x), "with a forward of its own"),
}


@pytest.mark.parametrize("name", EDITS)
def test_edits(name: str) -> None:
    """Before the conversion they leave the block alone; after it they are refused."""
    edit, message = EDITS[name]
    block = NamedBlock(6, 4, 3)
    edit(block)
    assert message in convert(block).left[""]
    block = NamedBlock(6, 4, 3)
    convert(block)
    block(make_input(dtype=torch.float32))
    edit(block)
    if name == "forward":
        return  # the edit is what runs
    with pytest.raises(lean.UnsupportedModuleError, match=message):
        block(make_input(dtype=torch.float32))


def test_a_module_that_runs_twice_is_refused() -> None:
    """It is one child, but two steps of a sequence."""
    block = ChildrenBlock(6, 4, 2)
    convert(block)
    block(make_input(dtype=torch.float32))
    block.layer1.append(block.layer1[1])
    with pytest.raises(lean.UnsupportedModuleError, match="layer1.3 is a ReLU, expected Dropout2d"):
        block(make_input(dtype=torch.float32))


def test_an_attribute_that_changes_is_refused() -> None:
    block = NamedBlock(6, 4, 3)
    convert(block)
    x = make_input(dtype=torch.float32)
    block(x)
    block.upsample = True
    with pytest.raises(lean.UnsupportedModuleError, match="has upsample=True, which was False when converted"):
        block(x)
    convert(block)
    assert block(x).shape[1] == 12


def test_own_hooks_run() -> None:
    block, seen = NamedBlock(6, 4, 3), []
    block.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    convert(block)
    block(make_input(dtype=torch.float32))
    assert seen == [(2, 18, 7, 9)]


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch.save"])
def test_copies(way: str) -> None:
    block, x = NamedBlock(6, 4, 3).double().eval(), make_input()
    convert(block)
    if way == "deepcopy":
        twin = copy.deepcopy(block)
    elif way == "pickle":
        twin = pickle.loads(pickle.dumps(block))
    else:
        file = io.BytesIO()
        torch.save(block, file)
        file.seek(0)
        twin = torch.load(file, weights_only=False)
    assert type(twin) is type(block) and twin.lean_state is not block.lean_state
    assert_same_bits(twin(x).detach(), block(x).detach(), "output")
    convert.undo(twin)
    assert type(twin) is NamedBlock
    assert_near(twin(x).detach(), block(x).detach(), "output")


def test_pickle_in_a_new_process(tmp_path: Path) -> None:
    """Which has not declared the class."""
    (tmp_path / "blocks.py").write_text(
        "import torch\nfrom torch import nn\n\n\nclass Block(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        conv = nn.Conv2d(6, 4, 3, padding=1)\n"
        "        self.layers = nn.ModuleList([nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(), conv)])\n\n"
        "    def forward(self, x):\n        return torch.cat([x, self.layers[0](x)], 1)\n"
    )
    write = (
        "import blocks, torch, ladderseg_fast\nfrom ladderseg_fast.convert import declare_dense_block\n"
        "declare_dense_block(blocks.Block)\nblock = blocks.Block()\nprint(ladderseg_fast.convert(block))\n"
        "torch.save(block, 'block.pt')\n"
    )
    read = (
        "import torch\nblock = torch.load('block.pt', weights_only=False)\nprint(type(block).__name__)\n"
        "print(block(torch.ones(2, 6, 5, 5)).shape)\n"
    )
    outputs = [output_of(code, tmp_path) for code in (write, read)]
    assert "dense block without bottleneck" in outputs[0]
    assert outputs[1].split("\n")[:2] == ["LeanBlock", "torch.Size([2, 10, 5, 5])"]


def test_undeclared_blocks_are_not_touched() -> None:
    class Unknown(NamedBlock):
        pass

    report = convert(Unknown(6, 4, 3))
    assert report.converted == report.left == {}


def test_inside_a_model() -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3), NamedBlock(6, 4, 3), NewFirst(18, 4, 2), nn.Conv2d(26, 2, 1))
    report = convert(model)
    assert list(report.converted) == ["1"] and list(report.left) == ["2"]
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_declaring_what_is_no_class_of_modules() -> None:
    with pytest.raises(TypeError, match="expected a class of modules"):
        declare_dense_block(NamedBlock(6, 4, 3))
    with pytest.raises(TypeError, match="expected a class of modules"):
        declare_dense_block(int)


def test_declaring_what_is_known_as_something_else() -> None:
    with pytest.raises(ValueError, match="Sequential is known to convert, which replaces it by LeanSequential"):
        declare_dense_block(nn.Sequential)
    assert declare_dense_block(NamedBlock) is NamedBlock


def test_float16_blocks_are_compared() -> None:
    """In float64: the CPU has no kernels for float16."""
    block = NamedBlock(6, 4, 3).half()
    assert convert(block, dry_run=True).converted
