"""Revision of the user's own files, for the record."""

import subprocess
from pathlib import Path
from typing import NamedTuple


class GitRevision(NamedTuple):
    """Revision that is checked out in a working tree."""

    revision: str
    """The commit's full hash."""
    modified: bool
    """Whether tracked files differ from it."""

    def __str__(self) -> str:
        return self.revision + (" (modified)" if self.modified else "")


def git_revision(directory: Path) -> GitRevision | None:
    """Revision of the repository that `directory` is in; None without a repository, a commit, or the command git."""
    revision = _git(directory, "rev-parse", "--verify", "HEAD")
    if revision is None:
        return None
    changes = _git(directory, "status", "--porcelain", "--untracked-files=no")
    return GitRevision(revision, modified=bool(changes))


def _git(directory: Path, *arguments: str) -> str | None:
    """Output of a git command, or None if it fails."""
    # The repository's own settings may name a program to watch its files.
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(directory), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
