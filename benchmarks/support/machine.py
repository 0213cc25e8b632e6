"""What a benchmark ran on: figures without it mean nothing."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("aiohttp", "orjson", "uvloop", "kubernetes", "pydantic")


def describe() -> dict[str, Any]:
    """Return processor, memory, kernel, versions, time, commit, and how busy the machine was already."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "virtual": "hypervisor" in _field("/proc/cpuinfo", "flags").split(),
        "scheduling": "normal" if os.sched_getscheduler(0) == os.SCHED_OTHER else "real-time (chrt --rr 1)",
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def one_line(machine: dict[str, Any]) -> str:
    """Return the same, short."""
    return (
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, Linux {machine['kernel']}, "
        f"Python {machine['python']}, commit {machine['commit']}, "
        f"{machine['scheduling']} scheduling, "
        f"load average {machine['load_average']:.1f}"
    )


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    return int(_field(f"/proc/{pid}/status", "VmRSS").split()[0]) * 1024


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process ever had resident."""
    return int(_field(f"/proc/{pid}/status", "VmHWM").split()[0]) * 1024


def cpu_seconds(pid: int) -> float:
    """Return what a process and all its threads have used so far, in user and kernel; exact to a clock tick."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _commit() -> str:
    found = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
