"""Runs ``native/weight_matcher``: the program that says which ranges of saved memory are in other files too.

What it reads is hostile, so it is a process of its own, and what it says is checked: ``agent.gpu.ranges``.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from agent.gpu.ranges import Range

WEIGHT_MATCHER: Final = "bin/weight-matcher"
"""Below criu's folder, where ``images/native.py`` builds it."""
MOST_THREADS: Final = 32
SHORTEST: Final = 512 << 10
"""Bytes of a range that counts; ``native/weight_matcher/weight_matcher.h`` has the same."""


class MatchError(Exception):
    """It cannot say, or took too long."""


class Source(Protocol):
    """A file that ranges may be in."""

    @property
    def descriptor(self) -> int:
        """To read."""
        ...

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def tensors(self) -> Sequence[tuple[int, int]]:
        """First byte and length of each."""
        ...


def find_ranges(program: Path, saved: Sequence[int], sources: Sequence[Source], seconds: float) -> list[Range]:
    """Return which ranges of saved files are in one of the sources, byte for byte, in order.

    Args:
        program: to run.
        saved: descriptors.
        sources: what to look in.
        seconds: how long it may take.

    Raises:
        MatchError: nothing is known.
    """
    threads = min(MOST_THREADS, os.cpu_count() or 1)
    try:
        ended = subprocess.run(
            [str(program), str(threads)],
            input="".join(f"{line}\n" for line in _lines(saved, sources)).encode(),
            capture_output=True,
            check=False,
            timeout=seconds,
            pass_fds=[*saved, *(source.descriptor for source in sources)],
            env={},
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MatchError(str(error)) from error
    if ended.returncode:
        words = ended.stderr.decode(errors="replace").strip() or f"it ended with {ended.returncode}"
        raise MatchError(words)
    return [_range(line) for line in ended.stdout.decode("ascii").splitlines()]


def _lines(saved: Sequence[int], sources: Sequence[Source]) -> Iterator[str]:
    for descriptor in saved:
        yield f"saved {descriptor} {os.fstat(descriptor).st_size}"
    for source in sources:
        yield f"source {source.descriptor} {source.size}"
        for first, length in source.tensors:
            if length >= SHORTEST:
                yield f"tensor {first} {length}"


def _range(line: str) -> Range:
    file, source, at, length, offset = map(int, line.split())
    return Range(file, at, length, source, offset)
