"""Random changes of a file's bytes: some know nothing of its format, others keep its checksums and lengths right.

All come from a random.Random, so that a seed repeats them.
"""

import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

Mutation = Callable[[bytes, random.Random], bytes]

#: Numbers at which arithmetic goes wrong.
_HARD = (0, 1, 2, 7, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def mutated(data: bytes, draw: random.Random, structured: bool) -> bytes:
    """`data` after one to four changes; if `structured`, at least one that knows its format, if there is any."""
    if structured:
        data = _of_format(data)(data, draw)
    for _ in range(draw.choice((0, 1, 1, 2)) if structured else draw.choice((1, 1, 1, 2, 4))):
        data = draw.choice(_PLAIN)(data, draw)
    return data


def _of_format(data: bytes) -> Mutation:
    """The change for the format that `data` has."""
    if data[:8] == _PNG_SIGNATURE:
        return png_chunks
    if data[:4] == b"PK\x03\x04":
        return zip_entries
    if data[:4] in (b"II*\0", b"MM\0*"):
        return tiff_tags
    if len(data) > 9 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data):
        return safetensors_header
    if data[:1] == b"{":
        return json_lines
    if b"\0" not in data and data:
        return text_values
    return lengths


# --- changes of any bytes ---


def flip(data: bytes, draw: random.Random) -> bytes:
    """Flips some bits, mostly one."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 3, 20))):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(data: bytes, draw: random.Random) -> bytes:
    """Leaves out the end."""
    return data[: draw.randrange(len(data) + 1)]


def leave_out(data: bytes, draw: random.Random) -> bytes:
    """Leaves out a piece in the middle."""
    start = draw.randrange(len(data) + 1)
    return data[:start] + data[start + draw.choice((1, 4, 16, 256)) :]


def splice(data: bytes, draw: random.Random) -> bytes:
    """Copies a piece to another place, over what is there or between it."""
    length = draw.choice((1, 4, 12, 64, 1024))
    start, place = (draw.randrange(len(data) + 1) for _ in range(2))
    rest = data[place + length :] if draw.random() < 0.5 else data[place:]
    return data[:place] + data[start : start + length] + rest


def noise(data: bytes, draw: random.Random) -> bytes:
    """Overwrites a piece with random bytes."""
    place, length = draw.randrange(len(data) + 1), draw.choice((1, 2, 8, 64))
    return data[:place] + draw.randbytes(length) + data[place + length :]


def lengths(data: bytes, draw: random.Random) -> bytes:
    """Overwrites 1 to 8 bytes, at the start more often, with a number at which arithmetic goes wrong."""
    size = draw.choice((1, 2, 4, 4, 8))
    end = draw.choice((len(data), min(len(data), 128)))
    place = draw.randrange(max(1, end - size + 1))
    number = draw.choice(_HARD) % 2 ** (8 * size)
    return data[:place] + number.to_bytes(size, draw.choice(("little", "big"))) + data[place + size :]


_PLAIN: tuple[Mutation, ...] = (flip, flip, cut, leave_out, splice, noise, lengths)


# --- changes that know the format ---


def text_values(data: bytes, draw: random.Random) -> bytes:
    """Replaces a number or word of a text, such as TOML, by another, or doubles or leaves out a line."""
    lines = data.splitlines(keepends=True)
    kind = draw.randrange(4)
    if kind == 0 or not lines:
        lines.insert(draw.randrange(len(lines) + 1), draw.choice(lines or [b"x = 1\n"]))
    elif kind == 1:
        del lines[draw.randrange(len(lines))]
    else:
        words = list(re.finditer(rb"[\w.+-]+", data))
        if words:
            word = draw.choice(words)
            return data[: word.start()] + draw.choice(_WORDS) + data[word.end() :]
    return b"".join(lines)


#: What a number or word of a text becomes.
_WORDS = (
    *(b"-1", b"0", b"1e999", b"nan", b"-inf", b"true", b'""', b"[]", b"{}", b"[[[[]]]]", b"null", b"1979-05-27"),
    *(
        b"9" * 30,
        b"9" * 5000,
        b"0x" + b"f" * 6000,
        b"[" * 3000,
        b'"\\u0000"',
        b'"\x1b[31m"',
        b"'a\\nb'",
        b"1.5",
        b"[1, 2, 3]",
    ),
    *(b'"../../etc"', b'"~/x"', b'"$HOME"', "ä".encode(), b"\xff\xfe", b"ignore = 1", b"a.b.c"),
)


def json_lines(data: bytes, draw: random.Random) -> bytes:
    """Changes one value somewhere in one of the lines of JSON, or leaves out or doubles a line."""
    lines = data.split(b"\n")
    i = draw.randrange(len(lines))
    if draw.random() < 0.1:
        lines.insert(i, lines[i])
    elif draw.random() < 0.1:
        del lines[i]
    else:
        try:
            value = json.loads(lines[i])
        except ValueError:
            return text_values(data, draw)
        lines[i] = json.dumps(json_value(value, draw)).encode()
    return b"\n".join(lines)


def json_value(value: Any, draw: random.Random) -> Any:
    """`value` with a random part of it replaced, renamed or left out."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key, changed = draw.choice(list(value)), dict(value)
        kind = draw.random()
        if kind < 0.1:
            del changed[key]
        elif kind < 0.2:
            changed[draw.choice(("", "kind", "\x1b[2J", "x"))] = changed.pop(key)
        else:
            changed[key] = json_value(value[key], draw)
        return changed
    if isinstance(value, list) and value and draw.random() < 0.8:
        i = draw.randrange(len(value))
        if draw.random() < 0.2:
            return [*value[:i], *value[i + 1 :]]
        return [*value[:i], json_value(value[i], draw), *value[i + 1 :]]
    return draw.choice(_VALUES)


