"""The commands of ``python -m cluster``."""

from __future__ import annotations

import functools
import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
from rich.console import Console
from rich.table import Table

from cluster import control_plane, embedded, preflight
from cluster.builder import build, packages, toolchain
from cluster.builder.cache import Cache
from cluster.control_plane import ControlPlane
from cluster.embedded import Cluster, Options
from cluster.errors import ClusterError, StateError
from cluster.nodes.node import Mount
from cluster.processes import held
from cluster.progress import for_terminal

P = ParamSpec("P")
R = TypeVar("R")

name_option = click.option("--name", default="dev", show_default=True, help="Which cluster.")
node_option = click.option("--node", "index", default=1, show_default=True, help="Which of its nodes, counted from 1.")


def readable(command: Callable[P, R]) -> Callable[P, R]:
    """Turn our errors into a message and exit code 1."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except ClusterError as error:
            raise click.ClickException(str(error)) from error

    return wrapped


@click.group()
def cli() -> None:
    """Run a real Kubernetes on this machine, for the demo and the tests."""


@cli.command("build")
@readable
def build_() -> None:
    """Build all programs and fetch the node's root file system, unless the cache has them."""
    home, progress = _home(), for_terminal()
    preflight.check_node_host(home.root)
    build.build(home, toolchain.ALL_COMPONENTS, progress)
    packages.node_root(home, progress)


@cli.command()
@name_option
@click.option("--nodes", default=1, show_default=True, help="How many nodes.")
@click.option("--audit", is_flag=True, help="Log every API request with its answer (see: logs audit).")
@click.option("--control-plane-only", is_flag=True, help="etcd and API server on loopback, no node.")
@click.option("--controllers", is_flag=True, help="With --control-plane-only: also the stock controllers.")
@click.option("--mount", "mounts", multiple=True, metavar="FOLDER[:PLACE]", help="A folder of this machine for nodes.")
@readable
def up(
    name: str, nodes: int, *, audit: bool, control_plane_only: bool, controllers: bool, mounts: tuple[str, ...]
) -> None:
    """Start a cluster, building it first if needed; one that runs already is left as it is."""
    if controllers and not control_plane_only:
        raise StateError("--controllers needs --control-plane-only; a whole cluster has them always")
    if control_plane_only:
        if nodes != 1 or mounts:
            raise StateError("--nodes and --mount need nodes; leave --control-plane-only out")
        started: Cluster | ControlPlane = control_plane.up(
            _home(), name, controllers=controllers, audit=audit, progress=for_terminal()
        )
    else:
        started = embedded.up(_home(), name, Options(nodes, audit, tuple(map(Mount.parse, mounts))), for_terminal())
    click.echo(f"export KUBECONFIG={shlex.quote(str(started.kubeconfig))}")


@cli.command()
@name_option
@readable
def down(name: str) -> None:
    """Stop a cluster and remove all it left."""
    if not embedded.down(_home(), name, for_terminal()):
        click.echo(f"no cluster {name}", err=True)


@cli.command()
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@readable
def status(output: str) -> None:
    """Return all clusters of this cache, and whether they work."""
    rows = _rows()
    if output == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table("NAME", "KIND", "STATE", "NODES READY", "SERVER", "KUBECONFIG", box=None)
    for row in rows:
        ready = f"{len(row['ready'])} of {row['nodes']}"
        table.add_row(row["name"], row["kind"], row["state"], ready, row["server"], row["kubeconfig"])
    Console(width=None if sys.stdout.isatty() else 200).print(table if rows else "no clusters")


@cli.command()
@name_option
@readable
def kubeconfig(name: str) -> None:
    """Print the path of a cluster's kubeconfig."""
    click.echo(_either(name).kubeconfig)


@cli.command()
@name_option
@readable
def env(name: str) -> None:
    """Print shell lines that set KUBECONFIG and put kubectl and helm on PATH: eval "$(python -m cluster env)"."""
    found = _either(name)
    folders = [str(found.programs.folders[part]) for part in ("kubernetes", "helm") if part in found.programs.folders]
    click.echo(f"export KUBECONFIG={shlex.quote(str(found.kubeconfig))}")
    click.echo(f'export PATH={shlex.quote(os.pathsep.join(folders))}:"$PATH"')


@cli.command("load-image")
@name_option
@click.argument("archives", nargs=-1, required=True, type=click.Path(path_type=Path))
@readable
def load_image(name: str, archives: tuple[Path, ...]) -> None:
    """Load OCI or docker archives into every node; prints the images that are new."""
    found, progress = _cluster(name), for_terminal()
    for archive in archives:
        with progress.step(f"loading {archive.name}"):
            images = found.load_image(archive)
        click.echo("\n".join(images) or f"{archive}: nothing new")


@cli.command("exec", context_settings={"ignore_unknown_options": True})
@name_option
@node_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@readable
def exec_(name: str, index: int, command: tuple[str, ...]) -> None:
    """Run a command in a node's namespaces (a shell if none is given): python -m cluster exec -- ctr images ls."""
    argv = _cluster(name).node(index).enter(command or ("/bin/bash",))
    sys.stdout.flush()
    os.execvp(argv[0], argv)  # noqa: S606  # no shell is meant


@cli.command()
@name_option
@node_option
@click.option("--tail", default=0, help="Only the last so many lines.")
@click.argument("component")
@readable
def logs(name: str, index: int, tail: int, component: str) -> None:
    """Print the log of a program, e.g. kubelet, containerd, kube-apiserver."""
    plane = control_plane.find(_home(), name)
    text = plane.log(component) if plane else _cluster(name).logs(component, index).read_text(errors="replace")
    lines = text.splitlines()
    click.echo("\n".join(lines[-tail:] if tail else lines))


def _home() -> Cache:
    return Cache.from_env(os.environ)


def _cluster(name: str) -> Cluster:
    found = embedded.find(_home(), name)
    if not found:
        raise StateError(f"cluster {name} is not running; start it: python -m cluster up --name {name}")
    return found


def _either(name: str) -> Cluster | ControlPlane:
    return control_plane.find(_home(), name) or _cluster(name)


def _rows() -> list[dict[str, Any]]:
    home = _home()
    return [_row(home, name) for name in home.cluster_names()]


def _row(home: Cache, name: str) -> dict[str, Any]:
    plane, found = control_plane.find(home, name), embedded.find(home, name)
    either = plane or found
    if either is None:
        starting = held(home.cluster_lock(name))
        state = "starting or stopping" if starting else f"broken; remove it: python -m cluster down --name {name}"
        return {"name": name, "kind": "", "state": state, "nodes": 0, "ready": [], "server": "", "kubeconfig": ""}
    return {
        "name": name,
        "kind": "control plane" if plane else "cluster",
        "state": "running",
        "nodes": len(found.nodes) if found else 0,
        "ready": sorted(embedded.ready_nodes(either.kubectl.json("get", "nodes")["items"])),
        "server": either.server,
        "kubeconfig": str(either.kubeconfig),
    }
