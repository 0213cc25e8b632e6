"""The files that the cluster's programs read, as pure functions of a few values. No I/O."""

from __future__ import annotations

import base64
from typing import Any

PAUSE_IMAGE = "localhost/dynamo-snapshot/pause:1"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
CNI_BINARIES = "/opt/cni/bin"
CNI_CONFIG = "/etc/cni/net.d"
VOLUMES = "/var/lib/dynamo-volumes"
"""Inside every node: the same folder, so a volume is seen by the pods of all nodes."""

STORAGE_CLASS = "standard"
PROVISIONER = "dynamo-snapshot.invalid/host-path"


def kubeconfig(server: str, ca: bytes, token: str, name: str = "embedded") -> dict[str, Any]:
    """Return a kubeconfig with everything inside, so that it can be copied anywhere."""
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(ca).decode()}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


def containerd(pause_image: str = PAUSE_IMAGE) -> str:
    """Return the runtime's configuration (TOML, schema 3)."""
    return f"""\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause_image}"

[plugins."io.containerd.cri.v1.runtime"]
  # Root may lack the right to lower these scores (no CAP_SYS_RESOURCE), and no AppArmor parser is in the node.
  restrict_oom_score_adj = true
  disable_apparmor = true

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  SystemdCgroup = false

[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{CNI_BINARIES}"]
  conf_dir = "{CNI_CONFIG}"
"""


def cni(pod_subnet: str) -> dict[str, Any]:
    """Return the configuration of the pods' network: a bridge in the node, masqueraded behind it."""
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "ipMasq": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": pod_subnet}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def kubelet(client_ca: str) -> dict[str, Any]:
    """Return the KubeletConfiguration of a node that shares a machine with other work."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": client_ca},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        # Tolerates that oom_score_adj, rlimits and global sysctls cannot be set.
        "featureGates": {"KubeletInUserNamespace": True},
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": False,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        # Images are loaded by hand and cannot be pulled again: never collect them.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "clusterDomain": "cluster.local",
        "resolvConf": "/etc/resolv.conf",
        "volumePluginDir": "/var/lib/kubelet/volumeplugins",
        "registerNode": True,
    }


def audit_policy() -> dict[str, Any]:
    """Return an audit policy: requests and answers in full, each once."""
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*"]},
            {"level": "RequestResponse"},
        ],
    }


def storage_class() -> dict[str, Any]:
    """Return the default storage class; its volumes are folders that all nodes share, so every access mode works."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }
