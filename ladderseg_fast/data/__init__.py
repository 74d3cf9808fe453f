"""Data sets of images with per-pixel class labels, and how they become tensors."""

from .augmentation import Augmentation, ColourChange, Draw
from .camvid import CAMVID_LABELS, CamVid
from .cityscapes_labels import CITYSCAPES_LABELS, CityscapesLabel
from .image_files import check_image_size, image_from_array, read_annotation, read_image
from .label_set import IGNORE_INDEX, LabelSet
from .sample import Sample, SegmentationDataset
from .sampling import TrainingBatches
from .street import STREET_LABELS, StreetScenes
from .tensors import SegmentationTensors
from .transforms import IMAGENET_NORMALISATION, Normalisation, flip_horizontally, resize_image, resize_labels

__all__ = [
    "CAMVID_LABELS",
    "CITYSCAPES_LABELS",
    "IGNORE_INDEX",
    "IMAGENET_NORMALISATION",
    "STREET_LABELS",
    "Augmentation",
    "CamVid",
    "CityscapesLabel",
    "ColourChange",
    "Draw",
    "LabelSet",
    "Normalisation",
    "Sample",
    "SegmentationDataset",
    "SegmentationTensors",
    "StreetScenes",
    "TrainingBatches",
    "check_image_size",
    "flip_horizontally",
    "image_from_array",
    "read_annotation",
    "read_image",
    "resize_image",
    "resize_labels",
]
