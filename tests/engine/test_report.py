"""The report: what it reads from a log, and that the page stands on its own."""

import base64
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from support.run_logs import NAMES, write_run

from ladderseg_fast.engine.report import MOST_RUNS, sections, write_report
from ladderseg_fast.engine.report.bar_chart import Bar, bar_chart
from ladderseg_fast.engine.report.confusion_chart import confusion_chart
from ladderseg_fast.engine.report.history import read_history
from ladderseg_fast.engine.report.line_chart import Curve, line_chart, score_limits, thinned

SECTIONS = ["Training", "Validation", "Classes", "Confusion matrix", "Predictions", "Memory and speed", "Settings"]
#: What a section without data says.
MISSING = UNKNOWN, UNEVALUATED, UNDRAWN = (
    "Not in the log, which an earlier release wrote.",
    "No evaluation has been logged yet.",
    "None yet: a training draws overlays at its end.",
)
#: Elements without an end.
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Checks that elements nest, and collects what there is."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return "\n".join(self.texts)


def page_of(tmp_path, *runs):
    out = tmp_path / "page.html"
    write_report(runs, out)
    return Page(out.read_text(encoding="utf-8"))


def test_all_sections_have_their_data(tmp_path):
    page = page_of(tmp_path, write_run(tmp_path / "run"))
    headings = re.findall(rf"^({'|'.join(SECTIONS)})$", page.text, re.MULTILINE)
    assert headings == SECTIONS
    # loss, learning rate, mIoU, accuracy, speed, memory, waiting; bars; matrix
    assert len(page.of("svg")) == 9
    assert len(page.of("img")) == 2
    assert not set(MISSING) & set(page.texts)


@pytest.mark.real_use
def test_colours_of_the_classes(tmp_path):
    page = page_of(tmp_path, write_run(tmp_path / "run"), write_run(tmp_path / "former", former=True))
    colours = [attributes["style"] for attributes in page.of("i") if "style" in attributes]
    expected = "rgb(128, 64, 128)", "rgb(107, 142, 35)", "rgb(70, 130, 180)"
    assert colours == [f"background: {colour}" for colour in expected]


def test_page_stands_on_its_own(tmp_path):
    page = page_of(tmp_path, write_run(tmp_path / "run"))
    assert not page.of("script") and not page.of("link")
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "data"):
            assert attributes.get(name, "data:").startswith("data:image/png;base64,"[: len("data:")])
    style = (tmp_path / "page.html").read_text().split("<style>")[1].split("</style>")[0]
    assert "url(" not in style and "@import" not in style
    assert "prefers-color-scheme: dark" in style


def test_pictures_are_inside_and_small(tmp_path):
    page = page_of(tmp_path, write_run(tmp_path / "run"))
    header = base64.b64decode(page.of("img")[0]["src"].removeprefix("data:image/png;base64,"))[:24]
    assert header.startswith(b"\x89PNG")
    # width and height in IHDR: shrunk from 1000x50
    assert (int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")) == (1200, 48)


def test_numbers_of_a_run(tmp_path):
    page = page_of(tmp_path, write_run(tmp_path / "run"))
    assert "ladder_densenet121 (lean), on street, at 64x96, batch 2, 40 of 40 steps" in page.text
    # sin(2.2 * 30 / 40) * 0.75 is the highest of the four
    assert "best mIoU, epoch 3" in page.text and "74.8%" in page.text
    assert {"8.00", "629.1 MB", "10 %", "20 s", "9.9.9", "0123abcd"} <= set(page.texts)


def test_markup_in_names_is_text(tmp_path):
    page = page_of(tmp_path, write_run(tmp_path / "a <b> & c"))
    assert NAMES[2] in page.texts
    assert "a <b> & c" in page.texts
    assert not page.of("sky")


def test_logs_of_the_former_release(tmp_path):
    page = page_of(tmp_path, write_run(tmp_path / "run", former=True, overlays=0))
    # the confusion matrix, and the waiting for images
    assert [page.texts.count(text) for text in MISSING] == [2, 0, 1]
    assert "densenet121, on street" not in page.text and "on street, at 64x96, batch 2, 40 of 40 steps" in page.text
    # two images in half a second
    assert "4.00" in page.texts


def test_run_that_has_just_begun(tmp_path):
    page = page_of(tmp_path, write_run(tmp_path / "run", steps=1, evaluations=False, overlays=0))
    # mIoU, pixel accuracy, classes, confusion matrix
    assert [page.texts.count(text) for text in MISSING] == [0, 4, 1]


def test_several_runs(tmp_path):
    runs = [
        write_run(tmp_path / "one"),
        write_run(tmp_path / "other", steps=20, former=True, overlays=1),
    ]
    page = page_of(tmp_path, *runs)
    colours = [set(attributes["class"].split()) for attributes in page.of("polyline")]
    for colour in ("c0", "c1"):
        assert any({"curve", colour} <= classes for classes in colours)
    assert page.texts.count("frame0: one") == page.texts.count("frame0: other") == 1
    assert "frame1: other" not in page.texts
    marked = [attributes for attributes in page.of("tr") if attributes.get("class") == "differs"]
    assert marked
    assert page.texts.count(UNKNOWN) == 1, "one confusion matrix; the curves are there of the other run"


def test_equal_settings_are_not_marked(tmp_path):
    page = page_of(tmp_path, write_run(tmp_path / "one"), write_run(tmp_path / "other"))
    assert [attributes for attributes in page.of("tr") if "class" in attributes] == []


def test_runs_of_one_name_are_told_apart(tmp_path):
    runs = [write_run(tmp_path / parent / "run") for parent in "ab"]
    page = page_of(tmp_path, *runs)
    assert {f"{run}: best mIoU 74.8%" for run in runs} <= set(page.texts)


def test_number_of_runs(tmp_path):
    run = write_run(tmp_path / "run")
    for runs in ([], [run] * (MOST_RUNS + 1)):
        with pytest.raises(ValueError, match=rf"a report needs 1 to {MOST_RUNS} runs, got {len(runs)}"):
            write_report(runs, tmp_path / "page.html")
    with pytest.raises(ValueError, match="run is given twice"):
        write_report([run, run], tmp_path / "page.html")


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("", r"log\.jsonl: holds no step yet"),
        ('{"kind": "start"}\n{"kind": "step"', r"log\.jsonl: holds no step yet"),
        ("no log\n", r"log\.jsonl: not a log of ladderseg"),
        ("[1]\n", r"log\.jsonl: not a log of ladderseg"),
        ('{"kind": "step", "step": 1, "epoch": 1}\n', r'log\.jsonl: .* a record of kind step has no "loss"'),
    ],
)
def test_broken_logs(tmp_path, log, message):
    (tmp_path / "log.jsonl").write_text(log)
    with pytest.raises(ValueError, match=message):
        read_history(tmp_path)


