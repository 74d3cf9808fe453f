"""Edits of modules: a lean step follows them, or refuses."""

import copy
import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.ladder_models import CLASSES, TINY, NarrowLadder, in_mode, make_images, make_model
from support.lean_equals_plain import assert_lean_equals_plain, randomise
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from ladderseg_fast import LadderDenseNet, LadderResNet, SegmentationModel, lean
from ladderseg_fast.models import DilatedDenseNet
from ladderseg_fast.nn import (
    BasicBlock,
    BasicDenseBlock,
    Bottleneck,
    DenseBlock,
    Head,
    PyramidContext,
    Transition,
    TransitionUp,
)

pytestmark = pytest.mark.real_use

LAYER = "features.denseblock2.denselayer1"

IMAGES = make_images(2, 64, 64, torch.float32)


def edited(edit: Callable[[LadderDenseNet], object]) -> LadderDenseNet:
    model = make_model(dtype=torch.float32)
    model(IMAGES)  # so that what is found is a change
    edit(model)
    return model


def replacing(path: str, module: nn.Module) -> Callable[[nn.Module], None]:
    """An edit that puts `module` in the place of another."""

    def edit(model: nn.Module) -> None:
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, module)

    return edit


def setting(path: str, **attributes: object) -> Callable[[nn.Module], None]:
    def edit(model: nn.Module) -> None:
        for name, value in attributes.items():
            setattr(model.get_submodule(path), name, value)

    return edit


class Doubled(nn.Conv2d):
    """A convolution with a forward of its own, such as weight standardisation has, or a low-rank adapter."""

    def forward(self, x: Tensor) -> Tensor:
        return 2.0 * super().forward(x)


class HalfNorm(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * super().forward(x)


def patch_forward(model: nn.Module) -> None:
    layer = model.get_submodule(LAYER)
    layer.forward = lambda features: torch.zeros_like(features[:, :32])


REPLACED = {
    f"{LAYER}.relu1": nn.SiLU(),
    f"{LAYER}.relu2": nn.LeakyReLU(),
    f"{LAYER}.norm1": nn.GroupNorm(2, 48),
    f"{LAYER}.norm2": nn.Sequential(nn.BatchNorm2d(128)),
    f"{LAYER}.conv1": Doubled(48, 128, 1, bias=False),
    f"{LAYER}.conv2": nn.Sequential(nn.Conv2d(128, 32, 3, padding=1, bias=False), nn.Dropout()),
    "features.transition1.pool": nn.MaxPool2d(2),
    "features.transition1.relu": nn.Identity(),
    "features.transition2.norm": HalfNorm(56),
    "features.transition1.conv": nn.Conv2d(96, 48, 3, padding=1, bias=False),
    "features.pool0": nn.AvgPool2d(3, 2, 1),
    "features.relu0": nn.ReLU6(),
    "features.split_pool": nn.MaxPool2d(2),
    "features.conv0": nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False),
    "features.denseblock1": nn.Sequential(nn.Identity()),
    "head": nn.Sequential(nn.Identity()),
    "head.conv": nn.Conv2d(128, CLASSES, 3, padding=1),
    "head.relu": nn.GELU(),
    "aux_head.relu": nn.GELU(),
    "context": nn.Conv2d(144, 128, 1),
    "up1.relu": nn.SiLU(),
    "up2.skip_relu": nn.SiLU(),
    "up3.norm": nn.InstanceNorm2d(256),
}


@pytest.mark.parametrize("path", REPLACED)
def test_replaced_module(path: str) -> None:
    model = edited(replacing(path, copy.deepcopy(REPLACED[path])))
    with pytest.raises(lean.UnsupportedModuleError, match=rf'^{path}(.conv)? (is a|has).*memory="plain"'):
        model(IMAGES)


