"""What a conversion keeps as it was, what it follows, and what it refuses."""

import copy
import io
import pickle
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.distributed as dist
from support.comparison import relative_error
from support.converted_equals_plain import assert_converted_equals_plain, make_images
from support.lean_equals_plain import randomise
from support.operator_suite import instruction_set
from support.other_densenets import smp_densenet, timm_densenet, torchvision_densenet
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrizations

from ladderseg_fast import MemoryPlan, _core, convert, lean
from ladderseg_fast.convert.lean_module import LeanModule
from ladderseg_fast.lean import SectionPlan

pytestmark = pytest.mark.real_use

IMAGES = make_images(2, 3, 64, 64)


def models() -> tuple[nn.Module, nn.Module]:
    """The same model, plain and converted."""
    plain = randomise(torchvision_densenet()).double()
    converted = copy.deepcopy(plain)
    convert(converted)
    return plain, converted


def assert_same_step(plain: nn.Module, converted: nn.Module) -> None:
    for model in (plain, converted):
        model.zero_grad()
        model(IMAGES).square().sum().backward()
    expected = dict(plain.named_parameters())
    for name, parameter in converted.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-9, atol=1e-9, msg=name)
    states = plain.state_dict()
    for name, tensor in converted.state_dict().items():
        torch.testing.assert_close(tensor, states[name], rtol=1e-9, atol=1e-9, msg=name)


def test_state_dict_both_ways() -> None:
    plain, converted = models()
    assert list(plain.state_dict()) == list(converted.state_dict())
    converted.load_state_dict(randomise(plain, seed=1).state_dict())
    assert_same_step(plain, converted)
    plain.load_state_dict(converted.state_dict())


def test_optimizer_made_before() -> None:
    plain = randomise(torchvision_densenet()).double()
    converted = copy.deepcopy(plain)
    optimizers = [torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9) for model in (plain, converted)]
    convert(converted)
    for _ in range(2):
        assert_same_step(plain, converted)
        for optimizer in optimizers:
            optimizer.step()


def test_copies() -> None:
    plain, converted = models()
    assert_same_step(copy.deepcopy(plain), copy.deepcopy(converted))
    unpickled = pickle.loads(pickle.dumps(converted))
    assert isinstance(unpickled.features, LeanModule)
    convert.undo(plain)  # there is nothing to undo
    file = io.BytesIO()
    torch.save(converted.state_dict(), file)
    file.seek(0)
    unpickled.load_state_dict(torch.load(file))
    assert_same_step(plain, unpickled)


def test_undo() -> None:
    plain, converted = models()
    convert.undo(converted)
    assert [type(module) for module in plain.modules()] == [type(module) for module in converted.modules()]
    assert_same_step(plain, converted)


def test_frozen_parameters() -> None:
    plain, converted = models()
    for model in (plain, converted):
        model.features.requires_grad_(False)
        model(IMAGES).sum().backward()
        assert model.features.conv0.weight.grad is None
    torch.testing.assert_close(converted.classifier.weight.grad, plain.classifier.weight.grad)


def test_slices_are_ordinary_sequences() -> None:
    plain, converted = models()
    part = converted.features[:6].eval()
    assert type(part) is nn.Sequential
    assert list(part._modules) == ["conv0", "norm0", "relu0", "pool0", "denseblock1", "transition1"]
    torch.testing.assert_close(part(IMAGES), plain.features[:6].eval()(IMAGES))
    assert converted.features[4] is converted.features.denseblock1


def test_layout() -> None:
    """Code that views a map as a matrix works as before."""
    plain, converted = models()
    for images in (IMAGES, IMAGES.contiguous(memory_format=torch.channels_last)):
        assert converted.features(images).stride() == plain.features(images).stride()
    for model in (plain, converted):
        model.to(memory_format=torch.channels_last)
    assert converted.features(IMAGES).stride() == plain.features(IMAGES).stride()


