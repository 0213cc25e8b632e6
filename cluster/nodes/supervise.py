"""Starts a cluster's programs in order, starts those again that end, and reaps orphans.

Runs on its own, as the first process of a node or beside a test session: ``python -I supervise.py SPEC``.
It therefore imports the standard library only. SPEC is a JSON file::

    {"components": [{"name": ..., "argv": [...], "log": path, "env": {...}, "wait_for": [target, ...]}],
     "restart": true,        start a program again that ended; else the end of one ends all
     "parent_pipe": false,   end when standard input closes, as it does when the parent has ended
     "pid_file": null,       where to note our own process number
     "remove": null}         a folder to remove when the parent has ended, which else would remove it

A wait target is ``unix:PATH``, ``tcp:HOST:PORT`` or ``https://...`` (answering 200).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

RESTART_DELAY = 1.0
"""Seconds before a program that ended is started again."""

TICK = 0.05
"""Seconds between looks at what is waited for."""

IDLE = 5.0
"""Seconds between looks when all runs; ended children wake us at once."""

PR_SET_PDEATHSIG = 1


@dataclass
class Component:
    """One program and its state."""

    name: str
    argv: list[str]
    log: str
    env: dict[str, str] = field(default_factory=dict)
    wait_for: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    not_before: float = 0.0


def reachable(target: str) -> bool:
    """Say whether a wait target answers now."""
    kind, _, rest = target.partition(":")
    try:
        if kind == "unix":
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(rest)
        elif kind == "tcp":
            host, _, port = rest.rpartition(":")
            socket.create_connection((host, int(port)), timeout=1).close()
        else:
            # Readiness of our own server, by a question without secrets: nothing to verify.
            context = ssl._create_unverified_context()  # noqa: S323, SLF001
            urllib.request.urlopen(target, timeout=2, context=context).close()  # noqa: S310
    except OSError:
        return False
    return True


class Supervisor:
    """Keeps the components running until it is asked to end."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.components = [Component(**entry) for entry in spec["components"]]
        self.restart: bool = spec.get("restart", True)
        self.parent_pipe: bool = spec.get("parent_pipe", False)
        self.remove: str | None = spec.get("remove")
        self.ending = False
        self.orphaned = False
        self.reachable: set[str] = set()
        self.wakeup, waker = socket.socketpair()
        self.wakeup.setblocking(False)
        waker.setblocking(False)
        self._waker = waker

    def run(self) -> None:
        """Work until a signal, the parent's end or (without restart) the end of a component."""
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            while not self.ending:
                self._start_due()
                self._wait()
                self._reap()
        finally:
            self._kill_all()

    def _end(self, *_: object) -> None:
        self.ending = True

    def _start_due(self) -> None:
        for component in self.components:
            if component.process is None and time.monotonic() >= component.not_before and self._ready(component):
                self._start(component)

    def _ready(self, component: Component) -> bool:
        for target in component.wait_for:
            if target not in self.reachable and not reachable(target):
                return False
            self.reachable.add(target)
        return True

    def _start(self, component: Component) -> None:
        with Path(component.log).open("ab") as log:
            component.process = subprocess.Popen(
                component.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **component.env},
                preexec_fn=_die_with_parent,  # noqa: PLW1509  # this process has one thread
            )
        say(f"started {component.name}, pid {component.process.pid}")

    def _wait(self) -> None:
        waiting = any(component.process is None for component in self.components)
        watched: list[Any] = [self.wakeup]
        if self.parent_pipe:
            watched.append(sys.stdin)
        readable, _, _ = select.select(watched, [], [], TICK if waiting else IDLE)
        if self.wakeup in readable:
            with contextlib.suppress(BlockingIOError):
                self.wakeup.recv(4096)
        if sys.stdin in readable and not os.read(0, 4096):
            say("the parent has ended")
            self.ending = self.orphaned = True

    def _reap(self) -> None:
        """Collect every ended child, ours or adopted."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self._ended(pid, os.waitstatus_to_exitcode(status))

    def _ended(self, pid: int, code: int) -> None:
        for component in self.components:
            if component.process and component.process.pid == pid:
                component.process.returncode = code
                component.process = None
                component.not_before = time.monotonic() + RESTART_DELAY
                say(f"{component.name} ended with {code}; its log: {component.log}")
                self.ending = self.ending or not self.restart

    def _kill_all(self) -> None:
        for component in self.components:
            if component.process:
                component.process.kill()
        for component in self.components:
            if component.process:
                component.process.wait()
        if self.orphaned and self.remove:
            shutil.rmtree(self.remove, ignore_errors=True)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def say(text: str) -> None:
    """Write one line of the supervisor's own log."""
    stamp = time.strftime("%H:%M:%S")
    sys.stderr.write(f"{stamp} {text}\n")
    sys.stderr.flush()


def main(spec: str) -> NoReturn:
    """Supervise what the file *spec* lists."""
    wanted = json.loads(Path(spec).read_text())
    if wanted.get("pid_file"):
        draft = Path(wanted["pid_file"] + ".new")
        draft.write_text(str(os.getpid()))
        draft.rename(wanted["pid_file"])
    Supervisor(wanted).run()
    sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
