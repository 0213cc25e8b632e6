"""Building the cluster's programs, each at most once per version."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cluster.builder import cache, go, toolchain
from cluster.builder.cache import Cache
from cluster.builder.go import Go
from cluster.builder.toolchain import Component
from cluster.errors import BuildError, CommandError
from cluster.processes import run
from cluster.progress import Advance, Progress

SOURCES = Path(__file__).parent / "toolchain"

FIRST_BUILD = (
    "The first build takes 10 to 20 minutes on two cores: Kubernetes, containerd, etcd and Helm are compiled from\n"
    "source, because only package registries are needed that way. Later starts take their programs from\n"
)
"""Said before it starts; seen: 10 minutes in all on two free cores, 17 on busy ones."""

MEMORY_PER_BUILD = 6 << 30
"""Bytes: linking Kubernetes was seen to take 4 GiB; below twice this, one build runs at a time."""


@dataclass(frozen=True)
class Programs:
    """Where each component's folder is."""

    folders: dict[str, Path]

    def path(self, name: str) -> Path:
        """Return a program by its name, e.g. ``kubectl``."""
        for folder in self.folders.values():
            if (folder / name).exists():
                return folder / name
        raise BuildError(f"{name} is not among the programs built")


def build(home: Cache, components: Sequence[Component], progress: Progress) -> Programs:
    """Have *components* built; what the cache holds is taken from there.

    A machine without a compiler needs none if its cache holds all of them, as one that was copied there does.
    """
    # All modules count, not only those wanted now: else the compiler, and so every key, could differ between calls.
    mods = {c.name: _sources(c)["go.mod"].decode() for c in toolchain.ALL_COMPONENTS}
    compiler = go.installed(toolchain.go_required(mods), progress)
    if compiler is None:
        built = _targets(home, components, home.compiler())
        if all(cache.is_whole(target) for target in built.values()):
            return _programs(built)
        compiler = go.private(home, progress)
    targets = _targets(home, components, compiler.version)
    missing = [component for component in components if not cache.is_whole(targets[component])]
    if missing:
        progress.say(f"{FIRST_BUILD}{home.root}. To build now: {', '.join(c.name for c in missing)}.")
        _build_all(compiler, missing, targets, progress)
    home.note_compiler(compiler.version)
    return _programs(targets)


def _targets(home: Cache, components: Sequence[Component], compiler: str) -> dict[Component, Path]:
    """Return the folder of each part as that version of the compiler builds it."""
    keys = {c: toolchain.key(c, _sources(c), compiler, platform.machine()) for c in components}
    return {component: home.part(component.name, key) for component, key in keys.items()}


def _programs(targets: dict[Component, Path]) -> Programs:
    return Programs({component.name: target for component, target in targets.items()})


def _build_all(compiler: Go, missing: Sequence[Component], targets: dict[Component, Path], progress: Progress) -> None:
    with ThreadPoolExecutor(max_workers=_side_by_side()) as pool:
        jobs = [pool.submit(_build_one, compiler, c, targets[c], progress) for c in missing]
        for job in jobs:
            job.result()


def _side_by_side() -> int:
    """Return how many builds run at once: one leaves cores idle while it links, so two if memory allows."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 2 if memory >= 2 * MEMORY_PER_BUILD else 1


def _build_one(compiler: Go, component: Component, target: Path, progress: Progress) -> None:
    with progress.step(f"building {component.name}") as advance:
        cache.publish(target, lambda folder: _compile(compiler, component, folder, advance))


def _compile(compiler: Go, component: Component, folder: Path, advance: Advance) -> None:
    flags = toolchain.ldflags(component, _sources(component)["go.mod"].decode())
    source, env = SOURCES / component.name, compiler.environment()
    try:
        listed = run([compiler.program, "list", "-deps", *component.packages], env=env, cwd=source)
    except CommandError as error:
        raise BuildError(f"the sources of {component.name} cannot be fetched: {error}") from error
    argv = [str(compiler.program), "build", "-v", "-trimpath", "-ldflags", flags, "-o", f"{folder}/"]
    _watched([*argv, *component.packages], source, env, total=len(listed.splitlines()), advance=advance)
    for name in component.binaries:
        if not (folder / name).is_file():
            raise BuildError(f"building {component.name} left no {name}")
    for name in component.links:
        (folder / name).symlink_to(component.binaries[0])
    _keep_folders(compiler, component, folder)


def _keep_folders(compiler: Go, component: Component, folder: Path) -> None:
    """Copy a module's folders, because a part must not depend on the compiler's own cache of modules."""
    if not component.folders:
        return
    asked: list[str | Path] = [compiler.program, "list", "-m", "-f", "{{.Dir}}", component.module]
    module = Path(run(asked, env=compiler.environment(), cwd=SOURCES / component.name).strip())
    for source, name in component.folders:
        for file in (found for found in (module / source).rglob("*") if found.is_file()):
            target = folder / name / file.relative_to(module / source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)  # not its mode: all is read-only there, and a part must be removable


def _watched(argv: list[str], cwd: Path, env: dict[str, str], *, total: int, advance: Advance) -> None:
    """Run a build that names each package on a line of its own as it compiles it."""
    tail: deque[str] = deque(maxlen=30)
    with tempfile.TemporaryDirectory(prefix="cluster-build-") as scratch:
        building = subprocess.Popen(
            argv, cwd=cwd, env={**env, "GOTMPDIR": scratch}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        with building:
            for done, line in enumerate(building.stdout or (), start=1):
                tail.append(line)
                advance(min(done, total), total)
    if building.returncode:
        raise BuildError(str(CommandError(argv, building.returncode, "".join(tail))))


def _sources(component: Component) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((SOURCES / component.name).iterdir()) if path.is_file()}
