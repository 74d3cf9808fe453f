"""Course of a training as TensorBoard events."""

from collections.abc import Mapping
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
    """

    def __init__(self, directory: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(
            str(directory), purge_step=step + 1 if step else None, filename_suffix=EVENTS_SUFFIX
        )

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Adds `values` after `step` steps."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Writes added values into the file."""
        self._writer.flush()
