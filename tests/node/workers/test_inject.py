"""Stock images with one label and the chart's own values, on glibc and on musl; placeholders beside them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cluster.api import Cluster
from cluster.builder.cache import Cache
from contract.api import keys
from demo import story
from demo.install import CHART, RELEASE, Helm, complaints, image_settings
from demo.kubectl import CommandError, Kubectl, wait_for
from demo.platform import Platform, archives
from snapshotctl.__main__ import main
from tests.support.fixtures import node

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "inject"
NAMESPACE = "snapshot-inject"
STOCK = ("stock-glibc", "stock-musl")
WORKER, PLACEHOLDER = "dynamo-snapshot/demo-worker:dev", "dynamo-snapshot/demo-worker-placeholder:dev"
TINY = ["python3", "-c", node.WORKER, "--no-sdk"]
SERVER = ["python3", "-m", "stock.server"]
AGENT = "dynamo-snapshot/agent:dev"
RESTORED = "SNAPSHOT_RESTORED: container restored from checkpoint"
INJECTED, OWN = True, False


def of_example(name: str, **container: Any) -> dict[str, Any]:
    """The example's Deployment under another name, its container changed."""
    found: dict[str, Any] = yaml.safe_load((EXAMPLE / "deployment.yaml").read_text())
    found["metadata"]["name"] = name
    found["spec"]["selector"]["matchLabels"]["app"] = name
    found["spec"]["replicas"] = 1
    template = found["spec"]["template"]
    template["metadata"]["labels"]["app"] = name
    template["spec"]["containers"][0] |= {"env": [], **container}
    return found


WORKERS = {
    "stock-glibc": yaml.safe_load((EXAMPLE / "deployment.yaml").read_text()),
    "glibc-command": of_example("glibc-command", command=SERVER, args=["given"]),
    "stock-musl": of_example("stock-musl", image="dynamo-snapshot/stock-musl:dev", args=["given"]),
    "musl-command": of_example("musl-command", image="dynamo-snapshot/stock-musl:dev", command=["/usr/bin/worker"]),
    "mapped": of_example("mapped", image=WORKER, command=TINY),
    "placeholder": of_example("placeholder", image=PLACEHOLDER, command=TINY),
}


@pytest.fixture(scope="module")
def stock(platform: Platform, embedded_cluster: Cluster) -> None:
    """The stock images, in the cluster."""
    folder = archives(Cache.from_env(os.environ)) / "stock"
    for name in STOCK:
        subprocess.run([sys.executable, "-m", "images", "build", name, "-o", folder], cwd=ROOT, check=True)
        embedded_cluster.load_image(folder / f"{name}.tar")


@pytest.fixture(scope="module")
def helm(platform: Platform) -> Iterator[Helm]:
    """A release of its own, gone afterwards."""
    helm = Helm(platform.helm, platform.kubeconfig, NAMESPACE)
    yield helm
    helm.uninstall()


def install(helm: Helm, platform: Platform, kubectl: Kubectl, *more: str) -> None:
    """Install or upgrade, until the only webhook that the API server reaches is the new one."""
    values = image_settings(platform.image_tag, platform.image_prefix)
    values |= node.PATIENT | {"controlPlane.replicas": "1", f"placeholder.images.{WORKER}": PLACEHOLDER}
    flags = [flag for key, value in values.items() for flag in ("--set", f"{key}={value}")]
    helm("upgrade", "--install", RELEASE, str(CHART), "--create-namespace",
         "--wait", "--timeout", "120s", *flags, *more)  # fmt: skip
    webhook = f"{keys.LABEL_AGENT}=webhook"
    wait_for(lambda: len(kubectl.items("pods", "-l", webhook)) == 1 or None, "the old webhook gone", 60)
    story.await_webhook(kubectl)


@pytest.fixture(scope="module")
def release(platform: Platform, installed: Kubectl, stock: None, helm: Helm) -> Kubectl:
    """The chart with its own values, but for the names of images."""
    kubectl = Kubectl(platform.kubectl, platform.kubeconfig, NAMESPACE)
    try:
        install(helm, platform, kubectl)
    except CommandError as error:
        pytest.fail(f"{error}\n{complaints(kubectl)}")
    return kubectl


