"""Course of a training as TensorBoard events."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..models.weights import MissingPackageError

#: The end of the names of event files, which says that a training wrote them.
EVENTS_SUFFIX = ".ladderseg"


def check_tensorboard() -> None:
    """Raises MissingPackageError if the package tensorboard is not installed."""
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            'output.tensorboard needs the package tensorboard: pip install "ladderseg_fast[tensorboard]"'
        ) from error


class TensorBoardEvents:
    """Numbers by name and step, in a file of `directory`.

    Args:
        step: number of steps done before; events of an earlier process beyond them are hidden.

    Raises:
        OSError: the file cannot be written, now or later; the message names `directory`.
    """

    def __init__(self, directory: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._directory = directory
        with self._named():
            self._writer = SummaryWriter(
                str(directory), purge_step=step + 1 if step else None, filename_suffix=EVENTS_SUFFIX
            )

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Adds `values` after `step` steps."""
        with self._named():
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Writes added values into the file."""
        with self._named():
            self._writer.flush()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Block whose errors name the directory: they come from a thread of the writer's, often without a name."""
        try:
            yield
        except OSError as error:
            raise OSError(f"cannot write {self._directory}: {error.strerror or error}") from error
