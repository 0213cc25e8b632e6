"""With agentMount the agent's DaemonSet brings the volume: whether it is there, and mounts what the values say."""

from contract.api import keys
from contract.api.states import CheckpointReason
from contract.config.storage import Storage
from controller.checkpoints.reasons import Problem
from kube.api import Object

CONTAINER = "agent"
VOLUME = "checkpoints"
"""By these names, in DaemonSets with the agent's label, checkpoint storage is found."""
_SELECTOR = f"{keys.LABEL_AGENT}={keys.LABEL_AGENT_VALUE}"


def agent_problem(agents: tuple[Object, ...], namespace: str, storage: Storage) -> Problem | None:
    """Return what keeps the agents of *namespace* from capturing to the volume that the values describe."""
    if not agents:
        return Problem(
            CheckpointReason.AGENT_MISSING,
            f"no snapshot-agent DaemonSet ({_SELECTOR}) in namespace {namespace}, so nothing mounts checkpoint "
            "storage; install the chart there with its agent",
        )
    mounted = [(each, _mounted(each)) for each in agents]
    wanted = (storage.pvc_name, storage.base_path)
    serving = [each for each, what in mounted if what == wanted]
    if not serving:
        words = "; ".join(
            f"DaemonSet {namespace}/{each['metadata']['name']} {_in_words(what)}" for each, what in mounted
        )
        return Problem(
            CheckpointReason.AGENT_STORAGE_DIFFERS,
            f"{words}, but the chart's values say claim {wanted[0]} at {wanted[1]}; `helm upgrade` puts it right",
        )
    return None if any(_count(each, "numberReady") for each in serving) else _not_ready(serving[0], namespace, storage)


def _not_ready(agent: Object, namespace: str, storage: Storage) -> Problem:
    name, wanted = agent["metadata"]["name"], _count(agent, "desiredNumberScheduled")
    if not wanted:
        words = f"DaemonSet {namespace}/{name} runs on no node; do its nodeSelector and affinity match any?"
    else:
        words = (
            f"none of the {wanted} pods of DaemonSet {namespace}/{name} is ready; is PersistentVolumeClaim "
            f"{storage.pvc_name} bound? `kubectl describe pods -n {namespace} -l {_SELECTOR}`"
        )
    return Problem(CheckpointReason.AGENT_NOT_READY, words)


def _mounted(agent: Object) -> tuple[str, str] | None:
    """Claim and path of the checkpoint volume, None if the agent has none."""
    spec = ((agent.get("spec") or {}).get("template") or {}).get("spec") or {}
    for volume in spec.get("volumes") or ():
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if volume.get("name") != VOLUME or not claim:
            continue
        mounts = [
            mount
            for container in spec.get("containers") or ()
            if container.get("name") == CONTAINER
            for mount in container.get("volumeMounts") or ()
            if mount.get("name") == VOLUME
        ]
        return (str(claim), str(mounts[0].get("mountPath", "")).rstrip("/")) if mounts else None
    return None


def _in_words(mounted: tuple[str, str] | None) -> str:
    return f"mounts claim {mounted[0]} at {mounted[1]}" if mounted else "mounts no checkpoint claim (podMount?)"


def _count(agent: Object, field: str) -> int:
    return int((agent.get("status") or {}).get(field) or 0)
