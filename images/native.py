"""The native parts of the images: the static ``snapshot-standby`` and a CRIU that runs from any folder."""

import importlib.util
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from contract.api.keys import DEVICE_MEMORY_LIBRARY, STANDBY, TOOLS_DIR
from images.errors import ToolError, call

STANDBY_SOURCES: Final = (
    "standby.c",
    "command.c",
    "claim.c",
    "worker.c",
    "pages.c",
    "preload.c",
    "capturable.c",
    "foreign.c",
    "image.c",
    "install.c",
    "gate.c",
    "host.c",
)
PAGE_SERVER: Final = "bin/page-server"
"""Below criu's folder."""
WEIGHT_MATCHER: Final = "bin/weight-matcher"
_CRIU_LIBRARIES: Final = "usr/lib/x86_64-linux-gnu"
_CRIU_LOADER: Final = "usr/lib64/ld-linux-x86-64.so.2"


def compiler() -> list[str]:
    """Find a compiler of static programs: Zig's (musl: 30 kB, no libc at run time), else gcc."""
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl"]
    if gcc := shutil.which("gcc"):
        return [gcc]
    raise ToolError("no C compiler: install Python's package ziglang, or gcc")


def glibc_compiler() -> list[str]:
    """Return the same compiler for shared objects that processes on glibc load."""
    return [part.replace("-musl", "-gnu") for part in compiler()]


def compile_static(sources: Sequence[Path], target: Path, optimize: str = "-Os") -> None:
    """Compile C files to a static, stripped program."""
    flags = ["-std=gnu11", optimize, "-static", "-s", "-Wall", "-Wextra", "-Werror"]
    call([*compiler(), *flags, "-o", target, *sources], needs="Python's package ziglang")
    target.chmod(0o755)


def compile_musl(source: Path, target: Path) -> None:
    """Compile one C file to a program that needs musl at run time."""
    flags = ["-dynamic", "-std=gnu11", "-Os", "-s", "-Wall", "-Wextra", "-Werror"]
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl"]
    call([*zig, *flags, "-o", target, source], needs="Python's package ziglang")
    target.chmod(0o755)


def compile_preload(source: Path, target: Path) -> None:
    """Compile one freestanding C file to a shared object for criu's loader to load first."""
    flags = [
        "-std=gnu11",
        "-Os",
        "-shared",
        "-fPIC",
        "-ffreestanding",
        "-nostdlib",
        "-s",
        "-Wall",
        "-Wextra",
        "-Werror",
    ]
    call([*glibc_compiler(), *flags, "-o", target, source], needs="Python's package ziglang")


def compile_device_memory(sources: Path, target: Path, *defines: str) -> None:
    """Compile the library that keeps device memory outside the image, for every glibc since 2012."""
    zig = [part.replace("-gnu", "-gnu.2.17") for part in glibc_compiler()]
    flags = [
        "-std=gnu11",
        "-O2",
        "-shared",
        "-fPIC",
        "-fvisibility=hidden",
        "-Wl,-z,now",
        "-s",
        "-Wall",
        "-Wextra",
        "-Werror",
    ]
    libraries = ["-ldl", "-lpthread"]
    target.parent.mkdir(parents=True, exist_ok=True)
    call(
        [*zig, *flags, *defines, "-o", target, *sorted(sources.glob("*.c")), *libraries],
        needs="Python's package ziglang",
    )


def add_criu_helpers(native: Path, target: Path) -> None:
    """Compile what goes with criu into its folder: the object that its loader loads first, and the agent's programs.

    Args:
        native: Folder of the native sources.
        target: criu's folder.
    """
    compile_preload(native / "criu_preload/preload.c", target / "lib/preload.so")
    compile_static(sorted((native / "page_server").glob("*.c")), target / PAGE_SERVER, "-O2")
    compile_static(sorted((native / "weight_matcher").glob("*.c")), target / WEIGHT_MATCHER, "-O2")


def tool_folder(native: Path, root: Path, entrypoint: Sequence[str] | None, cmd: Sequence[str] | None) -> None:
    """Fill the tool folder below ``root``: standby, its library, and the records of an image's own entrypoint and cmd.

    Without an entrypoint list there is no record; an image without a cmd has an empty one.

    Args:
        native: Folder of the native sources.
        root: Gets the tool folder at its path in a container.
        entrypoint: The image's.
        cmd: The image's.
    """
    program = root / STANDBY.lstrip("/")
    program.parent.mkdir(parents=True)
    compile_static([native / "standby" / name for name in STANDBY_SOURCES], program)
    compile_device_memory(native / "device_memory", root / DEVICE_MEMORY_LIBRARY.lstrip("/"))
    if entrypoint is not None:
        folder = root / TOOLS_DIR.lstrip("/")
        (folder / "entrypoint").write_bytes(_record(entrypoint))
        (folder / "cmd").write_bytes(_record(cmd or ()))


def bundle_criu(unpacked: Path, target: Path) -> None:
    """Gather criu, its libraries and its loader into a folder that needs nothing around it.

    It is started as ``lib/ld.so --library-path lib bin/criu``: from a mount of any name, whatever the container holds.

    Args:
        unpacked: Root in which criu's packages have been unpacked.
        target: Gets ``bin/criu``, ``lib/*.so*`` and ``lib/ld.so``.
    """
    for folder in ("bin", "lib", "plugins"):  # criu is pointed at plugins, if there is none
        (target / folder).mkdir(parents=True)
    loader = unpacked / _CRIU_LOADER
    program = unpacked / "usr/sbin/criu"
    shutil.copy(program, target / "bin/criu")
    shutil.copy(loader, target / "lib/ld.so")
    for library in _closure(loader, unpacked / _CRIU_LIBRARIES, program):
        shutil.copy(library, target / "lib" / library.name)


def _closure(loader: Path, libraries: Path, program: Path) -> list[Path]:
    """List the libraries that the loader itself finds for a program, recursively."""
    listed = call([loader, "--library-path", libraries, "--list", program], needs="criu's own packages")
    found = []
    for line in listed.splitlines():
        name, arrow, rest = line.strip().partition(" => ")
        if not arrow or name.endswith(loader.name):
            continue  # the kernel's vdso, or the loader itself
        path = Path(rest.rpartition(" (")[0])
        if not path.is_relative_to(libraries):
            raise ToolError(f"criu needs {name}, which its packages do not bring ({rest}); run with --refresh")
        found.append(path)
    return found


def _record(arguments: Sequence[str]) -> bytes:
    return b"".join(argument.encode() + b"\0" for argument in arguments)
