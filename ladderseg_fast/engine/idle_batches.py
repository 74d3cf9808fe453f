"""Batches that teach nothing: their loss is not finite, or no pixel of them counts."""

from torch import Tensor

from ..data import SegmentationDataset
from .config import Config
from .distributed import World
from .errors import NonFiniteError
from .recorder import Recorder

#: Batches in a row without a finite loss that say that the weights are broken and not the images.
_MOST_SKIPS = 10


class IdleBatches:
    """Records such batches of one training, with the names of their files.

    Batches are counted from 1 over the whole training; a process of several gives the indices of its share.
    """

    def __init__(self, config: Config, training_set: SegmentationDataset, recorder: Recorder, world: World) -> None:
        self._config = config
        self._training_set = training_set
        self._recorder = recorder
        self._world = world
        self._skips = 0  # since a batch was not left out
        self._empty = 0  # since this process began

    def has_taught(self) -> None:
        """Called after each batch with a finite loss."""
        self._skips = 0

    def not_finite(self, loss: float, step: int, batch: int, indices: Tensor, advice: str) -> str:
        """Records that `batch` of the step after `step` is left out for its loss; returns what to say about it.

        Raises:
            NonFiniteError: training.on_nonfinite is "stop", or too many batches in a row had no finite loss; the
                message ends in `advice`.
        """
        files = self._files_of(indices)
        what = f"loss is {loss} at step {step + 1} of {self._config.training.steps} ({', '.join(files)})"
        if self._config.training.on_nonfinite == "stop" or self._skips == _MOST_SKIPS:
            raise NonFiniteError(f"{what}; {advice}")
        self._skips += 1
        self._recorder.skip(step=step, batch=batch, loss=str(loss), files=files)
        return f"{what}; the batch is skipped"

    def no_pixel(self, step: int, batch: int, indices: Tensor) -> str | None:
        """Records that no pixel of `batch` counted; returns what to say about it the first time."""
        files = self._files_of(indices)
        self._recorder.empty(step=step, batch=batch, files=files)
        self._empty += 1
        if self._empty > 1:
            return None
        return (
            f"no pixel of a batch counts in the loss ({', '.join(files)}): it teaches nothing; "
            f"{self._recorder.log} will list all such batches"
        )

    def _files_of(self, indices: Tensor) -> list[str]:
        """Names of the samples of a batch, of which this process has the share `indices`."""
        shares = self._world.gather(indices.tolist())
        return [name for share in shares for index in share for name in self._files(index)]

    def _files(self, index: int) -> list[str]:
        """Name of sample `index` of the training split: its files, or its name if it is drawn."""
        return [str(path) for path in self._training_set.files(index)] or [self._training_set.name(index)]
