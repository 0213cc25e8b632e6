"""System V shared memory, semaphores and message queues of an IPC namespace."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from linux.proc import PROC

KINDS: Final = {"shm": "shared memory", "sem": "semaphores", "msg": "message queue"}


def sysv_objects(proc: Path = PROC) -> Iterator[str]:
    """Yield what there is in this thread's IPC namespace: ``shared memory 0x1234``, by kind and key."""
    for kind, words in KINDS.items():
        _, *rows = (proc / "sysvipc" / kind).read_text().splitlines()
        for row in rows:
            key, number, *_ = row.split()
            yield f"{words} {int(key) & 0xFFFFFFFF:#x} (id {number})"
