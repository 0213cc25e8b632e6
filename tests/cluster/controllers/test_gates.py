"""Pods that are held until their checkpoint is Ready, and let go whatever becomes of it; nothing is ever deleted."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from cluster.errors import CommandError
from contract.api import keys
from kube.resources import CHECKPOINTS, DEPLOYMENTS, JOBS, NAMESPACES, PODS, STATEFUL_SETS, Resource
from tests.support.builders.objects import container
from tests.support.fixtures import workload as shop
from tests.support.fixtures.workload import bare, deployment, gated, note, pod_template

GATE = [keys.SCHEDULING_GATE]
QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
POLICIES = Resource(
    "admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", namespaced=False
)
BINDINGS = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicyBinding",
    namespaced=False,
)
LIMIT_RANGES = Resource("", "v1", "limitranges", "LimitRange")
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture
async def scene(workload_plane, tmp_path):
    async with shop.workloads_in(workload_plane, "gates", tmp_path) as found:
        yield found


async def test_held_replicas_all_go_when_the_checkpoint_is_ready(scene):
    scene.controllers.start(shop.VALUES)
    await scene.apply(DEPLOYMENTS, deployment(replicas=3, wait=True))
    held = await scene.pods_with("held", 3)
    name = await scene.ready()
    gone = await scene.lifted("checkpoint-ready", 3)

    assert [GATE] * 3 == [gated(pod) for pod in held]
    assert {pod["metadata"]["uid"] for pod in held} == {pod["metadata"]["uid"] for pod in gone}
    assert {"restore-shaped"} == {note(pod, keys.ANN_ADMISSION) for pod in gone}
    assert {keys.STANDBY} == {pod["spec"]["containers"][0]["command"][0] for pod in gone}
    assert await scene.told("Held")
    assert name in (await scene.told("GateLifted"))[0]["message"]


async def test_a_failed_capture_lets_go_and_new_pods_start_cold(scene):
    scene.controllers.start(shop.VALUES)
    await scene.apply(DEPLOYMENTS, deployment(wait=True))
    await scene.pods_with("held")
    (found,) = await scene.made()
    await scene.finish(found["metadata"]["name"], "failed")
    (gone,) = await scene.lifted("checkpoint-failed")
    await scene.kube.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 2}}, scene.namespace)
    (cold,) = await scene.pods_with("checkpoint-failed")

    assert "held" == note(gone, keys.ANN_ADMISSION)
    assert [] == gated(cold)
    assert ["python3", "-m", "worker"] == cold["spec"]["containers"][0]["command"]
    (event,) = await scene.told("GateLifted", gone["metadata"]["name"])
    assert ("Warning", True) == (event["type"], "criu said no" in event["message"])


async def test_a_retried_capture_is_restored_in_its_own_version(scene):
    """The first attempt fails, the pods wait on, and the second attempt's version is what they get."""
    scene.controllers.start(shop.NO_CERTIFICATES + "automatic: {attempts: 2, backoff: [1s]}\n")
    await scene.apply(DEPLOYMENTS, deployment(wait=True))
    (held,) = await scene.pods_with("held")
    (found,) = await scene.made()
    name = found["metadata"]["name"]
    first = (await scene.phase("Creating", name))["jobName"]
    await scene.fail(first)

    async def retried():
        status = await scene.status(name)
        return status["phase"] == "Creating" and status["jobName"] != first

    await scene.eventually(retried, "the second attempt")
    await scene.finish(name)
    (gone,) = await scene.lifted("checkpoint-ready")

    assert ("1", "2") == (note(held, keys.ANN_ARTIFACT_VERSION), note(gone, keys.ANN_ARTIFACT_VERSION))


