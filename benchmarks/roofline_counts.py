"""The device-memory bytes and the operations of a training step, by counting every launch of it.

The step runs on the meta device, where tensors have shapes and no contents. Counted are

- launches of this package's kernels: the launchers say which buffers a launch reads and writes (the emulator of the
  tests holds the kernels to that), and each byte counts once per launch;
- operators of torch, which both networks call: each byte of their arguments and results counts once, in place as read
  and as written, except as below. Views and allocations are free.

Each byte once means that what a launch reads again it finds in the cache, and what the next one reads it does not.
Where maps are too large for the former, the rule is

- batch norm in training reads its input twice: for the statistics, and to normalise. Its backward reads its input and
  the gradient twice: for the sums, and for the result. No kernel for maps larger than a cache can do with less.
- a convolution's backward is two kernels, one for the data's gradient and one for the weight's.
- an argument of a convolution that is not dense is copied by torch before it gets to cuDNN, which does not take such.
- what an operator does not look at is not read: the input in the backward of a pooling (it has the indices, or needs
  none) or of the loss (the shape alone matters), all but the label's score in the loss.

All this is kind to plain PyTorch: softmax, upsampling and the pooling's backward read or write parts twice on CUDA,
cuDNN may use work space or transform its operands, and none of that is counted. For the kernels of this package, too,
it is a floor: halos of tiles and caches too small cost more.

Operations are two per multiply-add in products. Those of other operators are estimates (roofline_torch.OPERATIONS, and
in the launchers), far below what would set the time.
"""

import importlib
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from roofline_devices import Device
from roofline_torch import Call, Launch, Work, is_channels_last, works_of
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ladderseg_fast import LadderLoss, SegmentationModel, create_model
from ladderseg_fast.lean.stages import Stage
from ladderseg_fast.ops.backend import RecordedCuda, using

# Their module: the package has a function of the same name.
_loss_operators = importlib.import_module("ladderseg_fast.ops.upsample_cross_entropy")


def lean_step(
    device: Device, dtype: torch.dtype, model: str, batch: int, size: tuple[int, int], allow_tf32: bool = False
) -> list[Work]:
    """Work of one training step of this package on `device`, by stage of the network."""
    network, loss, images, labels = _on_meta(model, "lean", dtype, batch, size)
    with Counter(device, allow_tf32) as counter, _naming_stages(counter):
        loss(network(images), labels).backward()
    return counter.works


def plain_step(
    device: Device, dtype: torch.dtype, model: str, batch: int, size: tuple[int, int], allow_tf32: bool = False
) -> list[Work]:
    """Work of one training step of the same network in plain PyTorch, all in the layout that cuDNN prefers."""
    network, loss, images, labels = _on_meta(model, "plain", dtype, batch, size)
    network.to(memory_format=torch.channels_last)
    images = images.contiguous(memory_format=torch.channels_last)
    with Counter(device, allow_tf32) as counter:
        loss(network(images), labels).backward()
    return counter.works


def _on_meta(
    model: str, memory: str, dtype: torch.dtype, batch: int, size: tuple[int, int]
) -> tuple[SegmentationModel, LadderLoss, Tensor, Tensor]:
    with torch.device("meta"):
        network = create_model(model, memory=memory).to(dtype)
        images = torch.empty(batch, 3, *size, dtype=dtype)
        labels = torch.empty(batch, *size, dtype=torch.int64)
    return network, LadderLoss(memory=memory), images, labels


@contextmanager
def _naming_stages(counter: "Counter") -> Iterator[None]:
    """Counts the work of stages of lean programs under their names."""
    names = ("forward", "backward")
    before = {(stage, name): getattr(stage, name) for stage in Stage.__subclasses__() for name in names}

    def named(function: Callable, direction: str) -> Callable:
        def call(self: Stage, *args: object) -> None:
            with counter.stage(f"{type(self).__name__.removesuffix('Stage')} {self.writes}, {direction}"):
                function(self, *args)

        return call

    for (stage, name), function in before.items():
        setattr(stage, name, named(function, name))
    try:
        yield
    finally:
        for (stage, name), function in before.items():
            setattr(stage, name, function)


class Counter(TorchDispatchMode):
    """Counts what happens to tensors on the meta device, in `works`, as if it happened on `device`."""

    def __init__(self, device: Device, allow_tf32: bool = False) -> None:
        super().__init__()
        self.works: list[Work] = []
        self._device = device
        self._allow_tf32 = allow_tf32
        self._stage = "loss, and between stages"
        self._backend = RecordedCuda(device.capability, device.multiprocessors, allow_tf32=allow_tf32)
        self._regions: list[ExitStack] = []  # the mode is entered again within itself

    def __enter__(self) -> "Counter":
        self._regions.append(ExitStack())
        self._regions[-1].enter_context(using(self._backend))
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._regions.pop().close()
        self._collect()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Region whose work belongs to the stage `name`."""
        self._collect()
        before, self._stage = self._stage, name
        yield
        self._collect()
        self._stage = before

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        inside = _OURS.get(function)
        if inside is not None:
            with self:
                return inside(*args, **kwargs)
        result = function(*args, **kwargs)
        if function is torch.ops.aten.convolution.default and is_channels_last(args[0]):
            result = result.contiguous(memory_format=torch.channels_last)  # as on CUDA; the meta device forgets it
        if function.namespace == "aten":
            self._count(Call.of(function, args, kwargs, result))
        return result

    def _count(self, call: Call) -> None:
        for work in works_of(call):
            by_tensor_cores = work.is_product and self._device.multiplies_by_tensor_cores(
                call["input"].dtype, self._allow_tf32
            )
            name = f"torch: {work.name}"
            self.works.append(replace(work, name=name, by_tensor_cores=by_tensor_cores, stage=self._stage))

    def _collect(self) -> None:
        for record in self._backend.take_records():
            name, _, element = record.kernel.rpartition("_")
            moved = record.read_bytes, record.written_bytes
            kinds = "conv" in name, "_tensor" in name
            launch = Launch(element, math.prod(record.grid), math.prod(record.block))
            self.works.append(Work(name, *moved, record.operations, *kinds, self._stage, launch))


#: Operators of ours that torch takes for one on the meta device; what they do inside is counted.
_OURS = {
    torch.ops.ladderseg_fast.upsample_cross_entropy.default: _loss_operators._forward._init_fn,
    torch.ops.ladderseg_fast.upsample_cross_entropy_backward.default: _loss_operators._backward._init_fn,
}
