"""The batch norms of a pass that normalise with their running statistics."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from ..ops.arguments import Norm
from ..ops.backend import backend_of, real_dtype
from ..ops.prepared_norms import RunningNorm, prepare_norms
from .batch_norm import checked_epsilon, running_statistics, uses_batch_statistics
from .joint_batch import BatchNorm


class RunningNorms:
    """Norms for the kernels of one pass, from running statistics as they are in this pass.

    On a GPU, a norm that is asked for is computed together with all others of the pass: a launch for each would take
    the host, and often the device, longer than the arithmetic.

    Args:
        modules: the batch norms of the pass, in the order in which it comes to them.
        parameters: the parameters in this pass.
        like: any tensor of the dtype and device of the features.
    """

    def __init__(
        self, modules: Iterable[BatchNorm], parameters: Mapping[tuple[nn.Module, str], Tensor], like: Tensor
    ) -> None:
        self._parameters, self._dtype = parameters, real_dtype(like.dtype)
        self._together = list(dict.fromkeys(modules)) if backend_of(like.device).on_gpu else []
        self._ready: dict[nn.Module, tuple[Norm, Tensor]] = {}

    def of(self, module: BatchNorm) -> tuple[Norm, Tensor]:
        """The norm of a batch norm, and invstd [C] float64.

        Raises:
            ValueError: eps is negative.
            TypeError, RuntimeError: running statistics are not floating, or require gradients.
        """
        if module not in self._ready:
            others, self._together = self._together, []
            modules = [module, *(each for each in others if each is not module and not uses_batch_statistics(each))]
            self._ready.update(zip(modules, prepare_norms([self._described(each) for each in modules])))
        return self._ready[module]

    def _described(self, module: BatchNorm) -> RunningNorm:
        mean, variance = running_statistics(module)
        gamma, beta = (self._parameters.get((module, name)) for name in ("weight", "bias"))
        return RunningNorm(
            self._vector(mean),
            self._vector(variance),
            None if gamma is None else self._vector(gamma),
            None if beta is None else self._vector(beta),
            checked_epsilon(module, of_batch=False),
        )

    def _vector(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._dtype).contiguous()
