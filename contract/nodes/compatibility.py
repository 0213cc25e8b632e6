"""What is compared before a restore, as a closed list, and which of it the owner of a pod or of nodes may bypass.

A check's id is the reason that it refuses with, so what a report says is what a bypass names.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from contract.api.states import AgentReason


class Gate(NamedTuple):
    """One comparison of a captured worker with the place where it is to be restored."""

    reason: AgentReason
    """Its id."""
    compares: str
    bypass: bool
    """Whether it can be bypassed."""
    why: str
    """What a bypass risks; or why there is none."""


_RIGHTS: Final = "it would bring in rights that the pod does not give"
_WRONG_FILES: Final = "the worker would read and write other files than its own"
_NOTHING: Final = "CRIU could not make the process"

GATES: Final = (
    Gate(
        AgentReason.WIDER_RIGHTS,
        "user, groups, capabilities, no_new_privs and seccomp of the container: none less than at the capture",
        bypass=False,
        why=_RIGHTS,
    ),
    Gate(AgentReason.ARCHITECTURE_MISMATCH, "the node's architecture: the same", bypass=False, why=_NOTHING),
    Gate(
        AgentReason.CPU_MISMATCH,
        "instruction sets in /proc/cpuinfo: the node has all that were there at the capture",
        bypass=True,
        why="the worker dies of SIGILL at the first instruction that is missing, maybe long after",
    ),
    Gate(
        AgentReason.KERNEL_MISMATCH,
        "kernel release: major and minor number not lower than at the capture; patch level and vendor's suffix are "
        "not compared",
        bypass=True,
        why="a system call or option that the worker found at its start may be missing",
    ),
    Gate(
        AgentReason.CRIU_MISMATCH,
        "version of CRIU: major and minor number not lower than at the capture",
        bypass=False,
        why="an older CRIU passes over what it does not know in the images: state would be lost silently",
    ),
    Gate(
        AgentReason.IMAGE_MISMATCH,
        "digest of the container's image: the same, where both are known. A pod's is known before its first start "
        "only if its `image` names it (`name@sha256:...`)",
        bypass=True,
        why="files that the worker reads from now on are another release's than its memory",
    ),
    Gate(
        AgentReason.MOUNTS_MISSING,
        "mount points on which the worker has files or data: all are there",
        bypass=False,
        why=_WRONG_FILES,
    ),
    Gate(AgentReason.PIDS_TAKEN, "process ids of the worker: free in the container", bypass=False, why=_NOTHING),
    Gate(
        AgentReason.MEMORY_LIMIT,
        "memory that the container's limit leaves: at least the bytes of the artifact's pages and of its volumes in "
        "memory",
        bypass=True,
        why="the kernel ends the worker, or the restore, if it needs that much after all",
    ),
    Gate(
        AgentReason.CPU_LIMIT,
        "the container's CPU limit: none, or not lower than at the capture",
        bypass=True,
        why="threads that were counted out for more CPUs share fewer: the worker is slow",
    ),
    Gate(
        AgentReason.HUGE_PAGES,
        "huge pages that the node has left: at least as many bytes as a process of the worker has, where all are of "
        "one size",
        bypass=False,
        why=_NOTHING,
    ),
    Gate(
        AgentReason.GPU_MISSING,
        "GPUs of the container and the node's driver: there, if the worker has device state",
        bypass=False,
        why="the device state would have no place",
    ),
    Gate(
        AgentReason.GPU_DRIVER_DENIED,
        "the node's driver: not one of `gpu.deniedDrivers`",
        bypass=False,
        why="such drivers hang the whole node; take the entry out of the list if it does not hold for yours",
    ),
    Gate(
        AgentReason.GPU_MISMATCH,
        "models and number of the GPUs, none of them in MIG mode, and the driver's version: the same",
        bypass=False,
        why="device state of another model or driver has another form",
    ),
    Gate(
        AgentReason.GPU_MEMORY,
        "free memory of each GPU: at least what the worker held there",
        bypass=True,
        why="the driver refuses the restore if it is still short of memory, and the pod starts cold later",
    ),
)
"""In the order in which they are looked at."""
BYPASSABLE: Final = tuple(gate.reason for gate in GATES if gate.bypass)


class BypassError(ValueError):
    """An id that cannot be bypassed; the message has those that can."""


def bypass_of(word: str) -> AgentReason:
    """Return the check that *word* names.

    Raises:
        BypassError: there is none of that id, or it cannot be bypassed.
    """
    gate = next((each for each in GATES if each.reason == word), None)
    if gate is not None and gate.bypass:
        return gate.reason
    what = f"no check {word[:64]!r}" if gate is None else f"{word} cannot be bypassed: {gate.why}"
    raise BypassError(f"{what}; those that can be bypassed are {', '.join(BYPASSABLE)}")


def read_bypass(text: str) -> frozenset[AgentReason]:
    """Read a list of ids, separated by commas.

    Raises:
        BypassError: as ``bypass_of``.
    """
    return frozenset(bypass_of(word.strip()) for word in text.split(",") if word.strip())
