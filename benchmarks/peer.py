"""The Go halves: built once per source, kept in the cluster's cache."""

import hashlib
import platform
from pathlib import Path

from cluster import cache, go
from cluster.cache import Cache
from cluster.go import Go
from cluster.processes import run
from cluster.progress import for_terminal

SOURCES = Path(__file__).parent / "peers"
PROGRAMS = ("webhook", "defaulter", "loadgen")


def build(home: Cache) -> dict[str, Path]:
    """Paths of the programs, and ``go`` itself."""
    progress = for_terminal()
    compiler = go.find(home, (1, 26, 0), progress)
    target = home.part("benchmark-peers", _key(compiler))
    if not cache.is_whole(target):
        with progress.step("building the Go peers and the load generator"):
            cache.publish(target, lambda folder: _compile(compiler, folder))
    return {name: target / name for name in PROGRAMS}


def _compile(compiler: Go, folder: Path) -> None:
    # The same flags as for the cluster's programs, so that the compiled packages of Kubernetes are found again.
    argv: list[str | Path] = [
        compiler.program,
        "build",
        "-trimpath",
        "-o",
        f"{folder}/",
        *(f"./{name}" for name in PROGRAMS),
    ]
    run(argv, env=compiler.environment(), cwd=SOURCES)


def _key(compiler: Go) -> str:
    found = hashlib.sha256(f"{compiler.version} {platform.machine()}".encode())
    for path in sorted(SOURCES.rglob("*")):
        if path.is_file():
            found.update(path.read_bytes())
    return found.hexdigest()[:16]
