"""Which revision the working directory is at."""

import subprocess

import pytest

from ladderseg_fast.engine.git_revision import git_revision


@pytest.fixture
def git(tmp_path, monkeypatch):
    """Runs git commands in a new repository."""
    for kind in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{kind}_NAME", "someone")
        monkeypatch.setenv(f"GIT_{kind}_EMAIL", "someone@example.org")

    def run(*arguments):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True)

    try:
        run("init")
    except FileNotFoundError:
        pytest.skip("the command git is not installed")
    return run


def test_commit_and_changes(tmp_path, git):
    assert git_revision(tmp_path) is None, "no commit yet"
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "first")
    clean = git_revision(tmp_path)
    assert len(clean.revision) == 40
    assert (clean.modified, str(clean)) == (False, clean.revision)
    (tmp_path / "untracked").touch()
    assert not git_revision(tmp_path).modified
    (tmp_path / "file").write_text("two")
    assert str(git_revision(tmp_path)) == f"{clean.revision} (modified)"


def test_no_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_revision(tmp_path) is None


def test_no_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_revision(tmp_path) is None
