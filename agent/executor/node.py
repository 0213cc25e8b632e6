"""What the node is, and what it lacks."""

import logging
from dataclasses import replace

from agent.container.inspection import node_facts
from agent.executor.api import NodeGpus
from agent.executor.environment import NodeEnvironment
from contract.api.errors import SnapshotError
from contract.nodes.node_facts import NodeFacts
from contract.pods.systems import architecture_of

logger = logging.getLogger(__name__)


def facts(environment: NodeEnvironment) -> NodeFacts | None:
    """See ``api.NodeView``."""
    try:
        found = node_facts(environment.criu.version(), environment.proc)
    except (SnapshotError, OSError) as error:
        logger.warning("what the node is cannot be read: %s", error)
        return None
    seen = gpus(environment)
    found = replace(found, architecture=architecture_of(found.architecture))
    return found if seen is None else replace(found, gpu_models=seen.models, gpu_driver=seen.driver)


def gpus(environment: NodeEnvironment) -> NodeGpus | None:
    """See ``api.Engine``."""
    try:
        driver = environment.gpus.driver()
        models = tuple(device.model for device in environment.gpus.devices())
    except SnapshotError as error:
        logger.warning("the node's GPUs cannot be listed: %s", error)
        return None
    return NodeGpus(models, driver.version) if driver is not None and models else None


def problems(environment: NodeEnvironment) -> tuple[str, ...]:
    """See ``check`` of ``api.Engine``."""
    found = []
    try:
        environment.criu.version()
    except SnapshotError as error:
        found.append(str(error))
    # Opening the driver takes up to half a second: now, rather than in the first capture or restore.
    environment.gpus.driver()
    if not environment.kubelet_pods.is_dir():
        found.append(f"{environment.kubelet_pods} is not there: the agent needs the node's kubelet folder")
    return tuple(found)
