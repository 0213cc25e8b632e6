"""``snapshotctl why -f`` says what the API server, our webhook process and the real controllers then do."""

import asyncio
import json
import time
from collections import Counter
from random import Random

import pytest
from click.testing import CliRunner

from cluster.api import ControlPlane
from contract.api import keys
from contract.api.checkpoint import annotations_of
from kube.client import connect
from kube.errors import ApiError
from kube.resources import (
    CHECKPOINTS,
    DAEMON_SETS,
    DEPLOYMENTS,
    JOBS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    REPLICA_SETS,
    STATEFUL_SETS,
)
from snapshotctl.__main__ import main
from snapshotctl.offline.workload_pods import candidates
from tests.cluster.admission.test_admission import ROOT, Webhook
from tests.support.builders.objects import ID, IMAGE, checkpoint, claim, ready
from tests.support.builders.pods import checkpoint_of, random_pod, worker
from tests.support.fixtures.cli import config_map
from tests.support.registration import configuration
from tests.support.waiting import until

HOME = "snapshot-system"
SPACE = "many"
PODS_TOTAL = 2000
PODS_WITHOUT_CLAIM = 300
AT_ONCE = 32
PATIENCE = 30.0
SEED = 20261121
RUNTIME = "example.test/runtime:1"
STOCK = "example.test/stock:1"
"""Neither a placeholder nor mapped to one, so tools are injected."""
VALUES = json.dumps(
    {
        "rbac": {"namespaceRestricted": False},
        "storage": {"accessMode": "podMount"},
        "placeholder": {"mode": "inject", "images": {RUNTIME: IMAGE}},
    }
)
NAMED = {
    "qwen": {"phase": "Ready", "checkpointID": ID, "image": {"reference": IMAGE}},
    "told-entrypoint": {
        "phase": "Ready",
        "checkpointID": "told",
        "image": {"reference": IMAGE, "entrypoint": ["/entry"], "cmd": ["serve"]},
    },
    "stock": {"phase": "Ready", "checkpointID": "stock", "image": {"reference": STOCK}},
    "pending": {"phase": "Pending", "checkpointID": "pending-id"},
    "creating": {"phase": "Creating", "checkpointID": "creating-id"},
    "failed": {"phase": "Failed", "checkpointID": "failed-id", "message": "no space left on the volume"},
    "bad-id": {"phase": "Ready", "checkpointID": "Not An Id"},
    "young": {},
}
AUTOMATIC = ("Ready", "Ready", "Ready", "Creating", "Pending", "Failed")


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    """A control plane with the stock controllers, our webhook for every namespace, and its release's ConfigMap."""
    with ControlPlane.start(controllers=True) as plane:
        kubectl = plane.kubectl
        kubectl("apply", "--server-side", "-f", str(ROOT / "charts/snapshot/crds/nvidia.com_dynamocheckpoints.yaml"))
        kubectl("wait", "--for=condition=Established", "crd", "--all")
        for namespace in (HOME, SPACE):
            kubectl("create", "namespace", namespace)
        webhook = Webhook(plane, HOME, tmp_path_factory.mktemp("webhook"), values=VALUES, RESTRICTED_NAMESPACE="")
        try:
            webhook.authority.issue()
            until(webhook.ready, webhook.log)
            kubectl.apply([configuration(webhook, "opted-in"), config_map(HOME, VALUES)])
            until(lambda: "default" in kubectl("-n", SPACE, "get", "serviceaccount", "-o", "name"), "service account")
            yield plane
        finally:
            webhook.end()


# --- Many pods -------------------------------------------------------------------------------------------------------


def manifest(chance, number):
    """A workload of some kind around a random pod that may have anything wrong with it."""
    pod = random_pod(chance)
    pod["metadata"]["namespace"] = SPACE
    annotations = pod["metadata"]["annotations"]
    if keys.ANN_CHECKPOINT_NAME in annotations:
        annotations[keys.ANN_CHECKPOINT_NAME] = chance.choice([*NAMED, "qwen", "told-entrypoint", "stock", "nobody"])
    for change, share in CHANGES:
        if chance.random() < share:
            change(pod)
    return wrapped(chance.choice(KINDS), pod, number)


def _out(pod):
    pod["metadata"].pop("labels", None)
    for key in (keys.ANN_RESTORE_CANDIDATE, keys.ANN_ADMISSION):
        pod["metadata"]["annotations"].pop(key, None)


