"""IoU and pixel accuracy against values worked out by hand."""

import pytest
import torch

from ladderseg_fast.data import IGNORE_INDEX
from ladderseg_fast.engine import ConfusionMatrix, evaluate


def test_scores_by_hand():
    matrix = ConfusionMatrix(4)
    labels = torch.tensor([[0, 0, 0, 1], [1, 1, 2, IGNORE_INDEX]], dtype=torch.uint8)
    prediction = torch.tensor([[0, 0, 1, 1], [1, 2, 0, 3]], dtype=torch.uint8)
    matrix.add(prediction, labels)
    assert matrix.counts.tolist() == [[2, 1, 0, 0], [0, 2, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    scores = matrix.scores()
    # class 0: 2 of 4; class 1: 2 of 4; class 2: 0 of 2; class 3 occurs only where nothing counts
    assert scores.iou == (0.5, 0.5, 0.0, None)
    assert scores.miou == pytest.approx(1 / 3)
    assert scores.pixel_accuracy == pytest.approx(4 / 7)


def test_a_class_that_is_only_predicted_counts_as_zero():
    matrix = ConfusionMatrix(3)
    matrix.add(torch.tensor([0, 2]), torch.tensor([0, 0]))
    assert matrix.scores().iou == (0.5, None, 0.0)
    assert matrix.scores().miou == 0.25


def test_images_add_up():
    torch.manual_seed(0)
    labels, prediction = torch.randint(0, 5, (2, 3, 20)), torch.randint(0, 5, (2, 3, 20))
    together, apart = ConfusionMatrix(5), ConfusionMatrix(5)
    together.add(prediction, labels)
    for p, t in zip(prediction, labels, strict=True):
        apart.add(p, t)
    assert torch.equal(together.counts, apart.counts)
    assert int(together.counts.sum()) == labels.numel()


def test_equals_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="the package scikit-learn is not installed")
    labels, prediction = torch.randint(0, 12, (3, 40, 50)), torch.randint(0, 11, (3, 40, 50))
    labels[labels == 11] = IGNORE_INDEX
    matrix = ConfusionMatrix(11)
    matrix.add(prediction, labels)
    counted = labels != IGNORE_INDEX
    true, predicted, classes = labels[counted].numpy(), prediction[counted].numpy(), range(11)
    assert matrix.counts.tolist() == metrics.confusion_matrix(true, predicted, labels=classes).tolist()
    scores = matrix.scores()
    jaccard = metrics.jaccard_score(true, predicted, labels=classes, average=None)
    assert scores.iou == pytest.approx(jaccard.tolist(), abs=1e-12)
    assert scores.miou == pytest.approx(jaccard.mean(), abs=1e-12)
    assert scores.pixel_accuracy == pytest.approx(metrics.accuracy_score(true, predicted), abs=1e-12)


def test_scores_keep_their_confusion_matrix():
    matrix = ConfusionMatrix(2)
    matrix.add(torch.tensor([0, 1]), torch.tensor([0, 0]))
    scores = matrix.scores()
    matrix.add(torch.tensor([1]), torch.tensor([1]))
    assert scores.confusion.tolist() == [[1, 1], [0, 0]]


def test_nothing_counted():
    matrix = ConfusionMatrix(2)
    matrix.add(torch.zeros(4, dtype=torch.uint8), torch.full((4,), IGNORE_INDEX, dtype=torch.uint8))
    with pytest.raises(ValueError, match="no pixel of the evaluated images has a class"):
        matrix.scores()


@pytest.mark.parametrize(
    ("prediction", "labels", "message"),
    [
        ([0], [0, 1], r"prediction is \(1,\) but labels are \(2,\)"),
        ([0, 1], [0, 2], "labels must be 0 to 1, got 0 to 2"),
        ([0, 2], [0, 1], "prediction must be 0 to 1, got 0 to 2"),
    ],
)
def test_rejects(prediction, labels, message):
    with pytest.raises(ValueError, match=message):
        ConfusionMatrix(2).add(torch.tensor(prediction), torch.tensor(labels))


def test_evaluate_sees_every_batch():
    class Echo:
        """Predicts the rounded mean of the channels."""

        num_classes = 3

        def predict(self, images):
            return images.mean(1).round().to(torch.uint8)

    labels = torch.tensor([[[0, 1]], [[2, 2]], [[1, 0]]], dtype=torch.uint8)
    images = labels[:, None].expand(-1, 3, -1, -1).float()
    batches = [(images[:2], labels[:2]), (images[2:], labels[2:].clone())]
    batches[1][1][0, 0, 0] = 2
    done = []
    scores = evaluate(Echo(), batches, torch.device("cpu"), done.append)
    assert done == [1, 2]
    assert scores.pixel_accuracy == pytest.approx(5 / 6)