async def test_a_deleted_checkpoint_lets_go(scene):
    scene.controllers.start(shop.VALUES)
    await scene.apply(DEPLOYMENTS, deployment(wait=True))
    await scene.pods_with("held")
    (found,) = await scene.made()
    await scene.phase("Creating", found["metadata"]["name"])
    await scene.kube.delete(CHECKPOINTS, found["metadata"]["name"], scene.namespace)

    await scene.lifted("checkpoint-deleted")


async def test_no_pod_waits_longer_than_it_may(scene):
    scene.controllers.start(shop.VALUES + "waitTimeout: 2s\n")
    await scene.settle()
    await scene.apply(PODS, bare(wait=True))
    await scene.pods_with("held")
    (found,) = await scene.made()
    (gone,) = await scene.lifted("wait-timeout")

    assert "Creating" == (await scene.phase("Creating", found["metadata"]["name"]))["phase"]
    assert "waitTimeout" in (await scene.told("GateLifted", gone["metadata"]["name"]))[0]["message"]


async def test_a_controller_that_was_away_lets_go_what_it_missed(scene):
    """Killed while pods are held; what happened meanwhile is seen, and the time counts from the pods' creation."""
    scene.controllers.start(shop.VALUES)
    await scene.apply(DEPLOYMENTS, deployment(replicas=2, wait=True))
    held = await scene.pods_with("held", 2)
    (found,) = await scene.made()
    name = found["metadata"]["name"]
    job = (await scene.phase("Creating", name))["jobName"]
    await scene.kill_controllers()
    await scene.complete_job(job)
    scene.controllers.start(shop.VALUES)
    gone = await scene.lifted("checkpoint-ready", 2)

    assert {pod["metadata"]["uid"] for pod in held} == {pod["metadata"]["uid"] for pod in gone}


async def test_a_time_that_ran_out_while_nobody_led(scene):
    await scene.apply(PODS, bare(wait=True))
    (held,) = await scene.pods_with("held")
    await shop.second_of_creation_over(held)
    scene.controllers.start(shop.VALUES + "waitTimeout: 1s\n")

    await scene.lifted("wait-timeout")


async def test_killed_again_and_again_while_pods_are_let_go(scene):
    scene.controllers.start(shop.VALUES)
    await scene.apply(DEPLOYMENTS, deployment(replicas=30, wait=True))
    held = await scene.pods_with("held", 30)
    (found,) = await scene.made()
    await scene.phase("Creating", found["metadata"]["name"])
    await scene.complete_job((await scene.status(found["metadata"]["name"]))["jobName"])

    async def some():
        return [pod for pod in await scene.pods() if not gated(pod)]

    await scene.eventually(some, "the first pod let go")
    await scene.kill_controllers()
    scene.controllers.start(shop.VALUES)
    gone = await scene.lifted("checkpoint-ready", 30)

    assert {pod["metadata"]["uid"] for pod in held} == {pod["metadata"]["uid"] for pod in gone}


async def test_a_job_with_no_second_try_is_held_and_let_go_not_failed(scene):
    scene.controllers.start(shop.VALUES)
    template = pod_template(wait=True, pod={"restartPolicy": "Never"})
    await scene.apply(JOBS, {"metadata": {"name": "batch"}, "spec": {"backoffLimit": 0, "template": template}})
    (held,) = await scene.pods_with("held")
    await scene.ready()
    (gone,) = await scene.lifted("checkpoint-ready")
    job = await scene.kube.get(JOBS, "batch", scene.namespace)

    assert held["metadata"]["uid"] == gone["metadata"]["uid"]
    assert (1, None) == (job["status"].get("active"), job["status"].get("failed"))
    assert not [each for each in job["status"].get("conditions", []) if each["type"] == "Failed"]


