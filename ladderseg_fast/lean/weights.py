"""The weights of convolutions in the order in which a pass uses them, prepared for its kernels several at a time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ..ops.arguments import Weight
from ..ops.backend import backend_of
from ..ops.prepared_weights import Form, prepare, prepared_bytes

#: Most bytes of prepared weights that exist at once on a GPU, unless one weight takes more.
_BATCH_BYTES = 4 << 20


@dataclass(frozen=True)
class WeightUse:
    """The weight of a convolution, or of its input channels [start, stop), in the form that a kernel reads."""

    convolution: nn.Conv2d
    form: Form
    start: int = 0
    stop: int | None = None

    def of(self, parameters: Mapping[tuple[nn.Module, str], Tensor]) -> Tensor:
        """The parameter, or the part of it."""
        return parameters[self.convolution, "weight"][:, self.start : self.stop]


class PassWeights:
    """The prepared weights of one pass.

    A weight that is not ready is prepared, on a GPU together with those that the pass uses next; these replace the ones
    before.

    Args:
        parameters: the parameters in this pass.
        like: any tensor of the dtype and device of the features.
        order: uses in the order in which the pass comes to them. Others are possible, and prepared one by one.
    """

    def __init__(
        self, parameters: Mapping[tuple[nn.Module, str], Tensor], like: Tensor, order: Iterable[WeightUse]
    ) -> None:
        self._parameters, self._like = parameters, like
        self._order = list(dict.fromkeys(order))
        self._numbers = {use: i for i, use in enumerate(self._order)}
        self._ready: dict[WeightUse, Weight] = {}
        # Together they are one launch. On a CPU they would only take memory earlier.
        self._most_bytes = _BATCH_BYTES if backend_of(like.device).on_gpu else 0

    def plain(self, convolution: nn.Conv2d) -> Tensor:
        """The weight [M, C, k, k] of a convolution in the dtype that kernels read."""
        weight = self.get(WeightUse(convolution, Form.plain))
        assert isinstance(weight, Tensor)
        return weight

    def forward(self, convolution: nn.Conv2d, channels: slice = slice(0, None)) -> Weight:
        """The weight of a 3x3 convolution, or of some input channels, as its forward kernel reads it."""
        return self.get(WeightUse(convolution, Form.forward, channels.start, channels.stop))

    def backward(self, convolution: nn.Conv2d, channels: slice = slice(0, None)) -> Weight:
        """The same for the backward kernel."""
        return self.get(WeightUse(convolution, Form.backward, channels.start, channels.stop))

    def get(self, use: WeightUse) -> Weight:
        """The weight, prepared."""
        if use not in self._ready:
            self._prepare(use)
        return self._ready[use]

    def _prepare(self, first: WeightUse) -> None:
        self._ready.clear()
        weights: dict[WeightUse, Tensor] = {}
        total = 0
        number = self._numbers.get(first)
        for use in [first] if number is None else self._order[number:]:
            weight = use.of(self._parameters)
            total += prepared_bytes(weight, use.form, self._like)
            if weights and total > self._most_bytes:
                break
            weights[use] = weight
        jobs = [(weight, use.form) for use, weight in weights.items()]
        self._ready = dict(zip(weights, prepare(jobs, self._like)))
