"""Bad files, kind by kind: each gets an error that names the file and says what is wrong, or is read right.

Every test breaks one file of a small data set. `refused` looks at it with the three that a user meets: reading the
sample, the check before a training, and `ladderseg data check`.
"""

import os
import re
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.data_trees import random_labels, save_image, save_labels

from ladderseg_fast.cli.main import main
from ladderseg_fast.data import ImageFolder, check_pairs

SIZE = (24, 32)


@pytest.fixture
def image(folder_root: Path) -> Path:
    """The image to break."""
    return folder_root / "images/train/b.png"


@pytest.fixture
def labels(folder_root: Path) -> Path:
    """The label image to break."""
    return folder_root / "labels/train/b.png"


def root_of(path: Path) -> Path:
    return path.parents[2]


def read(path: Path):
    """The sample that `path` belongs to."""
    return ImageFolder(root_of(path), "train")[1]


def checked(path: Path, capsys) -> tuple[int, str]:
    """Exit status and messages of `ladderseg data check`."""
    status = main(["data", "check", "--data", "folder", "--root", str(root_of(path)), "--split", "train"])
    return status, capsys.readouterr().err


def refused(path: Path, capsys, error: type[Exception], message: str, headers_tell: bool = True) -> None:
    """Asserts that all three name `path` and give `message`; `headers_tell`: the check before a training sees it."""
    expected = re.escape(str(path)) + ": " + message
    with pytest.raises(error, match=expected) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    data = ImageFolder(root_of(path), "train")
    if headers_tell:
        with pytest.raises(ValueError, match=expected):
            check_pairs(data)
    else:
        check_pairs(data)
    status, text = checked(path, capsys)
    assert status == 2
    assert re.fullmatch(f"ladderseg: error: {expected}.*\n", text)


