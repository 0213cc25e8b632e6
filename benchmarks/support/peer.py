"""The Go halves: built once per source, kept in the cluster's cache, and started beside ours."""

import contextlib
import hashlib
import json
import os
import platform
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.support import review, tls
from cluster.builder import cache, go
from cluster.builder.cache import Cache
from cluster.builder.go import Go
from cluster.processes import run
from cluster.progress import for_terminal

SOURCES = Path(__file__).parents[1] / "peers"
PROGRAMS = ("webhook", "defaulter", "loadgen", "steady")


@dataclass(frozen=True)
class Peer:
    """A peer that listens."""

    name: str
    url: str
    pid: int
    authority: Path
    """PEM file of the authority that signed its certificate."""


def build(home: Cache) -> dict[str, Path]:
    """Return the paths of the programs, and ``go`` itself."""
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


def inputs(place: Path, checkpoints: Iterable[dict[str, Any]]) -> None:
    """Write what peers read at their start."""
    (place / "checkpoints.json").write_text(json.dumps(list(checkpoints)))
    (place / "storage.json").write_text(json.dumps(review.STORAGE))


@contextlib.contextmanager
def serve(
    name: str, program: Path, place: Path, *, prefix: Sequence[str] = (), flags: Sequence[str] = ()
) -> Iterator[Peer]:
    """Run a peer until the block ends; it prints its address on the first line of its output."""
    folder = place / name.replace("/", "-")
    folder.mkdir()
    files = tls.write(folder)
    given = ("-cert", files.certificate, "-key", files.key, "-checkpoints", place / "checkpoints.json")
    argv = [*prefix, str(program), *map(str, given), "-storage", str(place / "storage.json"), *flags]
    environment = os.environ | {"GOMAXPROCS": "1"}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as started:
        try:
            url = started.stdout.readline().strip() if started.stdout else ""
            if not url:
                sys.exit(f"the {name} peer did not start")
            _await(url, files.authority)
            yield Peer(name, url, started.pid, files.authority)
        finally:
            started.terminate()


def _await(url: str, authority: Path) -> None:
    """Wait until the peer listens: one prints its address a moment before it does."""
    address = urlsplit(url)
    context = ssl.create_default_context(cafile=authority)
    for _ in range(500):
        with contextlib.suppress(ConnectionRefusedError):
            with socket.create_connection((address.hostname, address.port)) as plain:
                context.wrap_socket(plain, server_hostname=address.hostname).close()
            return
        time.sleep(0.01)
    sys.exit(f"nothing listens at {url}")
