"""The version that images, chart and package share."""

from typing import Final

VERSION: Final = "0.1.0"
