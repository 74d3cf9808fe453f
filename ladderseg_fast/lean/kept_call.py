"""Calls whose forward and backward pass are two operators of a compiler's graph.

What the forward pass leaves for the backward pass is no output of its operator: it would have to be copied out of the
workspace, and nothing could free it while the backward pass runs. A token takes its place, a tensor [1] on the CPU. The
call lives as long as the token's memory does, which is as long as autograd keeps the graph.
"""

from collections.abc import Sequence
from itertools import count
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from .passes import ParameterKey
from .program import Call, graph_is_kept


class KeptCall:
    """A call after its forward pass.

    Attributes:
        parameter_keys: those of its parameters, in order.
    """

    def __init__(self, call: Call, inputs: Sequence[Tensor]) -> None:
        """The call must not hold its inputs: the graph saves them, and notices if they are changed."""
        self._call = call
        numbers = {id(x): number for number, x in enumerate(inputs)}
        self._maps: list[Tensor | int] = [numbers.get(id(x), x) for x in call.maps_to_save(inputs)]

    @property
    def parameter_keys(self) -> Sequence[ParameterKey]:
        return self._call.parameter_keys

    def backward(
        self,
        inputs: Sequence[Tensor],
        parameters: Sequence[Tensor],
        wanted: Sequence[bool],
        grads: Sequence[Tensor | None],
        final: bool,
    ) -> tuple[Tensor | None, ...]:
        """Returns the `wanted` gradients of inputs and parameters, those of the forward pass.

        grads: gradients of the outputs.
        final: no other backward pass of the call follows, so that maps are freed once read.
        """
        saved = [*parameters, *(inputs[x] if isinstance(x, int) else x for x in self._maps)]
        if final:
            self._maps.clear()
        return self._call.backward(saved, wanted, grads, final)


class _Token(bytearray):
    """Memory of a token."""

    kept: KeptCall | None = None


_numbers = count(1)
_tokens: "WeakValueDictionary[int, _Token]" = WeakValueDictionary()

_BYTES = 8


def empty_token() -> Tensor:
    """The token of a call that keeps nothing, or of one that is only traced."""
    return torch.empty(1, dtype=torch.int64)


def token_of(kept: KeptCall) -> Tensor:
    """A token for `kept`, which lives as long as its memory."""
    number = next(_numbers)
    memory = _Token(number.to_bytes(_BYTES, "little"))
    memory.kept = kept
    _tokens[number] = memory
    return torch.frombuffer(memory, dtype=torch.int64)


def take(token: Tensor) -> tuple[KeptCall, bool]:
    """The call with this token, and whether its backward pass that begins now is the last one.

    Raises:
        RuntimeError: there is no such call any more.
    """
    memory = _tokens.get(int(token))
    if memory is None or memory.kept is None:
        raise RuntimeError(
            "a compiled lean network has lost what its forward pass kept: a second backward pass needs "
            "retain_graph=True, and torch.autograd.graph.saved_tensors_hooks must give back the tensors they got"
        )
    kept, final = memory.kept, graph_is_kept() is False
    if final:
        memory.kept = None
    return kept, final
