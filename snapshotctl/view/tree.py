"""The inventory as a forest: plain data first, then drawn."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from kube.api import Object
from kube.store import key_of
from snapshotctl.explain.answers import is_shaped
from snapshotctl.view import table
from snapshotctl.view.inventory import Inventory, checkpoint_facts, origin_of, pod_facts, why, workload_of

BY_HAND: Final = "made by hand"
_WIDE: Final = 1000
"""Columns of what is no terminal: nothing is wrapped there."""


def forest(inventory: Inventory) -> list[Object]:
    """Return ``[{namespace, workloads: [{workload, checkpoints: [{..., versions: [{..., pods}], cold}], cold}]}]``."""
    workloads: defaultdict[tuple[str, str], Object] = defaultdict(lambda: {"checkpoints": [], "cold": []})
    for checkpoint in inventory.checkpoints:
        place = workloads[key_of(checkpoint)[0], _branch(checkpoint, inventory)]
        place["checkpoints"].append(_checkpoint(checkpoint, inventory))
    for pod in inventory.pods:
        if inventory.checkpoint_of(pod) is None:
            workloads[key_of(pod)[0], workload_of(pod)]["cold"].append(pod_facts(pod, inventory))
    found: defaultdict[str, list[Object]] = defaultdict(list)
    for (namespace, workload), branch in sorted(workloads.items()):
        found[namespace].append({"workload": workload, **branch})
    return [{"namespace": namespace, "workloads": branches} for namespace, branches in found.items()]


def _branch(checkpoint: Object, inventory: Inventory) -> str:
    """Name what a checkpoint is listed below: what it was made for, else the only workload that uses it."""
    users = {workload_of(pod) for pod in inventory.members(checkpoint)}
    return origin_of(checkpoint) or (users.pop() if len(users) == 1 else BY_HAND)


def _checkpoint(checkpoint: Object, inventory: Inventory) -> Object:
    facts = checkpoint_facts(checkpoint, inventory)
    members = inventory.members(checkpoint)
    users = [pod_facts(pod, inventory) for pod in members if is_shaped(pod)]
    known = [
        {**version, "pods": [user for user in users if user["version"] == version["version"]]}
        for version in facts["versions"]
    ]
    versions = {each["version"] for each in known}
    gone = sorted({user["version"] for user in users} - versions)
    known += [{"version": each, "pods": [user for user in users if user["version"] == each]} for each in gone]
    cold = [pod_facts(pod, inventory) for pod in members if not is_shaped(pod)]
    return {**facts, "versions": known, "cold": cold}


def as_text(namespaces: Iterable[Object]) -> str:
    """Drawn with lines, in colour on a terminal."""
    terminal = Console()
    console = Console(
        file=io.StringIO(),
        force_terminal=terminal.is_terminal,
        color_system=terminal.color_system,  # type: ignore[arg-type] # rich answers what it takes
        width=terminal.width if terminal.is_terminal else _WIDE,
        highlight=False,
    )
    for namespace in namespaces:
        tree = Tree(Text(namespace["namespace"], style="bold"))
        for workload in namespace["workloads"]:
            _draw_workload(tree, workload)
        console.print(tree)
    text = console.file.getvalue()  # type: ignore[attr-defined] # the StringIO of above
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def _draw_workload(tree: Tree, workload: Object) -> None:
    branch = tree.add(Text(workload["workload"]))
    for checkpoint in workload["checkpoints"]:
        size = table.size(checkpoint["size"])
        node = branch.add(_line(checkpoint["name"], checkpoint["phase"], size, why(checkpoint)))
        for version in checkpoint["versions"]:
            size = table.size(version.get("size")) or "not in storage"
            leaf = node.add(_line(f"version {version['version']}", "", size, ""))
            _draw_pods(leaf, version["pods"])
        _draw_pods(node, checkpoint["cold"])
    _draw_pods(branch, workload["cold"])


def _draw_pods(branch: Tree, pods: Iterable[Object]) -> None:
    for pod in pods:
        reason = "" if pod["outcome"] == "restored" else pod["code"]
        branch.add(_line(pod["name"], pod["outcome"], "", reason))


def _line(name: str, state: str, size: str, reason: str) -> Text:
    parts = [(name, ""), (state, table.COLOURS.get(state, "")), (size, "dim"), (reason, "dim")]
    return Text("  ").join(Text(text, style=style) for text, style in parts if text)
