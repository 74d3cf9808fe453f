"""Data sets of images with per-pixel class labels, and their way to tensors."""

from .absent_classes import absent_classes_warning, check_something_counts, look_for_classes
from .augmentation import Augmentation, ColourChange, Draw
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
from .data_set_kind import DataSetKind, Option
from .display import displayed
from .file_pairs import FilePair, FilePairs
from .found_form import find_form
from .image_files import check_image_size, image_from_array, read_annotation, read_image, read_instance_ids
from .image_folder import ImageFolder
from .image_form import RGB, ImageForm, check_form
from .label_set import IGNORE_INDEX, LabelSet
from .label_values import LabelValues
from .open_data_set import (
    DATA_SETS,
    RESULT_FORMATS,
    data_set_options,
    open_data_set,
    option_owners,
    register_data_set,
)
from .pair_check import check_pairs
from .pixel_limit import above_pixel_limit, pixel_limit
from .result_format import ResultFormat
from .sample import Sample, SegmentationDataset
from .sample_map import map_samples
from .sampling import TrainingBatches
from .statistics import band_statistics
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
    "DATA_SETS",
    "IGNORE_INDEX",
    "IMAGENET_NORMALISATION",
    "RESULT_FORMATS",
    "RGB",
    "STREET_LABELS",
    "VOC_LABELS",
    "Augmentation",
    "CamVid",
    "Cityscapes",
    "CityscapesLabel",
    "ColourChange",
    "DataSetKind",
    "Draw",
    "Examination",
    "FilePair",
    "FilePairs",
    "ImageFolder",
    "ImageForm",
    "LabelSet",
    "LabelValues",
    "Normalisation",
    "Option",
    "PascalVOC",
    "ResultFormat",
    "Sample",
    "SegmentationDataset",
    "SegmentationTensors",
    "StreetScenes",
    "Survey",
    "TrainingBatches",
    "above_pixel_limit",
    "absent_classes_warning",
    "band_statistics",
    "change_colours",
    "check_form",
    "check_image_size",
    "check_pairs",
    "check_something_counts",
    "crop_or_pad",
    "data_set_options",
    "displayed",
    "examine",
    "find_form",
    "flip_horizontally",
    "image_from_array",
    "look_for_classes",
    "map_samples",
    "open_data_set",
    "option_owners",
    "pixel_limit",
    "read_annotation",
    "read_classes",
    "read_classes_list",
    "read_image",
    "read_instance_ids",
    "register_data_set",
    "resize_image",
    "resize_labels",
    "survey",
]
