"""Open files that criu is given, made again."""

import errno
import fcntl
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.criu.images.given_files import file_name, program_name
from agent.errors import ContainerError
from agent.executor.restore.given_files import make_eventfds, make_programs
from artifact.parts.files import FileEntry
from artifact.parts.process import MOST_PROGRAM_BYTES, Eventfd, Program
from contract.api.states import AgentReason
from tests.support.builders.manifests import DIGEST, captured, manifest

SEALED = 0xF


def artifact(*programs: Program, size: int = 7):
    one = captured(process=captured().process.model_copy(update={"programs": list(programs)}))
    files = {program.file: FileEntry(size=size, blake3=DIGEST) for program in programs}
    return manifest(one, *files).model_copy(update={"files": files})


@pytest.fixture
def images(tmp_path):
    for number in range(2):
        (tmp_path / f"program-{number}.img").write_bytes(f"content {number}".encode())
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def test_each_has_its_name_content_and_seals(images):
    one, other = (
        Program(file=f"program-{n}.img", name=name, seals=seals)
        for n, (name, seals) in enumerate((("a b", 0), ("", SEALED)))
    )
    with ExitStack() as resources:
        made = make_programs(artifact(one, other), images, resources)
        found = [
            (str(Path(f"/proc/self/fd/{file}").readlink()), os.pread(file, 99, 0), fcntl.fcntl(file, 1034))
            for file in made.values()
        ]
    assert [program_name(0), program_name(1)] == list(made)
    assert [("/memfd:a b (deleted)", b"content 0", 0), ("/memfd: (deleted)", b"content 1", SEALED)] == found


def test_more_than_a_capture_saves_is_not_taken_into_memory(images):
    programs = [Program(file=f"program-{number}.img", name="x", seals=0) for number in range(2)]
    with ExitStack() as resources, pytest.raises(ContainerError, match="which no capture saves") as failure:
        make_programs(artifact(*programs, size=MOST_PROGRAM_BYTES // 2 + 1), images, resources)
    assert AgentReason.MANIFEST_UNREADABLE == failure.value.code


def test_a_node_that_allows_no_programs_in_memfds_is_named_as_the_reason(images, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "memfd_create", refuse)  # as with sysctl vm.memfd_noexec=2
    with (
        ExitStack() as resources,
        pytest.raises(ContainerError, match=r"program x, .* cannot be made: Perm") as failure,
    ):
        make_programs(artifact(Program(file="program-0.img", name="x", seals=0)), images, resources)
    assert AgentReason.RESTORE_FAILED == failure.value.code


def test_an_artifact_without_any_makes_none(images):
    with ExitStack() as resources:
        assert {} == make_programs(artifact(), images, resources)


@pytest.mark.parametrize(
    ("wanted", "reads"),
    [
        pytest.param({"count": 2, "semaphore": True}, [1, 1], id="semaphore"),
        pytest.param({"count": (1 << 64) - 2, "semaphore": False}, [(1 << 64) - 2], id="as-much-as-there-can-be"),
        pytest.param({"count": 0, "semaphore": True}, [], id="nothing"),
    ],
)
def test_an_eventfd_holds_what_it_held(wanted, reads):
    eventfd = Eventfd(number=7, nonblocking=True, **wanted)
    one = captured(process=captured().process.model_copy(update={"eventfds": [eventfd]}))
    with ExitStack() as resources:
        made = make_eventfds(manifest(one), resources)
        assert [file_name(7)] == list(made)
        (descriptor,) = made.values()
        assert reads == [os.eventfd_read(descriptor) for _ in reads]
        with pytest.raises(BlockingIOError):
            os.eventfd_read(descriptor)
