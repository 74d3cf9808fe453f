"""Run directories with a log and overlays, and without the training."""

import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("road", "tree", "<sky & sea>")
COLOURS = {"road": [128, 64, 128], "tree": [107, 142, 35], "<sky & sea>": [70, 130, 180]}


def write_run(path: Path, steps: int = 40, former: bool = False, evaluations: bool = True, overlays: int = 2) -> Path:
    """A run of `steps`, evaluated every ten; `former`: as the release before logged it, with fewer fields."""
    (path / "overlays").mkdir(parents=True)
    records = [_former_start(steps) if former else _start(steps)]
    for step in range(1, steps + 1):
        records.append(_step(step, former))
        if evaluations and step % 10 == 0:
            records.append(_evaluation(step, steps, former))
    (path / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    for i in range(overlays):
        Image.fromarray(np.full((60, 1500, 3), 60 * i, np.uint8)).save(path / "overlays" / f"frame{i}.png")
    return path


def _start(steps):
    config = {
        "model": {"name": "ladder_densenet121", "memory": "lean", "weights": None},
        "data": {"kind": "street", "size": [64, 96], "flip": True},
        "training": {"batch": 2, "accumulate": 2, "steps": steps},
    }
    return {"kind": "start", "config": config, "version": "9.9.9", "git_revision": "0123abcd", "colours": COLOURS}


def _former_start(steps):
    return {"kind": "start", "data": "street", "backbone": "densenet121", "size": [64, 96], "batch": 2, "steps": steps}


def _step(step, former):
    record = {"kind": "step", "step": step, "epoch": step / 10, "loss": 0.3 + 2 / step, "learning_rate": 5e-4 / step}
    record |= {"seconds": 0.5, "peak_memory_bytes": 600 * 2**20}
    return record if former else record | {"data_wait_seconds": 0.05, "images_per_second": 8.0}


def _evaluation(step, steps, former):
    # the best one comes before the last
    quality = math.sin(2.2 * step / steps)
    iou = dict(zip(NAMES, (quality, quality / 2, None), strict=True))
    record = {"kind": "evaluation", "step": step, "epoch": step / 10, "miou": 0.75 * quality, "pixel_accuracy": quality}
    record["iou"] = iou
    return record if former else record | {"confusion": [[90, 10, 0], [step, 100 - step, 0], [0, 0, 0]]}
