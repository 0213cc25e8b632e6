"""The cached steps that images are made of: each returns a layer, built at most once for the same input."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from images import layers, native, rootfs, wheels
from images.cache import Cache, hash_files
from images.debian import CRIU_SUITE, PYTHON_SUITE, Apt, host_mirror, package_name, unpack
from images.errors import ImageError
from images.layers import Layer
from images.wheels import SITE

_HERE: Final = Path(__file__).parent
_PYTHON: Final = ("python3.13",)
_SHELL: Final = ("dash", "coreutils", "libstdc++6")
_CODE: Final = (".py", ".typed", ".json", ".yaml")

Say = Callable[[str], None]


class Steps:
    """Build steps over one cache.

    Args:
        project: Root of the checkout.
        cache: Where finished steps are kept.
        say: Called with what is being done, once per step that is not in the cache.
    """

    def __init__(self, project: Path, cache: Cache, say: Say) -> None:
        self._project, self._cache, self._say = project, cache, say

    def python(self) -> Layer:
        """Build a layer of Debian with Python, nothing else."""
        return layers.load(self._base() / "layer.tar")

    def shell(self) -> Layer:
        """Build a layer with ``sh``, the usual small programs and numpy's C++ library, atop the Python layer."""

        def build(target: Path) -> None:
            present = frozenset((self._base() / "packages").read_text().split())
            self._debian(
                target, (*_PYTHON, *_SHELL), PYTHON_SUITE, "Debian's shell and core utilities", without=present
            )
            rootfs.trim(target / "root")
            self._pack(target)

        return self._layer("shell", [*_PYTHON, *_SHELL, *_recipe("debian", "rootfs")], build)

    def musl(self) -> Layer:
        """Build a layer with the other C library, alone."""

        def build(target: Path) -> None:
            self._debian(target, ("musl",), PYTHON_SUITE, "Debian's musl")
            rootfs.trim(target / "root")
            (target / "root/lib").symlink_to("usr/lib")
            self._pack(target)

        return self._layer("musl", _recipe("debian", "rootfs"), build)

    def musl_program(self, source: Path, at: str) -> Layer:
        """Build a layer with one C file, compiled for musl, as the program ``at`` in the image."""

        def build(target: Path) -> None:
            self._say(f"compiling {source.name}")
            program = target / "root" / at
            program.parent.mkdir(parents=True)
            native.compile_musl(source, program)
            self._pack(target)

        return self._layer("musl-program", [at, source.read_text(), *_recipe("native")], build)

    def wheels(self, lock: Path) -> Layer:
        """Build a layer with a lock file's wheels."""

        def build(target: Path) -> None:
            self._say(f"installing the wheels of {lock.name}")
            wheels.install(lock, target / "root")
            self._compiled(target)

        return self._layer("wheels", [lock.read_text(), *_recipe("wheels", "rootfs")], build)

    def code(self, folder: Path, packages: Iterable[str], *, at: str = SITE) -> Layer:
        """Build a layer with packages of this checkout, below ``at`` in the image."""
        files = [file for name in packages for file in _sources(folder / name)]

        def build(target: Path) -> None:
            self._say(f"packing {', '.join(packages)}")
            for file in files:
                copy = target / "root" / at / file.relative_to(folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
            self._compiled(target)

        return self._layer("code", [at, hash_files(folder, files), *_recipe("rootfs")], build)

    def criu(self, suite: str = CRIU_SUITE) -> Layer:
        """Build a layer of CRIU of a suite, with its libraries and its loader, below /opt/criu."""
        sources = self._project / "native"
        names = ("criu_preload", "page_server", "weight_matcher")
        helpers = [file for name in names for file in sorted((sources / name).glob("*.[ch]"))]

        def build(target: Path) -> None:
            self._debian(target, ("criu",), suite, "CRIU")
            (target / "root").rename(target / "unpacked")
            native.bundle_criu(target / "unpacked", target / "root/opt/criu")
            native.add_criu_helpers(sources, target / "root/opt/criu")
            shutil.rmtree(target / "unpacked")
            self._pack(target)

        return self._layer("criu", [suite, hash_files(sources, helpers), *_recipe("debian", "native")], build)

    def tools(self) -> Layer:
        """Build the tool folder: the static ``snapshot-standby``, and the library that it loads into GPU workers."""
        return self.records(None, None)

    def records(self, entrypoint: list[str] | None, cmd: list[str] | None) -> Layer:
        """Build the tool folder, with an image's own entrypoint and cmd recorded beside ``snapshot-standby``."""
        sources = self._project / "native"
        files = [file for name in ("standby", "device_memory") for file in sorted((sources / name).glob("*.[ch]"))]

        def build(target: Path) -> None:
            self._say("compiling snapshot-standby")
            native.tool_folder(sources, target / "root", entrypoint, cmd)
            self._pack(target)

        words = [repr(entrypoint), repr(cmd)]
        return self._layer(
            "tools", [hash_files(sources, files), *native.compiler()[1:], *words, *_recipe("native")], build
        )

    def _base(self) -> Path:
        def build(target: Path) -> None:
            self._debian(target, _PYTHON, PYTHON_SUITE, "Debian's Python")
            rootfs.trim(target / "root")
            rootfs.furnish(target / "root")
            self._say("compiling the standard library")
            rootfs.compile_python(target / "root", target / "root")
            self._pack(target, keep=True)

        return self._cache.entry("python", [*_PYTHON, *_recipe("debian", "rootfs")], build)

    def _debian(
        self, target: Path, packages: tuple[str, ...], suite: str, what: str, *, without: frozenset[str] = frozenset()
    ) -> None:
        """Unpack packages and what they depend on into ``root``, and note their names in ``packages``."""
        self._say(f"fetching {what}")
        debs = Apt(target / "apt", host_mirror(), suite).download(packages)
        self._say(f"unpacking {what}")
        unpack(debs, target / "root", without=rootfs.SCRIPTS_ONLY | without)
        (target / "packages").write_text("".join(f"{package_name(deb)}\n" for deb in debs))
        shutil.rmtree(target / "apt")

    def _compiled(self, target: Path) -> None:
        rootfs.compile_python(self._base() / "root", target / "root")
        self._pack(target)

    def _layer(self, step: str, key: list[str], build: Callable[[Path], None]) -> Layer:
        return layers.load(self._cache.entry(step, key, build) / "layer.tar")

    @staticmethod
    def _pack(target: Path, *, keep: bool = False) -> None:
        layers.pack(target / "root", target / "layer.tar")
        if not keep:
            shutil.rmtree(target / "root")


def _recipe(*modules: str) -> list[str]:
    """Return the text of the modules that do a step: a changed recipe is a changed input."""
    return [(_HERE / f"{module}.py").read_text() for module in ("layers", "steps", *modules)]


def _sources(package: Path) -> list[Path]:
    files = [file for file in package.rglob("*") if file.suffix in _CODE]
    if not files:
        raise ImageError(f"{package}: no source files; is the checkout complete?")
    return files
