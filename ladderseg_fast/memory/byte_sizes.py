"""Memory sizes in human-readable form."""

import re

from ..shortened import shortened

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}

#: First size that no memory and no tensor can have: 8 EiB.
_TOO_LARGE = 1 << 63


def parse_bytes(text: str | int) -> int:
    """ "8GiB" -> 8589934592, "900 MB" -> 900000000; a number is bytes.

    Raises:
        ValueError: `text` is not a size, not positive, or not below 8 EiB.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(text))
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError(f"expected a size of memory such as 8GiB or 900MB, got {text!r}")
    number = float(match[1]) * _UNITS[match[2].upper()]
    if number >= _TOO_LARGE:
        raise ValueError(f"a size of memory must be below 8 EiB, got {shortened(str(text), 30)}")
    size = int(number)
    if size < 1:
        raise ValueError(f"a size of memory must be positive, got {text!r}")
    return size


def format_bytes(size: float) -> str:
    """ "1.24 GB": in units of 1000."""
    if abs(size) >= 1e9:
        return f"{size / 1e9:.2f} GB"
    return f"{size / 1e6:.1f} MB" if abs(size) >= 1e5 else f"{size / 1e3:.1f} kB"
