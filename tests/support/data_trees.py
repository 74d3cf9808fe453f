"""Data sets in the official layouts, made of noise for the tests."""

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

Size = tuple[int, int]

#: The folder's classes: value 7 is the second one, 255 is ignored.
CLASSES_FILE = """
ignore = [255]

[[classes]]
name = "ground"
colour = [128, 64, 0]

[[classes]]
name = "thing"
colour = [0, 0, 255]
value = 7
"""


def save_image(path: Path, size: Size, seed: int = 0) -> None:
    """Noise of `size` (H, W), in the format that the name asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def save_labels(path: Path, labels: np.ndarray, palette: bool = False) -> None:
    """A PNG with the values of `labels`: 8-bit grey or palette if they are uint8, 16-bit grey if they are uint16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(labels)
    if palette:
        picture.putpalette(bytes(range(256)) * 3)
    picture.save(path)


def random_labels(values: list[int], size: Size, seed: int = 0) -> np.ndarray:
    """[H, W] uint8 of `values`, each of which occurs."""
    labels = np.random.default_rng(seed).choice(values, size).astype(np.uint8)
    labels.ravel()[: len(values)] = values
    return labels


def make_folder(root: Path, size: Size = (24, 32)) -> Path:
    """ImageFolder: a, b, c in train, d in val."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.toml").write_text(CLASSES_FILE)
    for split, stems in (("train", "abc"), ("val", "d")):
        for seed, stem in enumerate(stems):
            save_image(root / "images" / split / f"{stem}.png", size, seed)
            save_labels(root / "labels" / split / f"{stem}.png", random_labels([0, 7, 255], size, seed))
    return root


def make_bands(root: Path, size: Size = (64, 72), bands: int = 4, dtype: str = "uint16") -> Path:
    """make_folder with TIFFs of `bands`, whose values lie about 1500, 2500, ... of 16 bits, or 55, 65, ... of 8."""
    make_folder(root, size)
    first, step = (1500, 1000) if dtype == "uint16" else (55, 10)
    for path in sorted(root.glob("images/*/*.png")):
        path.unlink()
        rng = np.random.default_rng(ord(path.stem))
        pixels = rng.normal(first + step * np.arange(bands), step / 3, (*size, bands)).clip(0, 2**16 - 1).astype(dtype)
        save_tiff(path.with_suffix(".tif"), pixels)
    return root


def save_tiff(path: Path, pixels: np.ndarray, **options: object) -> None:
    """A TIFF of `pixels` [H, W, bands], whose bands are not said to be colours."""
    planes = {} if pixels.shape[2] == 1 else {"planarconfig": "contig"}
    tifffile.imwrite(path, pixels, **{"photometric": "minisblack", **planes, **options})


def make_cityscapes(root: Path, size: Size = (24, 48)) -> Path:
    """All splits: two cities of two frames in train, one in the others; instances in val; coarse labels too."""
    frames = {
        "train": ("aachen_000000_000019", "aachen_000001_000019", "ulm_000000_000019", "ulm_000001_000019"),
        "val": ("frankfurt_000000_000294", "frankfurt_000000_000576"),
        "test": ("berlin_000000_000019",),
        "train_extra": ("augsburg_000000_000000",),
    }
    for split, names in frames.items():
        for seed, name in enumerate(names):
            city = name.split("_")[0]
            save_image(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", size, seed)
            labels = random_labels(list(range(34)), size, seed)
            if split in ("train", "val"):
                folder = root / "gtFine" / split / city
                save_labels(folder / f"{name}_gtFine_labelIds.png", labels)
                things = np.where((labels >= 24) & (labels <= 33), labels.astype(np.uint16) * 1000 + 3, labels)
                save_labels(folder / f"{name}_gtFine_instanceIds.png", things.astype(np.uint16))
            if split != "test":
                coarse = np.where(labels < 12, labels, 0).astype(np.uint8)
                save_labels(root / "gtCoarse" / split / city / f"{name}_gtCoarse_labelIds.png", coarse)
    return root


def make_voc(root: Path, size: Size = (20, 30)) -> Path:
    """VOCdevkit: t0 to t2 in train, v0 and v1 in val, x0 in test; and images s0 and s1 that only SBD labels."""
    home = root / "VOCdevkit" / "VOC2012"
    lists = {"train": ["t0", "t1", "t2"], "val": ["v0", "v1"], "test": ["x0"]}
    lists["trainval"] = lists["train"] + lists["val"]
    (home / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split, stems in lists.items():
        (home / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(stems) + "\n")
    for seed, stem in enumerate([*lists["trainval"], "x0", "s0", "s1"]):
        save_image(home / "JPEGImages" / f"{stem}.jpg", size, seed)
    for seed, stem in enumerate(lists["trainval"]):
        labels = random_labels([*range(21), 255], size, seed)
        save_labels(home / "SegmentationClass" / f"{stem}.png", labels, palette=True)
    return root


def make_sbd(folder: Path, size: Size = (20, 30)) -> Path:
    """SBD's labels, all of class 5, of s0 and s1, and of t0 and v0, which VOC labels too."""
    for stem in ("s0", "s1", "t0", "v0"):
        save_labels(folder / f"{stem}.png", np.full(size, 5, np.uint8))
    return folder
