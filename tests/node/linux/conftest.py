"""What looks at the kernel need."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A folder on a disk: a file system in memory has no other place for what is in page cache."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)