@pytest.fixture(scope="module")
def captured(release: Kubectl) -> dict[str, dict[str, Any]]:
    """The Ready checkpoint of each worker, all captured at once."""
    release.apply(*WORKERS.values())

    def ready() -> dict[str, dict[str, Any]] | None:
        found = {
            each["metadata"]["annotations"][keys.ANN_WORKLOAD].removeprefix("Deployment/"): each
            for each in release.items("dynamocheckpoints")
        }
        phases = {name: each.get("status", {}).get("phase") for name, each in found.items()}
        assert "Failed" not in phases.values(), {name: found[name]["status"]["message"] for name in phases}
        return found if phases == dict.fromkeys(WORKERS, "Ready") else None

    return wait_for(ready, "all checkpoints Ready", node.CAPTURE_SECONDS)


def tokens_of(kubectl: Kubectl, name: str) -> set[str]:
    """What the workers of a Deployment answer, once all its pods are Ready."""
    kubectl("rollout", "status", f"deployment/{name}", "--timeout=60s")
    return {node.await_answer(kubectl, pod["metadata"]["name"])["token"] for pod in pods_of(kubectl, name)}


def pods_of(kubectl: Kubectl, name: str) -> list[dict[str, Any]]:
    """The pods of a Deployment that are not ending."""
    return [pod for pod in kubectl.items("pods", "-l", f"app={name},{keys.LABEL_RESTORE}")
            if not pod["metadata"].get("deletionTimestamp")]  # fmt: skip


def renewed(kubectl: Kubectl, *names: str) -> dict[str, list[dict[str, Any]]]:
    """Delete the pods of Deployments; the pods that took their place, by Deployment.

    ``rollout status`` alone would speak of the old ones for a moment.
    """
    wanted = {name: kubectl.get("deployment", name)["spec"]["replicas"] for name in names}
    kubectl("delete", "pods", "-l", f"app in ({','.join(names)}),{keys.LABEL_RESTORE}", "--wait")

    def look() -> dict[str, list[dict[str, Any]]] | None:
        found = {name: pods_of(kubectl, name) for name in names}
        return found if {name: len(pods) for name, pods in found.items()} == wanted else None

    found = wait_for(look, f"new pods of {', '.join(names)}", node.READY_SECONDS)
    for name in names:
        kubectl("rollout", "status", f"deployment/{name}", "--timeout=60s")
    return found