def accepted(path: Path, capsys):
    """The sample, after asserting that nothing is said against it."""
    check_pairs(ImageFolder(root_of(path), "train"))
    assert checked(path, capsys) == (0, "")
    return read(path)


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def save_png(path: Path, width: int, height: int, depth: int, colour_type: int, rows: bytes) -> None:
    """A PNG of raw rows, each led by its filter byte: for what Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def test_good_files_are_accepted(image, capsys):
    accepted(image, capsys)


# --- the fifteen of the issue


@pytest.mark.parametrize("half", ["image", "labels"])
def test_truncated_png(half, request, capsys):
    path = request.getfixturevalue(half)
    path.write_bytes(path.read_bytes()[:-40])
    refused(path, capsys, OSError, r"cannot read the image \(", headers_tell=False)


def test_labels_of_another_size(image, labels, capsys):
    save_labels(labels, np.zeros((24, 30), np.uint8))
    message = rf"annotation is 24x30 but its image {re.escape(str(image))} is 24x32 \(HxW\)"
    refused(labels, capsys, ValueError, message)


def test_labels_of_16_bits(labels, capsys):
    save_labels(labels, np.zeros(SIZE, np.uint16))
    message = "an annotation is an 8-bit grey or palette image, but this has 16 bits per channel, grey: its values"
    refused(labels, capsys, ValueError, message)


def test_rgba_image_loses_its_transparency(image, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(image)
    assert np.array_equal(accepted(image, capsys).image, pixels[..., :3])


def test_grey_image_becomes_rgb(image, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, SIZE, dtype=np.uint8)
    Image.fromarray(pixels).save(image)
    assert np.array_equal(accepted(image, capsys).image, np.repeat(pixels[..., None], 3, axis=2))


def test_cmyk_jpeg_becomes_rgb(image, capsys):
    image.unlink()
    path = image.with_suffix(".jpg")
    Image.new("RGB", SIZE[::-1], (200, 60, 20)).convert("CMYK").save(path, quality=95)
    assert Image.open(path).mode == "CMYK"
    assert np.abs(accepted(path, capsys).image.astype(int) - (200, 60, 20)).max() <= 4


def test_lab_tiff_becomes_rgb(image, capsys):
    """Its second band is called A, as transparency is."""
    path = image.with_suffix(".tif")
    image.rename(path)
    Image.merge("LAB", [Image.new("L", SIZE[::-1], value) for value in (128, 200, 30)]).save(path)
    assert accepted(path, capsys).image.shape == (*SIZE, 3)


def test_label_outside_the_classes(labels, capsys):
    values = random_labels([0, 7, 255], SIZE)
    values[5, 9] = values[20, 3] = 254
    save_labels(labels, values)
    message = r"labels must be 0, 7 or 255, found 254 \(row 5, column 9, and 2 such pixels in all\)"
    refused(labels, capsys, ValueError, message, headers_tell=False)


def test_missing_labels(labels, capsys):
    labels.unlink()
    refused(labels, capsys, FileNotFoundError, "no such file")


def test_missing_image(image, capsys):
    image.unlink()
    refused(image.with_name("b.*"), capsys, FileNotFoundError, "no such file")


@pytest.mark.parametrize("folder", ["images", "labels"])
def test_empty_folder(folder_root, capsys, folder):
    for path in (folder_root / folder / "train").iterdir():
        path.unlink()
    message = rf"{folder}/train: the folder is empty"
    with pytest.raises(ValueError, match=message):
        ImageFolder(folder_root, "train")
    assert main(["data", "check", "--data", "folder", "--root", str(folder_root)]) == 2
    assert re.fullmatch(rf"ladderseg: error: .*{message}\n", capsys.readouterr().err)


@pytest.mark.parametrize("half", ["image", "labels"])
def test_file_of_zero_bytes(half, request, capsys):
    path = request.getfixturevalue(half)
    path.write_bytes(b"")
    refused(path, capsys, OSError, "the file is empty")


def test_loop_of_symbolic_links(image, capsys):
    image.unlink()
    image.symlink_to(image)
    refused(image, capsys, OSError, "Too many levels of symbolic links")


def test_symbolic_link_to_nowhere(image, capsys):
    image.unlink()
    image.symlink_to(image.with_name("gone"))
    refused(image, capsys, FileNotFoundError, "a symbolic link to no file")


@pytest.mark.parametrize("half", ["image", "labels"])
def test_animation(half, request, capsys):
    path = request.getfixturevalue(half)
    frames = [Image.new("L", SIZE[::-1], colour) for colour in (0, 7, 255)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    refused(path, capsys, ValueError, "a single .* is expected, but the file holds 3")


def photo_taken_sideways(path: Path) -> np.ndarray:
    """Writes a photo that is stored 24x32 and is to be turned to 32x24; returns its upright look."""
    stored = np.zeros((*SIZE, 3), np.uint8)
    stored[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored left edge is the top of the scene
    Image.fromarray(stored).save(path, exif=exif, quality=95)
    return np.rot90(stored, -1)


def test_photo_is_turned_as_its_labels_are(image, labels, capsys):
    image.unlink()
    upright = photo_taken_sideways(image.with_suffix(".jpg"))
    values = random_labels([0, 7], SIZE[::-1])
    save_labels(labels, values)
    sample = accepted(image.with_suffix(".jpg"), capsys)
    assert np.abs(sample.image.astype(int) - upright).max() < 40
    assert np.array_equal(sample.labels == 1, values == 7)


def test_photo_that_is_turned_but_not_its_labels(image, labels, capsys):
    image.unlink()
    photo_taken_sideways(image.with_suffix(".jpg"))
    message = r"annotation is 24x32 but its image .* is 32x24 \(HxW\) once it is turned upright by its EXIF"
    refused(labels, capsys, ValueError, message)


def test_bomb_of_huge_dimensions(image, capsys):
    save_png(image, 60000, 60000, 8, 2, b"\0" * 1000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(image, capsys, OSError, r"cannot read the image \(Image size \(3600000000 pixels\) exceeds limit")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "KiB; the pixels would be 10 GB"


def test_unreadable_file(image, capsys, monkeypatch):
    def refuse(file, *arguments, **options):
        if Path(file) == image:
            raise PermissionError(13, "Permission denied", str(file))
        return original(file, *arguments, **options)

    # Taking the permission away does not stop root, who runs the tests in many containers.
    original = Image.open
    monkeypatch.setattr(Image, "open", refuse)
    refused(image, capsys, PermissionError, "Permission denied")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_file_without_permission(image, capsys):
    image.chmod(0)
    refused(image, capsys, PermissionError, "Permission denied")


def test_directory_in_a_files_place(image, capsys):
    image.unlink()
    image.mkdir()
    refused(image, capsys, IsADirectoryError, "a directory, where an image file is expected")


# --- more kinds of label images


def test_pipe_in_a_files_place(image, capsys):
    image.unlink()
    os.mkfifo(image)
    refused(image, capsys, OSError, "not an ordinary file")


def test_palette_of_the_labels_does_not_matter(labels, capsys):
    values = random_labels([0, 7, 255], SIZE)
    save_labels(labels, values, palette=True)
    assert np.array_equal(accepted(labels, capsys).labels, np.select([values == 0, values == 7], [0, 1], 255))


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("colour_type", ["grey", "palette"])
def test_labels_of_few_bits_keep_their_values(labels, capsys, depth, colour_type):
    """Decoders stretch few bits of grey to 0..255, of which 85 or 17 is one step."""
    most = 2**depth - 1
    (root_of(labels) / "classes.toml").write_text(
        "".join(f'[[classes]]\nname = "{k}"\ncolour = [0, 0, {k}]\n' for k in range(most + 1))
    )
    values = random_labels(list(range(most + 1)), SIZE)
    if colour_type == "palette":
        picture = Image.fromarray(values)
        picture.putpalette([255 - k for k in range(3 * (most + 1))])
        picture.save(labels, bits=depth)
    else:
        bits = (values[..., None] >> np.arange(depth - 1, -1, -1) & 1).reshape(SIZE[0], -1).astype(np.uint8)
        packed = np.packbits(bits, axis=1)
        save_png(labels, SIZE[1], SIZE[0], depth, 0, b"".join(b"\0" + row.tobytes() for row in packed))
    assert labels.read_bytes()[24] == depth
    for path in labels.parent.iterdir():
        if path != labels:
            save_labels(path, np.zeros(SIZE, np.uint8))
    assert np.array_equal(accepted(labels, capsys).labels, values)


def test_labels_of_colours_that_no_class_has(labels, capsys):
    Image.new("RGB", SIZE[::-1]).save(labels)
    message = r"the label image is RGB, and the colour \(0, 0, 0\) of 768 of its 768 pixels"
    refused(labels, capsys, ValueError, message, headers_tell=False)


def test_transparent_labels(labels, capsys):
    Image.new("LA", SIZE[::-1]).save(labels)
    refused(labels, capsys, ValueError, "a label image may not have transparency", headers_tell=False)


def test_jpeg_labels(labels, capsys):
    """JPEG blurs values into ones that were never there."""
    Image.new("L", SIZE[::-1]).save(labels, format="JPEG")
    refused(labels, capsys, ValueError, "labels must be a PNG file, but this is JPEG")


# --- more kinds of damage


def test_no_image_at_all(image, capsys):
    image.write_text("hello")
    refused(image, capsys, OSError, "not an image, or of a format that Pillow does not know")


def test_image_of_16_bits(image, capsys):
    Image.fromarray(np.full(SIZE, 40000, np.uint16)).save(image)
    refused(image, capsys, ValueError, "the image has 16 bits per channel, grey; 8-bit grey and RGB images are read")


@pytest.mark.parametrize("half", ["image", "labels"])
def test_wrong_checksum(half, request, capsys):
    """Decoders take the pixels as they are; only the thorough check compares the sums."""
    path = request.getfixturevalue(half)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"IEND") - 5] ^= 1  # the last byte of the checksum of the pixels' chunk
    path.write_bytes(content)
    read(path)
    status, text = checked(path, capsys)
    assert status == 2
    assert re.fullmatch(rf"ladderseg: error: {re.escape(str(path))}: cannot read the image \(.*\)\n", text)


def test_every_broken_file_is_named(image, labels, capsys):
    image.write_bytes(b"")
    labels.write_bytes(b"")
    save_image(image.with_name("c.png"), (24, 33))
    status, text = checked(image, capsys)
    assert status == 2
    assert [line.split(": ")[2] for line in text.splitlines()] == [
        str(image),
        str(labels),
        str(labels.with_name("c.png")),
    ]
    message = r"^2 of 3 samples cannot be used:\n  .*b\.png: the file is empty\n  .*c\.png: annotation is .*\n`ladd"
    with pytest.raises(ValueError, match=message):
        check_pairs(ImageFolder(root_of(image), "train"))
