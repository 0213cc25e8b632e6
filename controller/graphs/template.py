"""From a service to its pod template, as the user wrote it: nothing of ours is in here.

The platform spreads a pod over several blocks (``extraPodSpec``, ``envs``, ``resources``, ...) that later manifests
override in part. This is the one place that knows them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from contract.api import keys
from contract.pods.common import mounted_at, shared_memory_volume
from controller.graphs.services import FRONTEND, Service

Json = dict[str, Any]

GPU: Final = "nvidia.com/gpu"
SHELL: Final = ["/bin/sh", "-c"]
_FRONTEND_COMMAND: Final = {"command": ["python3"], "args": ["-m", "dynamo.frontend"]}
_PROBES: Final = ("startupProbe", "livenessProbe", "readinessProbe")


def pod_template(graph: Mapping[str, Any], service: Service) -> Json:
    """Return the pod template of a service: its own words laid over the graph's."""
    spec = copy.deepcopy(service.body.get("extraPodSpec") or {})
    own = spec.pop("mainContainer", None) or {}
    beside = [each for each in spec.get("containers") or () if each.get("name") != keys.DEFAULT_TARGET]
    written: Json = next((each for each in spec.get("containers") or () if each.get("name") == keys.DEFAULT_TARGET), {})
    main = _main(graph, service, merged(written, own))
    spec["containers"] = [main, *beside]
    _volumes(service, spec, main)
    template: Json = {"spec": spec}
    if metadata := _metadata(graph, service):
        template["metadata"] = metadata
    return template


def merged(base: Any, over: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return *over* laid on *base*: maps by key, lists of named things by name, anything else replaced."""
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}
    key = _merge_key(base, over)
    if key is None:
        return over
    by_name = {item[key]: item for item in base}
    for item in over:
        by_name[item[key]] = merged(by_name.get(item[key]), item)
    return list(by_name.values())


def _merge_key(base: Any, over: Any) -> str | None:  # noqa: ANN401 - any JSON value
    if not (isinstance(base, list) and isinstance(over, list)):
        return None
    items = [*base, *over]
    for key in ("mountPath", "name"):
        if all(isinstance(item, Mapping) and key in item for item in items):
            return key
    return None


def _main(graph: Mapping[str, Any], service: Service, own: Json) -> Json:
    body = service.body
    main: Json = {**own, "name": keys.DEFAULT_TARGET}
    if service.kind == FRONTEND and not own.get("command") and not own.get("args"):
        main |= copy.deepcopy(_FRONTEND_COMMAND)
    args = own.get("args") or []
    if len(args) == 1 and not own.get("command"):
        # Manifests of the platform write a whole command line as one argument.
        main["command"] = list(SHELL)
    env = merged(merged((graph.get("spec") or {}).get("envs") or [], body.get("envs") or []), own.get("env") or [])
    if resources := merged(_resources(body.get("resources") or {}), _resources(own.get("resources") or {})):
        main["resources"] = resources
    if env:
        main["env"] = env
    if secret := body.get("envFromSecret"):
        main["envFrom"] = [*(own.get("envFrom") or ()), {"secretRef": {"name": secret}}]
    for probe in _PROBES:
        if body.get(probe) and not own.get(probe):
            main[probe] = body[probe]
    return main


def _resources(said: Mapping[str, Any]) -> Json:
    result: Json = {"claims": said["claims"]} if said.get("claims") else {}
    for kind in ("requests", "limits"):
        amounts = dict(said.get(kind) or {})
        resource = str(amounts.pop("gpuType", None) or GPU)
        custom = amounts.pop("custom", None) or {}
        gpus = amounts.pop("gpu", None)
        found = {**amounts, **custom, **({resource: gpus} if gpus is not None else {})}
        if found:
            result[kind] = found
    return result


def _volumes(service: Service, spec: Json, main: Json) -> None:
    for mount in service.body.get("volumeMounts") or ():
        # The platform's form: name of a claim, and where it is mounted.
        name, path = mount.get("name"), mount.get("mountPoint")
        if name and path:
            _add(spec, main, {"name": name, "persistentVolumeClaim": {"claimName": name}}, str(path))
    shared = service.body.get("sharedMemory") or {}
    if shared.get("size") and not shared.get("disabled") and mounted_at(main, keys.SHARED_MEMORY_DIR) is None:
        _add(spec, main, shared_memory_volume(str(shared["size"])), keys.SHARED_MEMORY_DIR)


def _add(spec: Json, main: Json, volume: Json, path: str) -> None:
    spec["volumes"] = merged(spec.get("volumes") or [], [volume])
    mount = {"name": volume["name"], "mountPath": path}
    main["volumeMounts"] = merged(main.get("volumeMounts") or [], [mount])


def _metadata(graph: Mapping[str, Any], service: Service) -> Json:
    extra = service.body.get("extraPodMetadata") or {}
    said = ((graph.get("spec") or {}), service.body, extra)
    found = {
        field: {key: value for part in said for key, value in (part.get(field) or {}).items()}
        for field in ("labels", "annotations")
    }
    return {field: value for field, value in found.items() if value}
