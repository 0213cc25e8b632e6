"""The rights that criu would give to the threads in its images, read and compared before it runs.

criu restores with all capabilities of the node, and gives each thread what its core image says. Numbers of fields are
those of criu's ``images/core.proto``, ``creds.proto``, ``rlimit.proto`` and ``seccomp.proto``. What has no single
meaning is refused: criu must not read it in another way.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import Final

from agent import protobuf
from agent.container.rights import UNLIMITED, Rights, refuse
from agent.criu.images.files import core_images, read_image
from agent.errors import RefusedError
from agent.protobuf import VARINT, Field
from contract.api.states import AgentReason
from linux.proc import CAPABILITY_SETS
from linux.ptrace.seccomp import FILTER

SECCOMP: Final = "seccomp.img"
POLICIES: Final = "apparmor.img"
_COMMON: Final = struct.pack("=I", 0x54564319)
"""How every image begins; without it criu takes the next bytes for another, older layout."""
_TASK, _THREAD = 3, 5
_STATE, _RLIMITS, _OLD_SECCOMP = 1, 8, (11, 12)
_DEAD: Final = 2
"""A zombie: it is made to be waited for, and runs nothing."""
_CREDS, _MODE, _OLDEST = 10, 11, 12
_USERS, _GROUPS = (1, 3, 5, 7), (2, 4, 6, 8)
_CAPABILITIES: Final = dict(zip(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), (9, 10, 11, 12, 19), strict=True))
_MORE_GROUPS, _LABEL, _NO_NEW_PRIVILEGES = 14, 15, 18
_HARD: Final = 2
_FILTERS, _CODE, _NEXT = 1, 1, 2
"""criu calls the last one ``prev``: it is the filter that it installs after this one."""
_WORD: Final = (1 << 32) - 1
"""criu reads numbers of 32 bits, and drops what a longer one has beyond."""


Given = Sequence[tuple[int, Rights]]
"""Rights that images give, and the first thread, by its number inside the container, that gets them."""


def rights_in(directory: int) -> Given:
    """Return what the images of a directory give.

    Raises:
        RefusedError: ``images-wider``: they do not say it, or cannot be read.
    """
    found: list[tuple[int, Rights]] = []
    try:
        _refuse_policies(directory)
        for number, rights in _threads(directory):
            if all(rights != other for _, other in found):
                found.append((number, rights))
    except (OSError, ValueError) as error:
        words = f"criu's images do not say what rights they give: {error}"
        raise RefusedError(AgentReason.IMAGES_WIDER, words) from error
    return found


def refuse_wider_images(given: Given, container: Rights) -> None:
    """Refuse images that give any thread more than the container has.

    Raises:
        RefusedError: ``images-wider``.
    """
    for number, wanted in given:
        refuse(number, wanted, container)


def _refuse_policies(directory: int) -> None:
    """Refuse an image whose policies criu would load into AppArmor, which it does without asking whether that is on."""
    with suppress(FileNotFoundError):
        if len(read_image(directory, POLICIES)) > protobuf.MAGIC:
            raise ValueError(f"{POLICIES} has policies of AppArmor, which no dump of ours writes")


def _threads(directory: int) -> Iterator[tuple[int, Rights]]:
    chain_to = _filters(directory)
    read_credentials = lru_cache(_credentials)  # a worker's threads mostly have the same
    for number, name in core_images(directory):
        core = _message(read_image(directory, name))
        task = _only(core, _TASK)
        if task is not None and _one(task, _STATE) == _DEAD:
            continue
        yield number, _rights(core, task, read_credentials, chain_to)


def _rights(
    core: Sequence[Field],
    task: Sequence[Field] | None,
    read_credentials: Callable[[bytes], Rights],
    chain_to: Callable[[int], tuple[bytes, ...]],
) -> Rights:
    thread = _only(core, _THREAD)
    if thread is None or len(credentials := protobuf.embedded(thread, _CREDS)) != 1:
        raise ValueError("a thread without credentials")
    if task is not None and any(field.number in _OLD_SECCOMP for field in task):
        raise ValueError("seccomp as old releases of criu wrote it")
    mode: int | None = _one(thread, _MODE, 0)
    filters = chain_to(_one(thread, _OLDEST)) if mode == FILTER else None
    if task is None and mode == 0:
        mode = None  # the first thread's filters are given to all, if they were the same
    return replace(read_credentials(credentials[0]), seccomp=mode, filters=filters, limits=_limits(task))


def _credentials(text: bytes) -> Rights:
    fields = protobuf.parse(text)
    labels = protobuf.embedded(fields, _LABEL)
    return Rights(
        users=frozenset(_one(fields, number) for number in _USERS),
        groups=frozenset([*(_one(fields, number) for number in _GROUPS), *_all(fields, _MORE_GROUPS)]),
        capabilities={name: _mask(_all(fields, _CAPABILITIES[name])) for name in CAPABILITY_SETS},
        no_new_privileges=_one(fields, _NO_NEW_PRIVILEGES, 0) == 1,
        seccomp=0,
        label=labels[-1].decode("utf-8", "replace") if labels else None,
    )


def _mask(words: Sequence[int]) -> int:
    """Return a set of capabilities; criu writes it as two words, the lower first."""
    return sum(word << 32 * place for place, word in enumerate(words))


def _limits(task: Sequence[Field] | None) -> tuple[int, ...]:
    """Return the hard limits of a process; other threads say nothing of them."""
    found = _only(task, _RLIMITS) if task is not None else None
    if task is not None and found is None:
        raise ValueError("a process without limits")
    return tuple(_one(protobuf.parse(each), _HARD, mask=UNLIMITED) for each in protobuf.embedded(found or (), 1))


def _filters(directory: int) -> Callable[[int], tuple[bytes, ...]]:
    """Return what gives the filters of a thread, the oldest first, by the number of the first."""
    try:
        image = _message(read_image(directory, SECCOMP))
    except FileNotFoundError:
        image = []
    filters = [protobuf.parse(text) for text in protobuf.embedded(image, _FILTERS)]

    @lru_cache
    def chain_to(oldest: int) -> tuple[bytes, ...]:
        found, number = list[bytes](), oldest
        while number >= 0:
            if number >= len(filters) or len(found) > len(filters):
                raise ValueError(f"no seccomp filter {oldest}")
            (code,) = protobuf.embedded(filters[number], _CODE)
            found.append(code)
            number = _one(filters[number], _NEXT, -1)
        return tuple(found)

    return chain_to


def _message(image: bytes) -> list[Field]:
    if not image.startswith(_COMMON):
        raise ValueError("an image of another layout")
    return protobuf.parse(protobuf.message(image)[0])


def _only(fields: Iterable[Field], wanted: int) -> list[Field] | None:
    """Return a message that may be there once: criu would merge several."""
    found = protobuf.embedded(fields, wanted)
    if len(found) > 1:
        raise ValueError(f"field {wanted} is there {len(found)} times")
    return protobuf.parse(found[0]) if found else None


def _one(fields: Iterable[Field], wanted: int, default: int | None = None, mask: int = _WORD) -> int:
    """Return a number that may be there once."""
    found = _all(fields, wanted, mask)
    if len(found) > 1 or (not found and default is None):
        raise ValueError(f"number {wanted} is there {len(found)} times")
    return found[0] if found else int(default or 0)


def _all(fields: Iterable[Field], wanted: int, mask: int = _WORD) -> list[int]:
    found = [field for field in fields if field.number == wanted]
    if any(field.wire != VARINT for field in found):
        raise ValueError(f"field {wanted} is no number")
    return [field.value & mask for field in found if isinstance(field.value, int)]
