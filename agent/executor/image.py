"""What a container's image runs: read on the node for a capture, and given to the standby of a stock image."""

import logging
import os
from contextlib import suppress

from agent.container import image_config
from agent.container.inspection import open_in_container
from agent.errors import ContainerError
from agent.executor import acquire
from agent.executor.api import CaptureRequest, ExecutionResult, ImageConfigRequest
from agent.executor.environment import NodeEnvironment
from contract.api import control_files, keys
from contract.api.reports import ImageConfig
from linux import proc

logger = logging.getLogger(__name__)


def provide(request: ImageConfigRequest, environment: NodeEnvironment) -> ExecutionResult:
    """Write down for a waiting standby what its image runs, if neither the image nor an agent did.

    Raises:
        ContainerError, OSError: the image's configuration cannot be read, or the control folder not be written.
    """
    waiting = acquire.find(request.place, environment)
    if waiting is None:
        return acquire.NOT_YET
    with waiting.control as directory:
        if directory.has(control_files.IMAGE_ENTRYPOINT) or _has_record(waiting.init_pid, environment):
            return ExecutionResult(ok=True)
        config = _config_of(request.image_id, waiting.init_pid, environment)
        directory.write(control_files.IMAGE_CMD, _record(config.cmd))
        directory.write(control_files.IMAGE_ENTRYPOINT, _record(config.entrypoint))
    return ExecutionResult(ok=True, image=config)


def read(request: CaptureRequest, init_pid: int, environment: NodeEnvironment) -> ImageConfig | None:
    """Return what the image runs: worth knowing, and no reason to fail a capture; None if it cannot be read."""
    try:
        return _config_of(request.image_id, init_pid, environment)
    except (ContainerError, OSError) as error:
        logger.warning("image of %s/%s: %s", request.place.namespace, request.place.pod, error)
        return None


def _has_record(init_pid: int, environment: NodeEnvironment) -> bool:
    """Say whether the image itself records its command line for standby, as placeholders do."""
    with suppress(OSError):
        os.close(open_in_container(init_pid, f"{keys.TOOLS_DIR}/entrypoint", os.O_PATH, environment.proc))
        return True
    return False


def _config_of(image_id: str, init_pid: int, environment: NodeEnvironment) -> ImageConfig:
    found = image_config.roots(proc.mounts(init_pid, environment.proc))
    return image_config.read_config(image_id, [environment.host_root / root.lstrip("/") for root in found])


def _record(words: tuple[str, ...]) -> str:
    return "".join(f"{word}\0" for word in words)
