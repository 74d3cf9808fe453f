"""Files of runs of release 0.1, which kept no list of their files."""

from pathlib import Path

from .config_tables import settings_text
from .git_revision import GitRevision
from .log_record import Record
from .run_log import RunLog


def config_of_early_run(log: Path) -> bytes | None:
    """Content that the run with this log wrote into config.toml; None if `log` is not a run's log.

    Raises:
        OSError: the log cannot be read.
    """
    start = _start(log)
    if start is None:
        return None
    revision = start["git_revision"]
    where = None if revision is None else GitRevision(revision, start["git_modified"])
    return settings_text(start["config"], start["version"], where).encode()


def overlays_of_early_run(log: Path, overlays: Path) -> list[Path]:
    """Pictures that the run drew into the directory `overlays`; none if there are more than it can have drawn.

    Raises:
        OSError: a file cannot be read.
    """
    start = _start(log)
    pictures = [] if overlays.is_symlink() else sorted(overlays.glob("*.png"))
    most = 0 if start is None else start["config"]["output"]["overlays"]
    return pictures if len(pictures) <= most else []


def _start(log: Path) -> Record | None:
    """First record of a run's log."""
    if not log.is_file() or log.is_symlink():
        return None
    try:
        start = RunLog(log).read()[0]
        known = start["kind"] == "start" and isinstance(start["config"]["output"]["overlays"], int)
        texts = isinstance(start["version"], str) and isinstance(start["git_revision"], str | None)
        return start if known and texts and "git_modified" in start else None
    except (ValueError, LookupError, TypeError):  # it is something else
        return None
