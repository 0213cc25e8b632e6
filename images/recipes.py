"""What each image consists of, and what its containers get."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from contract.api.keys import STANDBY
from images import archive
from images.archive import Image
from images.layers import Layer
from images.rootfs import USER
from images.steps import Steps

_PATH: Final = "PATH=/usr/local/bin:/usr/bin:/usr/sbin"
_ENV: Final = [_PATH, "LANG=C.UTF-8", "PYTHONUNBUFFERED=1"]

ROOMS: Final = {
    "control-plane": (
        "contract",
        "linux",
        "artifact",
        "daemon",
        "kube",
        "certs",
        "webhook",
        "controller",
        "snapshotctl",
    ),
    "agent": ("contract", "linux", "artifact", "daemon", "kube", "agent"),
}
"""The rooms of this checkout that each image holds."""

EXTRAS: Final = {
    "control-plane": ("webhook", "controller", "cli"),
    "agent": ("agent",),
}
"""The project's extras that each image's lock file holds."""


def lock_file(project: Path, name: str) -> Path:
    """Return the path of an image's lock file."""
    if name == "worker":
        return project / "examples" / "worker" / "requirements.lock"
    return project / "images" / f"requirements-{name}.lock"


@dataclass(frozen=True)
class Recipe:
    """One image: its reference, the name of its archive, and how it is made."""

    reference: str
    archive: str
    build: Callable[[Steps, Path], Image]


def _control_plane(steps: Steps, project: Path) -> Image:
    wheels = steps.wheels(lock_file(project, "control-plane"))
    built = (steps.python(), wheels, steps.code(project, ROOMS["control-plane"]))
    return archive.image(_python(["python3", "-m"], cmd=["webhook"]), built)


def _agent(steps: Steps, project: Path) -> Image:
    wheels = steps.wheels(lock_file(project, "agent"))
    native = (steps.criu(), steps.tools())
    # The shell is for people who have to look at checkpoint storage from inside; the agent itself runs nothing of it.
    built = (steps.python(), steps.shell(), wheels, *native, steps.code(project, ROOMS["agent"]))
    return archive.image(_python(["python3", "-m", "agent"], user="0:0"), built)


def _tools(steps: Steps, _: Path) -> Image:
    """Build an image of the tool folder alone: an init container copies it into pods, or they mount the image."""
    return archive.image({"Entrypoint": [STANDBY], "User": f"{USER}:{USER}", "WorkingDir": "/"}, (steps.tools(),))


def _worker(steps: Steps, project: Path) -> Image:
    built = (
        steps.python(),
        steps.shell(),
        steps.wheels(lock_file(project, "worker")),
        steps.code(project / "sdk", ("snapshot_sdk",)),
        steps.code(project / "examples", ("worker", "dynamo"), at="app"),
    )
    return archive.image({**_python(["python3", "-m", "worker"]), "WorkingDir": "/app"}, built)


def _worker_placeholder(steps: Steps, project: Path) -> Image:
    return placeholder(_worker(steps, project), steps.records)


def _stock_glibc(steps: Steps, project: Path) -> Image:
    """Build a foreign worker on Debian's C library: no tool of ours, no shell, an entrypoint and a cmd."""
    code = steps.code(project / "examples" / "inject", ("stock",), at="app")
    runtime = _python(["python3", "-m", "stock.server"], cmd=["glibc"], user="1000:1000")
    return archive.image({**runtime, "WorkingDir": "/app"}, (steps.python(), code))


def _stock_musl(steps: Steps, project: Path) -> Image:
    """Build the same on musl: nothing but the C library and the worker."""
    program = steps.musl_program(project / "examples" / "inject" / "stock" / "worker.c", "usr/bin/worker")
    runtime = {"Entrypoint": ["/usr/bin/worker"], "Cmd": ["musl"], "User": "1000:1000", "WorkingDir": "/"}
    return archive.image(runtime, (steps.musl(), program))


def placeholder(base: Image, records: Callable[[list[str] | None, list[str] | None], Layer]) -> Image:
    """Build a placeholder: the base unchanged but for ``snapshot-standby`` and the record of entrypoint and cmd."""
    entrypoint, cmd = base.runtime.get("Entrypoint") or [], base.runtime.get("Cmd") or []
    return archive.append(base, records(entrypoint, cmd))


def _python(entrypoint: list[str], *, cmd: list[str] | None = None, user: str = f"{USER}:{USER}") -> dict[str, Any]:
    return {"Entrypoint": entrypoint, "Cmd": cmd, "Env": _ENV, "User": user, "WorkingDir": "/"}


RECIPES: Final = {
    "control-plane": Recipe("dynamo-snapshot/control-plane:dev", "control-plane.tar", _control_plane),
    "agent": Recipe("dynamo-snapshot/agent:dev", "agent.tar", _agent),
    "tools": Recipe("dynamo-snapshot/tools:dev", "tools.tar", _tools),
    "worker": Recipe("dynamo-snapshot/demo-worker:dev", "demo-worker.tar", _worker),
    "placeholder": Recipe(
        "dynamo-snapshot/demo-worker-placeholder:dev", "demo-worker-placeholder.tar", _worker_placeholder
    ),
}

EXAMPLES: Final = {
    "stock-glibc": Recipe("dynamo-snapshot/stock-glibc:dev", "stock-glibc.tar", _stock_glibc),
    "stock-musl": Recipe("dynamo-snapshot/stock-musl:dev", "stock-musl.tar", _stock_musl),
}
"""Images as others have them, for ``examples/inject``; built by name, not with all others."""
