"""The command line of each of the cluster's programs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cluster import config
from cluster.nodes import network

APISERVER_PORT = 6443


@dataclass(frozen=True)
class Layout:
    """Where the programs find things, as they see them."""

    programs: dict[str, str]
    """Folder per component name, e.g. ``{"etcd": "/opt/cluster/etcd"}``."""
    pki: str
    kubeconfigs: str
    logs: str
    data: str
    """Where etcd keeps its data."""

    def kubernetes(self, program: str) -> str:
        """Return the path of one of the Kubernetes programs."""
        return f"{self.programs['kubernetes']}/{program}"

    def kubeconfig(self, user: str) -> str:
        """Return the path of a user's kubeconfig."""
        return f"{self.kubeconfigs}/{user}.kubeconfig"


@dataclass(frozen=True)
class Ports:
    """Where etcd and the API server listen."""

    etcd: int = 2379
    etcd_peer: int = 2380
    apiserver: int = APISERVER_PORT


def etcd(at: Layout, ports: Ports) -> dict[str, Any]:
    """Describe the store, without fsync: a test cluster's data need not outlive the machine."""
    client, peer = f"http://127.0.0.1:{ports.etcd}", f"http://127.0.0.1:{ports.etcd_peer}"
    return _component(
        at, "etcd", f"{at.programs['etcd']}/etcd",
        f"--data-dir={at.data}/etcd", "--unsafe-no-fsync", "--log-level=warn",
        f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
    )  # fmt: skip


def apiserver(at: Layout, ports: Ports, extra: Sequence[str]) -> dict[str, Any]:
    """Describe the API server; *extra* says how it is reached and what it admits."""
    return _component(
        at, "kube-apiserver", at.kubernetes("kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{ports.etcd}",
        f"--secure-port={ports.apiserver}",
        f"--service-cluster-ip-range={network.SERVICE_NETWORK}",
        f"--token-auth-file={at.pki}/tokens.csv",
        f"--client-ca-file={at.pki}/ca.crt",
        f"--tls-cert-file={at.pki}/apiserver.crt",
        f"--tls-private-key-file={at.pki}/apiserver.key",
        f"--kubelet-client-certificate={at.pki}/kubelet-client.crt",
        f"--kubelet-client-key={at.pki}/kubelet-client.key",
        # Else logs and exec look the node's name up in a DNS that does not exist.
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={at.pki}/service-accounts.pub",
        f"--service-account-signing-key-file={at.pki}/service-accounts.key",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        *extra,
        wait_for=[f"tcp:127.0.0.1:{ports.etcd}"],
    )  # fmt: skip


def node_apiserver_flags(address: str, *, audit: bool, at: Layout) -> list[str]:
    """Return the flags of an API server that nodes and the host reach at *address*."""
    flags = ["--bind-address=0.0.0.0", f"--advertise-address={address}", "--enable-admission-plugins=NodeRestriction"]
    return flags + (audit_flags(at) if audit else [])


def loopback_apiserver_flags(*, controllers: bool) -> list[str]:
    """Return the flags of an API server that only this machine's processes reach."""
    flags = ["--bind-address=127.0.0.1", "--endpoint-reconciler-type=none"]
    # Without controllers nothing makes the default service account, and every pod would be refused for its lack.
    return flags + ([] if controllers else ["--disable-admission-plugins=ServiceAccount"])


def audit_flags(at: Layout) -> list[str]:
    """Log every request with its answer."""
    return [f"--audit-policy-file={at.kubeconfigs}/audit-policy.json", f"--audit-log-path={at.logs}/audit.log"]


def controller_manager(at: Layout, ports: Ports, *, secure_port: int = 10257) -> dict[str, Any]:
    """Describe the stock controllers, each with its own service account's rights."""
    return _component(
        at, "kube-controller-manager", at.kubernetes("kube-controller-manager"),
        f"--kubeconfig={at.kubeconfig('kube-controller-manager')}",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={at.pki}/service-accounts.key",
        f"--root-ca-file={at.pki}/ca.crt",
        f"--cluster-signing-cert-file={at.pki}/ca.crt",
        f"--cluster-signing-key-file={at.pki}/ca.key",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={secure_port}",
        wait_for=[_ready(ports)],
    )  # fmt: skip


def scheduler(at: Layout, ports: Ports) -> dict[str, Any]:
    """Describe the stock scheduler."""
    return _component(
        at, "kube-scheduler", at.kubernetes("kube-scheduler"),
        f"--kubeconfig={at.kubeconfig('kube-scheduler')}",
        f"--authentication-kubeconfig={at.kubeconfig('kube-scheduler')}",
        f"--authorization-kubeconfig={at.kubeconfig('kube-scheduler')}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        wait_for=[_ready(ports)],
    )  # fmt: skip


def provisioner(at: Layout, script: str, server: str, ports: Ports) -> dict[str, Any]:
    """Describe our own volume provisioner: the in-tree one knows no ReadWriteMany."""
    user = at.kubeconfig("volume-provisioner")
    return _component(
        at,
        "volume-provisioner",
        "/usr/bin/python3",
        "-I",
        script,
        server,
        user,
        config.VOLUMES,
        wait_for=[_ready(ports)],
    )


def containerd(at: Layout) -> dict[str, Any]:
    """Describe the container runtime."""
    return _component(
        at, "containerd", f"{at.programs['containerd']}/containerd", "--config=/etc/containerd/config.toml"
    )


def kubelet(at: Layout, node: str, address: str) -> dict[str, Any]:
    """Describe the kubelet."""
    return _component(
        at, "kubelet", at.kubernetes("kubelet"),
        f"--config={at.kubeconfigs}/kubelet.json",
        f"--kubeconfig={at.kubeconfig('kubelet')}",
        f"--hostname-override={node}",
        f"--node-ip={address}",
        wait_for=[f"unix:{config.CONTAINERD_SOCKET}"],
    )  # fmt: skip


def proxy(at: Layout, node: str, server: str) -> dict[str, Any]:
    """Describe kube-proxy. The conntrack limits are the host's: leave them."""
    return _component(
        at, "kube-proxy", at.kubernetes("kube-proxy"),
        f"--kubeconfig={at.kubeconfig('kube-proxy')}",
        f"--hostname-override={node}",
        "--proxy-mode=iptables",
        f"--cluster-cidr={network.POD_NETWORK}",
        "--conntrack-max-per-core=0",
        "--conntrack-min=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
        # A pod that reaches its own node's pod by Service answers across the bridge; masked, the way back is sure.
        "--masquerade-all=true",
        wait_for=[f"{server}/readyz"],
    )  # fmt: skip


def _ready(ports: Ports) -> str:
    return f"https://127.0.0.1:{ports.apiserver}/readyz"


def _component(at: Layout, name: str, *argv: str, wait_for: Sequence[str] = ()) -> dict[str, Any]:
    return {"name": name, "argv": list(argv), "log": f"{at.logs}/{name}.log", "wait_for": list(wait_for)}
