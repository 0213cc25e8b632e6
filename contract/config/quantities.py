"""Quantities of the values, such as ``500Gi``, as numbers, and numbers of bytes for people."""

import re
from decimal import Decimal
from typing import Final

_SUFFIX: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18} | {
    f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", start=1)
}


def quantity_bytes(quantity: str) -> int:
    """Return a quantity in bytes."""
    number, suffix = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", quantity).groups()  # type: ignore[union-attr]
    return int(Decimal(number) * (_SUFFIX[suffix] if suffix != "m" else Decimal("0.001")))


def readable(size: int) -> str:
    """Return a number of bytes as people read it: ``16.5 GiB``."""
    return f"{size / 2**30:.1f} GiB" if size >= 1 << 30 else f"{size / 2**20:.1f} MiB"
