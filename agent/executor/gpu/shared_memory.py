"""Device memory that processes of one worker share: NCCL between GPUs, symmetric memory, CUDA IPC.

The driver checkpoints it and refuses to restore it, so each process gives back what it has of others too. Whose that
is their libraries find out while all are held still; after a restore each gets it again from its owner, by a descriptor
that goes through the agent. The agent does nothing with it: a hostile process could reach what its own container has.
"""

import os
import secrets
import time
from collections.abc import Collection, Mapping
from contextlib import suppress

from agent.gpu.cuda import CudaError
from agent.gpu.device_memory import Conversation
from contract.api.states import AgentReason
from linux.ptrace.thread_hold import ThreadHold


class SpoiledError(Exception):
    """The first bytes of shared memory are not what they were: the processes that have it must not go on."""


def find_owners(hold: ThreadHold, talks: Mapping[int, Conversation], importing: Collection[int]) -> None:
    """Have each process learn whose the memory is that it has from others; nothing may run but the libraries.

    Args:
        hold: holds all processes.
        talks: with their libraries, by host pid.
        importing: those that have memory of others.

    Raises:
        CudaError: one has memory of a process that is not among them, or the driver fails.
        SpoiledError: the marks that owners wrote cannot be taken off again.
    """
    mark = secrets.randbits(63) | 1
    hold.run(lambda pid: talks[pid].await_kernels(), talks)
    hold.bind()  # without the agent one would run on before another has put its bytes back
    try:
        hold.run(lambda pid: talks[pid].tag(mark), talks)
        hold.run(lambda pid: talks[pid].match(mark), importing)
    finally:
        try:
            hold.run(lambda pid: talks[pid].untag(), talks)
        except CudaError as error:
            raise SpoiledError(str(error)) from error
        hold.unbind()


def share_again(talks: Mapping[int, Conversation], inner: Mapping[int, int], seconds: float) -> None:
    """Give each process the memory of others that it waits for, once all have their own.

    Args:
        talks: with the libraries of all processes, by host pid.
        inner: host pid -> pid inside the container.
        seconds: how long it may take: a hostile library never has all that it waits for.

    Raises:
        CudaError: one cannot have it.
    """
    end = time.monotonic() + seconds
    owners = {inner[pid]: talk for pid, talk in talks.items()}
    for pid, talk in talks.items():
        number = 0
        while (wanted := talk.wanted(number)) is not None:
            if time.monotonic() > end:
                words = f"process {inner[pid]} had not all device memory of others again within {seconds:.0f} s"
                raise CudaError(AgentReason.GPU_BUSY, words)
            if wanted.number < number or (owner := owners.get(wanted.owner)) is None:
                words = f"process {inner[pid]} waits for device memory of process {wanted.owner}, which has none"
                raise CudaError(AgentReason.GPU_FAILED, words)
            descriptor = owner.export_memory(wanted.segment)
            try:
                talk.import_memory(wanted.number, descriptor)
            finally:
                with suppress(OSError):
                    os.close(descriptor)
            number = wanted.number + 1
