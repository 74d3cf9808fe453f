"""The tensors and modes that a program reads from the modules below a network, as a compiler's graph has them.

A graph has the tensors as inputs: parameters, to whose gradients its backward leads, and buffers, some of which it
changes. All are listed in the order of `modules()`. What runs the graph may give copies of buffers, and put the changes
into the modules later; so may torch.func.functional_call. And while a graph that changes modes runs, the modules may
still have the old ones.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from .joint_batch import BATCH_NORMS, NORM_BUFFERS
from .passes import ParameterKey

_DROPOUTS = (nn.Dropout, nn.Dropout2d)
_PARAMETERS = ("weight", "bias")


def modules_of(network: nn.Module) -> list[nn.Module]:
    """The modules with parameters, buffers or modes that matter."""
    return [each for each in network.modules() if isinstance(each, (nn.Conv2d, *BATCH_NORMS, *_DROPOUTS))]


def modes_of(modules: Sequence[nn.Module]) -> list[bool]:
    """Whether each is in training mode."""
    return [each.training for each in modules]


def parameters_of(modules: Sequence[nn.Module]) -> list[Tensor]:
    """Their parameters."""
    found = [getattr(each, name) for each in modules if not isinstance(each, _DROPOUTS) for name in _PARAMETERS]
    return [parameter for parameter in found if parameter is not None]


def parameter_keys_of(modules: Sequence[nn.Module]) -> list[ParameterKey]:
    """The keys of `parameters_of`."""
    every = [(each, name) for each in modules if not isinstance(each, _DROPOUTS) for name in _PARAMETERS]
    # What is no attribute of its own is computed, as by a parametrization.
    return [(each, name) for each, name in every if each._parameters.get(name, each) is not None]


def buffers_of(modules: Sequence[nn.Module], training: bool) -> list[Tensor]:
    """The buffers of the batch norms that are in training mode, which change them, or of the others."""
    norms = [each for each in modules if isinstance(each, BATCH_NORMS) and each.training == training]
    found = [getattr(each, name) for each in norms for name in NORM_BUFFERS]
    return [buffer for buffer in found if buffer is not None]


@contextmanager
def as_traced(
    modules: Sequence[nn.Module], training: Sequence[bool], fixed: Sequence[Tensor], updated: Sequence[Tensor]
) -> Iterator[None]:
    """Region in which `modules` have these modes and these buffers, those of `buffers_of`.

    Usually they have them already. Otherwise no other thread may use the modules meanwhile.
    """
    modes = [(each, each.training) for each, mode in zip(modules, training, strict=True) if each.training != mode]
    of_mode = {False: iter(fixed), True: iter(updated)}
    replaced: list[tuple[nn.Module, str, Tensor]] = []
    try:
        for module, _ in modes:
            module.training = not module.training
        for module in modules:
            if not isinstance(module, BATCH_NORMS):
                continue
            for name in NORM_BUFFERS:
                own = module._buffers[name]
                if own is None:
                    continue
                given = next(of_mode[module.training])
                if given is not own:
                    replaced.append((module, name, own))
                    module._buffers[name] = given
        yield
    finally:
        for module, name, own in replaced:
            module._buffers[name] = own
        for module, mode in modes:
            module.training = mode
