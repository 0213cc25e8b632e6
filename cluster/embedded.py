"""The whole cluster: starting it, finding it again, and leaving nothing of it behind."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import platform
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import IO, Any

from cluster import components, config, credentials, preflight
from cluster.builder import build, images, packages, toolchain
from cluster.builder.build import Programs
from cluster.builder.cache import Cache
from cluster.components import Layout, Ports
from cluster.credentials import User
from cluster.errors import ClusterError, CommandError, StartError, StateError
from cluster.kubectl import Kubectl
from cluster.nodes import cgroups, cleanup, network, provisioner, supervise
from cluster.nodes import node as nodes_
from cluster.nodes.node import Mount, Node
from cluster.processes import exclusive, held, wait_until
from cluster.progress import Progress, Silent

MAX_NODES = 8
START_SECONDS = 120
"""A node is ready in about 10 s here; a machine busy with other work is given twelve times that."""

MASTERS = credentials.MASTERS


@dataclass(frozen=True)
class Cluster:
    """A running cluster, as its users need it."""

    name: str
    folder: Path
    subnet: IPv4Network
    nodes: tuple[Node, ...]
    programs: Programs

    @property
    def kubeconfig(self) -> Path:
        """For the cluster's administrator."""
        return self.folder / "kubeconfig"

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{network.node_address(self.subnet, 1)}:{components.APISERVER_PORT}"

    @property
    def host_address(self) -> str:
        """Where pods and nodes reach servers that run on the host."""
        return str(network.host_address(self.subnet))

    @property
    def kubectl(self) -> Kubectl:
        """The client program, bound to this cluster."""
        return Kubectl(self.programs.path("kubectl"), self.kubeconfig)

    @property
    def helm(self) -> Path:
        """The Helm program; give it $KUBECONFIG."""
        return self.programs.path("helm")

    def load_image(self, archive: Path) -> list[str]:
        """Import an OCI or docker archive into every node; the names of images that are new."""
        if not archive.is_file():
            raise StateError(f"{archive}: no such file; give an OCI or docker archive (tar)")
        return sorted({name for node in self.nodes for name in node.load(archive)})

    def node(self, index: int) -> Node:
        """Return the *index*-th node, counted from 1."""
        if not 1 <= index <= len(self.nodes):
            raise StateError(f"cluster {self.name} has nodes 1 to {len(self.nodes)}, not {index}")
        return self.nodes[index - 1]

    def logs(self, component: str, index: int = 1) -> Path:
        """Return the log file of one of the node's programs."""
        folder = self.node(index).logs
        path = folder / f"{component}.log"
        if path.parent != folder or not path.is_file():
            known = ", ".join(sorted(entry.stem for entry in folder.glob("*.log")))
            raise StateError(f"no log of {component!r} on node {index}; there are: {known}")
        return path

    def down(self, progress: Progress | None = None) -> None:
        """End it and remove all it left."""
        down(Cache(self.folder.parent.parent), self.name, progress or Silent())


@dataclass(frozen=True)
class Options:
    """What may be chosen about a new cluster."""

    nodes: int = 1
    audit: bool = False
    mounts: tuple[Mount, ...] = ()
    """Folders of the machine that all nodes have too."""


def up(home: Cache, name: str, options: Options, progress: Progress) -> Cluster:
    """Start the cluster *name*, or give the one that runs already. Builds what is missing first."""
    folder = home.cluster(name)
    if not 1 <= options.nodes <= MAX_NODES:
        raise StateError(f"--nodes {options.nodes}: from 1 to {MAX_NODES}")
    preflight.check_node_host(home.root)
    programs = build.build(home, toolchain.COMPONENTS, progress)
    root = packages.node_root(home, progress)
    with exclusive(home.cluster_lock(name), f"cluster {name}"):
        running = find(home, name)
        if running:
            return _same(running, options)
        if held(folder / "lock"):
            raise StateError(f"{name} is a control plane without nodes; stop it first, or choose another --name")
        cleanup.clear(folder)
        with progress.step(f"starting cluster {name}"), _cleared_on_failure(folder):
            return _Start(folder, name, options, programs, root).run()


def find(home: Cache, name: str) -> Cluster | None:
    """Return the cluster *name* if it runs whole."""
    folder = home.cluster(name)
    try:
        record = json.loads((folder / "cluster.json").read_text())
        programs = Programs({key: Path(value) for key, value in record["programs"].items()})
        nodes = _nodes(folder, record["nodes"])
        cluster = Cluster(name, folder, _ipv4(record["subnet"]), nodes, programs)
    except (OSError, ValueError, KeyError):
        return None
    return cluster if all(node.lives() for node in nodes) else None


