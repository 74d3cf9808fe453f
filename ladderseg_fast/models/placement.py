"""A model whose sections are on several devices."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..lean import Workspace
from ..lean.parts import PartedProgram
from ..lean.plan import MemoryPlan
from .network import Network
from .programs import cut_names, parted_program_of


@dataclass(frozen=True)
class DevicePlacement:
    """Devices of the parts of a model, and the sections after which the cuts between them lie.

    workspaces: one per part; they are those of the model that was placed, and copies of it get others.
    """

    devices: tuple[torch.device, ...]
    cuts: tuple[str, ...]
    workspaces: tuple[Workspace, ...] = field(compare=False, repr=False)

    def run(self, network: Network, program: PartedProgram, images: Tensor, plan: MemoryPlan) -> tuple[Tensor, ...]:
        """Runs `program`, that of `network` with these cuts; the scores are on the last device.

        Raises:
            ValueError: as `check`.
        """
        self.check(network, program)
        return program.run([images], self.devices, plan, self.workspaces)

    def check(self, network: Network, program: PartedProgram) -> None:
        """Refuses tensors that have been moved by hand.

        Raises:
            ValueError: a parameter or buffer is not on the device of its part; the message names it.
        """
        for device, part in zip(self.devices, program.parts):
            for module in part.program.modules:
                for tensor in (*module._parameters.values(), *module._buffers.values()):
                    if tensor is not None and tensor.device != device:
                        name = _name_of(network, tensor)
                        raise ValueError(
                            f"{name} is on {tensor.device}, but place() has put it on {device}: "
                            "to move parts of a placed model, call place() again"
                        )


def placement_of(
    network: Network, devices: Sequence[torch.device | str], after: str | Sequence[str]
) -> DevicePlacement:
    """The placement that the arguments of SegmentationModel.place describe.

    Raises:
        ValueError: `after` does not name one section less than there are devices, in the order of the forward pass; or
            a device does not exist.
    """
    found = tuple(_device(each) for each in devices)
    names = [after] if isinstance(after, str) else [*after]
    if len(names) != len(found) - 1:
        raise ValueError(
            f"after must name one section less than there are devices, got {len(names)} for {len(found)} devices"
        )
    cuts = cuts_after(network, names)
    return DevicePlacement(found, cuts, tuple(Workspace() for _ in found))


def cuts_after(network: Network, names: Sequence[str]) -> tuple[str, ...]:
    """Sections after which cuts lie, from the names that a user gives.

    Raises:
        ValueError: a name is not known, or they are not in the order of the forward pass.
    """
    known = cut_names(network)
    for name in names:
        if name not in known:
            raise ValueError(f"after must name {_choices(known)}, got {name!r}")
    cuts = tuple(known[name] for name in names)
    order = [*dict.fromkeys(known.values())]
    if any(order.index(one) >= order.index(other) for one, other in zip(cuts, cuts[1:])):
        raise ValueError(f"after must name sections in the order of the forward pass ({', '.join(order)}), got {names}")
    return cuts


def move(network: Network, placement: DevicePlacement) -> None:
    """Moves parameters and buffers of `network` to the devices of their parts.

    Raises:
        ValueError: two parts on different devices share a parameter or a buffer.
    """
    program = parted_program_of(network, MemoryPlan(), placement.cuts)
    targets: dict[nn.Module, torch.device] = {}
    seen: dict[Tensor, torch.device] = {}
    for device, part in zip(placement.devices, program.parts):
        for module in part.program.modules:
            targets[module] = device
            for tensor in (*module.parameters(), *module.buffers()):
                if seen.setdefault(tensor, device) != device:
                    name = _name_of(network, tensor)
                    raise ValueError(f"{name} is used in parts of the model on {seen[tensor]} and on {device}")
    inner = {each for module in targets for each in module.modules()}
    for module in network.modules():
        if module in targets:
            module.to(targets[module])
        elif module not in inner:  # itself without its children
            for own in (*module._parameters.values(), *module._buffers.values()):
                if own is not None:
                    own.data = own.data.to(placement.devices[0])


def devices_of(module: nn.Module) -> Iterator[torch.device]:
    """Devices of all parameters and buffers."""
    for tensor in (*module.parameters(), *module.buffers()):
        yield tensor.device


def _name_of(network: Network, tensor: Tensor) -> str:
    named = (*network.named_parameters(), *network.named_buffers())
    return next(name for name, each in named if each is tensor)


def _choices(known: dict[str, str]) -> str:
    """The names that `cut_names` gives, by section."""
    texts = []
    for section in dict.fromkeys(known.values()):
        others = [name for name, each in known.items() if each == section and name != section and "." not in name]
        texts.append(f"{section} ({', '.join(others)})" if others else section)
    return f"one of {', '.join(texts)}"


def _device(given: torch.device | str) -> torch.device:
    """A device, with the index of the current one if it is "cuda".

    Raises:
        ValueError: there is no such device, or no lean step runs on it.
    """
    try:
        device = torch.device(given)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"devices must be names such as cpu and cuda:1, got {given!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"devices must be the CPU or CUDA devices, got {device}")
    if device.type == "cuda":
        if (device.index or 0) >= torch.cuda.device_count():
            raise ValueError(f"device {device} is not available: torch finds {torch.cuda.device_count()} CUDA devices")
        if device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
    return device
