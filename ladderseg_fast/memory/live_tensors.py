"""Bytes of torch's own tensors that a computation on the meta device would hold at once."""

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensors(TorchDispatchMode):
    """Region that counts the storages made in it; `most` is the largest number of bytes alive at once.

    The storages of the tensors `known` do not count. Sizes are rounded up to multiples of `granularity`.

    Attributes:
        events: what happened to storages, in order: the number of a storage, and its bytes when it is made, or 0 when
            it is gone.
    """

    def __init__(self, known: Iterable[Tensor], granularity: int = 1) -> None:
        super().__init__()
        self.live = self.most = 0
        self.events: list[tuple[int, int]] = []
        self._granularity = granularity
        self._count_of_storages = 0
        self._paused = False
        self._known = {tensor.untyped_storage()._cdata for tensor in known}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Region in which new storages do not count."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        if self._paused or storage.nbytes() == 0:
            weakref.finalize(storage, self._known.discard, key).atexit = False
            return
        size = -(-storage.nbytes() // self._granularity) * self._granularity
        number = self._count_of_storages
        self._count_of_storages += 1
        self.events.append((number, size))
        self.live += size
        self.most = max(self.most, self.live)
        weakref.finalize(storage, self._gone, key, number, size).atexit = False

    def _gone(self, key: int, number: int, size: int) -> None:
        self._known.discard(key)
        self.events.append((number, 0))
        self.live -= size
