"""Asking a cluster, by its own client program."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.processes import run


@dataclass(frozen=True)
class Kubectl:
    """kubectl bound to one cluster."""

    program: Path
    kubeconfig: Path | str
    """As in $KUBECONFIG, if it may be several paths."""

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Run it and give its output; raises CommandError with what it said."""
        env = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        return run([self.program, *arguments], stdin=None if stdin is None else stdin.encode(), env=env)

    def json(self, *arguments: str) -> Any:  # noqa: ANN401  # whatever the API holds
        """Run it with ``-o json`` and give what it printed."""
        return json.loads(self(*arguments, "-o", "json"))

    def apply(self, objects: Iterable[dict[str, Any]]) -> str:
        """Create or update *objects*, server-side."""
        stream = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        return self("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=stream)
