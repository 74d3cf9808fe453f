"""The call of one operator, which torch.compile traces in place of a lean step."""

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from . import graph_operators  # noqa: F401  # registers the operator
from .program import hooks_are_active
from .traced_state import buffers_of, modes_of, modules_of, parameters_of


def can_run_in_graph(network: nn.Module) -> bool:
    """Whether `network`, which torch.compile traces, can be an operator of the graph.

    It cannot in a transform of torch.func or in forward-mode differentiation, nor within
    torch.autograd.graph.saved_tensors_hooks, which would not see the maps; nor if it is a replica of
    torch.nn.DataParallel, or its parameters are no plain tensors, as after torch's fully_shard.
    """
    if _is_observed() or getattr(network, "_is_replica", False):
        return False
    return all(type(each) in (nn.Parameter, Tensor) for each in network.parameters())


def _is_observed() -> bool:
    transformed = torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0
    return transformed or hooks_are_active() is not False


# The compiler calls it instead of tracing it, and compares transforms and hooks before it runs the graph. The decorator
# that sets this, torch.compiler.assume_constant_result, imports torch._dynamo, which takes a second.
_is_observed.__dict__["_dynamo_marked_constant"] = True


def operator_arguments(
    network: nn.Module, handle: str, images: Tensor
) -> tuple[str, list[bool], Tensor, list[Tensor], list[Tensor], list[Tensor]]:
    """Arguments of the operator `lean_network` (graph_operators.py) for the network with this handle."""
    modules = modules_of(network)
    fixed, updated = buffers_of(modules, training=False), buffers_of(modules, training=True)
    return handle, modes_of(modules), images, parameters_of(modules), fixed, updated


def run_in_graph(network: nn.Module, handle: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """Both outputs of the network with this handle, as an operator of the graph."""
    return torch.ops.ladderseg_fast.lean_network(*operator_arguments(network, handle, images))
