"""Has restored threads make calls of System V IPC again that the dump has interrupted.

Numbers of fields are those of criu's ``images/core.proto`` and ``core-x86.proto``.
"""

from collections.abc import Sequence
from typing import Final

from agent import protobuf
from agent.criu.image_files import core_images, read_image, replace_image
from agent.protobuf import Field
from linux.ptrace.interrupted import INSTRUCTION, is_to_be_made_again

_X86, _REGISTERS = 2, 2
_TASK, _SHARED_SIGNALS = 3, 10
_THREAD, _OWN_SIGNALS = 5, 9
_SIGNAL: Final = 1
_R10, _AX, _CALL, _IP, _MODE = 8, 11, 16, 17, 28
_NATIVE: Final = 1
"""Of 64 bits."""


def make_again(directory: int) -> None:
    """Rewrite the images of threads that were in such a call.

    Raises:
        ValueError, OSError: an image cannot be read.
    """
    cores = {name: read_image(directory, name) for _, name in core_images(directory)}
    for name, core in cores.items():
        if (mended := mended_core(core)) != core:
            replace_image(directory, name, mended)


def mended_core(core: bytes) -> bytes:
    """Return the image of a thread as it is to be restored; pure.

    Raises:
        ValueError: it is no image.
    """
    text, end = protobuf.message(core)
    fields = protobuf.parse(text)
    for info in protobuf.embedded(fields, _X86):
        own = protobuf.parse(info)
        for registers in protobuf.embedded(own, _REGISTERS):
            found = protobuf.parse(registers)
            if not _was_interrupted(found, awaits_signal=_awaits_signal(fields)):
                return core
            call, at = protobuf.number(found, _CALL), protobuf.number(found, _IP) - INSTRUCTION
            again = protobuf.encode(protobuf.replaced(found, {_AX: call, _IP: at}))
            changed = protobuf.replaced(fields, {_X86: protobuf.encode(protobuf.replaced(own, {_REGISTERS: again}))})
            return core[: protobuf.MAGIC] + protobuf.framed(protobuf.encode(changed)) + core[end:]
    return core


def _was_interrupted(registers: Sequence[Field], *, awaits_signal: bool) -> bool:
    if protobuf.number(registers, _MODE, _NATIVE) != _NATIVE:
        return False
    call, answer, fourth = (protobuf.number(registers, each) for each in (_CALL, _AX, _R10))
    return is_to_be_made_again(call, answer, fourth, awaits_signal=awaits_signal)


def _awaits_signal(core: Sequence[Field]) -> bool:
    """Say whether a signal waits for the thread, or for its process, which the first thread's image says."""
    places = ((_TASK, _SHARED_SIGNALS), (_THREAD, _OWN_SIGNALS))
    queues = [
        queue
        for part, signals in places
        for about in protobuf.embedded(core, part)
        for queue in protobuf.embedded(protobuf.parse(about), signals)
    ]
    return any(protobuf.embedded(protobuf.parse(queue), _SIGNAL) for queue in queues)
