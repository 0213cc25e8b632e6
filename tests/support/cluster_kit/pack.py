"""Packs the kit from this machine's cache."""

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cluster.api import for_terminal
from cluster.builder import build, packages, toolchain
from cluster.builder.cache import Cache
from demo.platform import archives, build_images
from tests.support import container_toolkit
from tests.support.cluster_kit.unpack import IMAGES, PIECES
from tests.support.fixtures.tools import PACKAGES, install_some

PYTHON: Final = "3.12"
"""Of the GPU machine."""
RUNNER: Final = (*PACKAGES, "cffi", "cryptography", "pycparser")
"""What the tests on a card and the cluster's own code import."""
CARRIED: Final = ("control-plane", "agent", "tools")
"""Workers bring an image of their own."""
PIECE: Final = 46 << 20
"""Bytes: 64 MiB travel to a GPU machine at once, the repository's own files among them."""
IP: Final = """#!/bin/sh
# The node's own program with the node's own libraries: the machine may have none.
root=$(dirname "$(dirname "$(readlink -f "$0")")")/cache/parts/{root}
exec "$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu" "$root/usr/bin/ip" "$@"
"""


def pack(kit: Path) -> list[Path]:
    """Make the kit's folder; return its pieces, in their order."""
    home, progress = Cache.from_env(os.environ), for_terminal()
    parts = build.build(home, toolchain.COMPONENTS, progress).folders.values()
    root = packages.node_root(home, progress)
    build_images(home, progress)()
    shutil.rmtree(kit, ignore_errors=True)
    kit.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=home.root) as folder:
        stage = Path(folder)
        for part in (*parts, root):
            shutil.copytree(part, stage / "cache/parts" / part.name, symlinks=True, copy_function=os.link)
        (stage / "cache/compiler").write_text(home.compiler())
        merge([archives(home) / f"{name}.tar" for name in CARRIED], stage / "cache" / IMAGES)
        _add_programs(stage, root.name)
        install_some(RUNNER, stage / "site", PYTHON)
        with progress.step("compressing the kit"):
            _compress(stage, kit)
    return sorted(kit.glob(PIECES))


def merge(sources: list[Path], target: Path) -> None:
    """Write several docker archives as one, with each layer once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    images, held = [], set()
    with tarfile.open(target, "w") as merged:
        for source in sources:
            with tarfile.open(source) as tar:
                (image,) = json.load(tar.extractfile("manifest.json"))
                names = {name: name.rpartition("-")[2] for name in (image["Config"], *image["Layers"])}
                for name in (old for old, new in names.items() if new not in held):
                    _copy(tar, name, merged, names[name])
                held |= set(names.values())
                layers = [names[name] for name in image["Layers"]]
                images.append({**image, "Config": names[image["Config"]], "Layers": layers})
        _add(merged, "manifest.json", json.dumps(images).encode())


def _copy(source: tarfile.TarFile, name: str, target: tarfile.TarFile, new: str) -> None:
    info = source.getmember(name)
    stream = source.extractfile(info)
    info.name = new
    target.addfile(info, stream)


def _add(target: tarfile.TarFile, name: str, content: bytes) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        info = tarfile.TarInfo(name)
        info.size = len(content)
        target.addfile(info, file)


def _add_programs(stage: Path, root: str) -> None:
    (stage / "toolkit").mkdir()
    container_toolkit.build(stage / "toolkit")
    (stage / "bin").mkdir()
    (stage / "bin/ip").write_text(IP.format(root=root))
    (stage / "bin/ip").chmod(0o755)


def _compress(stage: Path, kit: Path) -> None:
    tar = subprocess.Popen(["tar", "--create", "--numeric-owner", "--directory", stage, "."], stdout=subprocess.PIPE)
    xz = subprocess.Popen(["xz", "--threads=0", "-6"], stdin=tar.stdout, stdout=subprocess.PIPE)
    if tar.stdout:
        tar.stdout.close()  # its end is xz's alone: else tar would wait for ever for one that has ended
    for number, piece in enumerate(_pieces(xz)):
        (kit / f"piece-{number:02d}").write_bytes(piece)
    for process in (tar, xz):
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, process.args)


def _pieces(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    assert process.stdout
    while piece := process.stdout.read(PIECE):
        yield piece
