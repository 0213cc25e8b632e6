"""Workers as pods: what they run, how they are asked, and how long their first answer takes."""

import json
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from contract.api import keys
from demo.kubectl import Kubectl, wait_for
from tests.gpu.pods.image import NAME as IMAGE

GPU: Final = "nvidia.com/gpu"
DRIVER: Final = "/usr/local/nvidia"
FOLDERS: Final = (str(Path(sys.prefix).parent), "/opt/gcc", "/opt/vllm-kit")
"""What workers use of the machine: this Python with PyTorch, a compiler, vLLM; as a shared volume has them."""
PROGRAMS: Final = "/srv/programs"
SCRATCH: Final = {"shm": "/dev/shm", "tmp": "/tmp"}
UID: Final = 1000
ALL: Final = "on=card"
"""Selects what these tests start."""
START_SECONDS: Final = 300.0
POLL_SECONDS: Final = 0.02


@dataclass(frozen=True)
class Worker:
    """A worker and its question, which leaves its state as it was or makes one step."""

    command: tuple[str, ...]
    probe: Mapping[str, Any]
    env: Mapping[str, str] = field(default_factory=dict)
    path: str = "/"
    body: Mapping[str, Any] | None = None
    memory: str = "16Gi"

    def spec(self, libraries: str = "") -> dict[str, Any]:
        """Return the pod's spec; *libraries* is where the driver's are, if the loader does not find them by itself."""
        found = [path for path in (*FOLDERS, PROGRAMS) if path == PROGRAMS or Path(path).is_dir()]
        env = {"HOME": "/tmp", "USER": "worker", "PYTHONPATH": PROGRAMS} | dict(self.env)
        env |= {"LD_LIBRARY_PATH": libraries} if libraries else {}
        volumes = [{"name": f"part{n}", "hostPath": {"path": path}} for n, path in enumerate(found)]
        mounts = [{"name": f"part{n}", "mountPath": path, "readOnly": True} for n, path in enumerate(found)]
        container = {
            "name": "main",
            "image": IMAGE,
            "imagePullPolicy": "Never",
            "command": list(self.command),
            "env": [{"name": name, "value": value} for name, value in env.items()],
            "resources": {"limits": {GPU: "1", "memory": self.memory}, "requests": {"cpu": "1"}},
            "volumeMounts": [*mounts, *({"name": name, "mountPath": at} for name, at in SCRATCH.items())],
            "readinessProbe": {"periodSeconds": 1, "timeoutSeconds": 10, **self.probe},
        }
        return {
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsUser": UID, "runAsGroup": UID},
            "containers": [container],
            "volumes": [
                *volumes,
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
                {"name": "tmp", "emptyDir": {}},
            ],
        }

    def pod(self, name: str, libraries: str = "", **annotations: str) -> dict[str, Any]:
        """Return a pod; with annotations, one that opted in by a checkpoint's name."""
        labels = {"on": "card"} | ({keys.LABEL_RESTORE: keys.RESTORE_BY_NAME} if annotations else {})
        meta = {"name": name, "labels": labels, "annotations": annotations}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": self.spec(libraries)}


class Api:
    """The API server and its proxy to pods, without a process for each question."""

    def __init__(self, kubectl: Kubectl) -> None:
        config = json.loads(kubectl.kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._pods = f"{cluster['server']}/api/v1/namespaces/{kubectl.namespace}/pods"
        self._token = user["token"]
        self._tls = ssl.create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())

    def ask(self, pod: str, worker: Worker) -> Any | None:
        """Return what the worker answers, None while it does not."""
        body = None if worker.body is None else json.dumps(worker.body).encode()
        return self._get(f"{pod}:8000/proxy{worker.path}", body)

    def pod(self, name: str) -> dict[str, Any]:
        """Return the pod; empty if there is none."""
        return self._get(name) or {}

    def _get(self, path: str, body: bytes | None = None) -> Any | None:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._pods}/{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=120, context=self._tls) as answer:
                return json.load(answer)
        except (urllib.error.HTTPError, urllib.error.URLError, TimeoutError):
            return None

    def first(self, pod: str, worker: Worker, seconds: float = START_SECONDS) -> Any:
        """Wait for the first answer."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (found := self.ask(pod, worker)) is not None:
                return found
            time.sleep(POLL_SECONDS)
        raise TimeoutError(f"no answer of pod {pod} within {seconds:.0f} s")


class Timeline(threading.Thread):
    """When the API server first showed what of a new pod, in seconds from this object's making."""

    def __init__(self, api: Api, name: str) -> None:
        super().__init__(daemon=True)
        self._api, self._name = api, name
        self._begun = time.monotonic()
        self._seen: dict[str, float] = {}
        self.start()

    def run(self) -> None:
        """Look until the agent has reported, or long enough."""
        while "reported" not in self._seen and time.monotonic() < self._begun + START_SECONDS:
            pod = self._api.pod(self._name)
            status, annotations = pod.get("status", {}), pod.get("metadata", {}).get("annotations", {})
            marks = {
                "scheduled": "nodeName" in pod.get("spec", {}),
                "address": "podIP" in status,
                "started": any(each.get("started") for each in status.get("containerStatuses", [])),
                "reported": keys.ANN_RESTORE_REPORT in annotations,
            }
            for mark in (mark for mark, is_there in marks.items() if is_there):
                self._seen.setdefault(mark, time.monotonic() - self._begun)
            time.sleep(POLL_SECONDS)

    def words(self) -> str:
        """Return the marks in their order, once the agent has reported."""
        self.join()
        return ", ".join(f"{mark} {seconds:.2f}" for mark, seconds in self._seen.items())


def next_pod(kubectl: Kubectl, app: str, *known: str) -> str:
    """Wait for a pod of an application that is none of the known ones."""

    def look() -> str | None:
        names = [pod["metadata"]["name"] for pod in kubectl.pods(f"app={app}")]
        return next((name for name in names if name not in known), None)

    return wait_for(look, f"a pod of {app}", START_SECONDS)
