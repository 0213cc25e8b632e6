"""Rights of a container's process."""

from agent.container.rights import Rights
from linux.proc import CAPABILITY_SETS


def rights(*capabilities: int) -> Rights:
    """Return those of user and group 1000, who is in group 5 too, with capabilities by their numbers."""
    permitted = sum(1 << number for number in capabilities)
    return Rights(
        users=frozenset({1000}),
        groups=frozenset({1000, 5}),
        capabilities=dict.fromkeys(CAPABILITY_SETS, permitted),
        no_new_privileges=False,
        seccomp=0,
    )
