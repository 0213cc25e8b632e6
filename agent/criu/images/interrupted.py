"""Has restored threads make calls again that the dump has interrupted.

Numbers of fields are those of criu's ``images/core.proto`` and ``core-x86.proto``.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Final

from agent import protobuf
from agent.container.waits import Waiting
from agent.criu.images.files import core_images, read_image, replace_image
from agent.errors import CriuError
from agent.protobuf import Field
from contract.api.states import AgentReason
from linux.ptrace.interrupted import INSTRUCTION, POLL, RESTART, is_to_be_made_again
from linux.ptrace.polls import Poll

_X86, _REGISTERS = 2, 2
_TASK, _SHARED_SIGNALS = 3, 10
_THREAD, _OWN_SIGNALS = 5, 9
_SIGNAL: Final = 1
_TASK_BLOCKED, _THREAD_BLOCKED = 5, 6
"""Of a process's first thread criu has what it blocks in the former, of others in the latter."""
_NUMBER: Final = 4
"""Bytes of a signal's number, which comes first of what is known of it."""
_AX, _CALL, _IP, _MODE = 11, 16, 17, 28
_ARGUMENTS: Final = (15, 14, 13, 8, 10)
"""rdi, rsi, rdx, r10, r8."""
_NATIVE: Final = 1
"""Of 64 bits."""


def make_again(directory: int, polls: Mapping[int, Waiting]) -> None:
    """Rewrite the images of threads that were in such a call.

    Args:
        directory: of the images.
        polls: which threads waited in poll(2), and how, before anything halted them.

    Raises:
        CriuError: an image cannot be read.
    """
    try:
        cores = [(name, read_image(directory, name), polls.get(number)) for number, name in core_images(directory)]
        changed = {
            name: mended
            for name, core, waiting in cores
            if (mended := mended_core(core, waiting and waiting.poll)) != core
        }
    except ValueError as error:
        words = f"an image that criu wrote of a thread cannot be read: {error}"
        raise CriuError(AgentReason.DUMP_FAILED, words) from error
    for name, mended in changed.items():
        replace_image(directory, name, mended)


def mended_core(core: bytes, poll: Poll | None = None) -> bytes:
    """Return the image of a thread as it is to be restored, given how it waited in poll(2); pure.

    Raises:
        ValueError: it is no image.
    """
    text, end = protobuf.message(core)
    fields = protobuf.parse(text)
    for info in protobuf.embedded(fields, _X86):
        own = protobuf.parse(info)
        for registers in protobuf.embedded(own, _REGISTERS):
            found = protobuf.parse(registers)
            call = _call(found, poll)
            if not _was_interrupted(call, found, awaits_signal=_awaits_signal(fields)):
                return core
            at = protobuf.number(found, _IP) - INSTRUCTION
            again = protobuf.encode(protobuf.replaced(found, {_AX: call, _IP: at}))
            changed = protobuf.replaced(fields, {_X86: protobuf.encode(protobuf.replaced(own, {_REGISTERS: again}))})
            return core[: protobuf.MAGIC] + protobuf.framed(protobuf.encode(changed)) + core[end:]
    return core


def _call(registers: Sequence[Field], poll: Poll | None) -> int:
    call = protobuf.number(registers, _CALL)
    if call != RESTART or poll is None:
        return call
    waits = tuple(protobuf.number(registers, each) for each in (*_ARGUMENTS[:3], _IP))
    return POLL if waits == poll else call


def _was_interrupted(call: int, registers: Sequence[Field], *, awaits_signal: bool) -> bool:
    if protobuf.number(registers, _MODE, _NATIVE) != _NATIVE:
        return False
    answer, *arguments = (protobuf.number(registers, each) for each in (_AX, *_ARGUMENTS))
    return is_to_be_made_again(call, answer, arguments, awaits_signal=awaits_signal)


def _awaits_signal(core: Sequence[Field]) -> bool:
    """Say whether a signal that the thread does not block waits for it, or for its process.

    What waits for a process is in the image of its first thread.
    """
    tasks = [protobuf.parse(each) for each in protobuf.embedded(core, _TASK)]
    threads = [protobuf.parse(each) for each in protobuf.embedded(core, _THREAD)]
    blocked = 0
    for part, field in [*((task, _TASK_BLOCKED) for task in tasks), *((thread, _THREAD_BLOCKED) for thread in threads)]:
        blocked |= protobuf.number(part, field)
    queues = [queue for task in tasks for queue in protobuf.embedded(task, _SHARED_SIGNALS)]
    queues += [queue for thread in threads for queue in protobuf.embedded(thread, _OWN_SIGNALS)]
    numbers = (
        int.from_bytes(signal[:_NUMBER], sys.byteorder)
        for queue in queues
        for signal in protobuf.embedded(protobuf.parse(queue), _SIGNAL)
    )
    return any(not blocked >> (number - 1) & 1 for number in numbers if number)