def test_no_log(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"log\.jsonl: no such file"):
        read_history(tmp_path / "none")


def test_resumed_and_skipped(tmp_path):
    run = write_run(tmp_path / "run", steps=2)
    with open(run / "log.jsonl", "a") as file:
        for record in (
            {"kind": "resume", "step": 1},
            {"kind": "skip", "step": 1},
            {"kind": "empty", "step": 1},
            {"kind": "empty", "step": 1},
            {"kind": "end", "step": 2},
        ):
            file.write(json.dumps(record) + "\n")
    history = read_history(run)
    assert (history.resumed, history.skipped, history.empty) == ([1], 1, 2)


def places(svg):
    """The points of each polyline."""
    root = ElementTree.fromstring(svg)
    lines = root.iter("{http://www.w3.org/2000/svg}polyline")
    return [[tuple(map(float, pair.split(","))) for pair in line.get("points").split()] for line in lines]


def test_curve_is_where_its_values_are():
    curve = Curve("a", [(0.0, 0.0), (5.0, 1.0), (10.0, 2.0), (10.0, 9.0)])
    (points,) = places(line_chart("title", [curve], (0.0, 2.0)))
    (x0, y0), (x1, y1), (x2, y2), beyond = points
    assert x1 - x0 == pytest.approx(x2 - x1) and y0 - y1 == pytest.approx(y1 - y2) and y0 > y1
    assert beyond == (x2, y2), "cut off at the end of the axis"


def test_thinned_keeps_spikes():
    points = [(float(i), 0.0) for i in range(100_000)]
    points[5_000], points[77_777] = (5_000.0, 9.0), (77_777.0, -9.0)
    few = thinned(points)
    assert len(few) <= 800
    assert {(5_000.0, 9.0), (77_777.0, -9.0)} <= set(few)
    assert few == sorted(few)


@pytest.mark.parametrize(
    ("values", "expected"), [([0.56, 0.31], (0.3, 0.6)), ([1.0], (0.9, 1.0)), ([0.0], (0.0, 0.1)), ([0.5], (0.5, 0.6))]
)
def test_score_limits(values, expected):
    assert score_limits(values) == expected


def test_bars_are_as_long_as_their_values():
    rows = [("a", [Bar("run", 0, 0.25, []), Bar("other", 1, 0.5, [(1.0, 0.5)])]), ("b", [Bar("run", 0, None, [])])]
    root = ElementTree.fromstring(bar_chart(rows))
    bars = [rect for rect in root.iter("{http://www.w3.org/2000/svg}rect") if "bar" in rect.get("class").split()]
    widths = [float(bar.get("width")) for bar in bars]
    assert widths[1] == pytest.approx(2 * widths[0]) and widths[0] > 0 and widths[2] == 0


def test_confusion_cells_hold_shares_of_their_row():
    root = ElementTree.fromstring(confusion_chart([[3, 1, 0], [0, 0, 0], [1, 1, 998]], ["a", "b", "c"]))
    numbers = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text") if "number" in t.get("class")]
    assert numbers == ["75", "25", "100"]
    notes = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert notes == ["a found: 75.0% (3 pixels)", "a taken for b: 25.0% (1 pixels)", "c found: 99.8% (998 pixels)"]


def test_confusion_matrix_of_many_classes_has_no_numbers():
    names = [f"class{i}" for i in range(150)]
    svg = confusion_chart([[int(i == j) for j in range(150)] for i in range(150)], names)
    assert svg.count('class="cell right"') == 150
    assert 'class="number' not in svg


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.14159, "3.14 s"), (119.0, "119 s"), (300.0, "5.0 min"), (1830.0, "30 min"), (7500.0, "2 h 05 min")],
)
def test_durations(seconds, text):
    assert sections._duration(seconds) == text