@pytest.fixture(scope="module")
def restored(release: Kubectl, captured: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The pods that took the place of the first ones, by worker."""
    return renewed(release, *WORKERS)


@pytest.mark.parametrize("name", WORKERS)
def test_one_label_restores_it(release: Kubectl, captured: dict, restored: dict, name: str):
    """The memory of the captured worker answers in every pod."""
    job = captured[name]["status"]["jobName"]
    tokens = tokens_of(release, name)

    assert 1 == len(tokens)
    assert f"token {tokens.pop()}" in release("logs", f"job/{job}", "-c", "worker")
    for pod in restored[name]:
        word = f"{keys.ANN_RESTORE_STATUS_PREFIX}worker"
        assert node.log(release, pod["metadata"]["name"], "worker").startswith(RESTORED)
        assert "completed" == node.reported(release, pod["metadata"]["name"], word)["metadata"]["annotations"][word]


@pytest.mark.parametrize("name", ["stock-glibc", "musl-command"])
def test_a_placeholder_of_it_is_restored_in_place(
    platform: Platform, release: Kubectl, captured: dict, restored: dict, name: str
):
    """The webhook gives it the tools and the command that the capture has noted; nothing else says what it runs."""
    checkpoint, spare = captured[name], f"spare-{name}"

    def run(*words: str) -> str:
        result = CliRunner().invoke(main, [*words, "-n", NAMESPACE, "--kubeconfig", str(platform.kubeconfig)])
        assert 0 == result.exit_code, result.output
        return result.stdout

    assert "admission=placeholder" in run("placeholder", checkpoint["metadata"]["name"], "--name", spare)
    release("wait", "--for=jsonpath={.status.phase}=Running", f"pod/{spare}", f"--timeout={node.READY_SECONDS}s")
    run("restore", "--pod", spare, "--checkpoint-id", checkpoint["status"]["checkpointID"])
    assert {node.await_answer(release, spare)["token"]} == tokens_of(release, name)
    node.await_ready(release, spare)
    node.remove(release, f"pod/{spare}")  # it has the labels of the Deployment's pods


@pytest.mark.parametrize(
    ("name", "entrypoint", "cmd", "said"),
    [
        pytest.param("stock-glibc", SERVER, ["glibc"], "warm as glibc", id="entrypoint, cmd"),
        pytest.param("glibc-command", SERVER, ["glibc"], "warm as given", id="command, args"),
        pytest.param("stock-musl", ["/usr/bin/worker"], ["musl"], "warm as given", id="entrypoint, args"),
        pytest.param("musl-command", ["/usr/bin/worker"], ["musl"], "warm as a worker", id="command"),
    ],
)  # fmt: skip
def test_it_runs_what_its_pod_and_its_image_say(
    release: Kubectl, captured: dict, name: str, entrypoint: list[str], cmd: list[str], said: str
):
    """As without us: a command replaces both lists of the image, arguments replace the second."""
    status = captured[name]["status"]

    assert (entrypoint, cmd) == (status["image"]["entrypoint"], status["image"]["cmd"])
    assert said in release("logs", f"job/{status['jobName']}", "-c", "worker")


@pytest.mark.parametrize(
    ("name", "injected"),
    [
        pytest.param("stock-glibc", INJECTED, id="stock"),
        pytest.param("stock-musl", INJECTED, id="stock musl"),
        pytest.param("mapped", OWN, id="mapped to a placeholder"),
        pytest.param("placeholder", OWN, id="a placeholder itself"),
    ],
)
def test_only_images_without_tools_get_them(captured: dict, restored: dict, name: str, *, injected: bool):
    """From the image that is on the node in any case; pods are restored as was captured."""
    assert injected == captured[name]["status"]["image"]["injected"]
    for pod in restored[name]:
        inits = {each["name"]: each["image"] for each in pod["spec"].get("initContainers", ())}
        assert inits == ({keys.TOOLS_VOLUME: AGENT} if injected else {})
        assert injected or pod["spec"]["containers"][0]["image"] == PLACEHOLDER


def test_injected_tools_are_enough_for_the_strictest_namespace(release: Kubectl, restored: dict):
    """The API server's own check of the restricted profile finds nothing in the init container."""
    init = restored["stock-musl"][0]["spec"]["initContainers"][0]
    safe = {"securityContext": init["securityContext"], "image": init["image"], "name": "main"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "strict"}, "spec": {"containers": [safe]}}
    release("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    try:
        release("create", "-f", "-", "--dry-run=server", stdin=json.dumps(pod))
    finally:
        release("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce-")

    assert {"requests", "limits"} == init["resources"].keys()


def test_an_image_volume_brings_them_as_well(
    release: Kubectl, platform: Platform, helm: Helm, restored: dict, captured: dict
):
    """The same checkpoint, taken with an init container of the agent's image, restored with a volume of another."""
    before = tokens_of(release, "stock-musl")
    install(helm, platform, release, "-f", str(EXAMPLE / "values.yaml"), "--set", "placeholder.inject.via=imageVolume")
    spec = renewed(release, "stock-musl")["stock-musl"][0]["spec"]
    after = tokens_of(release, "stock-musl")
    volume = next(each for each in spec["volumes"] if each["name"] == keys.TOOLS_VOLUME)

    assert before == after
    assert "dynamo-snapshot/tools:dev" == volume.get("image", {}).get("reference"), json.dumps(volume)
    assert not spec.get("initContainers")