async def test_an_ordered_set_of_another_owner_goes_on(scene):
    """As the groups of a LeaderWorkerSet: the next replica comes when the one before is let go and runs."""
    scene.controllers.start(shop.VALUES)
    owner = await scene.apply(DEPLOYMENTS, deployment(name="group", replicas=0))
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "group", "uid": owner["metadata"]["uid"]}
    template = pod_template(wait=True, notes={keys.ANN_IDENTITY: keys.IDENTITY_REFRESHED})
    spec = {"serviceName": "g", "replicas": 2, "podManagementPolicy": "Parallel", "template": template}
    spec["selector"] = {"matchLabels": {"app": "web"}}
    metadata = {"name": "leaders", "ownerReferences": [reference | {"controller": True}]}
    await scene.apply(STATEFUL_SETS, {"metadata": metadata, "spec": spec})
    await scene.pods_with("held", 2)
    await scene.ready()
    gone = await scene.lifted("checkpoint-ready", 2)

    assert {"leaders-0", "leaders-1"} == {pod["metadata"]["name"] for pod in gone}


async def test_other_gates_stay(scene):
    scene.controllers.start(shop.VALUES)
    await scene.apply(PODS, bare(wait=True, pod={"schedulingGates": [{"name": "example.com/quota"}]}))
    (held,) = await scene.pods_with("held")
    await scene.ready()

    async def lifted():
        (pod,) = await scene.pods()
        return gated(pod) if note(pod, keys.ANN_GATE) else None

    assert {"example.com/quota", keys.SCHEDULING_GATE} == set(gated(held))
    assert ["example.com/quota"] == await scene.eventually(lifted, "our gate lifted")


async def test_who_must_not_start_cold_waits_on_and_says_so(scene):
    scene.controllers.start(shop.VALUES)
    await scene.apply(PODS, bare(wait=True, notes={keys.ANN_POLICY: keys.POLICY_REQUIRE}))
    (held,) = await scene.pods_with("held")
    (found,) = await scene.made()
    name = found["metadata"]["name"]
    await scene.finish(name, "failed")
    (event,) = await scene.told("GateKept")
    await scene.settle()
    (kept,) = await scene.pods()
    bump = {"metadata": {"annotations": {keys.ANN_ARTIFACT_VERSION: "9"}}}
    await scene.kube.patch(CHECKPOINTS, name, bump, scene.namespace)
    await scene.finish(name)
    (gone,) = await scene.lifted("checkpoint-ready")

    assert (GATE, None) == (gated(kept), note(kept, keys.ANN_GATE))
    assert ("Warning", True) == (event["type"], "criu said no" in event["message"])
    assert held["metadata"]["uid"] == gone["metadata"]["uid"]
    assert "9" == note(gone, keys.ANN_ARTIFACT_VERSION)


async def test_by_name_too(scene):
    scene.controllers.start(shop.VALUES)
    await scene.make("qwen")
    await scene.phase("Creating", "qwen")
    labels = {keys.LABEL_RESTORE: keys.RESTORE_BY_NAME, "app": "web"}
    notes = {keys.ANN_CHECKPOINT_NAME: "qwen", keys.ANN_STARTUP_POLICY: "WaitForCheckpoint"}
    body = {"metadata": {"name": "p", "labels": labels, "annotations": notes}, "spec": {"containers": [container()]}}
    await scene.apply(PODS, body)
    await scene.pods_with("held")
    await scene.finish("qwen")

    await scene.lifted("checkpoint-ready")


@asynccontextmanager
async def refusing(scene, words):
    """A policy under which no gate of a pod of the namespace may be taken off."""
    ours = {"matchLabels": {"kubernetes.io/metadata.name": scene.namespace}}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"]}
    gates = "size({0}.spec.?schedulingGates.orValue([]))"
    fewer = f"{gates.format('object')} >= {gates.format('oldObject')}"
    policy = {
        "matchConstraints": {"namespaceSelector": ours, "resourceRules": [rule]},
        "validations": [{"expression": fewer, "message": words}],
    }
    name = f"no-lifting-{scene.namespace}"
    binding = {"policyName": name, "validationActions": ["Deny"]}
    for resource, spec in ((POLICIES, policy), (BINDINGS, binding)):
        await scene.kube.create(resource, {"metadata": {"name": name}, "spec": spec})
    try:
        yield
    finally:
        for resource in (BINDINGS, POLICIES):
            await scene.kube.delete(resource, name)


