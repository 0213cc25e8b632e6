"""What a security module confines a container to, and how a restored worker comes under it.

criu runs in the container's mount namespace, which shows no file system of a security module, so it records no label.
A profile of AppArmor is written into the images before criu reads them: each restored thread changes to it itself.
docs/decisions/0031-a-profile-written-into-the-images.md.
"""

import errno
import re
from pathlib import Path
from typing import Final

from agent.errors import RefusedError
from contract.api.states import AgentReason
from linux.proc import read_plainly

_UNCONFINED: Final = ("", "unconfined")
_WITHOUT_POLICY: Final = "kernel"
"""What SELinux says of every process as long as no policy is loaded."""
_CURRENT, _OF_APPARMOR = "attr/current", "attr/apparmor/current"
"""The second can be read only where AppArmor is on. Kernels before 5.8 have no such file."""
_MODE: Final = re.compile(r" \([a-z]+\)$")
"""AppArmor puts it behind a profile's name, which may have spaces and brackets itself."""
_STACK, _NAMESPACE = "//&", ":"
"""AppArmor shows ``A//&B`` for two profiles at once, and ``:namespace:profile`` for one of another namespace."""
_UNREADABLE: Final = "what cannot be read"


def label_of(task: Path | str) -> str:
    """Return what the security module says, without AppArmor's mode in brackets; empty if the thread is free.

    If that cannot be read, the answer says so, and is no label that anything can be restored with.
    """
    label = _read(f"{task}/{_CURRENT}")
    if label is None:
        return ""
    is_free = label in _UNCONFINED or (label == _WITHOUT_POLICY and _read(f"{task}/{_OF_APPARMOR}") is None)
    return "" if is_free else label


def has_module(task: Path) -> bool:
    """Say whether any security module labels threads on this node."""
    return _read(f"{task}/{_CURRENT}") is not None


def profile_of(task: Path) -> str:
    """Return the profile of AppArmor that a thread can change to, to be as confined as this one; empty if none is.

    Several modules may confine a thread: it is what AppArmor says only if that is all that ``label_of`` says.
    """
    profile = _read(f"{task}/{_OF_APPARMOR}")
    if profile is None or profile in _UNCONFINED or profile != label_of(task):
        return ""
    return "" if _STACK in profile or profile.startswith((_NAMESPACE, _UNREADABLE)) else profile


def _read(path: str) -> str | None:
    try:
        return _MODE.sub("", read_plainly(path).decode("utf-8", "replace").rstrip("\0\n"))
    except OSError as error:
        # No such module, or no such thread any more.
        return None if error.errno in (errno.EINVAL, errno.ENOENT, errno.ESRCH) else f"{_UNREADABLE} ({error.strerror})"


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
