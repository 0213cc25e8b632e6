"""What a restored worker is handed about its new pod, in ``restore-context.json``."""

import json
from collections.abc import Mapping
from typing import Final

from agent.executor.restore.state import Restore
from linux.proc import environment

RENEWED: Final = (
    *("DYN_NAMESPACE", "DYN_COMPONENT", "DYN_NAMESPACE_WORKER_SUFFIX"),
    *("DYN_PARENT_DGD_K8S_NAME", "DYN_PARENT_DGD_K8S_NAMESPACE"),
    *("POD_NAME", "POD_NAMESPACE", "POD_UID", "CONTAINER_NAME", "DYN_KUBE_DISCOVERY_MODE"),
    *("DYN_DISCOVERY_BACKEND", "DYN_REQUEST_PLANE", "DYN_EVENT_PLANE", "DYN_EVENT_PLANE_HOST"),
    *("DYN_TCP_RPC_HOST", "DYN_TCP_RPC_PORT", "DYN_TCP_LISTEN_BACKLOG"),
    *("DYN_TCP_RESPONSE_STREAM_HOST", "DYN_TCP_RESPONSE_STREAM_PORT"),
    *("NATS_SERVER", "ETCD_ENDPOINTS", "MODEL_EXPRESS_URL", "PROMETHEUS_ENDPOINT"),
    *("DYN_SYSTEM_PORT", "DYN_SYSTEM_HOST", "DYN_SYSTEM_HEALTH_PATH", "DYN_SYSTEM_LIVE_PATH"),
    *("DYN_HEALTH_CHECK_ENABLED", "DYN_SYSTEM_STARTING_HEALTH_STATUS", "DYN_SYSTEM_USE_ENDPOINT_HEALTH_STATUS"),
    *("ENGINE_ID", "FAILOVER_LOCK_PATH", "DYN_VLLM_GMS_SHADOW_MODE", "DYN_GMS_USE_V1"),
)
"""Variables that workers of Dynamo take over after a restore; they end without the field, and warn of any other name.
Those of 1.6.1 (``dynamo.common.snapshot.constants``); earlier releases know fewer."""


def context(restore: Restore) -> str:
    """Return the content of ``restore-context.json``: where the worker continues, and what its pod says.

    Raises:
        OSError: the container has ended.
    """
    place = restore.request.place
    return json.dumps(
        {
            "checkpointId": restore.request.checkpoint_id,  # first: standby looks for it where the file begins
            "namespace": place.namespace,
            "podName": place.pod,
            "podUID": place.pod_uid,
            "containerName": place.container,
            "env": renewed(environment(restore.init_pid, restore.environment.proc)),
        }
    )


def renewed(variables: Mapping[str, str]) -> dict[str, str | None]:
    """Return what a worker takes over of its new container's variables; None: it has no such variable any more."""
    return {name: variables.get(name) for name in RENEWED}
