"""The documents at the root of the repository agree with each other and with the files that they name."""

import re
from pathlib import Path

import ladderseg_fast

ROOT = Path(__file__).parents[1]


def releases() -> list[tuple[str, str]]:
    """Version and date of each release in CHANGELOG.md, from top to bottom."""
    return re.findall(r"^## \[(.+)\] - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def citation(key: str) -> str:
    """A value at the top level of CITATION.cff."""
    (value,) = re.findall(rf'^{key}: "?([^"\n]+)"?$', (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    return value


def test_changelog_and_citation_name_this_version():
    latest = releases()[0]
    assert latest[0] == ladderseg_fast.__version__
    assert (citation("version"), citation("date-released")) == latest


def test_changelog_has_the_newest_release_first():
    versions = [tuple(map(int, version.split("."))) for version, _ in releases()]
    dates = [date for _, date in releases()]
    assert versions == sorted(set(versions), reverse=True)
    assert dates == sorted(dates, reverse=True)
    headings = re.findall(r"^## .*", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert len(headings) - headings.count("## [Unreleased]") == len(versions)


def test_citation_and_readme_name_the_same_paper():
    (title,) = re.findall(r"^  title: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert title in " ".join((ROOT / "README.md").read_text().split())


def test_bug_reports_ask_for_what_info_prints():
    assert "python -m ladderseg_fast.info" in (ROOT / ".github" / "ISSUE_TEMPLATE" / "bug_report.yml").read_text()
