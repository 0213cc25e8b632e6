"""Errors of the image builder; every message names the thing that failed and the remedy.

ImageError
    ToolError      a program that we called failed
    ArchiveError   an image archive cannot be read
    MirrorError    no Debian mirror is known on this machine
"""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

# Enough of a failed program's words to say why, few enough to read.
_TAIL = 2000


class ImageError(Exception):
    """Anything that keeps an image from being built."""


class ToolError(ImageError):
    """A program that we called failed, or is not there."""


class ArchiveError(ImageError):
    """An image archive that is damaged, or of a kind that we do not read."""


class MirrorError(ImageError):
    """This machine's own configuration names no Debian mirror."""


def call(argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, needs: str) -> str:
    """Run a program to its end and return its standard output.

    Args:
        argv: Program and arguments.
        env: The whole environment; the caller's if None.
        needs: What provides the program, for the message when it is missing.

    Raises:
        ToolError: If it cannot be started or its exit status is not 0.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(words, env=env, capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError as e:
        raise ToolError(f"{words[0]} is not installed; it comes with {needs}") from e
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-_TAIL:]
        raise ToolError(f"{' '.join(words[:6])} ... ended with status {done.returncode}:\n{said}")
    return done.stdout
