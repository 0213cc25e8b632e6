"""The driver's device nodes in the agent's own /dev, in which its library looks for them.

A container's /dev is made when the container is. The nodes of a driver that is loaded later are not in it, nor are
those that the GPU Operator's driver container keeps in a folder of its own.
"""

import logging
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

_PATTERNS: Final = ("nvidia*", "nvidia-caps/*")
_CONTROL: Final = "nvidiactl"
"""Which the library opens first: a folder without it has no driver's nodes."""
_MODE: Final = stat.S_IFCHR | 0o666
"""The driver's own default."""
logger = logging.getLogger(__name__)


def bring_device_nodes(roots: Iterable[Path], into: Path = Path("/dev")) -> list[str]:
    """Make the nodes of the first root's /dev that has a driver's, as far as they are missing or of another number.

    Returns:
        The names of those that were made.
    """
    there = next((nodes for root in roots if _CONTROL in (nodes := _nodes(root / "dev"))), {})
    made = []
    for name in other_nodes(there, _nodes(into)):
        try:
            _make(into / name, there[name])
        except OSError as error:
            logger.warning("device node %s could not be made: %s", name, error)
        else:
            made.append(name)
    if made:
        logger.info("device nodes of the driver were brought in", extra={"nodes": made})
    return made


def other_nodes(there: Mapping[str, int], here: Mapping[str, int]) -> list[str]:
    """Return the names that are not here with the same number; pure.

    The number of nvidia-uvm may be another one each time that the driver is loaded.
    """
    return [name for name, number in sorted(there.items()) if here.get(name) != number]


def _nodes(dev: Path) -> dict[str, int]:
    """Return the driver's nodes in a folder: name -> device number."""
    found = {}
    for path in (path for pattern in _PATTERNS for path in dev.glob(pattern)):
        with suppress(OSError):
            status = path.stat(follow_symlinks=False)
            if stat.S_ISCHR(status.st_mode):
                found[str(path.relative_to(dev))] = status.st_rdev
    return found


def _make(path: Path, number: int) -> None:
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.mknod(path, _MODE, number)
    path.chmod(stat.S_IMODE(_MODE))  # whatever the umask
