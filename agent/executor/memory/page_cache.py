"""Gives page cache of artifacts back when a node is short of memory, so that kubelet evicts no pod for it.

Page cache of what an agent reads counts for the agent. The kernel could have it at any time, but kubelet takes what of
it was read more than once for memory in use, and evicts pods if that leaves too little. What a restore in progress has
mapped, or what is registered with the driver (agent.gpu.ahead), stays.
"""

import asyncio
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple, NoReturn

from artifact.beneath import open_agent_mount, open_beneath, open_file
from artifact.errors import ArtifactError

LOOK_SECONDS: Final = 1.0
"""Kubelet looks every ten seconds, and evicts at once."""
SHARE: Final = 32
"""So much less than all of a node's memory is kept for others: 4 GiB of 128. Kubelet evicts at 100 MiB by default. On a
node that has run for long files of others fill the rest, so by its measure little is left, and it evicts nothing."""
LEAST_KIB: Final = 512 << 10
"""What is kept of a small node, in KiB."""
MEMINFO: Final = Path("/proc/meminfo")
logger = logging.getLogger(__name__)


class Version(NamedTuple):
    """An artifact in checkpoint storage."""

    base_path: PurePosixPath
    checkpoint_id: str
    version: str


class PageCache:
    """What a node has read of artifacts, that used longest ago first.

    Args:
        meminfo: the kernel's file of that name.
        drop: gives up page cache of one artifact; answers the bytes of its files.
    """

    def __init__(self, meminfo: Path = MEMINFO, drop: Callable[[Version], int] | None = None) -> None:
        self._meminfo = meminfo
        self._drop = drop or drop_files
        self._used: OrderedDict[Version, None] = OrderedDict()
        self._lock = threading.Lock()

    def used(self, version: Version) -> None:
        """Note that an artifact is read now."""
        with self._lock:
            self._used[version] = None
            self._used.move_to_end(version)

    async def run(self) -> NoReturn:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Give up artifacts for as long as the node is short of memory; each comes back when it is used again."""
        while is_short(self._meminfo.read_text()):
            with self._lock:
                if not self._used:
                    return
                version, _ = self._used.popitem(last=False)
            size = self._drop(version)
            words = "page cache of an artifact is given back: the node is short of memory"
            logger.info(words, extra={"checkpoint": version.checkpoint_id, "version": version.version, "bytes": size})


def is_short(meminfo: str) -> bool:
    """Say whether too little of the node's memory is left, as kubelet sees it; pure.

    It takes page cache for free only if that was read once (``memory.available``: all but the working set).
    """
    lines = (line.partition(":") for line in meminfo.splitlines())
    fields = {name: int(rest.split()[0]) for name, _, rest in lines if rest}
    left = fields.get("MemFree", 0) + fields.get("Inactive(file)", 0)
    return left < max(fields.get("MemTotal", 0) // SHARE, LEAST_KIB)


def drop_files(version: Version) -> int:
    """Have the kernel give up what it has of an artifact's files in page cache; return the bytes of these."""
    try:
        with ExitStack() as opened:
            root = open_agent_mount(str(version.base_path))
            opened.callback(os.close, root)
            folder = open_beneath(root, f"{version.checkpoint_id}/versions/{version.version}")
            opened.callback(os.close, folder)
            return sum(_drop(folder, name) for name in os.listdir(folder))  # noqa: PTH208 - by descriptor
    except (OSError, ArtifactError) as error:  # it was removed
        logger.debug("page cache of %s is not given back: %s", version.checkpoint_id, error)
        return 0


def _drop(folder: int, name: str) -> int:
    file = open_file(folder, name)
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.fstat(file).st_size
    finally:
        os.close(file)