async def denied(kubectl, scene, pod):
    """Whether the policy is in force already."""
    body = {"spec": {"schedulingGates": [{"$patch": "delete", "name": keys.SCHEDULING_GATE}]}}
    arguments = ("patch", "pod", pod, "-n", scene.namespace, "--type=strategic", "-p", json.dumps(body))
    try:
        await asyncio.to_thread(kubectl, *arguments, "--dry-run=server")
    except CommandError:
        return True
    return False


async def test_who_refuses_that_a_pod_goes_is_named_on_the_pod(scene, workload_plane):
    """With what to do by hand, once; and when the policy is gone, the pod goes by itself."""
    scene.controllers.start(shop.VALUES)
    await scene.apply(PODS, bare(wait=True))
    (held,) = await scene.pods_with("held")
    pod = held["metadata"]["name"]
    async with refusing(scene, "gates are the queue's business"):
        await scene.eventually(lambda: denied(workload_plane.kubectl, scene, pod), "the policy")
        await scene.ready()
        (event,) = await scene.told("GateNotLifted", pod)
        await scene.eventually(lambda: _tried(scene), "more tries")
        (same,) = await scene.told("GateNotLifted", pod)
        (kept,) = await scene.pods()
    (gone,) = await scene.lifted("checkpoint-ready")

    assert "Warning" == event["type"]
    assert "is Ready, but the API server refuses" in event["message"]
    assert "gates are the queue's business" in event["message"]
    assert f"kubectl patch pod {pod} -n {scene.namespace} --type=strategic" in event["message"]
    assert (event["metadata"]["name"], 1) == (same["metadata"]["name"], same["count"])
    assert (GATE, None) == (gated(kept), note(kept, keys.ANN_GATE))
    assert held["metadata"]["uid"] == gone["metadata"]["uid"]


async def _tried(scene):
    return scene.controllers.logs().count("gates are the queue") > 2


@pytest.mark.parametrize("level", ["baseline", "restricted"])
async def test_next_to_quota_limits_and_pod_security(scene, level):
    """All of them judge the pod at its creation, when it is shaped and gated already."""
    scene.controllers.start(shop.VALUES)
    enforce = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}}
    await scene.kube.patch(NAMESPACES, scene.namespace, enforce)
    limits = {"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "10m"}}
    await scene.apply(LIMIT_RANGES, {"metadata": {"name": "l"}, "spec": {"limits": [limits]}})
    hard = {"pods": "5", "limits.cpu": "10", "limits.memory": "10Gi", "requests.cpu": "1"}
    await scene.apply(QUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": hard}})
    await scene.apply(DEPLOYMENTS, deployment(replicas=2, wait=True, securityContext=RESTRICTED))
    await scene.pods_with("held", 2)
    (found,) = await scene.made()
    await scene.finish(found["metadata"]["name"])

    await scene.lifted("checkpoint-ready", 2)


async def test_a_quota_on_checkpoints_is_told_and_does_not_hold_for_ever(scene):
    scene.controllers.start(shop.VALUES + "waitTimeout: 4s\n")
    # Its time counts from the pod's creation: the controller must be at work by then.
    await scene.settle()
    await scene.apply(
        QUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": {"count/dynamocheckpoints.nvidia.com": "0"}}}
    )

    async def counted():
        return "used" in (await scene.kube.get(QUOTAS, "q", scene.namespace)).get("status", {})

    await scene.eventually(counted, "the quota")
    await scene.apply(PODS, bare(wait=True))
    (held,) = await scene.pods_with("held")
    (event,) = await scene.told("CheckpointNotMade", held["metadata"]["name"])

    assert "exceeded quota" in event["message"]
    await scene.lifted("wait-timeout")
