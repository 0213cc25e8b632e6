"""Builders of what a capture writes into an artifact's manifest; keywords replace parts."""

from __future__ import annotations

from typing import Any

from artifact.manifest import Captured, Manifest
from artifact.parts.files import FileEntry
from artifact.parts.origin import Container, Machine
from artifact.parts.process import Process

DIGEST = "0" * 64


def container(**fields: Any) -> Container:
    usual = {
        "name": "main", "image": "worker:1", "uid": 1000, "gid": 1000, "groups": [5], "capabilities": "a80425fb",
        "no_new_privileges": True, "seccomp": 2,
    }  # fmt: skip
    return Container(**usual | fields)


def process(**fields: Any) -> Process:
    usual = {"pid": 1001, "argv": ["python3", "x.py"], "ids": [1001, 1002], "stdio": {"1": "pipe:[11]"}}
    return Process(**usual | fields)


def captured(**fields: Any) -> Captured:
    usual = {
        "created_at": "2026-11-28T00:00:00Z",
        "taken_on": Machine(kernel="6.1.0", architecture="x86_64", cpu_flags=["avx2", "sse4_2"], criu="4.2.1"),
        "container": container(),
        "process": process(),
        "used_mounts": [],
    }
    return Captured(**usual | fields)


def manifest(captured: Captured, *files: str) -> Manifest:
    """Build the manifest of checkpoint ``abc``, version ``1``, with these files."""
    entries = {name: FileEntry(size=0, blake3=DIGEST) for name in files}
    parts = {name: getattr(captured, name) for name in Captured.model_fields}
    return Manifest(format_version=1, checkpoint_id="abc", version="1", files=entries, **parts)
