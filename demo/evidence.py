"""What the cluster itself shows of the story: Events, and the part of ``kubectl describe pod`` that explains it."""

from collections.abc import Iterable
from typing import Any

from demo.kubectl import Kubectl
from demo.timeline import Story

OUR_WORDS = {
    "Labels:": ("nvidia.com/",),
    "Annotations:": ("nvidia.com/",),
    "Events:": ("snapshot-agent", "snapshot-controller"),
}
"""Section of describe's output -> what marks a line of it as ours."""
SECTIONS = tuple(OUR_WORDS)
EVENT_WORDS = ("Checkpoint", "Restore")


def events(kubectl: Kubectl, told: Story) -> list[str]:
    """Return the namespace's Events about the checkpoint and the measured pods, oldest first."""
    names = {"minilm", told.cold.pod, told.restored.pod, told.fallback.pod}
    found = [item for item in kubectl.items("events") if item["involvedObject"].get("name") in names]
    ours = [item for item in found if any(word in item.get("reason", "") for word in EVENT_WORDS)]
    return ["Events:", *event_lines(ours)]


def event_lines(items: Iterable[dict[str, Any]]) -> list[str]:
    """Render Events as lines, oldest first. Pure."""
    # Timestamps are whole seconds; within one, the version of the write shows which came first.
    ordered = sorted(
        items, key=lambda item: (str(item.get("lastTimestamp") or item.get("eventTime") or ""), _version(item))
    )
    return [
        f"  {item.get('type', ''):<8}{item.get('reason', ''):<24}"
        f"{item['involvedObject']['kind']}/{item['involvedObject']['name']}: {item.get('message', '')}"
        for item in ordered
    ]


def _version(item: dict[str, Any]) -> int:
    text = str(item.get("metadata", {}).get("resourceVersion", ""))
    return int(text) if text.isdecimal() else 0


def describe(kubectl: Kubectl, pod: str) -> list[str]:
    """Return the lines of ``kubectl describe pod`` that say why the pod started as it did."""
    text = kubectl("describe", "pod", pod)
    return [f"kubectl describe pod {pod} (in part):", *explaining_lines(text)]


def explaining_lines(text: str) -> list[str]:
    """Keep what is ours of the labels, annotations and Events, values on lines of their own included. Pure."""
    kept: list[str] = []
    section, ours = "", False
    for line in text.splitlines():
        if line and not line[0].isspace():
            section = line.split(maxsplit=1)[0]
        # describe puts a long value under its key, indented further and without the key's name.
        value = ours and section == "Annotations:" and line.lstrip().startswith("{")
        ours = section in SECTIONS and (value or any(word in line for word in OUR_WORDS[section]))
        if ours:
            kept.append(f"  {line}")
    return kept
