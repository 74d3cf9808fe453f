"""Category IoU and iIoU equal those of the benchmark's own evaluator."""

import math

import numpy as np
import pytest
import torch
from support.cityscapes_frames import make_frames, to_classes, write_tree

from ladderseg_fast.data import CITYSCAPES_LABEL_SET, RESULT_FORMATS
from ladderseg_fast.engine.evaluation import ConfusionMatrix, InstanceCounts, cityscapes_scores


def our_scores(frames):
    matrix, things = ConfusionMatrix(19), InstanceCounts()
    for frame in frames:
        matrix.add(torch.from_numpy(frame.prediction), torch.from_numpy(to_classes(frame.label_ids)))
        things.add(frame.prediction, frame.instance_ids)
    scores = matrix.scores()
    return scores, cityscapes_scores(scores.confusion, things)


def summary(frames):
    """All of our scores under the names that the evaluator gives them."""
    scores, extra = our_scores(frames)
    return {
        "classScores": dict(zip(CITYSCAPES_LABEL_SET.names, scores.iou, strict=True)),
        "classInstScores": extra.class_iiou,
        "categoryScores": extra.category_iou,
        "categoryInstScores": extra.category_iiou,
        "averageScoreClasses": scores.miou,
        "averageScoreInstClasses": extra.mean_class_iiou,
        "averageScoreCategories": extra.mean_category_iou,
        "averageScoreInstCategories": extra.mean_category_iiou,
    }


def evaluators_scores(frames, tmp_path, monkeypatch):
    """What cityscapesscripts makes of the same frames, read from files."""
    module = pytest.importorskip(
        "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling",
        reason="the package cityscapesscripts is not installed",
    )
    # numpy 2.4 has dropped the old name
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    root = write_tree(tmp_path, "val", frames)
    truth, results = [], []
    for frame in frames:
        truth.append(str(root / f"gtFine/val/aachen/{frame.name}_gtFine_labelIds.png"))
        results.append(str(root / f"{frame.name}_labelIds.png"))
        RESULT_FORMATS["cityscapes"].image(frame.prediction).save(results[-1])
    monkeypatch.setattr(module.args, "quiet", True)
    monkeypatch.setattr(module.args, "JSONOutput", False)
    return module.evaluateImgLists(results, truth, module.args)


def assert_same(ours, theirs):
    """Ours equal theirs by name; what they list besides is void or without instances, and NaN."""
    for name, value in theirs.items():
        if math.isnan(value):
            assert ours.get(name) is None, name
        else:
            assert ours[name] == pytest.approx(value, abs=1e-9, rel=0), name


@pytest.mark.parametrize("count", [1, 12])
def test_equals_the_benchmarks_evaluator(tmp_path, monkeypatch, count):
    frames = make_frames(count)
    ours, theirs = summary(frames), evaluators_scores(frames, tmp_path, monkeypatch)
    for name, value in ours.items():
        mine, reference = (value, theirs[name]) if isinstance(value, dict) else ({name: value}, {name: theirs[name]})
        assert_same(mine, reference)


#: What cityscapesscripts 2.3.0 says of make_frames(12), for where it is not installed.
RECORDED = {
    "classScores": {
        "road": 0.6347266881028939,
        "sidewalk": 0.6038047973531845,
        "building": 0.5944924406047516,
        "wall": 0.0,
        "fence": 0.5543766578249337,
        "pole": 0.6385751520417029,
        "traffic light": 0.0,
        "traffic sign": 0.5995274660366214,
        "vegetation": 0.6387130801687764,
        "terrain": 0.6735582154515778,
        "sky": 0.6468867530296699,
        "person": 0.5024,
        "rider": 0.6275468622656887,
        "car": 0.514626218851571,
        "truck": 0.5104166666666666,
        "bus": 0.46365914786967416,
        "train": 0.0,
        "motorcycle": 0.5690721649484536,
        "bicycle": 0.5934242181234964,
    },
    "classInstScores": {
        "person": 0.7283665009803799,
        "rider": 0.735249257601554,
        "car": 0.7822017447359446,
        "truck": 0.723703483711271,
        "bus": 0.7624091987304681,
        "train": 0.0,
        "motorcycle": 0.6512348238732759,
        "bicycle": 0.7431192965926089,
    },
    "categoryScores": {
        "flat": 0.6354014598540146,
        "construction": 0.53437876960193,
        "object": 0.6086369770580297,
        "nature": 0.6665768194070081,
        "sky": 0.6468867530296699,
        "human": 0.594785442694188,
        "vehicle": 0.6024096385542169,
    },
    "categoryInstScores": {
        "human": 0.7629263933251779,
        "vehicle": 0.8029915024426011,
    },
    "averageScoreClasses": 0.4929371857547191,
    "averageScoreInstClasses": 0.6407855382781878,
    "averageScoreCategories": 0.6127251228855796,
    "averageScoreInstCategories": 0.7829589478838894,
}


def test_equals_what_the_evaluator_said():
    ours = summary(make_frames(12))
    for name, value in RECORDED.items():
        assert ours[name] == pytest.approx(value, abs=1e-9, rel=0), name


def test_iiou_by_hand():
    # a car of four pixels, three of them found; one of two pixels, taken for a bus; a group of cars, which only counts
    # in IoU; one pixel of road taken for a car
    instances = np.array([[26001, 26001, 26001, 26001], [26002, 26002, 26, 7]], np.uint16)
    labels = np.array([[13, 13, 13, 13], [13, 13, 13, 0]], np.uint8)
    prediction = np.array([[13, 13, 13, 0], [15, 15, 0, 13]], np.uint8)
    matrix, things = ConfusionMatrix(19), InstanceCounts()
    matrix.add(torch.from_numpy(prediction), torch.from_numpy(labels))
    things.add(prediction, instances)
    scores = cityscapes_scores(matrix.counts, things)
    size = 12794.0202738185
    assert scores.class_iiou["car"] == pytest.approx(0.75 * size / (2 * size + 1))
    assert scores.category_iiou["vehicle"] == pytest.approx(1.75 * size / (2 * size + 1))
    assert scores.class_iiou["bus"] == 0.0
    assert scores.class_iiou["person"] is None
    # found: 3 of car, 2 of bus; missed: 2; taken for a vehicle: 1
    assert scores.category_iou["vehicle"] == pytest.approx(5 / 8)


def test_without_instances():
    scores = cityscapes_scores(torch.eye(19, dtype=torch.int64), None)
    assert set(scores.category_iou.values()) == {1.0}
    assert (scores.class_iiou, scores.mean_class_iiou, scores.mean_category_iiou) == (None, None, None)


@pytest.mark.parametrize(
    ("prediction", "instances", "message"),
    [
        ([[0, 0]], [[0]], r"prediction is \(1, 2\) but instances are \(1, 1\)"),
        ([[19]], [[26001]], "prediction must be 0 to 18, got 19"),
        ([[0]], [[7001]], r"labels with instances, but 7 \(times 1000\) is none"),
        ([[0]], [[60001]], r"labels with instances, but 60 \(times 1000\) is none"),
    ],
)
def test_rejects(prediction, instances, message):
    with pytest.raises(ValueError, match=message):
        InstanceCounts().add(np.array(prediction, np.uint8), np.array(instances, np.uint16))
