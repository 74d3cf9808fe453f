"""What each of four processes runs for tests/distributed, which compare the results."""

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from support.joint_training import SMALL, Training, compared, narrow_resnet_ladder, train
from support.ladder_models import make_images
from support.lean_equals_plain import away_from_kinks, randomise
from support.other_densenets import torchvision_densenet
from support.reference_batch_norm import use_reference
from support.tiny_training import DrawnOnce
from torch import Tensor, distributed, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from ladderseg_fast import SegmentationModel, convert, lean
from ladderseg_fast.engine.class_weights import median_frequency_weights
from ladderseg_fast.engine.distributed import World
from ladderseg_fast.lean import program
from ladderseg_fast.nn import Bottleneck

#: Images of different sizes, one of them with a single position at 1/64 of its resolution.
SIZES = ((1, 64, 64), (2, 64, 96), (1, 130, 64), (1, 97, 128))


def freeze_batch_norms(model: SegmentationModel) -> None:
    """Every third batch norm of the encoder is in evaluation mode."""
    norms = [module for module in model.features.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms[::3]:
        norm.eval()


def freeze_encoder(model: SegmentationModel) -> None:
    model.features.requires_grad_(False)


def place(model: SegmentationModel) -> None:
    """Its parts are on two devices, which are the same one; both read the last dense block. Plain models have one."""
    if model.memory != "plain":
        model.place(["cpu", "cpu"], after="denseblock4")


def change_options(model: SegmentationModel) -> None:
    """Batch norms with the averages of all batches; one without affine parameters, one with its own statistics."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    first, last = model.features.norm0, model.head.norm
    model.features.norm0 = nn.BatchNorm2d(first.num_features, affine=False, dtype=torch.float64)
    own = nn.BatchNorm2d(last.num_features, track_running_stats=False, dtype=torch.float64)
    model.head.norm = own


_LONG = Training(steps=4)

#: Trainings by so many processes, compared with one process.
JOINT = {
    "four": (4, _LONG),
    "pair": (2, replace(_LONG, sizes=((1, 64, 128),))),
    "pair in float32": (2, replace(_LONG, dtype=torch.float32, sizes=((1, 128, 128),))),
    "pair on a ResNet": (2, replace(_LONG, model=narrow_resnet_ladder, sizes=((1, 64, 128),))),
}

#: Trainings by four processes, lean and plain.
FOUR = {
    "sizes": Training(sizes=SIZES, ignored=(3,)),
    "encoder in pairs": Training(sizes=((2, 64, 128),)),
}

#: Trainings by pairs, lean and plain. Of the first process all labels are ignored.
_UNEQUAL = Training(sizes=SIZES[:2], ignored=(0,))
_LARGER = replace(_UNEQUAL, sizes=((1, 128, 128), (2, 64, 128)))
PAIRS = {
    "strips": replace(_UNEQUAL, memory=SMALL),
    "frozen batch norms": replace(_LARGER, edit=freeze_batch_norms),
    "frozen encoder": replace(_UNEQUAL, edit=freeze_encoder),
    "options": replace(_LARGER, edit=change_options),
    "encoder alone": replace(_LARGER, synchronised=("features",)),
    "encoder alone is not": replace(_LARGER, synchronised=("context",), edit=place),
    "pyramid": replace(_UNEQUAL, options={"context": "pyramid"}),
    "ResNet": replace(_UNEQUAL, model=narrow_resnet_ladder),
    "accumulation": replace(_UNEQUAL, accumulate=2),
}

#: Settings of DistributedDataParallel around models with batch norms of their own, lean and plain.
_OWN = Training(sizes=((1, 128, 128), (2, 64, 128)), synchronised=())
SETTINGS = {
    "default": _OWN,
    "find_unused_parameters": replace(_OWN, data_parallel={"find_unused_parameters": True}, auxiliary_only=True),
    "no_sync": replace(_OWN, accumulate=2),
    "gradient_as_bucket_view": replace(_OWN, data_parallel={"gradient_as_bucket_view": True}),
    "static_graph": replace(_OWN, data_parallel={"static_graph": True}, steps=2),
    "broadcast_buffers": replace(_OWN, data_parallel={"broadcast_buffers": False}),
}


#: Ways to a DenseNet of torchvision whose parts run lean: with synchronised batch norms, or with sharded parameters.
CONVERTED = ("reference", "converted", "converted last", "shards of the reference", "shards of parts")


def run(rank: int) -> dict[str, Any]:
    """The results by name, of those trainings in which the process takes part."""
    warnings.simplefilter("ignore")  # of DistributedDataParallel, about unused parameters and names of settings
    groups = [distributed.new_group([0, 1]), distributed.new_group([2, 3])]
    pair, first = rank // 2, rank // 2 * 2
    group = groups[pair]
    done: dict[str, Any] = {}

    def both(name: str, training: Training, *arguments: Any) -> None:
        for memory in (training.memory, "plain"):
            word = "plain" if memory == "plain" else "lean"
            done[f"{name}: {word}"] = train(replace(training, memory=memory), rank, *arguments)

    done["class weights"] = _class_weights(World(rank, 4))
    done["four"] = train(JOINT["four"][1], rank)
    for name in ("pair on a ResNet",) if pair else ("pair", "pair in float32"):
        done[name] = train(JOINT[name][1], rank, group, first)
    for name, training in FOUR.items():
        both(name, training, None, 0, group if name == "encoder in pairs" else None)
    for number, (name, training) in enumerate((PAIRS | SETTINGS).items()):
        if number % 2 == pair:
            both(name, training, group, first)
    if pair == 0:
        done["unused"] = _unused(rank, group)
        done["sharded"] = {memory: _sharded(memory, rank, group) for memory in ("lean", "plain")}
        done["refusal"] = _refusal(group)
        done["placed"] = train(replace(_UNEQUAL, edit=place), rank, group, first)
        done["early"] = {memory: _order(memory, rank, group) for memory in ("whole", "in parts")}
        done["units"] = {memory: _units(memory, rank, group) for memory in ("lean", "plain")}
    elif importlib.util.find_spec("torchvision"):
        done["converted"] = {way: _converted(way, rank - first, group) for way in CONVERTED}
    return done


def _class_weights(world: World) -> tuple[tuple[float, ...], list[int]]:
    """Weights of the classes in images that the processes do not share evenly, and the numbers of images done."""
    done: list[int] = []
    return median_frequency_weights(DrawnOnce(6, seed=0), 0, done.append, world), done


def _unused(rank: int, group: Any) -> dict[str, Tensor]:
    """Steps in which the main head has no gradient, though DistributedDataParallel has not been told."""
    return train(replace(_OWN, auxiliary_only=True), rank, group)


def _sharded(memory: str, rank: int, group: Any) -> dict[str, Tensor]:
    """Losses and parameters of two steps of a model that fully_shard has taken as a whole."""
    training = replace(_OWN, memory=memory, steps=2)
    model = training.make()
    fully_shard(model, mesh=_mesh(group))
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    done = {}
    for step in range(training.steps):
        images, labels = training.batch(rank, step)
        optimiser.zero_grad()
        loss = training.loss(model(images), labels)
        loss.backward()
        optimiser.step()
        done[f"step {step}: loss"] = loss.detach()
    return done | {name: compared(parameter.full_tensor()) for name, parameter in model.named_parameters()}


def _units(memory: str, rank: int, group: Any) -> dict[str, Tensor]:
    """Output and gradients of residual units, of which one process alone would not make the widest maps again."""
    torch.manual_seed(0)
    layer = randomise(nn.Sequential(Bottleneck(16, 32), Bottleneck(128, 32))).double()
    layer = nn.SyncBatchNorm.convert_sync_batchnorm(layer, group)
    x = torch.rand(1 + rank, 16, 20, 20, dtype=torch.float64, requires_grad=True)
    out = lean.residual_layer(layer, x) if memory == "lean" else use_reference(layer)(x)
    out.square().sum().backward()
    gradients = {f"gradient of {name}": p.grad for name, p in layer.named_parameters()}
    return {"output": out.detach(), "gradient of x": x.grad} | gradients


def _order(which: str, rank: int, group: Any) -> tuple[list[str], dict[str, Tensor]]:
    """What happens in the backward pass of the second step, and its gradients; or of a model in parts on one device.

    What happens is that a part has computed its gradients, and that a bucket of gradients begins to travel.
    """
    model = _OWN.make()
    if which == "in parts":
        model.place(["cpu"] * 3, after=["denseblock2", "context"])
    parallel = DistributedDataParallel(model, process_group=group, bucket_cap_mb=0.02)
    happened: list[str] = []

    def send(state: Any, bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:
        happened.append("bucket")
        return allreduce_hook(state, bucket)

    def compute(call: program.Call, *arguments: Any) -> Any:
        gradients = original(call, *arguments)
        happened.append("part")
        return gradients

    parallel.register_comm_hook(group, send)
    original = program.Call.backward
    program.Call.backward = compute
    try:
        for step in range(2):  # from the second on, buckets are those of the order in which gradients come
            model.zero_grad()
            happened.clear()
            images, labels = _OWN.batch(rank, step)
            _OWN.loss(parallel(images), labels).backward()
    finally:
        program.Call.backward = original
    return happened, {name: parameter.grad for name, parameter in model.named_parameters()}


def _refusal(group: Any) -> tuple[str, str]:
    """What the model says if fully_shard has taken a section of it alone, and if its parameters are in shards."""
    images, _ = _OWN.batch(0, 0)
    section, whole = _OWN.make(), _OWN.make()
    fully_shard(section.features.denseblock1, mesh=_mesh(group))
    fully_shard(whole, mesh=_mesh(group))
    return _error(section, images), _error(whole.lean_scores, images)


def _error(forward: Callable[[Tensor], object], images: Tensor) -> str:
    try:
        forward(images)
    except (RuntimeError, TypeError) as error:
        return str(error)
    return "nothing"


def _mesh(group: Any) -> Any:
    return distributed.DeviceMesh.from_group(group, "cpu")


def _converted(way: str, rank: int, group: Any) -> dict[str, Tensor]:
    """Class scores and gradients of a step."""
    torch.manual_seed(0)
    model = away_from_kinks(randomise(torchvision_densenet())).double()
    sharded = way.startswith("shards")
    if way == "converted last":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model, group)
    if way in ("converted", "converted last", "shards of parts"):
        convert(model)
    if not sharded and way != "converted last":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model, group)
    if sharded:
        for part in (model.features.denseblock1, model.features.transition2, model):
            fully_shard(part, mesh=_mesh(group))
    else:
        use_reference(model if way == "reference" else nn.ModuleList([model.features.norm5]))
    scores = model(make_images(1 + rank, 64, 64, seed=rank))
    scores.square().sum().backward()
    gradients = {name: p.grad.full_tensor() if sharded else p.grad for name, p in model.named_parameters()}
    return {"scores": scores.detach()} | {f"gradient of {name}": each for name, each in gradients.items()}