def _on_a_node(pod):
    if not pod["spec"].get("schedulingGates"):
        pod["spec"]["nodeName"] = "somewhere"


def _unnamed(pod):
    pod["metadata"]["annotations"].pop(keys.ANN_CHECKPOINT_NAME, None)


def _copied(pod):
    pod["metadata"].setdefault("labels", {})[keys.LABEL_CHECKPOINT_ID] = ID


def _copied_stamp(pod):
    """Annotations of another pod in a manifest that was copied from it: they decide nothing."""
    stamp = {keys.ANN_TEMPLATE_HASH: "a" * 32, keys.ANN_ADMISSION: "checkpoint-requested"}
    if pod["metadata"].get("labels"):
        pod["metadata"]["annotations"] |= stamp


def _wrong_target(pod):
    pod["metadata"]["annotations"][keys.ANN_TARGET_CONTAINERS] = "main,nobody"


def _own_name(pod):
    entry = {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    pod["spec"]["containers"][0].setdefault("env", []).append(entry)


def _other_image(pod):
    for each in pod["spec"]["containers"]:
        each["image"] = STOCK


def _runtime_image(pod):
    for each in pod["spec"]["containers"]:
        each["image"] = RUNTIME


def _host_network(pod):
    pod["spec"]["hostNetwork"] = True
    for each in pod["spec"]["containers"]:
        each.pop("ports", None)


CHANGES = (
    (_on_a_node, 0.05),
    (_unnamed, 0.05),
    (_copied, 0.04),
    (_copied_stamp, 0.04),
    (_wrong_target, 0.03),
    (_own_name, 0.08),
    (_other_image, 0.08),
    (_runtime_image, 0.15),
    (_host_network, 0.02),
    (_out, 0.08),  # after the copies: a pod that asks for nothing has no word of an earlier admission
)


def wrapped(kind, pod, number):
    metadata = {"name": f"{kind.lower()}-{number}", "namespace": SPACE}
    inner = {key: value for key, value in pod["metadata"].items() if key in ("labels", "annotations")}
    template = {"metadata": inner, "spec": pod["spec"]}
    selector = {"selector": {"matchLabels": inner.get("labels") or {}}}
    match kind:
        case "Pod":
            return {"apiVersion": "v1", "kind": kind, "metadata": inner | metadata, "spec": pod["spec"]}
        case "Job":
            mode = {"completionMode": "Indexed"} if number % 2 else {}
            return {"apiVersion": "batch/v1", "kind": kind, "metadata": metadata, "spec": {"template": template} | mode}
        case "LeaderWorkerSet":
            spec = {"leaderWorkerTemplate": {"size": 2, "workerTemplate": template}}
            return {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": selector | {"template": template}}


KINDS = ("Pod", "Pod", "Deployment", "Deployment", "StatefulSet", "DaemonSet", "Job", "LeaderWorkerSet")


def created(obj):
    """The pod as its controller would send it, complete enough for the API server."""
    (candidate,) = candidates(obj)
    pod = candidate.pod
    pod["metadata"]["namespace"] = SPACE
    for owner in pod["metadata"].get("ownerReferences") or ():
        owner |= {"apiVersion": "example.test/v1", "uid": "00000000-0000-0000-0000-000000000001"}
    return pod


async def make_checkpoints(kube, chance, pods):
    """Those that are named, and those of a fifth of the automatic pods, in every phase."""
    found = [(checkpoint(name), status) for name, status in NAMED.items()]
    for pod in pods:
        if (pod["metadata"].get("labels") or {}).get(keys.LABEL_RESTORE) == keys.RESTORE_AUTO and chance.random() < 0.2:
            made = checkpoint_of(pod, phase=chance.choice(AUTOMATIC))
            found.append((made, made.pop("status")))
    unique = {obj["metadata"]["name"]: (obj, status) for obj, status in found}
    limit = asyncio.Semaphore(AT_ONCE)

    async def make(obj, status):
        async with limit:
            metadata = obj["metadata"]
            kept = {key: metadata[key] for key in ("name", "labels", "annotations") if key in metadata}
            await kube.create(CHECKPOINTS, obj | {"metadata": kept}, SPACE)
            await kube.patch(CHECKPOINTS, kept["name"], {"status": status}, SPACE, subresource="status")

    await asyncio.gather(*(make(*each) for each in unique.values()))
    return len(unique)


async def prepared(plane, pods):
    """How many checkpoints there are once all of them are known to the webhook, which misses the claim."""
    async with await connect(str(plane.kubeconfig)) as kube:
        count = await make_checkpoints(kube, Random(SEED), pods)
        last = ready("last")
        last["metadata"] = {"name": "last"}
        status = last.pop("status")
        await kube.create(CHECKPOINTS, last, SPACE)
        await kube.patch(CHECKPOINTS, "last", {"status": status}, SPACE, subresource="status")
        await knows(kube, "volume-claim-unavailable")
    return count


async def with_claim(plane):
    """Make the claim, and wait until the webhook knows."""
    async with await connect(str(plane.kubeconfig)) as kube:
        await kube.create(PERSISTENT_VOLUME_CLAIMS, claim(), SPACE)
        await knows(kube, "restore-shaped")


async def admitted(plane, pods):
    """What the API server answers to each; a pod that it refuses is an error of the generator."""
    limit = asyncio.Semaphore(AT_ONCE)
    async with await connect(str(plane.kubeconfig)) as kube:

        async def create(pod):
            async with limit:
                try:
                    return await kube.create(PODS, pod, SPACE, dry_run=True)
                except ApiError as error:
                    return str(error)

        made = await asyncio.gather(*(create(pod) for pod in pods))
    refused = Counter(each.partition(": ")[2] for each in made if isinstance(each, str))
    assert {} == dict(refused), "the generator makes pods that an API server takes"
    return made


async def knows(kube, code):
    """Wait until the API server asks the webhook, and that answers as it does once it has seen all."""
    body = {"metadata": {"generateName": "probe-", "namespace": SPACE}, "spec": {"containers": [worker()]}}
    body["metadata"] |= {
        "labels": {keys.LABEL_RESTORE: keys.RESTORE_BY_NAME},
        "annotations": {keys.ANN_CHECKPOINT_NAME: "last"},
    }
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        made = await kube.create(PODS, body, SPACE, dry_run=True)
        if annotations_of(made).get(keys.ANN_ADMISSION) == code:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"the webhook does not see what makes {code}")


def why(plane, objects, folder):
    path = folder / "many.json"
    path.write_text("\n".join(json.dumps(obj) for obj in objects))
    argv = ["why", "-f", str(path), "-o", "json", "--kubeconfig", str(plane.kubeconfig)]
    result = CliRunner().invoke(main, argv)
    assert result.exit_code in (0, 3), result.output
    document = json.loads(result.stdout)
    assert [] == document["notes"], "the installed values are read"
    return document["answers"]


def said(obj):
    """Code and checkpoint as the API server answered them."""
    annotations = annotations_of(obj)
    code = annotations.get(keys.ANN_ADMISSION, "not-opted-in")
    return code, annotations.get(keys.ANN_CHECKPOINT, "")


def foretold(answer, obj):
    """The same as the command line told it; only on these codes does the webhook note the checkpoint."""
    automatic = (obj["metadata"].get("labels") or {}).get(keys.LABEL_RESTORE) == keys.RESTORE_AUTO
    noted = answer["code"] in ("restore-shaped", "held") or automatic
    return answer["code"], answer["checkpoint"] if noted else ""


def different(told, answers):
    """Where the command line said something else than the API server did."""
    return [
        (said(real), foretold(answer, real), answer["object"])
        for real, answer in zip(answers, told, strict=True)
        if said(real) != foretold(answer, real)
    ]


def test_why_says_what_the_api_server_then_does(plane, tmp_path, figure):
    """First a few without the volume claim, which podMount needs, then all with it."""
    chance = Random(SEED)
    manifests = [manifest(chance, number) for number in range(PODS_TOTAL)]
    pods = [created(obj) for obj in manifests]
    started = time.monotonic()
    checkpoints = asyncio.run(prepared(plane, pods))
    bare = asyncio.run(admitted(plane, pods[:PODS_WITHOUT_CLAIM]))
    assert [] == different(why(plane, manifests[:PODS_WITHOUT_CLAIM], tmp_path), bare)[:5]
    assert {"volume-claim-unavailable", "held"} <= {code for code, _ in map(said, bare)}
    assert "restore-shaped" not in {code for code, _ in map(said, bare)}
    asyncio.run(with_claim(plane))
    answers = asyncio.run(admitted(plane, pods))
    between = time.monotonic()
    told = why(plane, manifests, tmp_path)
    ended = time.monotonic()
    differ = different(told, answers)
    assert [] == differ[:5], f"{len(differ)} of {PODS_TOTAL} differ"
    codes = Counter(code for code, _ in map(said, answers))
    figure(f"{PODS_TOTAL} pods, {checkpoints} checkpoints: 0 differ; {dict(codes.most_common())}")
    figure(f"{between - started:.1f} s for the API server, {ended - between:.1f} s for snapshotctl why -f")
    assert {"restore-shaped", "held", "checkpoint-requested", "per-pod-identity", "entrypoint-unknown"} <= set(codes)
    assert 12 <= len(codes)


# --- Real controllers ------------------------------------------------------------------------------------------------

RESOURCES = {each.kind: each for each in (DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS, DAEMON_SETS, JOBS)}
WISHES = {
    "by-name": ({keys.LABEL_RESTORE: "enabled"}, {keys.ANN_CHECKPOINT_NAME: "real"}, {}),
    "auto": ({keys.LABEL_RESTORE: "auto"}, {}, {}),
    "wait": ({keys.LABEL_RESTORE: "auto"}, {keys.ANN_STARTUP_POLICY: "WaitForCheckpoint"}, {}),
    "refreshed": ({keys.LABEL_RESTORE: "auto"}, {keys.ANN_IDENTITY: "refreshed"}, {}),
    "no-probe": ({keys.LABEL_RESTORE: "auto"}, {}, {"readinessProbe": None}),
    "out": ({}, {}, {}),
}


def real(kind, wish, number):
    labels, annotations, fields = WISHES[wish]
    name = f"{kind.lower()}-{wish}-{number}"
    container = {key: value for key, value in worker(**fields).items() if value is not None}
    labels = {"app": name, **labels}
    spec = {"containers": [container]} | ({"restartPolicy": "Never"} if kind == "Job" else {})
    template = {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}
    selector = {} if kind == "Job" else {"selector": {"matchLabels": {"app": name}}}
    claims = {"serviceName": "x", "volumeClaimTemplates": [CLAIM]} if kind == "StatefulSet" else {}
    mode = {"completionMode": "Indexed", "completions": 1} if kind == "Job" and number else {}
    return {
        "apiVersion": RESOURCES[kind].api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": SPACE},
        "spec": selector | {"template": template} | claims | mode,
    }


CLAIM = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


async def run_for_real(plane, objects):
    """The first pod of each workload, made by its own controller."""
    async with await connect(str(plane.kubeconfig)) as kube:
        for obj in objects:
            await kube.create(RESOURCES[obj["kind"]], obj, SPACE)
        wanted = {obj["metadata"]["name"] for obj in objects}
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            pods = (await kube.list(PODS, SPACE)).items
            found = {pod["metadata"]["labels"].get("app"): pod for pod in pods}
            if wanted <= found.keys():
                return [found[obj["metadata"]["name"]] for obj in objects]
            await asyncio.sleep(0.1)
        raise AssertionError(f"no pods of {wanted - found.keys()}")


async def prepare(plane):
    async with await connect(str(plane.kubeconfig)) as kube:
        await kube.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-0"}})
        one = ready("real")
        one["metadata"] = {"name": "real"}
        status = one.pop("status")
        await kube.create(CHECKPOINTS, one, SPACE)
        await kube.patch(CHECKPOINTS, "real", {"status": status}, SPACE, subresource="status")


def test_why_says_what_real_controllers_pods_become(plane, tmp_path):
    """Deployments, ReplicaSets, StatefulSets with claims, DaemonSets, Jobs, indexed Jobs: each with every wish."""
    asyncio.run(prepare(plane))
    kinds = [(kind, 0) for kind in RESOURCES] + [("Job", 1)]
    objects = [real(kind, wish, number) for kind, number in kinds for wish in WISHES]
    told = why(plane, objects, tmp_path)
    pods = asyncio.run(run_for_real(plane, objects))
    expected = {obj["metadata"]["name"]: said(pod) for obj, pod in zip(objects, pods, strict=True)}
    assert expected == {
        obj["metadata"]["name"]: foretold(answer, pod) for obj, pod, answer in zip(objects, pods, told, strict=True)
    }
    assert {
        "restore-shaped",
        "held",
        "checkpoint-requested",
        "per-pod-identity",
        "no-ready-signal",
        "not-opted-in",
    } == {code for code, _ in expected.values()}
