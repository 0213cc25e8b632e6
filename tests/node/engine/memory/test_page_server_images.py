"""The page server and images that it does not understand whole: criu copies what is in them, it is not served."""

import os
import socket
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest

from agent import protobuf
from agent.protobuf import Field


def says(program: Path, images: Path, *before: str, hot: bytes = b"") -> str:
    """Start the page server for images by hand, and return its first word; nothing connects to it."""
    directory = os.open(images, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener, tempfile.TemporaryFile() as file:
        file.write(hot)
        file.flush()
        keep = [listener.fileno(), directory, file.fileno()]
        command = [*before, program, str(keep[0]), str(keep[1]), "-1", "1", "1", str(keep[2]), "-1"]
        done = subprocess.run(command, pass_fds=keep, capture_output=True, check=False)
    os.close(directory)
    return done.stdout.decode().partition("\n")[0]


def entry(*, start=0x10000, pages=1, flags=6, **more: int) -> bytes:
    """A pagemap entry: flag 2 leaves it to a page server, 4 says that it is in the pages file."""
    numbers = {1: start, 5: pages, 4: flags} | {int(name.removeprefix("field")): value for name, value in more.items()}
    return protobuf.encode([Field(number, protobuf.VARINT, value) for number, value in numbers.items()])


def hot_range(*, pid=7, pages=1, offset=0) -> bytes:
    return struct.pack("<IIQ", pid, pages, offset)


def write_images(folder: Path, *entries: bytes, pages: int = 2) -> None:
    frames = [len(message).to_bytes(4, "little") + message for message in (b"\x08\x01", *entries)]
    (folder / "pagemap-7.img").write_bytes(bytes(8) + b"".join(frames))
    (folder / "mm-7.img").write_bytes(bytes(12))
    (folder / "pages-1.img").write_bytes(bytes(pages * 4096))


@pytest.mark.parametrize(
    ("expected", "entries"),
    [
        pytest.param("ready", [entry()], id="one"),
        pytest.param("ready", [entry(), entry(start=0x20000)], id="two"),
        pytest.param("failed pagemap-7.img has a field that is not known: 9", [entry(field9=1)], id="field"),
        pytest.param("failed pagemap-7.img has pages of a kind that is not known", [entry(flags=14)], id="flag"),
        pytest.param("failed pagemap-7.img has pages of a kind that is not known", [entry(flags=1)], id="parent"),
        pytest.param("failed pagemap-7.img names pages that are not there", [entry(pages=3)], id="beyond"),
        pytest.param("failed pagemap-7.img names pages that are not there", [entry(pages=1 << 60)], id="far"),
        pytest.param("failed pagemap-7.img names pages that are not there", [entry(start=0x10001)], id="odd"),
        pytest.param("failed pagemap-7.img names pages twice", [entry(), entry()], id="twice"),
        pytest.param("failed pagemap-7.img is not whole", [entry()[:-1]], id="cut"),
    ],
)
def test_what_is_served(folder, tmp_path, expected, entries):
    write_images(tmp_path, *entries)
    said = says(folder[1] / "bin/page-server", tmp_path)
    assert expected == said


@pytest.mark.parametrize(
    ("expected", "hot"),
    [
        pytest.param("ready", b"", id="none"),
        pytest.param("ready", hot_range() + hot_range(offset=4096), id="all"),
        pytest.param("ready", hot_range(pages=2), id="two-mappings"),
        pytest.param("unusable range 1 of 2 is not of these images", hot_range() + hot_range(pid=8), id="process"),
        pytest.param("unusable range 0 of 1 is not of these images", hot_range(pages=0), id="empty"),
        pytest.param("unusable range 0 of 1 is not of these images", hot_range(pages=4), id="beyond"),
        pytest.param("unusable range 0 of 1 is not of these images", hot_range(pages=2**32 - 1), id="huge"),
        pytest.param("unusable range 0 of 1 is not of these images", hot_range(offset=1), id="odd"),
        pytest.param("unusable range 0 of 1 is not of these images", hot_range(offset=2**63), id="far"),
        pytest.param("unusable range 0 of 1 is not of these images", hot_range(offset=8192), id="left-to-criu"),
        pytest.param("unusable range 1 of 2 is not of these images", 2 * hot_range(pages=2), id="again-and-again"),
        pytest.param("unusable range 0 of 65537 is not of these images", 65537 * hot_range(), id="many"),
    ],
)
def test_which_hot_set_is_used(folder, tmp_path, expected, hot):
    """It is the agent's to check that it is whole; what it says is the server's."""
    write_images(tmp_path, entry(), entry(start=0x20000), entry(start=0x30000, flags=4), pages=3)
    said = says(folder[1] / "bin/page-server", tmp_path, hot=hot)
    assert expected == said


def test_a_kernel_that_does_not_let_it(folder, tmp_path):
    said = says(folder[1] / "bin/page-server", tmp_path, "setpriv", "--bounding-set=-sys_ptrace")
    assert said.startswith("failed this kernel's userfaultfd cannot be used")