#: What a value of JSON becomes.
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2.5, 10**30, 1e308, -1e308, float("nan"), float("inf"), 2**31, 2**63, 10**400),
    *(
        "",
        "x",
        "nan",
        "/etc/passwd",
        "../x",
        "\0",
        "\x1b[31m",
        "<script>",
        "9" * 100,
        [],
        [0],
        [[]],
        [None],
        {},
        {"a": 1},
    ),
)


def png_chunks(data: bytes, draw: random.Random) -> bytes:
    """Changes the content, name, place or number of a PNG's chunk, whose checksum is then right again."""
    chunks, place = [], 8
    while place + 8 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    if not chunks:
        return data
    i = draw.randrange(len(chunks))
    name, content = chunks[i]
    kind = draw.randrange(6)
    if kind == 0:
        chunks.insert(draw.randrange(len(chunks)), chunks[i])
    elif kind == 1:
        del chunks[i]
    elif kind == 2:
        chunks[i] = (
            draw.choice((b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"eXIf", b"acTL", b"iCCP", b"zTXt", b"fcTL")),
            content,
        )
    elif kind == 3 and name == b"IDAT":
        chunks[i] = (name, _deflated_again(content, draw))
    else:
        chunks[i] = (name, draw.choice(_PLAIN)(content, draw))
    return data[:8] + b"".join(map(_png_chunk, chunks))


def _png_chunk(chunk: tuple[bytes, bytes]) -> bytes:
    name, content = chunk
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _deflated_again(content: bytes, draw: random.Random) -> bytes:
    try:
        return zlib.compress(draw.choice(_PLAIN)(zlib.decompress(content), draw))
    except zlib.error:
        return flip(content, draw)


def zip_entries(data: bytes, draw: random.Random) -> bytes:
    """Changes an entry's content, or its name, in a ZIP whose checksums are then right again."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    except Exception:  # it was damaged before
        return flip(data, draw)
    if not entries:
        return data
    i = draw.randrange(len(entries))
    name, content = entries[i]
    kind = draw.randrange(5)
    if kind == 0:
        del entries[i]
    elif kind == 1:
        entries[i] = (draw.choice((name.upper(), f"../{name}", f"{name}/", "archive/data/0")), content)
    else:
        entries[i] = (name, draw.choice(_PLAIN)(content, draw))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", draw.choice((zipfile.ZIP_STORED,) * 3 + (zipfile.ZIP_DEFLATED,))) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def safetensors_header(data: bytes, draw: random.Random) -> bytes:
    """Changes a value of the header of a safetensors file, whose length is then right again."""
    end = 8 + int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8:end])
    except ValueError:
        return flip(data, draw)
    text = json.dumps(json_value(header, draw)).encode()
    return len(text).to_bytes(8, "little") + text + data[end:]


def tiff_tags(data: bytes, draw: random.Random) -> bytes:
    """Changes number, type, count or value of a tag, or where the next page is, in a TIFF."""
    order = "<" if data[:2] == b"II" else ">"
    start = struct.unpack_from(f"{order}I", data, 4)[0]
    if start + 2 > len(data):
        return flip(data, draw)
    count = struct.unpack_from(f"{order}H", data, start)[0]
    after = start + 2 + 12 * count
    if count == 0 or after + 4 > len(data):
        return flip(data, draw)
    if draw.random() < 0.1:  # a circle, mostly
        return data[:after] + struct.pack(f"{order}I", draw.choice((start, start + 12, 8, 2**31))) + data[after + 4 :]
    tag = start + 2 + 12 * draw.randrange(count)
    place, form = draw.choice(((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "I")))
    most = 2**16 if form == "H" else 2**32
    small = draw.choice((254, 256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 317, 320, 322, 338, 339, 34665))
    number = draw.choice((draw.choice(_HARD) % most, small, draw.randrange(16)))
    return data[: tag + place] + struct.pack(f"{order}{form}", number) + data[tag + place + struct.calcsize(form) :]
