"""Whole data sets: every image once, at the size of its labels; the worst of them, export, and the JSON record."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from support.cityscapes_frames import make_frames, to_classes, write_tree
from torch import nn
from torch.nn.functional import one_hot

from ladderseg_fast import LadderOutput
from ladderseg_fast.data import (
    CAMVID_LABELS,
    CITYSCAPES_LABEL_SET,
    IGNORE_INDEX,
    IMAGENET_NORMALISATION,
    VOC_LABELS,
    Cityscapes,
    LabelSet,
    Sample,
    SegmentationDataset,
)
from ladderseg_fast.engine.distributed import World
from ladderseg_fast.engine.evaluation import (
    ConfusionMatrix,
    Export,
    InstanceCounts,
    Prediction,
    Views,
    WorstImages,
    as_record,
    cityscapes_scores,
    evaluate_data_set,
    predictions,
)
from ladderseg_fast.engine.evaluation.comparison import comparison, error_map

TWO = LabelSet(("road", "tree"), ((128, 64, 128), (0, 200, 0)))
OWN_SIZE = Views(None)


class Recorded(nn.Module):
    """Says what it was told to, one [H, W] array of classes after the other."""

    min_size = 1

    def __init__(self, answers, classes):
        super().__init__()
        self.device_holder = nn.Parameter(torch.zeros(1))
        self.answers = iter(answers)
        self.num_classes = classes

    def forward(self, images):
        answer = torch.from_numpy(next(self.answers)).long()
        return LadderOutput(one_hot(answer, self.num_classes).permute(2, 0, 1)[None].float(), None)


class Listed(SegmentationDataset):
    """Samples from a list of label arrays; every pixel of image i is i."""

    label_set = TWO

    def __init__(self, labels):
        self.all_labels = labels

    def __len__(self):
        return len(self.all_labels)

    def __getitem__(self, index):
        labels = self.all_labels[index]
        return Sample(self.name(index), np.full((*labels.shape, 3), index, np.uint8), labels)

    def name(self, index):
        return f"image{index}"


def labels(*rows):
    return np.array(rows, np.uint8)


@pytest.fixture
def frames():
    return make_frames(4)


@pytest.fixture
def cityscapes(tmp_path, frames):
    return Cityscapes(write_tree(tmp_path / "cityscapes", "val", frames), "val")


def test_cityscapes_from_files(cityscapes, frames):
    model = Recorded([frame.prediction for frame in frames], 19)
    result = evaluate_data_set(model, cityscapes, IMAGENET_NORMALISATION, OWN_SIZE)
    matrix, things = ConfusionMatrix(19), InstanceCounts()
    for frame in frames:
        matrix.add(torch.from_numpy(frame.prediction), torch.from_numpy(to_classes(frame.label_ids)))
        things.add(frame.prediction, frame.instance_ids)
    assert torch.equal(result.scores.confusion, matrix.counts)
    assert result.cityscapes == cityscapes_scores(matrix.counts, things)
    assert [image.name for image in result.images] == [frame.name for frame in frames]
    alone = ConfusionMatrix(19)
    alone.add(torch.from_numpy(frames[2].prediction), torch.from_numpy(to_classes(frames[2].label_ids)))
    assert result.images[2].scores == alone.scores()


def test_cityscapes_without_instances(tmp_path, cityscapes, frames):
    missing = cityscapes.instances(1)
    missing.unlink()
    answers = [frame.prediction for frame in frames]
    with pytest.raises(FileNotFoundError, match=rf"{missing}: no such file"):
        evaluate_data_set(Recorded(answers, 19), cityscapes, IMAGENET_NORMALISATION, OWN_SIZE)
    result = evaluate_data_set(Recorded(answers, 19), cityscapes, IMAGENET_NORMALISATION, OWN_SIZE, instances=False)
    assert result.cityscapes.class_iiou is None
    assert set(result.cityscapes.category_iou) == {
        "flat",
        "construction",
        "object",
        "nature",
        "sky",
        "human",
        "vehicle",
    }


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (np.full((48, 80), 7001, np.uint16), "instance ids must be of labels with instances, but 7"),
        (np.zeros((48, 79), np.uint16), r"prediction is \(48, 80\) but instances are \(48, 79\)"),
        (np.zeros((48, 80, 3), np.uint8), "instance ids are a grey PNG of up to 16 bits, but this is PNG, mode RGB"),
    ],
)
def test_broken_instances_are_named(cityscapes, frames, broken, message):
    path = cityscapes.instances(0)
    Image.fromarray(broken).save(path)
    with pytest.raises(ValueError, match=rf"^{path}: {message}"):
        evaluate_data_set(Recorded([frames[0].prediction], 19), cityscapes, IMAGENET_NORMALISATION, OWN_SIZE)


def test_image_without_a_labelled_pixel():
    samples = Listed([labels([0, 1]), labels([IGNORE_INDEX, IGNORE_INDEX])])
    seen = []
    result = evaluate_data_set(
        Recorded([labels([0, 0]), labels([1, 1])], 2),
        samples,
        IMAGENET_NORMALISATION,
        OWN_SIZE,
        on_image=lambda prediction, image: seen.append((prediction.index, image.scores is None)),
    )
    assert seen == [(0, False), (1, True)]
    assert result.scores.pixel_accuracy == 0.5
    assert result.cityscapes is None
    record = as_record(result, TWO)
    assert record["images"][1] == {"name": "image1"}
    assert record["confusion"] == [[1, 0], [1, 0]]
    assert record["iou"] == {"road": 0.5, "tree": 0.0}
    json.dumps(record, allow_nan=False)


def test_split_without_labels(tmp_path, frames):
    samples = Cityscapes(write_tree(tmp_path, "test", frames), "test")
    with pytest.raises(ValueError, match="this split has no labels to evaluate against"):
        evaluate_data_set(Recorded([], 19), samples, IMAGENET_NORMALISATION, OWN_SIZE)
    model = Recorded([frame.prediction for frame in frames], 19)
    found = list(predictions(model, samples, IMAGENET_NORMALISATION, OWN_SIZE))
    assert [prediction.index for prediction in found] == [0, 1, 2, 3]
    assert all(np.array_equal(p.labels, frame.prediction) for p, frame in zip(found, frames, strict=True))


@pytest.mark.parametrize("rank", [0, 1])
def test_processes_wait_for_each_other_on_the_way(rank):
    """Equally often: one has 33 images, the other 32."""
    meetings = []

    class Pair(World):
        def largest(self, number):
            meetings.append(len(found))
            return number

    row, found = np.zeros((1, 2), np.uint8), []
    samples, model = Listed([row] * 65), Recorded([row] * 65, 2)
    for prediction in predictions(model, samples, IMAGENET_NORMALISATION, OWN_SIZE, world=Pair(rank, 2)):
        found.append(prediction.index)
    assert found == list(range(rank, 65, 2))
    assert meetings == [0, 16, 32]


def test_loader_processes_keep_the_order(cityscapes, frames):
    model = Recorded([frame.prediction for frame in frames], 19)
    result = evaluate_data_set(model, cityscapes, IMAGENET_NORMALISATION, OWN_SIZE, workers=2)
    assert [image.name for image in result.images] == [frame.name for frame in frames]


def test_worst_images_in_their_order(tmp_path):
    truth = [labels([0, 0, 1, 1])] * 4 + [labels([IGNORE_INDEX] * 4)]
    answers = [labels(row) for row in ([0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0])]
    samples, worst = Listed(truth), WorstImages(3)
    evaluate_data_set(Recorded(answers, 2), samples, IMAGENET_NORMALISATION, OWN_SIZE, on_image=worst.add)
    paths = worst.write(samples, tmp_path)
    assert [path.name for path in paths] == ["1_image1.png", "2_image3.png", "3_image2.png"]
    assert all(Image.open(path).mode == "RGB" for path in paths)


def test_fewer_images_than_asked_for(tmp_path):
    samples, worst = Listed([labels([0])]), WorstImages(12)
    evaluate_data_set(Recorded([labels([1])], 2), samples, IMAGENET_NORMALISATION, OWN_SIZE, on_image=worst.add)
    assert [path.name for path in worst.write(samples, tmp_path)] == ["01_image0.png"]


def test_error_map():
    image = np.full((1, 3, 3), 100, np.uint8)
    picture = error_map(image, labels([0, 1, IGNORE_INDEX]), labels([0, 0, 0]))
    right, wrong, ignored = picture[0].astype(int)
    assert right.min() == right.max() > 150
    assert wrong[0] > 200 and wrong[1:].max() < 60
    assert ignored.max() < 50


def test_comparison_shrinks_wide_images():
    image = np.zeros((100, 2048, 3), np.uint8)
    nothing = np.zeros((100, 2048), np.uint8)
    picture = comparison(image, nothing, nothing, TWO, "a title")
    assert picture.width == 4 * 1024 + 3 * 6
    assert picture.height == 50 + 60 + 24, "two lines of text, and one of colours"
    # four panels: the image, twice the colour of class 0 over it, and all right in grey
    colours = [picture.getpixel((i * 1030 + 500, 80)) for i in range(4)]
    assert colours[:3] == [(0, 0, 0), (64, 32, 64), (64, 32, 64)]
    assert min(colours[3]) > 100


def test_export_for_cityscapes(tmp_path, frames):
    export = Export("cityscapes", tmp_path / "results", CITYSCAPES_LABEL_SET)
    sample = Sample(frames[0].name, np.zeros((48, 80, 3), np.uint8), np.zeros((48, 80), np.uint8))
    export.write(Prediction(0, sample, frames[0].prediction))
    written = np.asarray(Image.open(tmp_path / "results" / f"{frames[0].name}_labelIds.png"))
    assert np.array_equal(to_classes(written), frames[0].prediction)
    assert export.count == 1


def test_export_for_voc(tmp_path):
    export = Export("voc", tmp_path, VOC_LABELS)
    sample = Sample("2007_000033", np.zeros((1, 3, 3), np.uint8), labels([0, 0, 0]))
    export.write(Prediction(0, sample, labels([0, 1, 20])))
    picture = Image.open(tmp_path / "results/VOC2012/Segmentation/comp6_test_cls/2007_000033.png")
    assert (picture.mode, np.asarray(picture).tolist()) == ("P", [[0, 1, 20]])
    assert picture.convert("RGB").getpixel((1, 0)) == (128, 0, 0)


def test_export_needs_the_benchmarks_classes(tmp_path):
    message = r"format voc is for that benchmark's classes, but these are sky, building, pole, \.\.\. \(11\)"
    with pytest.raises(ValueError, match=message):
        Export("voc", tmp_path, CAMVID_LABELS)
    with pytest.raises(ValueError, match="unknown format 'coco'; known are cityscapes, voc"):
        Export("coco", tmp_path, VOC_LABELS)
