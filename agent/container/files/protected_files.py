"""Files that their owner made immutable, or that can only grow (chattr +i, +a): a restore could not change them."""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from agent.errors import RefusedError
from contract.api.states import AgentReason
from linux import syscalls


def protected(root: int, names: Iterable[str]) -> Iterator[str]:
    """Yield the names of those files below a descriptor."""
    for name in names:
        with suppress(OSError):  # removed meanwhile
            if syscalls.is_protected(root, name):
                yield name


def refuse_protected(point: str, names: Iterable[str]) -> None:
    """Refuse if there is any.

    Args:
        point: where they are, without a slash at the end.
        names: below that point.

    Raises:
        RefusedError: naming the first.
    """
    for name in names:
        words = f"{point}/{name} is immutable, or can only grow (chattr +i, +a)"
        raise RefusedError(AgentReason.IMMUTABLE_FILE, words)
