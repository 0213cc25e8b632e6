"""What the demo and the node tests need of kubectl: run it, read JSON, apply manifests, wait."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

POLL_SECONDS = 0.25

T = TypeVar("T")


class CommandError(RuntimeError):
    """A command failed; the message holds the command and what it printed."""


class WaitError(RuntimeError):
    """Something did not happen in time; the message says what was seen last."""


def run(argv: Sequence[str], *, stdin: str | None = None, timeout: float = 120) -> str:
    """Run a command and return its standard output.

    Raises:
        CommandError: it exited non-zero or ran longer than *timeout* seconds.
    """
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{' '.join(argv)}: no end after {timeout:.0f} s") from error
    if done.returncode != 0:
        raise CommandError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def wait_for(probe: Callable[[], T | None], what: str, seconds: float) -> T:
    """Call *probe* until it returns something else than None.

    Raises:
        WaitError: after *seconds*, naming *what* was awaited.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise WaitError(f"{what}: not within {seconds:.0f} s")
        time.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Kubectl:
    """One cluster and one namespace, by way of the kubectl binary."""

    binary: Path
    kubeconfig: Path
    namespace: str

    def __call__(self, *args: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run ``kubectl ARGS`` in the namespace and return what it prints."""
        base = [str(self.binary), "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace]
        return run([*base, *args], stdin=stdin, timeout=timeout)

    def get(self, *args: str) -> dict[str, Any]:
        """Return ``kubectl get ARGS -o json``."""
        found: dict[str, Any] = json.loads(self("get", *args, "-o", "json"))
        return found

    def items(self, *args: str) -> list[dict[str, Any]]:
        """Return the items of a listing."""
        found: list[dict[str, Any]] = self.get(*args)["items"]
        return found

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects server-side."""
        self("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """Return the pods that match a label selector and are not being deleted, oldest first."""
        living = [pod for pod in self.items("pods", "-l", selector) if "deletionTimestamp" not in pod["metadata"]]
        return sorted(living, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
