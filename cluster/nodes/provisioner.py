"""Makes a folder and a PersistentVolume for every claim of our StorageClass, and removes both with the claim.

Runs inside a node on its own (``python -I provisioner.py SERVER KUBECONFIG FOLDER``), so it imports the standard
library only. Level-triggered: any change leads to a fresh look at all claims and volumes.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import ssl
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

PROVISIONER = "dynamo-snapshot.invalid/host-path"
STORAGE_CLASS = "standard"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
WATCH_SECONDS = 30
RETRY_SECONDS = 1.0

UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Only this becomes part of a path."""

Object = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """Volumes to create, and names of those to delete with their folders."""

    create: list[Object]
    delete: list[str]


def plan(claims: list[Object], volumes: list[Object], folder: str) -> Plan:
    """Plan what is to be done about *claims*, given *volumes*. Pure."""
    present = {volume["metadata"]["name"] for volume in volumes}
    wanted = [volume_for(claim, folder) for claim in claims if is_ours(claim)]
    create = [volume for volume in wanted if volume["metadata"]["name"] not in present]
    return Plan(create, [volume["metadata"]["name"] for volume in volumes if is_released(volume)])


def is_ours(claim: Object) -> bool:
    """Say whether *claim* waits for a volume from us."""
    spec, meta = claim["spec"], claim["metadata"]
    return (
        spec.get("storageClassName") == STORAGE_CLASS
        and not spec.get("volumeName")
        and not spec.get("selector")
        and spec.get("volumeMode", "Filesystem") == "Filesystem"
        and "deletionTimestamp" not in meta
        and UID.fullmatch(meta["uid"]) is not None
    )


def is_released(volume: Object) -> bool:
    """Say whether *volume* is ours and its claim no longer exists."""
    released = volume.get("status", {}).get("phase") == "Released"
    return made_here(volume) and released and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"


def made_here(volume: Object) -> bool:
    """Say whether *volume* is one of ours."""
    annotations: dict[str, str] = volume["metadata"].get("annotations") or {}
    return annotations.get(PROVISIONED_BY) == PROVISIONER


def volume_for(claim: Object, folder: str) -> Object:
    """Return the volume that *claim* is bound to."""
    meta, spec = claim["metadata"], claim["spec"]
    name = f"pvc-{meta['uid']}"
    reference = {key: meta[key] for key in ("namespace", "name", "uid")}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "accessModes": spec["accessModes"],
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **reference},
            "hostPath": {"path": f"{folder}/{name}", "type": "Directory"},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": STORAGE_CLASS,
        },
    }


def folder_of(name: str, root: Path) -> Path:
    """Return the folder of the volume *name*; ValueError if the name is not one that we gave."""
    prefix, _, uid = name.partition("-")
    if prefix != "pvc" or not UID.fullmatch(uid):
        raise ValueError(f"volume {name!r} has no name of ours; its folder is left alone")
    return root / name


class Api:
    """The few calls that are needed."""

    def __init__(self, server: str, kubeconfig: Object) -> None:
        ca = base64.b64decode(kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
        self._server = server
        self._token = kubeconfig["users"][0]["user"]["token"]
        self._context = ssl.create_default_context(cadata=ca)

    def call(self, method: str, path: str, body: Object | None = None, timeout: float = 10) -> Any:  # noqa: ANN401
        """Return the response, open for reading."""
        request = urllib.request.Request(self._server + path, method=method)  # noqa: S310
        request.add_header("Authorization", f"Bearer {self._token}")
        request.add_header("Content-Type", "application/json")
        data = None if body is None else json.dumps(body).encode()
        return urllib.request.urlopen(request, data=data, timeout=timeout, context=self._context)  # noqa: S310

    def list(self, path: str) -> tuple[list[Object], str]:
        """Return (items, resourceVersion)."""
        with self.call("GET", path) as response:
            answer = json.load(response)
        return answer["items"], answer["metadata"]["resourceVersion"]


CLAIMS, VOLUMES = "/api/v1/persistentvolumeclaims", "/api/v1/persistentvolumes"


def reconcile(api: Api, root: Path) -> str:
    """Bring volumes and folders in line with the claims; the claims' resourceVersion."""
    claims, version = api.list(CLAIMS)
    volumes, _ = api.list(VOLUMES)
    todo = plan(claims, volumes, str(root))
    for volume in todo.create:
        folder = folder_of(volume["metadata"]["name"], root)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)  # pods of any user write there, as on a shared file system without squashing
        api.call("POST", VOLUMES, volume).close()
    for name in todo.delete:
        shutil.rmtree(folder_of(name, root), ignore_errors=True)
        api.call("DELETE", f"{VOLUMES}/{name}").close()
    return version


def wait_for_change(api: Api, version: str) -> None:
    """Return at the next change of a claim or volume, or when a watch ends."""
    # Claims are watched; a volume is released only after its claim was removed, within the retry below.
    path = f"{CLAIMS}?watch=1&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}"
    with api.call("GET", path, timeout=WATCH_SECONDS + 10) as events:
        next(iter(events), None)


def main(server: str, kubeconfig: str, folder: str) -> NoReturn:
    """Work for ever."""
    root = Path(folder)
    api = Api(server, json.loads(Path(kubeconfig).read_text()))
    while True:
        try:
            version = reconcile(api, root)
            settle(api, root)
            wait_for_change(api, version)
        except (OSError, ValueError, KeyError) as error:
            sys.stderr.write(f"volume-provisioner: {error}\n")
            sys.stderr.flush()
            time.sleep(RETRY_SECONDS)


def settle(api: Api, root: Path) -> None:
    """Look again until no volume of ours is on its way from bound to released."""
    while True:
        claims, _ = api.list(CLAIMS)
        volumes, _ = api.list(VOLUMES)
        living = {claim["metadata"]["uid"] for claim in claims}
        if not any(_orphaned(volume, living) for volume in volumes):
            return
        time.sleep(RETRY_SECONDS / 4)
        reconcile(api, root)


def _orphaned(volume: Object, living: set[str]) -> bool:
    return made_here(volume) and volume["spec"].get("claimRef", {}).get("uid") not in living


if __name__ == "__main__":
    main(*sys.argv[1:4])