def down(home: Cache, name: str, progress: Progress) -> bool:
    """End the cluster or control plane *name* and remove all it left; whether there was anything."""
    folder = home.cluster(name)
    if not folder.exists():
        return False
    with exclusive(home.cluster_lock(name), f"cluster {name}"), progress.step(f"stopping cluster {name}"):
        cleanup.clear(folder)
    return True


def _same(running: Cluster, options: Options) -> Cluster:
    if len(running.nodes) != options.nodes:
        raise StateError(
            f"cluster {running.name} runs with {len(running.nodes)} nodes, not {options.nodes}; "
            f"stop it first: python -m cluster down --name {running.name}"
        )
    if missing := set(options.mounts) - running.nodes[0].mounts():
        raise StateError(
            f"cluster {running.name} runs without {', '.join(mount.source for mount in sorted(missing))}; "
            f"stop it first: python -m cluster down --name {running.name}"
        )
    return running


def _nodes(folder: Path, count: int) -> tuple[Node, ...]:
    return tuple(cleanup.node_of(folder, index) for index in range(1, count + 1))


@contextlib.contextmanager
def _cleared_on_failure(folder: Path) -> Iterator[None]:
    """Leave nothing of a start that fails but a folder of logs in the temporary folder."""
    try:
        yield
    except BaseException as error:
        kept = Path(tempfile.mkdtemp(prefix=f"cluster-{folder.name}-logs-"))
        for log in folder.glob("nodes/*/log/cluster/*.log"):
            shutil.copy(log, kept / f"{log.parent.parent.parent.name}-{log.name}")
        for log in folder.glob("nodes/*/boot.log"):
            shutil.copy(log, kept / f"{log.parent.name}-{log.name}")
        cleanup.clear(folder)
        if isinstance(error, ClusterError):
            raise StartError(f"{error}\nThe programs' logs are kept in {kept}") from error
        raise


class _Start:
    """One start, step by step."""

    def __init__(self, folder: Path, name: str, options: Options, programs: Programs, root: Path) -> None:
        self.folder, self.name, self.options, self.programs, self.root = folder, name, options, programs, root
        self.nodes = _nodes(folder, options.nodes)
        self.found = cgroups.hierarchies(Path("/proc/self/mountinfo").read_text())

    def run(self) -> Cluster:
        gates = [self._spawn(node) for node in self.nodes]
        subnet = self._connect()
        cluster = Cluster(self.name, self.folder, subnet, self.nodes, self.programs)
        self._configure(cluster)
        for gate in gates:
            gate.write(b"go\n")
            gate.close()
        self._load_pause()
        wait_until("the API server", lambda: supervise.reachable(f"{cluster.server}/readyz"), seconds=START_SECONDS)
        wait_until("the namespace's service account", lambda: _answers(cluster, "sa", "default"), seconds=START_SECONDS)
        cluster.kubectl.apply([config.storage_class()])
        wait_until("ready nodes", lambda: _ready(cluster), seconds=START_SECONDS, step=0.2)
        self._record(cluster)
        return cluster

    def _spawn(self, node: Node) -> IO[bytes]:
        nodes_.make_folders(node)
        volumes = self.folder / "volumes"
        volumes.mkdir(exist_ok=True)
        spec = nodes_.boot_spec(node, self.root, self.programs.folders, volumes, self.found, self.options.mounts)
        return node.spawn(spec)

    def _connect(self) -> IPv4Network:
        pids = [node.first_process().pid for node in self.nodes]
        subnet = network.connect_host(network.link_name(self.nodes[0].identity), pids[0])
        for index, pid in enumerate(pids[1:], start=2):
            network.connect_node(pids[0], pid, subnet, index)
        for index, pid in enumerate(pids, start=1):
            network.route_pods(pid, subnet, index, len(pids))
        return subnet

    def _configure(self, cluster: Cluster) -> None:
        people = {
            "admin": User("admin", MASTERS),
            "kube-controller-manager": User("system:kube-controller-manager"),
            "kube-scheduler": User("system:kube-scheduler"),
            "volume-provisioner": User("volume-provisioner", MASTERS),
            "kube-proxy": User("system:kube-proxy"),
        }
        kubelets = {node.name: User(f"system:node:{node.name}", "system:nodes") for node in self.nodes}
        credentials.write(
            self.nodes[0].pki,
            server_names(cluster.subnet),
            [*people.values(), *kubelets.values()],
            dt.datetime.now(dt.UTC),
        )
        ca = (self.nodes[0].pki / "ca.crt").read_bytes()
        for node in self.nodes:
            users = people if node.index == 1 else {"kube-proxy": people["kube-proxy"]}
            _configure_node(cluster, node, {**users, "kubelet": kubelets[node.name]}, ca, audit=self.options.audit)
        admin = config.kubeconfig(cluster.server, ca, people["admin"].token, self.name)
        _write_private(cluster.kubeconfig, json.dumps(admin, indent=1))

    def _load_pause(self) -> None:
        archive = images.pause_archive(
            self.programs.path("pause").read_bytes(), images.architecture(platform.machine())
        )
        for node in self.nodes:
            wait_until(f"containerd on {node.name}", lambda node=node: _serves(node), seconds=START_SECONDS)  # type: ignore[misc]
            node.run("ctr", "images", "import", "-", stdin=archive)

    def _record(self, cluster: Cluster) -> None:
        record = {
            "subnet": str(cluster.subnet),
            "nodes": len(self.nodes),
            "programs": {name: str(path) for name, path in self.programs.folders.items()},
        }
        draft = self.folder / "cluster.json.new"
        draft.write_text(json.dumps(record, indent=1))
        draft.rename(self.folder / "cluster.json")


