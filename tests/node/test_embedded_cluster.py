"""The whole cluster does what workers need, and leaves nothing behind."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import api
from cluster.api import Cluster
from cluster.builder import images, packages
from cluster.builder.cache import Cache
from cluster.errors import CommandError
from cluster.nodes import cgroups, network
from cluster.processes import Process, run, wait_until
from cluster.progress import Silent

IMAGE = "localhost/test/busybox:1"
PATIENCE = 60.0
"""Seconds: many times what is needed, for a machine that does much else."""
ROUNDS = 60
"""Every eighth met the kernel on a machine with two cores."""


@pytest.fixture(scope="session")
def cluster(embedded_cluster: Cluster) -> Cluster:
    """The cluster with an image to run."""
    assert [IMAGE] == _load_busybox(embedded_cluster)
    return embedded_cluster


def _load_busybox(cluster: Cluster) -> list[str]:
    root = packages.node_root(Cache.from_env(os.environ), Silent())
    files = {name: ((root / "usr/bin/busybox").read_bytes(), 0o755) for name in ("bin/busybox", "bin/sh")}
    path = cluster.folder / "busybox.tar"
    path.write_bytes(images.archive(files, IMAGE, images.architecture(platform.machine()), {"Env": ["PATH=/bin"]}))
    return cluster.load_image(path)


def on(node: str, pod: dict) -> dict:
    pod["spec"]["nodeName"] = node
    return pod


def service(name: str) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
    }


def pod(name: str, script: str, *, volumes: dict[str, str] | None = None, propagation: str = "None") -> dict:
    claims = volumes or {}
    mounts = [{"name": claim, "mountPath": path, "mountPropagation": propagation} for claim, path in claims.items()]
    container = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", script],
        "volumeMounts": mounts,
        "securityContext": {"privileged": propagation == "Bidirectional"},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            "volumes": [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims],
        },
    }


def claim(name: str, mode: str) -> dict:
    spec = {"accessModes": [mode], "resources": {"requests": {"storage": "1Mi"}}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def running(cluster: Cluster, *objects: dict) -> None:
    cluster.kubectl.apply(objects)
    names = [f"pod/{each['metadata']['name']}" for each in objects if each["kind"] == "Pod"]
    cluster.kubectl("wait", "--for=condition=Ready", "--timeout=60s", *names)


def fetched(cluster: Cluster, expected: str, client: str, *command: str) -> None:
    """Wait until a busybox command in a pod prints this: neither servers nor Services are there once pods are Ready."""

    def there() -> bool:
        try:
            return expected in cluster.kubectl("exec", client, "--", "busybox", *command)
        except api.ClusterError:
            return False

    wait_until(f"{expected!r} of {command}", there, seconds=PATIENCE)


def test_the_node_is_ready(cluster: Cluster) -> None:
    nodes = cluster.kubectl.json("get", "nodes")["items"]

    assert [cluster.nodes[0].name] == [node["metadata"]["name"] for node in nodes]


def test_a_pod_runs_logs_and_is_entered(cluster: Cluster) -> None:
    running(cluster, pod("talker", "echo hello; exec busybox sleep 1000"))

    wait_until("its first line", lambda: cluster.kubectl("logs", "talker") == "hello\n", seconds=PATIENCE)
    assert cluster.kubectl("exec", "talker", "--", "busybox", "echo", "inside") == "inside\n"


def test_pods_reach_pods_and_the_api_by_service(cluster: Cluster) -> None:
    """Webhooks depend on it: the API server calls them by cluster IP."""
    server = pod("server", "echo served > /index.html; exec busybox httpd -f -p 8080 -h /")
    running(cluster, service("server"), server, pod("client", "exec busybox sleep 1000"))
    address = cluster.kubectl.json("get", "service", "server")["spec"]["clusterIP"]

    url = f"http://{address}/index.html"
    fetched(cluster, "served", "client", "wget", "-qO-", "-T5", url)
    # The node itself, where the API server runs, takes the same way.
    code = f"import urllib.request as r; print(r.urlopen({url!r}, timeout=5).read())"
    assert "served" in cluster.node(1).run("python3", "-c", code)


@pytest.mark.parametrize(
    "mode",
    [pytest.param("ReadWriteOnce", id="rwo"), pytest.param("ReadWriteMany", id="rwx")],
)
def test_a_claim_binds_is_shared_and_goes_with_its_volume(cluster: Cluster, mode: str) -> None:
    name = mode.lower()
    writer = pod(f"{name}-writer", "echo kept > /data/file; exec busybox sleep 1000", volumes={name: "/data"})
    reader = pod(
        f"{name}-reader", "exec busybox sleep 1000", volumes={name: "/data"}, propagation="HostToContainer"
    )  # fmt: skip
    running(cluster, claim(name, mode), writer, reader)
    volume = cluster.kubectl.json("get", "pvc", name)["spec"]["volumeName"]

    fetched(cluster, "kept\n", f"{name}-reader", "cat", "/data/file")
    assert (cluster.folder / "volumes" / volume / "file").exists()

    cluster.kubectl("delete", "pod", f"{name}-writer", f"{name}-reader", "--now")
    cluster.kubectl("delete", "pvc", name)
    wait_until("the volume's end", lambda: not _volumes(cluster) & {f"persistentvolume/{volume}"}, seconds=PATIENCE)
    assert not (cluster.folder / "volumes" / volume).exists()


def test_mounts_travel_between_pods(cluster: Cluster) -> None:
    """What one pod mounts with Bidirectional appears in another with HostToContainer."""
    setup = "mkdir -p /data/in && busybox mount -t tmpfs none /data/in && echo seen > /data/in/file"
    giver = pod(
        "giver", f"busybox {setup}; exec busybox sleep 1000", volumes={"both": "/data"}, propagation="Bidirectional"
    )
    running(cluster, claim("both", "ReadWriteMany"), giver)
    running(cluster, pod("taker", "exec busybox sleep 1000", volumes={"both": "/data"}, propagation="HostToContainer"))

    fetched(cluster, "seen\n", "taker", "cat", "/data/in/file")

    cluster.kubectl("exec", "giver", "--", "busybox", "umount", "/data/in")


def test_the_cluster_to_use_is_chosen_and_explained(cluster: Cluster, tmp_path: Path, monkeypatch) -> None:
    """Somebody's own KUBECONFIG wins; one that names an embedded cluster is known as such."""
    monkeypatch.setenv("PATH", f"{cluster.kubectl.program.parent}:{os.environ['PATH']}")
    own = {**os.environ, "KUBECONFIG": str(tmp_path / "own")}
    ours = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    none = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}

    assert ("own", None) == (api.resolve(own).kind, api.resolve(own).cluster)
    assert str(tmp_path / "own") in api.resolve(own).why
    assert cluster == api.resolve(ours).cluster
    assert cluster == api.resolve(none, cluster.name).cluster
    with pytest.raises(api.ClusterError, match="python -m cluster up --name absent"):
        api.resolve(none, "absent")


