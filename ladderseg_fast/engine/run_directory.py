"""What a training leaves behind, and where."""

from pathlib import Path

from ..atomic_file import atomic_write, remove_leftovers


class RunDirectory:
    """The files of one run.

    Attributes:
        config: config.toml, all settings as they were resolved.
        log: log.jsonl, see RunLog.
        last: last.pt, the checkpoint to continue from.
        best: best.pt, the weights of the evaluation with the highest mIoU.
        curve: curve.png.
        overlays: overlays/, truth and prediction blended over a few validation images.
        tensorboard: tensorboard/, events if they were asked for.
        report: report.html, the page of `ladderseg report`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.log = path / "log.jsonl"
        self.last = path / "last.pt"
        self.best = path / "best.pt"
        self.curve = path / "curve.png"
        self.overlays = path / "overlays"
        self.tensorboard = path / "tensorboard"
        self.report = path / "report.html"

    @property
    def result(self) -> Path:
        """The checkpoint to predict with: the best, or the last one where none was evaluated.

        Raises:
            FileNotFoundError: there is neither.
        """
        for path in (self.best, self.last):
            if path.is_file():
                return path
        raise FileNotFoundError(f"{self.path}: neither {self.best.name} nor {self.last.name} is there")

    def check_free(self, overwrite: bool) -> None:
        """Raises FileExistsError if the directory holds a checkpoint, and `overwrite` is False."""
        if not overwrite and (self.last.exists() or self.best.exists()):
            raise FileExistsError(
                f"{self.path} holds a checkpoint already; choose another directory, --overwrite it, or --resume it"
            )

    def create(self, overwrite: bool) -> None:
        """Makes the directory for a new run; what an earlier run left there goes.

        Raises:
            FileExistsError: as check_free.
            OSError: the directory cannot be made or written.
        """
        self.check_free(overwrite)
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(f"{self.path} is not a directory")
        self.overlays.mkdir(parents=True, exist_ok=True)
        self.clear_leftovers()
        # The checkpoints first: without them, no mixture of two runs can be resumed.
        pictures = [self.curve, self.report, *self.overlays.glob("*.png")]
        events = self.tensorboard.glob("events.out.tfevents.*")
        for path in (self.last, self.best, self.log, self.config, *pictures, *events):
            path.unlink(missing_ok=True)

    def clear_leftovers(self) -> None:
        """Removes the temporary files of a process that was killed."""
        for directory in (self.path, self.overlays):
            remove_leftovers(directory)

    def write_config(self, text: str) -> None:
        """Makes `text` the content of config.toml.

        Raises:
            OSError: it cannot be written; the message names it.
        """
        with atomic_write(self.config) as file:
            file.write(text.encode())
