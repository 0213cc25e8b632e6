"""Configuration enters here, once: a handful of environment variables and one file with the chart's values.

The chart sets the variables (most by the downward API); the file is the ConfigMap that it renders from its values.
Whatever is wrong is reported at once, and the process does not start.
"""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

DEFAULT_CONFIG: Final = Path("/etc/snapshot/config.yaml")
DEFAULT_HEALTH_PORT: Final = 8081
MAX_PORT: Final = 65535
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
VARIABLES: Final = {
    "pod_namespace": "POD_NAMESPACE",
    "pod_name": "POD_NAME",
    "node_name": "NODE_NAME",
    "release_name": "RELEASE_NAME",
    "release_fullname": "RELEASE_FULLNAME",
    "restricted_namespace": "RESTRICTED_NAMESPACE",
}

T = TypeVar("T")


class SettingsError(Exception):
    """The environment or the configuration file is unusable; one line for each problem."""

    def __init__(self, problems: Collection[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The environment of a process; text fields are empty if the variable is unset."""

    pod_namespace: str
    """POD_NAMESPACE: where this process runs, which is the release's namespace."""
    pod_name: str
    """POD_NAME: who this process is, in Events and Leases."""
    node_name: str
    """NODE_NAME: only the agent has one."""
    release_name: str
    """RELEASE_NAME: the Helm release."""
    release_fullname: str
    """RELEASE_FULLNAME: prefix of the names of the release's objects."""
    restricted_namespace: str
    """RESTRICTED_NAMESPACE: the only namespace served; empty: all."""
    config_path: Path
    """SNAPSHOT_CONFIG."""
    log_level: str
    """SNAPSHOT_LOG_LEVEL: debug, info (default), warning or error."""
    health_port: int
    """SNAPSHOT_HEALTH_PORT: 8081 unless several processes share a host; 0 takes a free one."""

    @property
    def watched_namespace(self) -> str | None:
        """The namespace to list and watch; None: all of them."""
        return self.restricted_namespace or None


def read_settings(required: Collection[str] = (), environment: Mapping[str, str] | None = None) -> Settings:
    """Read the environment.

    Args:
        required: names of fields that must not be empty, for example ``pod_namespace``.
        environment: what to read instead of the process's own.

    Raises:
        SettingsError: a required variable is missing, or one has no legal value.
    """
    variables = os.environ if environment is None else environment
    texts = {field: variables.get(name, "").strip() for field, name in VARIABLES.items()}
    problems = [
        f"{VARIABLES[field]}: must be set (the chart does it; outside a cluster, export it)"
        for field in required
        if not texts[field]
    ]
    level = variables.get("SNAPSHOT_LOG_LEVEL", "").strip().lower() or "info"
    if level not in LOG_LEVELS:
        problems.append(f"SNAPSHOT_LOG_LEVEL: must be one of {', '.join(LOG_LEVELS)}, is {level!r}")
    port = variables.get("SNAPSHOT_HEALTH_PORT", "").strip() or str(DEFAULT_HEALTH_PORT)
    if not port.isdecimal() or int(port) > MAX_PORT:
        problems.append(f"SNAPSHOT_HEALTH_PORT: must be a port number from 0 to {MAX_PORT}, is {port!r}")
    if problems:
        raise SettingsError(problems)
    path = Path(variables.get("SNAPSHOT_CONFIG", "").strip() or DEFAULT_CONFIG)
    return Settings(config_path=path, log_level=level, health_port=int(port), **texts)


def read_config(path: Path, parse: Callable[[str], T]) -> T:
    """Read the configuration file and return what *parse* makes of its text.

    Raises:
        SettingsError: the file is missing or unreadable, or *parse* raised a ValueError.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            [f"{path}: {error.strerror}; it is the key config.yaml of the release's ConfigMap (or set SNAPSHOT_CONFIG)"]
        ) from error
    except ValueError as error:
        raise SettingsError([f"{path}: {line}" for line in str(error).splitlines()]) from error
