"""Declaration of a data set, which the command line, the configuration and the tools read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .label_set import LabelSet
from .result_format import ResultFormat
from .sample import SegmentationDataset


def accept(value: Any) -> None:
    """Accepts every value of an option."""


@dataclass(frozen=True)
class Option:
    """Keyword argument of a data set: the setting `data.NAME`, and perhaps an option of the command line."""

    name: str
    type: type
    """One of bool, int, float, str and Path. Settings hold a path as a string; it may change when a run is resumed."""
    default: Any
    flag: str | None = None
    """Name on the command line, such as "--coarse"; None: not there."""
    help: str = ""
    """Text in the command's help."""
    check: Callable[[Any], None] = accept
    """Function that raises ValueError for a value out of range; the message begins with the name of the option."""
    kept: bool = False
    """Whether it decides which images a split has, so that `ladderseg evaluate` needs the value of the training."""


@dataclass(frozen=True)
class DataSetKind:
    """One kind of data set: its name, the function that opens a split, and all that other parts of the package ask."""

    name: str
    """Value of `--data` on the command line, and of `data.kind` in the configuration."""
    make: Callable[..., SegmentationDataset]
    """Function of (root, split, **options) that returns a FilePairs; of (split, **options) for a drawn data set."""
    options: tuple[Option, ...] = ()
    splits: tuple[str, ...] | None = None
    """Names of all splits; None if the files of `root` decide."""
    label_set: LabelSet | None = None
    """Classes; None if the files of `root` decide."""
    default_size: tuple[int, int] | None = None
    """Height and width of training images unless set; None: chosen by the images."""
    instance_ids: bool = False
    """Whether labelled splits come with *_instanceIds.png, which iIoU needs."""
    result_format: ResultFormat | None = None
    """Format in which the server of the benchmark takes predictions."""
    drawn: bool = False
    """Whether the program draws it, at the `size` (height, width) asked for, so that it has no root."""
    python_options: tuple[str, ...] = ()
    """Further keyword arguments of `make`, which are no settings."""

    def open(self, root: str | Path | None, split: str, **options: Any) -> SegmentationDataset:
        """Opens a split of the data set in the directory `root`; see open_data_set.

        Raises:
            ValueError: an unknown option, no root or one too many; else as the data set does.
            OSError: as the data set does.
        """
        known = [*(option.name for option in self.options), *self.python_options]
        for name in options:
            if name not in known:
                raise ValueError(f"data set {self.name!r} has no option {name!r}; it has {', '.join(known) or 'none'}")
        if self.drawn:
            if root is not None:
                raise ValueError(f"data set {self.name!r} is drawn, not read: it has no root, got {root}")
            return self.make(split, **options)
        if root is None:
            raise ValueError(f"data set {self.name!r} needs a root, the directory that it is in")
        return self.make(root, split, **options)
