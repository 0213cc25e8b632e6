"""What a security module confines a container to, and how a restored worker comes under it.

criu runs in the container's mount namespace, which shows no file system of a security module, so it records no label.
A profile of AppArmor is written into the images before criu reads them: each restored thread changes to it itself.
docs/decisions/0031-a-profile-written-into-the-images.md.
"""

from pathlib import Path
from typing import Final

from agent.errors import RefusedError
from contract.api.states import AgentReason

_UNCONFINED: Final = ("", "unconfined", "kernel")
"""The last is what SELinux says as long as no policy is loaded."""
_OF_APPARMOR: Final = "attr/apparmor/current"
"""Readable only where AppArmor is on. Kernels before 5.8 have no such file."""
_STACK, _NAMESPACE = "//&", ":"
"""AppArmor shows ``A//&B`` for two profiles at once, and ``:namespace:profile`` for one of another namespace."""


def label_of(task: Path) -> str:
    """Return what the security module says, as criu writes it: without AppArmor's mode in brackets; empty if free."""
    try:
        found = (task / "attr/current").read_text().rstrip("\0\n")
    except OSError:  # there is none
        return ""
    plain = found.partition(" (")[0]
    return "" if plain in _UNCONFINED else plain


def profile_of(task: Path) -> str:
    """Return the profile of AppArmor that a thread can change to, to be as confined as this one; empty if none is.

    Several modules may confine a thread: where AppArmor does, ``label_of`` says what it says.
    """
    label = label_of(task)
    try:
        (task / _OF_APPARMOR).read_text()
    except OSError:
        return ""
    return "" if _STACK in label or label.startswith(_NAMESPACE) else label


def expected_label(label: str, profile: str, *, allow_unconfined: bool) -> str | None:
    """Return the label that each restored thread must have; None if whatever criu gives it will do. Pure.

    Args:
        label: of the container.
        profile: of it that can be restored, ``profile_of``.
        allow_unconfined: whether the operator of the nodes lets a restore leave out what cannot.

    Raises:
        RefusedError: ``confinement-lost``.
    """
    if label == profile:
        return label
    if not allow_unconfined:
        words = f"the container is confined by {label}, which a restored worker would not be"
        raise RefusedError(AgentReason.CONFINEMENT_LOST, words)
    return None
