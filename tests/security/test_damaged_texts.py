"""Damaged texts, as fuzzing the readers found them: an error names the file, or the rest is read."""

import json
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.run_logs import write_run

from ladderseg_fast.data.classes_file import read_classes
from ladderseg_fast.engine.config_tables import build_config, read_config_file
from ladderseg_fast.engine.report.history import read_history
from ladderseg_fast.engine.report.page import report
from ladderseg_fast.engine.run_log import RunLog
from ladderseg_fast.engine.tiled import ResultFile, RowForm
from ladderseg_fast.engine.written_files import WrittenFiles

#: A record of each kind with one thing wrong in it, and the message.
RECORDS = {
    "no UTF-8": (b'{"kind": "\xff"}', "codec can't decode"),
    "deep": (b'{"kind": ' + b"[" * 100_000 + b"}", "recursion"),
    "no object": (b"[1]", 'an object with a "kind" is expected'),
    "a text for a loss": (
        b'{"kind": "step", "step": 1, "epoch": 1, "loss": "1"}',
        '"loss" of a record must be a number',
    ),
    "infinite": (b'{"kind": "step", "step": 1, "epoch": 1e999, "loss": 1}', '"epoch" of a record must be a number'),
    "NaN": (b'{"kind": "step", "step": 1, "epoch": NaN, "loss": 1}', '"epoch" of a record must be a number'),
    "huge": (b'{"kind": "step", "step": 1, "epoch": 1' + b"0" * 400 + b', "loss": 1}', '"epoch" of a record must be'),
    "no step": (b'{"kind": "step", "epoch": 1, "loss": 1}', 'a record of kind step has no "step"'),
    "no score": (b'{"kind": "evaluation", "step": 1, "epoch": 1}', 'a record of kind evaluation has no "miou"'),
    "sections": (b'{"kind": "start", "config": {"model": 1}}', '"config" of a record must be an object of objects'),
}


@pytest.mark.parametrize("name", RECORDS)
def test_log_with_a_wrong_record(tmp_path, name):
    line, message = RECORDS[name]
    run = write_run(tmp_path / "run")
    with open(run / "log.jsonl", "ab") as file:
        file.write(line + b"\n")
    lines = len((run / "log.jsonl").read_bytes().split(b"\n")) - 1
    for read in (lambda: RunLog(run / "log.jsonl").read(), lambda: read_history(run)):
        with pytest.raises(ValueError, match=rf"log\.jsonl: not a log of ladderseg \(line {lines}: .*{message}"):
            read()


def test_log_with_a_confusion_matrix_of_other_classes(tmp_path):
    run = write_run(tmp_path / "run")
    text = (run / "log.jsonl").read_text().replace("[[90, 10, 0], ", "[")
    (run / "log.jsonl").write_text(text)
    with pytest.raises(ValueError, match="must have a row and a column for each class"):
        read_history(run)


def test_report_of_values_without_a_range(tmp_path):
    run = write_run(tmp_path / "run")
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for record in records:
        record |= {key: 0 for key in ("learning_rate", "images_per_second", "peak_memory_bytes") if key in record}
        record |= {"epoch": -1} if "epoch" in record else {}
        if "config" in record:
            record["config"] |= {"data": {"size": 5}, "training": {"batch": "two", "accumulate": []}}
    (run / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert "Learning rate" in report([read_history(run)])


def test_classes_file_nested_too_deep(tmp_path):
    path = tmp_path / "classes.toml"
    path.write_text("ignore = " + "[" * 5000)
    with pytest.raises(ValueError, match=r"classes\.toml: not TOML"):
        read_classes(path)


@pytest.mark.parametrize(
    "text", ['name = "' + "x" * 9000 + '"\ncolour = 5', "x" * 9000 + " = 1", "ignore = [" + "[]," * 9000 + "]"]
)
def test_messages_quote_the_beginning_of_what_is_long(tmp_path, text):
    classes, config = tmp_path / "classes.toml", tmp_path / "config.toml"
    classes.write_text(text if text.startswith("ignore") else f"[[classes]]\n{text}")
    config.write_text(f"[training]\n{text}")
    for read in (lambda: read_classes(classes), lambda: build_config([read_config_file(config)])):
        with pytest.raises(ValueError) as caught:
            read()
        assert len(str(caught.value)) < 1000


def test_setting_of_a_wrong_type_or_too_long(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[training]\ncut_after = 5")
    with pytest.raises(ValueError, match=r"config\.toml: training\.cut_after must be a list of strings, got 5"):
        build_config([read_config_file(path)])
    path.write_text(f'[model]\nmemory = "{"9" * 5000}"')
    with pytest.raises(ValueError, match=r"config\.toml: model\.memory has 5000 characters, at most 4096 are read"):
        build_config([read_config_file(path)])


def test_list_of_files_with_a_name_that_no_file_has(tmp_path):
    path = tmp_path / ".ladderseg.files"
    WrittenFiles(path).begin({"x" * 5000: None, "a\0b": None})
    files = WrittenFiles(path)
    assert [files.wrote(name) for name in files.names()] == [False, False]
    path.write_text("[" * 100_000 + "\n")
    assert not WrittenFiles(path).exists()


@pytest.mark.parametrize("format", ["png", "tiff", "npy"])
@pytest.mark.parametrize("change", ["rows", "length", "pixels", "deep"])
def test_state_of_unfinished_labels_that_is_damaged(tmp_path, format, change):
    """They begin anew: a state that was changed says nothing."""
    path, notes, size = tmp_path / "labels", [], (40, 30)

    def begin() -> ResultFile:
        return ResultFile(path, format, RowForm(size, palette=np.zeros((256, 3), np.uint8)), {"tile": 64}, notes.append)

    with begin() as labels:
        labels.write(SimpleNamespace(top=0, bottom=8, labels=np.ones((8, 30), np.uint8)))
        labels.synchronise()
    state = tmp_path / "labels.partial.json"
    record = json.loads(state.read_text())
    if change == "rows":
        record["pixels"]["rows"] = 5
    elif change == "length":
        record["length"] = "5"
    elif change == "pixels":
        record["pixels"] = None
    state.write_text("[" * 100_000 if change == "deep" else json.dumps(record))
    with begin() as labels:
        assert labels.rows == 0
    assert notes == [f"{path}: begun anew: {state} is not readable"]


def test_palette_image_without_a_palette(tmp_path):
    from PIL import Image

    from ladderseg_fast.data import read_image

    picture = Image.fromarray(np.zeros((8, 8), np.uint8))
    picture.putpalette([1, 2, 3])
    path = Path(tmp_path / "a.png")
    picture.save(path)
    content = path.read_bytes()
    start = content.index(b"PLTE")
    content = content[:start] + b"pLTE" + content[start + 4 :]  # a chunk that readers pass over
    length = int.from_bytes(content[start - 4 : start], "big")
    end = start + 4 + length
    path.write_bytes(content[:end] + zlib.crc32(content[start:end]).to_bytes(4, "big") + content[end + 4 :])
    with pytest.raises(OSError, match=r"a\.png: .*palette"):
        read_image(path)