SET = {
    "padding mode": setting(f"{LAYER}.conv2", padding_mode="reflect"),
    "padding mode of the stem": setting("features.conv0", padding_mode="circular"),
    "stride": setting(f"{LAYER}.conv2", stride=(2, 2)),
    "padding": setting(f"{LAYER}.conv2", padding=(0, 0)),
    "dilation without its padding": setting(f"{LAYER}.conv2", dilation=(2, 2)),
    "one-sided dilation": setting(f"{LAYER}.conv2", dilation=(1, 2), padding=(1, 2)),
    "dilation in a transition-up": setting("up1.conv", dilation=(2, 2), padding=(2, 2)),
    "groups": replacing(f"{LAYER}.conv2", nn.Conv2d(128, 32, 3, padding=1, groups=2, bias=False)),
    "bias": replacing(f"{LAYER}.conv2", nn.Conv2d(128, 32, 3, padding=1)),
    "bias set later": setting(f"{LAYER}.conv2", bias=nn.Parameter(torch.ones(32))),
    "1x1 kernel in a 3x3's place": replacing(f"{LAYER}.conv2", nn.Conv2d(128, 32, 1, bias=False)),
    "weight of another shape": setting(f"{LAYER}.conv2", weight=nn.Parameter(torch.ones(16, 128, 3, 3))),
    "fewer outputs": replacing(f"{LAYER}.conv2", nn.Conv2d(128, 16, 3, padding=1, bias=False)),
    "fewer outputs of the last layer": replacing(
        "features.denseblock1.denselayer1.conv2", nn.Conv2d(128, 16, 3, padding=1, bias=False)
    ),
    "norm of another width": replacing(f"{LAYER}.norm2", nn.BatchNorm2d(64)),
    "running mean of another width": setting(f"{LAYER}.norm2", running_mean=torch.zeros(64)),
    "no running mean": setting(f"{LAYER}.norm2", running_mean=None),
    "head's bias of another width": setting("head.conv", bias=nn.Parameter(torch.zeros(1))),
    "pooling": setting("features.transition1.pool", ceil_mode=True),
    "a forward of a layer's own": patch_forward,
    "a layer deleted": lambda model: delattr(model.features.denseblock2, "denselayer1"),
    "a module deleted": lambda model: delattr(model.get_submodule(LAYER), "relu1"),
    "head of another width": replacing("head", Head(64, CLASSES)),
    "one batch norm in two places": lambda model: replacing(f"{LAYER}.norm2", model.up1.norm)(model),
    "one head in two places": lambda model: replacing("aux_head", model.head)(model),
    "old weight_norm": lambda model: torch.nn.utils.weight_norm(model.get_submodule(LAYER).conv1),
    "old spectral_norm": lambda model: torch.nn.utils.spectral_norm(model.get_submodule(LAYER).conv1),
    "prune": lambda model: prune.l1_unstructured(model.get_submodule(LAYER).conv1, "weight", 0.5),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", SET)
def test_changed_module(name: str, mode: str) -> None:
    model = edited(SET[name]).train(mode == "train")
    with pytest.raises(lean.UnsupportedModuleError, match='memory="plain"'):
        model(IMAGES)


def test_lists_changed_in_place() -> None:
    """Torch takes lists for tuples."""
    model = edited(setting(f"{LAYER}.conv2", dilation=[1, 1], padding=[1, 1])).eval()
    conv = model.get_submodule(f"{LAYER}.conv2")
    before = model(IMAGES).logits
    conv.dilation[:] = conv.padding[:] = [2, 2]
    assert not torch.equal(model(IMAGES).logits, before)
    conv.padding[:] = [1, 1]
    with pytest.raises(lean.UnsupportedModuleError):
        model(IMAGES)


@pytest.mark.parametrize("path", [LAYER, f"{LAYER}.conv1", f"{LAYER}.relu2", "features", "context", "head", "up1.norm"])
@pytest.mark.parametrize("kind", ["forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"])
def test_hook_inside(path: str, kind: str) -> None:
    model = make_model(dtype=torch.float32)
    model(IMAGES)
    hook = getattr(model.get_submodule(path), f"register_{kind}")(lambda *arguments: None)
    with pytest.raises(lean.UnsupportedModuleError, match=rf"^{path} has a .*hook"):
        model(IMAGES)
    hook.remove()
    model(IMAGES)


def test_hook_of_all_modules() -> None:
    """torch's counter of floating point operations has such a one."""
    model = make_model(dtype=torch.float32)
    hook = nn.modules.module.register_module_forward_hook(lambda module, inputs, output: None)
    try:
        with pytest.raises(lean.UnsupportedModuleError, match="forward hook for all modules"):
            model(IMAGES)
    finally:
        hook.remove()


def test_synchronised_batch_norm() -> None:
    """Without a process group it is ordinary batch norm; tests/distributed has the rest."""
    model = make_model(dtype=torch.float32)
    expected = model(IMAGES).logits
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(make_model(dtype=torch.float32))
    assert torch.equal(synchronised(IMAGES).logits, expected)
    synchronised.get_submodule(LAYER).norm1.num_features += 1
    with pytest.raises(lean.UnsupportedModuleError, match="expected \\(49,\\)"):
        synchronised(IMAGES)


class Plain(nn.Conv2d):
    """A class of its own, whose methods change in a test."""


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        (nn.ReLU, "forward"),
        (nn.Conv2d, "_conv_forward"),
        (nn.modules.batchnorm._BatchNorm, "forward"),
        (Head, "forward"),
        (Plain, "forward"),
    ],
)
def test_patched_class(kind: type[nn.Module], method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(dtype=torch.float32)
    model.get_submodule(LAYER).conv2 = Plain(128, 32, 3, padding=1, bias=False)
    model(IMAGES)
    monkeypatch.setattr(kind, method, lambda self, x, *others: x)
    with pytest.raises(lean.UnsupportedModuleError, match=f"with a {method} of its own"):
        model(IMAGES)


def test_undone_edit() -> None:
    model = make_model(dtype=torch.float32).eval()
    expected = model(IMAGES).logits
    relu = model.get_submodule(LAYER).relu1
    model.get_submodule(LAYER).relu1 = nn.SiLU()
    with pytest.raises(lean.UnsupportedModuleError):
        model(IMAGES)
    model.get_submodule(LAYER).relu1 = relu
    assert torch.equal(model(IMAGES).logits, expected)


def test_permanent_pruning() -> None:
    """What is left of it when it has been made permanent is a weight like others, whatever is loaded afterwards."""
    model = make_model(dtype=torch.float32).eval()
    conv = model.get_submodule(LAYER).conv1
    prune.l1_unstructured(conv, "weight", 0.5)
    prune.remove(conv, "weight")
    model.load_state_dict(make_model(seed=1, dtype=torch.float32).state_dict())
    actual = model(IMAGES).logits
    torch.testing.assert_close(actual, in_mode("plain")(model, IMAGES).logits, atol=1e-4, rtol=1e-4)


def test_edit_of_a_resnet() -> None:
    model = LadderResNet(CLASSES)
    images = torch.zeros(2, 3, 64, 64)
    hook = model.features.layer3[0].register_forward_hook(lambda *arguments: None)
    with pytest.raises(lean.UnsupportedModuleError, match=r"features.layer3.0 has a forward hook"):
        model(images)
    hook.remove()
    model.features.layer2[1].relu = nn.SiLU()
    with pytest.raises(lean.UnsupportedModuleError, match=r"features.layer2.1.relu is a SiLU"):
        model(images)
    model.features.layer2[1].relu = nn.ReLU()
    model.features.layer2[0].downsample[0].stride = (1, 1)
    with pytest.raises(lean.UnsupportedModuleError, match=r"features.layer2.0.downsample.0 has stride=\(1, 1\)"):
        model(images)
    model.features.layer2[0].downsample[0].stride = (2, 2)
    model.features.layer1.append(BasicBlock(256, 64))
    with pytest.raises(
        lean.UnsupportedModuleError, match=r"features.layer1.3 gives|features.layer2.0 reads|layer2 reads"
    ):
        model(images)
    del model.features.layer1[3]
    model.features.layer4[1].downsample = nn.Sequential(nn.AvgPool2d(1), nn.Conv2d(2048, 2048, 1), nn.BatchNorm2d(2048))
    with pytest.raises(lean.UnsupportedModuleError, match=r"features.layer4.1.downsample has 3 modules"):
        model(images)
    model.features.layer4[1].downsample = None
    model.features.maxpool = nn.AvgPool2d(3, 2, 1)
    with pytest.raises(lean.UnsupportedModuleError, match="features.maxpool is an AvgPool2d"):
        model(images)


def test_residual_layers_that_are_none() -> None:
    x = torch.rand(1, 6, 4, 4)
    unit = Bottleneck(6, 3)
    unit.downsample = None
    for units, message in (
        ([], "Sequential has no unit"),
        ([nn.Identity()], "Sequential.0 is an Identity, expected a residual unit"),
        ([unit], "Sequential.0 adds 6 channels to 12, stride 1"),
    ):
        with pytest.raises(lean.UnsupportedModuleError, match=f"^{message}"):
            lean.residual_layer(nn.Sequential(*units), x)


def test_a_norm_of_the_projected_channels_alone() -> None:
    up = TransitionUp(8, 6, 8, 4)
    up.norm = nn.BatchNorm2d(8)
    with pytest.raises(lean.UnsupportedModuleError, match="norm reads 8 channels, of which 8 are projected"):
        lean.transition_up(up, torch.rand(2, 8, 3, 3), torch.rand(2, 6, 5, 6))


@pytest.mark.parametrize(
    ("run", "module", "shapes"),
    [
        (lean.dense_block, DenseBlock(8, 2, 4), [(2, 8, 5, 6)]),
        (lean.basic_dense_block, BasicDenseBlock(8, 2, 4), [(2, 8, 5, 6)]),
        (lean.residual_layer, nn.Sequential(Bottleneck(8, 2)), [(2, 8, 5, 6)]),
        (lean.transition, Transition(8, 4), [(2, 8, 5, 6)]),
        (lean.context, PyramidContext(8, 8, 4), [(2, 8, 5, 6)]),
        (lean.transition_up, TransitionUp(8, 6, 8, 4), [(2, 8, 3, 3), (2, 6, 5, 6)]),
        (lean.head, Head(8, 3), [(2, 8, 5, 6)]),
    ],
    ids=["dense block", "basic dense block", "residual layer", "transition", "context", "transition-up", "head"],
)
def test_single_sections(run: Callable[..., Tensor], module: nn.Module, shapes: list[tuple[int, ...]]) -> None:
    """A section by itself is not called either: its own hooks are refused as well."""
    maps = [torch.rand(shape) for shape in shapes]
    run(module, *maps)
    hook = module.register_forward_hook(lambda *arguments: None)
    with pytest.raises(lean.UnsupportedModuleError, match=f"^{type(module).__name__} has a forward hook"):
        run(module, *maps)
    hook.remove()
    relu = next(child for child in module.modules() if isinstance(child, nn.ReLU))
    relu.forward = torch.sigmoid
    with pytest.raises(lean.UnsupportedModuleError, match="with a forward of its own"):
        run(module, *maps)


@pytest.mark.parametrize("kernel_size", [3, 7])
def test_stem(kernel_size: int) -> None:
    conv = nn.Conv2d(3, 8, kernel_size, stride=2, padding=3, bias=kernel_size == 7)
    with pytest.raises(lean.UnsupportedModuleError, match=r"^conv has"):
        lean.stem(conv, nn.BatchNorm2d(8), torch.zeros(1, 3, 64, 64))


def test_transition_of_one_row() -> None:
    """There is nothing to pool, and plain PyTorch refuses as well."""
    with pytest.raises(ValueError, match="at least 2 x 2"):
        lean.transition(Transition(8, 4), torch.zeros(2, 8, 1, 6))


class Scaled(nn.Module):
    """A parametrization."""

    def forward(self, weight: Tensor) -> Tensor:
        return 0.5 * weight


class Renamed(nn.Conv2d):
    """A class of its own that computes nothing of its own."""


FOLLOWED = {
    "dilation": setting(f"{LAYER}.conv2", dilation=(2, 2), padding=(2, 2)),
    "numbers for pairs": setting(f"{LAYER}.conv2", stride=1, dilation=2, padding=2),
    "lists for pairs": setting(f"{LAYER}.conv2", kernel_size=[3, 3], dilation=[2, 2], padding=[2, 2]),
    "numpy's numbers": setting(f"{LAYER}.conv2", dilation=np.int64(2), padding=np.int64(2)),
    "same padding": setting(f"{LAYER}.conv2", padding="same"),
    "eps": setting(f"{LAYER}.norm1", eps=0.1),
    "momentum": setting(f"{LAYER}.norm2", momentum=0.5),
    "cumulative average": setting(f"{LAYER}.norm2", momentum=None),
    "frozen batch norm": lambda model: model.up1.norm.eval(),
    "no affine": replacing("up1.norm", nn.BatchNorm2d(64, affine=False)),
    "no running statistics": replacing("up1.norm", nn.BatchNorm2d(64, track_running_stats=False)),
    "other classes": replacing("head", Head(32, 3)),
    "head without bias": replacing("head.conv", nn.Conv2d(32, CLASSES, 1, bias=False)),
    "another bottleneck": lambda model: [
        replacing(f"{LAYER}.conv1", nn.Conv2d(20, 5, 1, bias=False))(model),
        replacing(f"{LAYER}.norm2", nn.BatchNorm2d(5))(model),
        replacing(f"{LAYER}.conv2", nn.Conv2d(5, 8, 3, padding=1, bias=False))(model),
    ],
    "tied weights": lambda model: setattr(model.up2.conv, "weight", model.up1.conv.weight),
    "ReLU in place": setting(f"{LAYER}.relu1", inplace=True),
    "a subclass": replacing(f"{LAYER}.conv2", Renamed(32, 8, 3, padding=1, bias=False)),
    "parametrization": lambda model: parametrize.register_parametrization(model.up1.conv, "weight", Scaled()),
    "parametrized bias": lambda model: parametrize.register_parametrization(model.head.conv, "bias", Scaled()),
    "parametrized norm": lambda model: parametrize.register_parametrization(model.up1.norm, "weight", Scaled()),
    "weight norm": lambda model: parametrizations.weight_norm(model.get_submodule(LAYER).conv1),
    "spectral norm": lambda model: parametrizations.spectral_norm(model.get_submodule(LAYER).conv1),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_followed_edit(name: str) -> None:
    model = NarrowLadder(CLASSES)
    FOLLOWED[name](model)
    model = randomise(model.double())
    images = [[make_images(4, 64, 96, seed=seed)] for seed in range(2)]
    assert_lean_equals_plain(model, in_mode("lean"), in_mode("plain"), images, learning_rate=1e-3)


def test_unedited_models() -> None:
    """No model of the package is taken for an edited one, a copy of it, or one that was put together again."""
    for model in (LadderDenseNet(TINY, CLASSES, split_blocks=(2, 4)), DilatedDenseNet(TINY), LadderResNet()):
        model(torch.zeros(2, 3, 128, 128))
        copy.deepcopy(model)(torch.zeros(2, 3, 128, 128))


def test_shared_running_statistics() -> None:
    """In training they would be updated in another order; in evaluation there is none."""
    model = edited(lambda model: setattr(model.up1.norm, "running_mean", model.up2.norm.running_mean))
    with pytest.raises(ValueError, match="shares running statistics"):
        model(IMAGES)
    model.eval()(IMAGES)


@pytest.mark.parametrize("memory", ["lean", "plain"])
def test_replica_of_data_parallel(memory: str) -> None:
    """It has tensors where the model has parameters."""
    model = make_model(memory=memory, dtype=torch.float32).eval()
    expected = model(IMAGES).logits
    replicas = {module: module._replicate_for_data_parallel() for module in model.modules()}
    for module, replica in replicas.items():
        replica._modules.update((name, replicas.get(child)) for name, child in module._modules.items())
        replica._former_parameters = {name: p.clone() for name, p in module._parameters.items() if p is not None}
        for name in module._parameters:
            setattr(replica, name, replica._former_parameters.get(name))
    logits = replicas[model](IMAGES).logits
    assert torch.equal(logits, expected)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.context.parameters())


def test_models_are_not_kept_alive() -> None:
    model: SegmentationModel = make_model(dtype=torch.float32)
    model(IMAGES)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None
