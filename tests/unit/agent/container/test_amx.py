"""Whose permission to use AMX is noted; tests/node/engine/state/test_amx.py has it on a processor with AMX."""

import os
from pathlib import Path

import pytest

from agent.container.amx import permit_amx, users_of_amx
from agent.errors import ContainerError, CriuError
from contract.api.states import AgentReason
from linux.proc import Status

ENDED = (1 << 22) + 7
"""No process has this number: the kernel's greatest is 1 << 22."""


def test_without_amx_no_process_is_asked():
    assert [] == users_of_amx([ENDED], ["avx2", "avx512f"], Path("/proc"))


def test_a_process_that_cannot_be_asked_ends_the_capture():
    """None can trace itself."""
    with pytest.raises(ContainerError, match="cannot be asked whether it may use AMX") as failed:
        users_of_amx([os.getpid()], ["amx_tile"], Path("/proc"))
    assert AgentReason.DUMP_FAILED == failed.value.code


def test_a_process_that_has_ended_is_passed_over():
    assert [] == users_of_amx([ENDED], ["amx_tile"], Path("/proc"))


def restored(inner_pid: int) -> dict[int, Status]:
    status = Status(
        pid=ENDED,
        inner_pid=inner_pid,
        inner_session=inner_pid,
        parent=1,
        state="T",
        uid=0,
        gid=0,
        groups=frozenset(),
        capabilities={},
        no_new_privileges=False,
        seccomp=0,
    )
    return {ENDED: status}


def test_processes_that_had_none_are_given_none():
    permit_amx(restored(7), [8])


def test_one_that_is_not_given_it_ends_the_restore():
    with pytest.raises(CriuError, match="process 7 of the worker could use AMX, and cannot here") as failed:
        permit_amx(restored(7), [7, 8])
    assert AgentReason.RESTORE_FAILED == failed.value.code