def test_host_settings_are_left_alone(cluster: Cluster) -> None:
    """The kubelet is content with what it is shown; the machine keeps its own values."""
    shown = cluster.node(1).run("cat", "/proc/sys/kernel/panic_on_oops", "/proc/sys/vm/overcommit_memory")

    assert shown == "1\n1\n"


def test_two_clusters_at_once_and_nothing_left_behind(cluster: Cluster) -> None:
    before = _mounts()
    other = api.up(f"other-{os.getpid()}")
    try:
        assert other.subnet != cluster.subnet
        assert cluster.kubectl("get", "--raw", "/readyz") == other.kubectl("get", "--raw", "/readyz")
        first = other.node(1).first_process()
        link, group = network.link_name(other.nodes[0].identity), other.nodes[0].group

        assert network.link_exists(link)
    finally:
        other.down()

    assert not first.alive()
    assert not network.link_exists(link)
    assert not other.folder.exists()
    assert _lasting(before) == _lasting(_mounts())
    assert [h for h in cgroups.hierarchies(before) if (Path(h.mount_point) / group).exists()] == []
    assert _processes_of(other) == ""


def test_a_killed_start_is_cleaned_by_the_next() -> None:
    """A start that is killed half way leaves what the next start removes."""
    name = f"killed-{os.getpid()}"
    home = Cache.from_env(os.environ)
    starting = subprocess.Popen(
        [sys.executable, "-m", "cluster", "up", "--name", name],
        cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    pid_file = home.clusters / name / "nodes/1/pid"
    wait_until("the half-started node", pid_file.exists, seconds=PATIENCE)
    starting.kill()
    starting.wait()

    cluster = api.up(name)
    try:
        assert cluster.kubectl("get", "--raw", "/readyz") == "ok"
        assert Process.noted(pid_file, str(cluster.nodes[0].folder / "boot.json"))
    finally:
        cluster.down()


def test_a_link_may_go_while_it_is_removed() -> None:
    """The kernel removes the links of a network namespace some time after its last process: here at about the same."""
    link = f"gone-{os.getpid()}"[:15]
    for _ in range(ROUNDS):
        node = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo up; exec sleep 1000"], stdout=subprocess.PIPE)
        assert node.stdout is not None
        with node.stdout as answer:
            assert answer.readline() == b"up\n"
        run(["ip", "link", "add", link, "type", "veth", "peer", "name", "uplink", "netns", str(node.pid)])
        node.kill()
        node.wait()

        network.disconnect(link)
        assert not network.link_exists(link)


def _mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def _lasting(mounts: str) -> list[str]:
    """Leave out those that restores of tests beside these have for a moment."""
    return [line for line in mounts.splitlines() if " /dev/shm/node-" not in line]


def _volumes(cluster: Cluster) -> set[str]:
    return set(cluster.kubectl("get", "pv", "-o", "name").split())


def _processes_of(cluster: Cluster) -> str:
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return "\n".join(line for line in lines if str(cluster.folder) in line)


def test_two_nodes_serve_each_other(tmp_path: Path) -> None:
    """Pods of one node reach a Service whose pod is on the other, and share its volume; both see a folder of ours."""
    (tmp_path / "model").write_text("weights")
    mount = api.Mount(str(tmp_path), "/srv/models")
    name = f"pair-{os.getpid()}"
    cluster = api.up(name, options=api.Options(nodes=2, mounts=(mount,)))
    try:
        assert ["weights"] * 2 == [node.run("cat", "/srv/models/model") for node in cluster.nodes]
        with pytest.raises(CommandError, match="Read-only file system"):
            cluster.node(2).run("touch", "/srv/models/model")
        assert cluster == api.up(name, options=api.Options(nodes=2, mounts=(mount,)))
        with pytest.raises(api.ClusterError, match="runs without /usr/share"):
            api.up(name, options=api.Options(nodes=2, mounts=(api.Mount("/usr/share", "/usr/share"),)))
        _load_busybox(cluster)
        script = "echo shared > /data/file; exec busybox httpd -f -p 8080 -h /data"
        server = on(cluster.nodes[1].name, pod("server", script, volumes={"both": "/data"}))
        client = on(cluster.nodes[0].name, pod("client", "exec busybox sleep 1000", volumes={"both": "/data"}))
        running(cluster, claim("both", "ReadWriteMany"), service("server"), server, client)
        address = cluster.kubectl.json("get", "service", "server")["spec"]["clusterIP"]

        fetched(cluster, "shared\n", "client", "wget", "-qO-", "-T5", f"http://{address}/file")
        assert "shared\n" == cluster.kubectl("exec", "client", "--", "busybox", "cat", "/data/file")
        assert "shared\n" == cluster.kubectl("exec", "server", "--", "busybox", "cat", "/data/file")
    finally:
        cluster.down()
