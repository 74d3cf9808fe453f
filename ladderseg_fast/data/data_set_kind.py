"""What a data set declares about itself, for the command line, the configuration and the tools, which know no name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .label_set import LabelSet
from .result_format import ResultFormat
from .sample import SegmentationDataset


@dataclass(frozen=True)
class Option:
    """A keyword argument of a data set: the setting `data.NAME`, and perhaps an option of the command line."""

    name: str
    type: type
    """bool, int, float, str or Path. Settings hold a path as a string; it may change when a run is resumed."""
    default: Any
    flag: str | None = None
    """The command line's name for it, such as "--coarse"."""
    help: str = ""
    """The command line's words for it."""
    check: Callable[[Any], None] = lambda value: None
    """Raises ValueError for a value that is out of range; the message begins with the option's name."""
    kept: bool = False
    """Decides which images a split has, so that `ladderseg evaluate` opens it with the training's value."""


@dataclass(frozen=True)
class DataSetKind:
    """One kind of data set: its name, how to open a split of it, and what other parts of the package ask of it."""

    name: str
    """`--data` on the command line, `data.kind` in the configuration."""
    make: Callable[..., SegmentationDataset]
    """Takes (root, split, **options) and returns a FilePairs; a drawn one takes (split, **options)."""
    options: tuple[Option, ...] = ()
    splits: tuple[str, ...] | None = None
    """All splits; None where the files of `root` decide."""
    label_set: LabelSet | None = None
    """The classes; None where the files of `root` decide."""
    default_size: tuple[int, int] | None = None
    """(height, width) of training images where none is set; None: chosen by the images."""
    instance_ids: bool = False
    """Whether labelled splits come with *_instanceIds.png, which iIoU needs."""
    result_format: ResultFormat | None = None
    """How the benchmark's server takes predictions."""
    drawn: bool = False
    """Drawn by the program, at the `size` (height, width) asked for: there is no root."""
    python_options: tuple[str, ...] = ()
    """Further keyword arguments of `make`, which are no settings."""

    def open(self, root: str | Path | None, split: str, **options: Any) -> SegmentationDataset:
        """The split of the data set in the directory `root`; see open_data_set.

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
