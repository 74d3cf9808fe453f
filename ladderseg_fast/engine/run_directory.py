"""Files that a training leaves behind, and their places."""

import os
from pathlib import Path
from typing import TextIO

from ..atomic_file import atomic_write, leftovers, remove_leftovers
from .early_run import config_of_early_run, overlays_of_early_run
from .run_lock import RunLock
from .tensorboard import EVENTS_SUFFIX
from .written_files import WrittenFiles

_LOCK, _WRITTEN = ".ladderseg.lock", ".ladderseg.files"
#: Beginning of a page of `ladderseg report`.
_PAGE = b"<!DOCTYPE html>"


class RunDirectory:
    """The files of one run.

    A file in `path` is removed only if a run is known to have written it, and never through a symbolic link: everything
    else is the user's.

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
        self._written = WrittenFiles(path / _WRITTEN)
        files = (self.last, self.best, self.log, self.config, self.curve, self.report)
        self._names = tuple(path.name for path in files)

    @property
    def result(self) -> Path:
        """Checkpoint to predict with: the best, or the last one if none was evaluated.

        Raises:
            FileNotFoundError: the run has neither.
        """
        for path in (self.best, self.last):
            if path.is_file():
                return path
        raise FileNotFoundError(f"{self.path}: there is neither {self.best.name} nor {self.last.name}")

    def check_output(self, path: Path) -> None:
        """Raises ValueError if writing to `path` would replace a file that the run needs."""
        for file in (self.last, self.best, self.log, self.config):
            if path.exists() and file.exists() and path.samefile(file):
                raise ValueError(
                    f"{path} is {file.name} of the run {self.path}, which would be lost: choose another file"
                )

    def lock(self, stream: TextIO) -> RunLock:
        """Makes the directory, and keeps other trainings out of it while the result is active; see RunLock.

        Raises:
            OSError: the directory cannot be made.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        return RunLock(self.path / _LOCK, stream)

    def check_free(self, overwrite: bool, keep_config: bool = False) -> None:
        """Raises an error unless a new run can begin here without losing anything that no run wrote.

        Args:
            overwrite: replace an earlier run that is there, its checkpoints too.
            keep_config: config.toml may be the user's.

        Raises:
            FileExistsError: there is a checkpoint, and `overwrite` is False; or there is something that no run wrote.
            NotADirectoryError: `path` is no directory.
        """
        if not self.path.is_dir():
            if os.path.lexists(self.path):
                raise NotADirectoryError(f"{self.path} is not a directory")
            return
        if self._is_empty():
            return
        files = self._written_files()
        if files is None:
            raise FileExistsError(
                f"{self.path} is not empty, and no training of ladderseg wrote its files; "
                "choose a new directory, or an empty one"
            )
        if not overwrite and (self.last.exists() or self.best.exists()):
            raise FileExistsError(
                f"{self.path} holds a checkpoint already; choose another directory, --overwrite it, or --resume it"
            )
        strangers = self._strangers(files)
        if strangers and not (keep_config and strangers == [self.config.name]):
            raise FileExistsError(
                f"{self.path} holds {', '.join(strangers)}, which its run did not write, or which was changed since; "
                "choose another directory, or move that elsewhere first"
            )

    def create(self, overwrite: bool, keep_config: bool = False) -> None:
        """Makes the directory for a new run, and removes what an earlier run wrote there.

        Args:
            keep_config: config.toml stays, even if it is not as an earlier run wrote it.

        Raises:
            FileExistsError, NotADirectoryError: check_free raises it.
            OSError: the directory cannot be made or written.
        """
        self.check_free(overwrite, keep_config)
        files = self._written_files()
        self.path.mkdir(parents=True, exist_ok=True)
        self.clear_leftovers()
        if files is not None:
            kept = [self.config.name] if keep_config else []
            # The checkpoints come first: without them, no mixture of two runs can be resumed.
            for name in dict.fromkeys((*self._names, *files.names())):
                if name not in kept and files.wrote(name):
                    (self.path / name).unlink()
            for path in self.tensorboard.glob(f"events.out.tfevents.*{EVENTS_SUFFIX}"):
                path.unlink()
        self._written.begin(self._unedited())
        # After the list: with it alone, a directory is known to be a run's.
        self.overlays.mkdir(exist_ok=True)

    def check_links(self) -> None:
        """Raises ValueError if a file that a resumed training writes is a symbolic link to a file elsewhere.

        The directory may have come from somebody else, and the training would replace that file.
        """
        folders = (self.overlays, self.tensorboard)
        own = [*(self.path / name for name in self._names if name != self.report.name), self._written.path, *folders]
        own += [path for folder in folders if not folder.is_symlink() for path in folder.glob("*")]
        for path in own:
            if path.is_symlink() and path.exists() and not self._holds(path):
                raise ValueError(
                    f"{path} is a symbolic link to {path.resolve()}, which is not in the run and would be overwritten: "
                    "put what the run wrote in its place"
                )

    def check_page(self) -> None:
        """Raises ValueError if report.html is a symbolic link to a file elsewhere that is no page of HTML."""
        page = self.report
        if page.is_symlink() and page.is_file() and not self._holds(page):
            with page.open("rb") as file:
                if file.read(len(_PAGE)) != _PAGE:
                    raise ValueError(
                        f"{page} is a symbolic link to {page.resolve()}, which is no report and would be overwritten: "
                        "--out names another file"
                    )

    def _holds(self, path: Path) -> bool:
        """Whether `path` leads to a file in this directory."""
        return path.resolve().is_relative_to(self.path.resolve())

    def take_up(self) -> None:
        """Makes the directory ready for its run to continue.

        Raises:
            OSError: it cannot be written.
            ValueError: check_links raises it.
        """
        self.check_links()
        self.clear_leftovers()
        self.overlays.mkdir(exist_ok=True)
        if not self._written.exists():
            early = self._files_of_early_run()
            self._written.begin(self._unedited() if early is None else early)

    def clear_leftovers(self) -> None:
        """Removes the temporary files of a training that was killed; no other training may be at work here."""
        # `ladderseg report` writes its page at any time.
        ours = {*self._names, _WRITTEN} - {self.report.name}
        remove_leftovers(self.path, ours.__contains__)
        if not self.overlays.is_symlink():
            remove_leftovers(self.overlays, lambda name: name.endswith(".png"))

    def write_config(self, text: str) -> None:
        """Writes `text` to config.toml.

        Raises:
            OSError: it cannot be written; the message names it.
        """
        content = text.encode()
        self._written.add(self.config.name, content)
        with atomic_write(self.config) as file:
            file.write(content)

    def config_is_ours(self) -> bool:
        """Whether config.toml holds what the run wrote into it."""
        files = self._written_files()
        return files is not None and files.wrote(self.config.name)

    def will_write(self, path: Path) -> None:
        """Lists `path`, a file of the run that no attribute names, as written by the run.

        Raises:
            OSError: the list cannot be written.
        """
        self._written.add(str(path.relative_to(self.path)))

    def _unedited(self) -> dict[str, bytes | None]:
        """Files of every run that nobody edits, in the form of WrittenFiles: all but config.toml."""
        return dict.fromkeys(name for name in self._names if name != self.config.name)

    def _is_empty(self) -> bool:
        """Whether the directory holds only what a training makes before it has a list of its files."""
        ours = {path.name for path in leftovers(self.path) if path.name.startswith(f".{_WRITTEN}.")}
        return {path.name for path in self.path.iterdir()} <= {*ours, _LOCK}

    def _written_files(self) -> WrittenFiles | None:
        """Files that a run wrote here; None if none did."""
        if not self._written.exists():
            early = self._files_of_early_run()
            if early is None:
                return None
            self._written.assume(early)
        return self._written

    def _files_of_early_run(self) -> dict[str, bytes | None] | None:
        """Files of a run here that kept no list of them, in the form of WrittenFiles; None if there was none."""
        config = config_of_early_run(self.log)
        if config is None:
            return None
        events = [] if self.tensorboard.is_symlink() else self.tensorboard.glob("events.out.tfevents.*")
        others = (*overlays_of_early_run(self.log, self.overlays), *events)
        files = (*self._names, *(str(path.relative_to(self.path)) for path in others))
        return dict.fromkeys(files) | {self.config.name: config}

    def _strangers(self, files: WrittenFiles) -> list[str]:
        """Files that have the name of a run's file but are not the run's."""
        folders = [path for path in (self.overlays, self.tensorboard) if os.path.lexists(path)]
        names = [name for name in self._names if os.path.lexists(self.path / name)]
        return [
            *(name for name in names if not files.wrote(name)),
            *(path.name for path in folders if path.is_symlink() or not path.is_dir()),
        ]