def test_layout_of_maps_that_are_neither() -> None:
    """Such as a range of channels, or rows and columns transposed: torch returns contiguous maps for these."""
    plain, converted = models()
    maps = make_images(2, 32, 12, 10)
    for x in (maps[:, 16:], maps[:, :16].transpose(2, 3), maps[:, :16, ::2]):
        expected = plain.features.denseblock1(x)
        assert converted.features.denseblock1(x).stride() == expected.stride() == expected.contiguous().stride()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_layout_of_gradients(layout: torch.memory_format) -> None:
    """Attacks and penalties view the images' gradient as a matrix."""
    images = IMAGES.contiguous(memory_format=layout).requires_grad_()
    expected, actual = (torch.autograd.grad(model(images).sum(), images)[0] for model in models())
    assert actual.stride() == expected.stride()
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.*torch.autocast.*")
def test_autocast_on_a_cpu_without_bfloat16() -> None:
    """It has no effect on what runs lean; a warning says so."""
    plain, converted = models()
    with instruction_set("baseline"), torch.autocast("cpu", dtype=torch.bfloat16):
        features = converted.eval().float().features(IMAGES.float())
    torch.testing.assert_close(features, plain.eval().float().features(IMAGES.float()), rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(not _core.has_bfloat16(), reason="needs a processor with AVX512-BF16")
def test_autocast_on_a_cpu_with_bfloat16() -> None:
    """What runs lean follows it, and is as accurate as what does not."""
    plain, converted = models()
    exact = plain.eval().features(IMAGES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features, expected = (model.eval().float().features(IMAGES.float()) for model in (converted, plain))
    assert features.dtype == expected.dtype
    assert 0 < relative_error([features], [exact]) <= 2 * relative_error([expected], [exact])


def test_distributed(tmp_path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        plain, converted = models()
        DistributedDataParallel(converted)(IMAGES).square().sum().backward()
        plain(IMAGES).square().sum().backward()
        for one, other in zip(converted.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-9)
    finally:
        dist.destroy_process_group()


def test_plain_memory() -> None:
    """memory="plain" runs what was there before, and may come and go."""
    plain, converted = models()
    convert(converted, memory="plain")
    converted.features.denseblock1.denselayer1.relu1 = nn.SiLU()
    plain.features.denseblock1.denselayer1.relu1 = nn.SiLU()
    assert_same_step(plain, converted)


PLANS = {
    "strips": MemoryPlan(chunk_bytes=3000, keep_bottlenecks_from=None),
    "strips of bottlenecks": MemoryPlan(sections={"denseblock2": SectionPlan(None, bottleneck_bytes=3000)}),
    "close together": MemoryPlan(spread=False, keep_bottlenecks_from=1),
    "recomputed": MemoryPlan(
        sections={f"denseblock{i}": SectionPlan(None, recompute=True, keep_skip=True) for i in (1, 2, 3, 4)}
    ),
}


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("make", [torchvision_densenet, smp_densenet])
def test_plan(make: Callable[[], nn.Module], plan: str) -> None:
    model = make()
    convert(model, memory=PLANS[plan])
    converted = [module for module in model.modules() if isinstance(module, LeanModule)]
    assert all(module.lean_state.plan == PLANS[plan] for module in converted)
    with_plan = partial(convert, memory=PLANS[plan])
    assert_converted_equals_plain(model, "train", (2, 3, 64, 96), convert=with_plan)


def test_a_plan_that_recomputes_a_transition_is_refused() -> None:
    _, model = models()
    convert(model, memory=MemoryPlan(sections={"transition1": SectionPlan(None, recompute=True, keep_skip=True)}))
    with pytest.raises(ValueError, match="the memory plan recomputes transition1, which a lean step cannot"):
        model(IMAGES)


def test_unknown_memory() -> None:
    with pytest.raises(
        ValueError, match="memory must be lean, plain, a budget such as 8GiB, or a MemoryPlan, got 'tiny'"
    ):
        convert(nn.Linear(1, 1), memory="tiny")


def test_memory_efficient_models_need_no_checkpointing() -> None:
    """They compute the same, except that torchvision's checkpointing updates running statistics twice."""
    efficient = randomise(torchvision_densenet(memory_efficient=True)).double()
    plain = torchvision_densenet().double()
    plain.load_state_dict(efficient.state_dict())
    convert(efficient)
    assert_same_step(plain, efficient)


def test_nothing_known() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 7, 2, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    report = convert(model)
    assert (report.converted, report.left) == ({}, {})
    assert "nothing" in str(report)


EDITS: dict[str, tuple[str, Callable[[nn.Module], object]]] = {
    "a hook": (
        "features.denseblock2.denselayer1.conv1 has a forward hook",
        lambda model: model.features.denseblock2.denselayer1.conv1.register_forward_hook(lambda *_: None),
    ),
    "another activation": (
        "features.denseblock2.denselayer1.relu2 is a SiLU, expected ReLU",
        lambda model: setattr(model.features.denseblock2.denselayer1, "relu2", nn.SiLU()),
    ),
    "group norm": (
        "features.denseblock3.denselayer1.norm2 is a GroupNorm, expected BatchNorm2d",
        lambda model: setattr(model.features.denseblock3.denselayer1, "norm2", nn.GroupNorm(2, 16).double()),
    ),
    "dropout": (
        "features.denseblock2.denselayer2 has drop_rate=0.5",
        lambda model: setattr(model.features.denseblock2.denselayer2, "drop_rate", 0.5),
    ),
    "another pooling": (
        "features.transition1.pool is a MaxPool2d, expected AvgPool2d",
        lambda model: setattr(model.features.transition1, "pool", nn.MaxPool2d(2)),
    ),
    "a forward of a layer's own": (
        "features.denseblock2.denselayer1 is a _DenseLayer with a forward of its own",
        lambda model: setattr(model.features.denseblock2.denselayer1, "forward", lambda x: x[0][:, :8]),
    ),
    "a bottleneck of a layer's own": (
        "features.denseblock2.denselayer1 is a _DenseLayer with a bn_function of its own",
        lambda model: setattr(model.features.denseblock2.denselayer1, "bn_function", lambda x: x[0][:, :16]),
    ),
}


def test_a_block_without_layers_is_left_alone() -> None:
    model = torchvision_densenet()
    model.features.denseblock2._modules.clear()
    assert convert(model, dry_run=True).left["features.denseblock2"] == "has no layers"


@pytest.mark.parametrize("edit", EDITS)
def test_edited_part_is_left_alone_and_named(edit: str) -> None:
    """All other parts run lean."""
    message, change = EDITS[edit]
    model = torchvision_densenet()
    change(model)
    report = convert(model)
    path = ".".join(message.split()[0].split(".")[:2])
    assert report.left[path].startswith(message)
    assert not isinstance(model.get_submodule(path), LeanModule)
    assert sum(isinstance(module, LeanModule) for module in model.modules()) == 7
    assert_converted_equals_plain(model, "train" if edit != "dropout" else "eval", (2, 3, 64, 64))


def with_dropout_in_a_layer(model: nn.Module) -> nn.Module:
    block = getattr(model, "features", model).denseblock3
    block.denselayer1.drop_rate = 0.4
    return model


def with_dropout_in_the_stem(model: nn.Module) -> nn.Module:
    model.features.pool0 = nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.Dropout(0.3))
    return model


MODELS_WITH_DROPOUT: dict[str, Callable[[], nn.Module]] = {
    "torchvision": lambda: with_dropout_in_a_layer(torchvision_densenet()),
    "timm": lambda: with_dropout_in_a_layer(timm_densenet()),
    "smp": lambda: with_dropout_in_a_layer(smp_densenet()),
    "stem": lambda: with_dropout_in_the_stem(torchvision_densenet()),
    "smp's stem": lambda: with_dropout_in_the_stem(smp_densenet()),
}


@pytest.mark.parametrize("name", MODELS_WITH_DROPOUT)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_dropout_between_programs_draws_the_same(name: str, layout: torch.memory_format) -> None:
    """It draws in the order of the elements in memory, so it must get maps in the layout that it got before."""
    plain = randomise(MODELS_WITH_DROPOUT[name]()).double()
    model = copy.deepcopy(plain)
    assert convert(model).converted
    images = IMAGES.contiguous(memory_format=layout)
    results = []
    for each in (plain, model):
        torch.manual_seed(0)
        outputs = each(images)
        results.append((outputs if isinstance(outputs, list) else [outputs], torch.get_rng_state()))
    (expected, state), (actual, state_after) = results
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    assert torch.equal(state, state_after)


@pytest.mark.parametrize("edit", EDITS)
def test_later_edit_is_refused(edit: str) -> None:
    message, change = EDITS[edit]
    _, model = models()
    model(IMAGES)
    change(model)
    with pytest.raises(lean.UnsupportedModuleError, match=f"^{message}"):
        model(IMAGES)
    report = convert(model)
    assert any(why.startswith(message) for why in report.left.values())
    model(IMAGES[:, :, :48, :48])


def test_later_hook_on_a_part_is_followed() -> None:
    plain, converted = models()
    assert_same_step(plain, converted)
    seen = []
    for model in (plain, converted):
        model.features.denseblock2.register_forward_hook(lambda module, inputs, output: seen.append(output))
        model.features.transition2.register_forward_pre_hook(lambda module, inputs: (2.0 * inputs[0],))
    assert_same_step(plain, converted)
    torch.testing.assert_close(*seen, rtol=1e-10, atol=1e-10)


def test_replaced_modules_that_torch_runs_are_followed() -> None:
    plain, converted = models()
    assert_same_step(plain, converted)
    for model in (plain, converted):
        model.features.norm5 = nn.Identity()
    assert_same_step(plain, converted)


def test_parametrizations_are_followed() -> None:
    plain, converted = models()
    for model in (plain, converted):
        parametrizations.weight_norm(model.features.denseblock1.denselayer1.conv1)
        parametrizations.weight_norm(model.features.conv0)
    assert_same_step(plain, converted)


def strange_stems(features: nn.Sequential) -> dict[str, list[nn.Module]]:
    conv, norm, relu, pool, block, transition, *_ = features
    rest = [block, transition]
    return {
        "relu0": [conv, norm, nn.SiLU(), pool, *rest],
        "pool0": [conv, norm, relu, nn.AvgPool2d(3, 2, 1), *rest],
        "no ReLU": [conv, norm, pool, *rest],
        "no pooling": [conv, norm, relu, *rest],
        "no batch norm": [conv, *rest],
        "one part": [conv, block],
    }


@pytest.mark.parametrize("name", ["relu0", "pool0", "no ReLU", "no pooling", "no batch norm", "one part"])
def test_parts_after_another_stem(name: str) -> None:
    model = nn.Sequential(*strange_stems(torchvision_densenet().features)[name])
    (description,) = convert(model, dry_run=True).converted.values()
    assert description == ("dense block" if name == "one part" else "dense block, transition")
    assert_converted_equals_plain(model, "train", (2, 3, 32, 32))


def test_inputs_by_name() -> None:
    plain, converted = models()
    for model in (plain, converted):
        model.eval()
    maps = make_images(2, 16, 12, 10)
    names = {
        "": ("input", IMAGES),
        "denseblock1": ("init_features", maps),
        "transition1": ("input", maps.repeat(1, 2, 1, 1)),
    }
    for path, (name, x) in names.items():
        expected, actual = (model.features.get_submodule(path)(**{name: x}) for model in (plain, converted))
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
    with pytest.raises(TypeError, match="missing a required argument: 'input'"):
        converted.features(y=IMAGES)
    with pytest.raises(TypeError, match="takes 2 positional arguments but 3 were given"):
        converted.features(IMAGES, IMAGES)


@pytest.mark.parametrize("make", [torchvision_densenet, timm_densenet, smp_densenet])
def test_empty_batch(make: Callable[[], nn.Module]) -> None:
    assert_converted_equals_plain(make(), "eval", (0, 3, 64, 64))


def test_wrong_number_of_channels() -> None:
    _, model = models()
    with pytest.raises(ValueError, match=r"the input of features must be \[N, 3, H, W\], got shape \(2, 1, 64, 64\)"):
        model(IMAGES[:, :1])
    with pytest.raises(ValueError, match=r"the input of features.transition1 must be \[N, 32, H, W\]"):
        model.features.transition1(IMAGES)


def test_torch_compile_breaks_its_graph() -> None:
    plain, converted = models()
    compiled = torch.compile(converted.eval(), backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(IMAGES), plain.eval()(IMAGES), rtol=1e-9, atol=1e-9)


@pytest.mark.skipif(not hasattr(torch.compiler, "is_exporting"), reason="torch before 2.7")
def test_torch_export_takes_the_module_before_its_conversion() -> None:
    plain, converted = models()
    program = torch.export.export(converted.eval(), (IMAGES,), strict=False)
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert {name.partition(".")[0] for name in targets} == {"aten"}
    assert torch.equal(program.module()(IMAGES), plain.eval()(IMAGES))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_tracing_is_refused() -> None:
    _, converted = models()
    with pytest.raises(RuntimeError, match="cannot be traced"):
        torch.jit.trace(converted.eval(), IMAGES)
    with pytest.raises(RuntimeError, match="cannot be scripted"):
        torch.jit.script(converted)
    with pytest.raises(RuntimeError, match="features is converted and cannot be traced by torch.fx"):
        torch.fx.symbolic_trace(converted)
    convert.undo(converted)
    torch.jit.script(converted)
    torch.fx.symbolic_trace(converted)