def server_names(subnet: IPv4Network) -> list[str]:
    """Return every name and address that the API server is called by. Pure."""
    services = [f"kubernetes{suffix}" for suffix in ("", ".default", ".default.svc", ".default.svc.cluster.local")]
    addresses = [network.node_address(subnet, 1), network.SERVICE_NETWORK[1]]
    return ["localhost", "127.0.0.1", *services, *map(str, addresses)]


def supervised(cluster: Cluster, node: Node, *, audit: bool) -> list[dict[str, Any]]:
    """Return the programs of *node*, in the order of their start. Pure."""
    layout = Layout(
        {n: f"/opt/cluster/{n}" for n in cluster.programs.folders}, nodes_.PKI, nodes_.CONFIG, nodes_.LOGS, "/var/lib"
    )
    address = str(network.node_address(cluster.subnet, node.index))
    ports = Ports()
    every = [
        components.containerd(layout),
        components.kubelet(layout, node.name, address),
        components.proxy(layout, node.name, cluster.server),
    ]
    if node.index > 1:
        return every
    flags = components.node_apiserver_flags(address, audit=audit, at=layout)
    return [
        components.etcd(layout, ports),
        components.apiserver(layout, ports, flags),
        *every,
        components.controller_manager(layout, ports),
        components.scheduler(layout, ports),
        components.provisioner(layout, f"{nodes_.CONFIG}/provisioner.py", cluster.server, ports),
    ]


def _configure_node(cluster: Cluster, node: Node, users: dict[str, User], ca: bytes, *, audit: bool) -> None:
    files: dict[str, str] = {
        "supervisor.json": json.dumps({"components": supervised(cluster, node, audit=audit)}, indent=1),
        "kubelet.json": json.dumps(config.kubelet(f"{nodes_.PKI}/ca.crt"), indent=1),
        "audit-policy.json": json.dumps(config.audit_policy()),
        "containerd/config.toml": config.containerd(),
        "cni/10-pods.conflist": json.dumps(config.cni(str(network.pod_subnet(node.index))), indent=1),
        # Copies: the node must not change with the checkout that it was started from.
        "supervise.py": Path(supervise.__file__).read_text(),
        "provisioner.py": Path(provisioner.__file__).read_text(),
    }
    for name, user in users.items():
        files[f"{name}.kubeconfig"] = json.dumps(config.kubeconfig(cluster.server, ca, user.token))
    for name, text in files.items():
        _write_private(node.config / name, text)
    (node.pki / "ca.crt").write_bytes(ca)


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _answers(cluster: Cluster, *words: str) -> bool:
    try:
        cluster.kubectl("get", *words)
    except CommandError:
        return False
    return True


def _serves(node: Node) -> bool:
    try:
        node.run("ctr", "version")
    except CommandError:
        return False
    return True


def _ready(cluster: Cluster) -> bool:
    try:
        return ready_nodes(cluster.kubectl.json("get", "nodes")["items"]) == {node.name for node in cluster.nodes}
    except CommandError:
        return False


def ready_nodes(items: Sequence[dict[str, Any]]) -> set[str]:
    """Return the names of the Node objects whose condition Ready is True. Pure."""
    return {
        item["metadata"]["name"]
        for item in items
        for condition in item.get("status", {}).get("conditions", [])
        if condition["type"] == "Ready" and condition["status"] == "True"
    }


def _ipv4(text: str) -> IPv4Network:
    found = ip_network(text)
    if not isinstance(found, IPv4Network):
        raise ValueError(text)  # noqa: TRY004  # a record with another address family is a bad value
    return found


def running(home: Cache) -> list[Cluster]:
    """Return all whole clusters of this cache."""
    return [cluster for cluster in (find(home, name) for name in home.cluster_names()) if cluster]
