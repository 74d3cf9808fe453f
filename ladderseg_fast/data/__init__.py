"""Data sets of images with per-pixel class labels, and how they become tensors."""

from .absent_classes import absent_classes_warning, check_something_counts, look_for_classes
from .augmentation import Augmentation, ColourChange, Draw
from .automatic_split import VAL_SHARE
from .camvid import CAMVID_LABELS, CamVid
from .cityscapes import Cityscapes
from .cityscapes_labels import (
    CITYSCAPES_CATEGORIES,
    CITYSCAPES_LABEL_SET,
    CITYSCAPES_LABELS,
    CITYSCAPES_TRAINED,
    CityscapesLabel,
)
from .classes_file import read_classes
from .classes_list import read_classes_list
from .colour import change_colours
from .file_pairs import FilePair, FilePairs
from .image_files import check_image_size, image_from_array, read_annotation, read_image, read_instance_ids
from .image_folder import ImageFolder
from .label_set import IGNORE_INDEX, LabelSet
from .label_values import LabelValues
from .open_data_set import DATA_KINDS, FILE_DATA_KINDS, open_data_set
from .pair_check import check_pairs
from .results import RESULT_FORMATS, ResultFormat
from .sample import Sample, SegmentationDataset
from .sampling import TrainingBatches
from .street import STREET_LABELS, StreetScenes
from .survey import Examination, Survey, examine, survey
from .tensors import SegmentationTensors
from .transforms import (
    IMAGENET_NORMALISATION,
    Normalisation,
    crop_or_pad,
    flip_horizontally,
    resize_image,
    resize_labels,
)
from .voc import VOC_LABELS, PascalVOC

__all__ = [
    "CAMVID_LABELS",
    "CITYSCAPES_CATEGORIES",
    "CITYSCAPES_LABELS",
    "CITYSCAPES_LABEL_SET",
    "CITYSCAPES_TRAINED",
    "DATA_KINDS",
    "FILE_DATA_KINDS",
    "IGNORE_INDEX",
    "IMAGENET_NORMALISATION",
    "RESULT_FORMATS",
    "STREET_LABELS",
    "VAL_SHARE",
    "VOC_LABELS",
    "Augmentation",
    "CamVid",
    "Cityscapes",
    "CityscapesLabel",
    "ColourChange",
    "Draw",
    "Examination",
    "FilePair",
    "FilePairs",
    "ImageFolder",
    "LabelSet",
    "LabelValues",
    "Normalisation",
    "PascalVOC",
    "ResultFormat",
    "Sample",
    "SegmentationDataset",
    "SegmentationTensors",
    "StreetScenes",
    "Survey",
    "TrainingBatches",
    "absent_classes_warning",
    "change_colours",
    "check_image_size",
    "check_pairs",
    "check_something_counts",
    "crop_or_pad",
    "examine",
    "flip_horizontally",
    "image_from_array",
    "look_for_classes",
    "open_data_set",
    "read_annotation",
    "read_classes",
    "read_classes_list",
    "read_image",
    "read_instance_ids",
    "resize_image",
    "resize_labels",
    "survey",
]
