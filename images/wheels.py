"""Python dependencies of an image: wheels, pinned by hash, installed for the image's Python by the builder's pip."""

import json
import shutil
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from images.errors import call

SITE: Final = "usr/local/lib/python3.13/dist-packages"
"""Where Debian's Python looks for packages that are not Debian's."""

_NEEDS: Final = "Python's package pip"
# Every glibc up to that of the base layer; pip takes the list as it is and adds nothing to it.
_PLATFORMS: Final = (*(f"manylinux_2_{minor}_x86_64" for minor in range(41, 4, -1)), "manylinux2014_x86_64")
_TARGET: Final = ("--python-version", "3.13", "--implementation", "cp", "--only-binary=:all:")
# Type stubs and sources that wheels carry along, never imported; and RECORD, which holds hashes of scripts that name
# the builder's interpreter.
_UNUSED: Final = ("*.dist-info/RECORD", "*.pyi", "*.pyx", "*.pxd", "*.h", "*.a")


def install(lock: Path, root: Path) -> None:
    """Install a lock file's wheels below ``root``; a wheel whose hash is not in the lock is refused."""
    site = root / SITE
    flags: list[str | Path] = ["--target", site, "--no-deps", "--no-compile", "--require-hashes", "--quiet", "-r", lock]
    flags.append(
        "--ignore-requires-python"
    )  # pip < 23.1 would compare with the Python it runs on; the lock knows better
    call([sys.executable, "-m", "pip", "install", *_TARGET, *_platforms(), *flags], needs=_NEEDS)
    shutil.rmtree(site / "bin", ignore_errors=True)  # scripts that name the builder's interpreter
    for pattern in _UNUSED:
        for file in site.rglob(pattern):
            file.unlink()
    for folder in [*site.rglob("tests"), *site.rglob("__pycache__")]:
        shutil.rmtree(folder, ignore_errors=True)


def resolve(requirements: Sequence[str], *, deps: bool = True) -> str:
    """Resolve requirements for the image's Python and return the text of their lock file.

    Args:
        requirements: As in a requirements file.
        deps: Whether what they depend on is wanted too.
    """
    flags = ["--dry-run", "--ignore-installed", "--quiet", "--report", "-", "--target", "unused"]
    if not deps:
        flags.append("--no-deps")
    report = call(
        [sys.executable, "-m", "pip", "install", *_TARGET, *_platforms(), *flags, *requirements], needs=_NEEDS
    )
    entries = sorted(_entry(found) for found in json.loads(report)["install"])
    return "# Made by `python -m images lock`: the exact wheels of the image.\n" + "".join(entries)


def extras(pyproject: Path, names: Sequence[str]) -> list[str]:
    """Return the project's own requirements with those of its extras."""
    project = tomllib.loads(pyproject.read_text())["project"]
    wanted = {line for name in names for line in project["optional-dependencies"][name]}
    return sorted({*project["dependencies"], *wanted})


def _entry(found: dict[str, dict[str, dict[str, dict[str, str]]]]) -> str:
    metadata, origin = found["metadata"], found["download_info"]["archive_info"]
    return f"{str(metadata['name']).lower()}=={metadata['version']} --hash=sha256:{origin['hashes']['sha256']}\n"


def _platforms() -> list[str]:
    return [word for platform in _PLATFORMS for word in ("--platform", platform)]
