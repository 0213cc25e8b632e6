"""Quantities of the values, such as ``500Gi``, as numbers, and numbers of bytes for people."""

import re
from decimal import Decimal
from typing import Final

_SUFFIX: Final = {
    suffix: Decimal(10) ** (3 * power) for power, suffix in enumerate(("n", "u", "m", "", *"kMGTPE"), -3)
} | {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)}


def quantity_bytes(quantity: str) -> int:
    """Return a quantity in bytes."""
    number, suffix = re.fullmatch(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]*)", quantity).groups()  # type: ignore[union-attr]
    return int(Decimal(number) * _SUFFIX[suffix])


def readable(size: int) -> str:
    """Return a number of bytes as people read it: ``16.5 GiB``."""
    return f"{size / 2**30:.1f} GiB" if size >= 1 << 30 else f"{size / 2**20:.1f} MiB"
