"""Correct rounding of exact values to a floating-point format, independent of any hardware."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

# Bits of the significand, smallest and largest exponent.
FORMATS = {"f16": (11, -14, 15), "bf16": (8, -126, 127), "tf32": (11, -126, 127), "f32": (24, -126, 127),
           "f64": (53, -1022, 1023)}  # fmt: skip


def rounded(value: Fraction, fmt: str, mode: str = "rn"):
    """The nearest value of the format (a Fraction, or an infinity); ``mode`` is rn, rz, rm, rp or rna."""
    precision, smallest, largest = FORMATS[fmt]
    if value == 0:
        return Fraction(0)
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if Fraction(2) ** exponent > magnitude:
        exponent -= 1
    unit = Fraction(2) ** (max(exponent, smallest) - precision + 1)
    quotient, rest = divmod(magnitude, unit)
    up = {
        "rn": 2 * rest > unit or (2 * rest == unit and quotient % 2 == 1),
        "rna": 2 * rest >= unit,
        "rz": False,
        "rm": rest > 0 and value < 0,
        "rp": rest > 0 and value > 0,
    }[mode]
    result = (quotient + up) * unit
    limit = (2 - Fraction(2) ** (1 - precision)) * Fraction(2) ** largest
    if result > limit:
        towards_zero = mode == "rz" or (mode == "rm" and value > 0) or (mode == "rp" and value < 0)
        result = limit if towards_zero else math.inf
    return result if value > 0 else -result


def rounded_array(values, fmt: str, mode: str = "rn") -> np.ndarray:
    """As float64, which holds every value of the formats."""
    return np.array([float(rounded(v, fmt, mode)) for v in values])


def half_values(bits: np.ndarray, fmt: str) -> np.ndarray:
    """The values of f16 or bf16 bit patterns as float64."""
    bits = np.asarray(bits, np.uint16)
    if fmt == "f16":
        return bits.view(np.float16).astype(np.float64)
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def half_bits(values, fmt: str) -> np.ndarray:
    """The nearest f16 or bf16 bit patterns to float32 values."""
    values = np.asarray(values, np.float32)
    if fmt == "f16":
        return values.astype(np.float16).view(np.uint16)
    bits = values.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
