"""The page of a report shows names as they are, and runs nothing in them."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.run_logs import write_run

from ladderseg_fast.cli.main import main

#: Text that would become an element, an attribute, a style or a script if it were not escaped.
EVIL = """<script>alert(1)</script><img src=x onerror=alert(1)>"' onload='x'/*</style>*/&lt;"""


class Elements(HTMLParser):
    """Names and attributes of the elements of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}


def elements_of(run: Path) -> tuple[Elements, str]:
    assert main(["report", str(run), "--out", str(run.parent / "page.html")]) == 0
    text = (run.parent / "page.html").read_text()
    found = Elements()
    found.feed(text)
    return found, text


def renamed(value: object, name: str) -> object:
    """`value` with every text in it, and every name of a class, replaced by `name`."""
    if isinstance(value, dict):
        classes = {"road", "tree", "<sky & sea>"}
        return {f"{key}{name}" if key in classes else key: renamed(item, name) for key, item in value.items()}
    if isinstance(value, list):
        return [renamed(item, name) for item in value]
    return name if isinstance(value, str) else value


def test_every_text_of_a_log_is_escaped(tmp_path):
    run = write_run(tmp_path / EVIL.replace("/", "|"))
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    changed = [
        {key: value if key == "kind" else renamed(value, EVIL) for key, value in record.items()} for record in records
    ]
    for record in changed:
        if "config" in record:
            record["config"]["model"][EVIL] = EVIL
    (run / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in changed))
    (run / "overlays" / "frame0.png").rename(run / "overlays" / f"{EVIL.replace('/', '|')}.png")
    plain, _ = elements_of(write_run(tmp_path / "plain"))
    evil, text = elements_of(run)
    assert evil.names == plain.names and evil.attributes == plain.attributes
    assert "script" not in evil.names and not any(name.startswith("on") for name in evil.attributes)
    assert text.count("&lt;script&gt;") > 20, "the names are shown"


def test_page_forbids_scripts_and_other_servers(tmp_path):
    _, text = elements_of(write_run(tmp_path / "run"))
    policy = text.index("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert policy < text.index("<title>"), "before anything that the log has a part in"


@pytest.mark.parametrize(
    "colour", ["red; background: url(http://a.example)", ["0);background:url(x", 0, 0], [0, 0, 999]]
)
def test_colours_of_a_log_are_numbers(tmp_path, colour, capsys):
    run = write_run(tmp_path / "run")
    start, *rest = (run / "log.jsonl").read_text().splitlines(keepends=True)
    record = json.loads(start) | {"colours": {"road": colour}}
    (run / "log.jsonl").write_text(json.dumps(record) + "\n" + "".join(rest))
    assert main(["report", str(run)]) == 2
    assert 'line 1: the "colours" of a record must be an object of lists of three' in capsys.readouterr().err
