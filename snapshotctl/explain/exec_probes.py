"""Commands that kubelet executes in a restored container, which have another clock than its worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from contract.api.checkpoint import TargetError, find_targets

_FIELDS: Final = ("startupProbe", "readinessProbe", "livenessProbe")


def exec_probe_notes(pod: Mapping[str, Any]) -> Iterator[str]:
    """Say which targets have probes that execute a command; pure."""
    try:
        targets = [target.container for target in find_targets(pod)]
    except TargetError:
        return
    for target in targets:
        if found := [name for name in _FIELDS if (target.get(name) or {}).get("exec")]:
            yield (
                f"{' and '.join(found)} of container {target['name']} executes a command: in a restored container "
                "that sees the node's monotonic clock and uptime, the worker those of its capture; compare times of "
                "day (docs/after-a-restore.md#clocks)"
            )
