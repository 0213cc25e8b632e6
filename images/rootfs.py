"""A small Debian root file system that runs Python: what a container needs, not what an administrator needs."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from images.errors import call

PYTHON: Final = "python3.13"
USER: Final = 65532
"""The unprivileged user, by the number that distroless images use."""

SCRIPTS_ONLY: Final = frozenset(("debconf", "perl-base", "tzdata"))
"""Packages that others depend on for maintainer scripts, which never run here (and zones: our times are UTC)."""

_LIBRARIES: Final = "usr/lib/x86_64-linux-gnu"
_LOADER: Final = "usr/lib64/ld-linux-x86-64.so.2"

# Documentation and other languages' words; conversions between character sets other than UTF-8; development files.
_UNUSED: Final = (
    "usr/share/doc",
    "usr/share/doc-base",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bug",
    "usr/share/applications",
    "usr/share/pixmaps",
    "usr/share/gdb",
    "usr/share/binfmts",
    "usr/share/apport",
    "usr/share/debconf",
    "usr/share/debianutils",
    "usr/share/python3",
    "usr/share/gcc",
    "usr/lib/valgrind",
    "usr/include",
    "var",
    f"{_LIBRARIES}/gconv",
    f"{_LIBRARIES}/engines-3",
    f"{_LIBRARIES}/ossl-modules",
    *(f"usr/lib/{PYTHON}/{name}" for name in ("test", "ensurepip", "idlelib", "tkinter", "turtledemo")),
)
_FOLDERS: Final = (
    "dev",
    "etc",
    "home",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "var/tmp",
    "var/log",
    "opt",
    "usr/local/bin",
)
_LINKS: Final = {
    "bin": "usr/bin",
    "sbin": "usr/sbin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "var/run": "/run",
    "usr/bin/python3": PYTHON,
    "usr/bin/python": PYTHON,
}
_FILES: Final = {
    "etc/passwd": f"root:x:0:0::/root:/usr/sbin/nologin\nnonroot:x:{USER}:{USER}::/home/nonroot:/usr/sbin/nologin\n",
    "etc/group": f"root:x:0:\nnonroot:x:{USER}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/os-release": 'ID=debian\nNAME="Debian GNU/Linux"\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n',
}
_STICKY: Final = ("tmp", "var/tmp")


def trim(root: Path) -> None:
    """Remove what no container of ours uses."""
    for name in _UNUSED:
        shutil.rmtree(root / name, ignore_errors=True)
    for folder in root.glob(f"usr/lib/{PYTHON}/config-*"):
        shutil.rmtree(folder)


def furnish(root: Path) -> None:
    """Add what maintainer scripts would have made: folders, links of the merged /usr, users."""
    for name in _FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, target in _LINKS.items():
        (root / name).symlink_to(target)
    for name, text in _FILES.items():
        (root / name).write_text(text)
    for name in _STICKY:
        (root / name).chmod(0o1777)


def compile_python(runtime: Path, tree: Path) -> None:
    """Compile all modules below ``tree`` with the interpreter of ``runtime``, through its own loader: no chroot needed.

    The compiled files are never checked against their source (PEP 552): layers do not change, and pods start sooner.
    """
    env: Mapping[str, str] = {"PATH": os.defpath, "PYTHONHOME": str(runtime / "usr"), "PYTHONHASHSEED": "0"}
    loader: list[str | Path] = [runtime / _LOADER, "--library-path", runtime / _LIBRARIES, runtime / "usr/bin" / PYTHON]
    options: list[str | Path] = ["-qq", "-f", "--invalidation-mode", "unchecked-hash", "-s", tree, "-p", "/"]
    # -B: or the compiler's own modules would be left compiled the ordinary way, with times and the builder's paths.
    call([*loader, "-B", "-m", "compileall", *options, tree], env=env, needs="the base layer; run with --refresh")
