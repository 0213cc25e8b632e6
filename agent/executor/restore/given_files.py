"""Makes open files that criu is given: programs that processes ran from memfds, and eventfds of some kinds."""

import errno
import fcntl
import os
import stat
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final

from agent.criu.images.given_files import file_name, program_name
from agent.errors import ContainerError
from artifact.manifest import Manifest
from artifact.parts.process import MOST_PROGRAM_BYTES, Program
from contract.api.states import AgentReason

_ADD_SEALS: Final = 1033
_MAY_RUN: Final = 0x10
"""MFD_EXEC, since Linux 6.3."""
_RUN: Final = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
"""One of these a program must have when a process is given it, even if it has lost all since it was started."""


def make_programs(manifest: Manifest, images: int, resources: ExitStack) -> Mapping[str, int]:
    """Return memfds with the programs of an artifact, by the names by which its images ask for them.

    Args:
        manifest: of the artifact.
        images: descriptor of the directory that has its images.
        resources: closes the memfds.

    Raises:
        ContainerError: there is more than a capture saves, or the node has no memory for them.
    """
    programs = manifest.process.programs
    size = sum(manifest.files[program.file].size for program in programs)
    if size > MOST_PROGRAM_BYTES:
        raise ContainerError(AgentReason.MANIFEST_UNREADABLE, f"programs of {size >> 20} MiB, which no capture saves")
    made = {}
    for number, program in enumerate(programs):
        try:
            descriptor = made[program_name(number)] = _memfd(program.name)
            resources.callback(os.close, descriptor)
            _fill(descriptor, program, images)
        except OSError as error:
            words = f"the program {program.name}, which ran from a memfd, cannot be made: {error.strerror}"
            raise ContainerError(AgentReason.RESTORE_FAILED, words) from error
    return made


def make_eventfds(manifest: Manifest, resources: ExitStack) -> Mapping[str, int]:
    """Return the eventfds of an artifact that criu could not make, by the names by which its images ask for them.

    Args:
        manifest: of the artifact.
        resources: closes them.
    """
    made = {}
    for each in manifest.process.eventfds:
        flags = os.EFD_CLOEXEC | os.EFD_SEMAPHORE * each.semaphore | os.EFD_NONBLOCK * each.nonblocking
        descriptor = made[file_name(each.number)] = os.eventfd(0, flags)
        resources.callback(os.close, descriptor)
        if each.count:
            os.eventfd_write(descriptor, each.count)
    return made


def _memfd(name: str) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | _MAY_RUN)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return os.memfd_create(name, flags)


def _fill(descriptor: int, program: Program, images: int) -> None:
    with os.fdopen(os.open(program.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=images), "rb") as file:
        size, done = os.fstat(file.fileno()).st_size, 0
        while done < size and (sent := os.sendfile(descriptor, file.fileno(), done, size - done)):
            done += sent
    os.fchown(descriptor, program.uid, program.gid)
    os.fchmod(descriptor, program.mode if program.mode & _RUN else program.mode | stat.S_IXUSR)
    if program.seals:
        fcntl.fcntl(descriptor, _ADD_SEALS, program.seals)
