"""One label on a workload: the checkpoint is made from the workload itself, once, and found again."""

import asyncio

import pytest

from contract.api import keys
from kube.resources import CHECKPOINTS, DEPLOYMENTS, EVENTS, JOBS, PODS, REPLICA_SETS, STATEFUL_SETS
from tests.support.builders.objects import container
from tests.support.fixtures import workload as shop
from tests.support.fixtures.workload import bare, deployment, note, pod_template


@pytest.fixture
async def scene(workload_plane, tmp_path):
    async with shop.workloads_in(workload_plane, "workloads", tmp_path) as found:
        found.controllers.start(shop.VALUES)
        yield found


async def test_a_deployment_gets_a_checkpoint_of_its_own_template(scene):
    await scene.apply(DEPLOYMENTS, deployment())
    (cold,) = await scene.pods_with("checkpoint-requested")
    (found,) = await scene.made()
    name = found["metadata"]["name"]
    await scene.finish(name)
    await scene.kube.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 2}}, scene.namespace)
    (restored,) = await scene.pods_with("restore-shaped")

    notes = found["metadata"]["annotations"]
    assert ("Deployment/web", "true") == (notes[keys.ANN_WORKLOAD], notes[keys.ANN_AUTO_CHECKPOINT])
    assert name == note(cold, keys.ANN_CHECKPOINT) == note(restored, keys.ANN_CHECKPOINT)
    template = found["spec"]["job"]["podTemplateSpec"]
    assert {"app": "web"} == template["metadata"]["labels"]
    assert {"containers"} == set(template["spec"])
    assert keys.FINALIZER in found["metadata"]["finalizers"]
    assert await scene.told("CheckpointRequested", cold["metadata"]["name"])
    assert await scene.told("RestoreShaped", restored["metadata"]["name"])


async def test_a_hundred_pods_at_once_make_one_checkpoint(scene):
    names = [f"bare-{n}" for n in range(100)]
    await asyncio.gather(*(scene.apply(PODS, bare(name)) for name in names))
    (found,) = await scene.made()
    await scene.finish(found["metadata"]["name"])
    await scene.apply(PODS, bare("late"))
    await scene.pods_with("restore-shaped")
    told = {each["involvedObject"]["name"] for each in await scene.told("CheckpointRequested")}

    jobs = [job for job in await scene.jobs() if job["metadata"]["name"].startswith("checkpoint-job-")]
    assert (1, 1) == (len(await scene.checkpoints()), len(jobs))
    assert set(names) >= told


async def test_a_restart_and_a_new_configuration_make_new_checkpoints_and_a_rollback_finds_the_old_one(scene):
    await scene.apply(DEPLOYMENTS, deployment(notes={"checksum/config": "one"}))
    first = await scene.ready()
    seen = {first}
    for notes in ({"checksum/config": "two"}, {"kubectl.kubernetes.io/restartedAt": "2026-01-31T10:00:00Z"}):
        await _change(scene, notes)
        found = {each["metadata"]["name"] for each in await scene.made(len(seen) + 1)}
        (new,) = found - seen
        await scene.finish(new)
        seen = found
    await _change(scene, {"checksum/config": "one", "kubectl.kubernetes.io/restartedAt": None})

    async def restored():
        found = [pod for pod in await scene.pods() if note(pod, keys.ANN_ADMISSION) == "restore-shaped"]
        return [pod for pod in found if note(pod, keys.ANN_CHECKPOINT) == first]

    assert await scene.eventually(restored, "a pod that restores from the first checkpoint")
    assert seen == {each["metadata"]["name"] for each in await scene.checkpoints()}


async def _change(scene, notes):
    body = {"spec": {"template": {"metadata": {"annotations": notes}}}}
    await scene.kube.patch(DEPLOYMENTS, "web", body, scene.namespace)


@pytest.mark.parametrize(
    ("top", "resource", "body"),
    [
        pytest.param("Pod/bare", PODS, bare(), id="bare pod"),
        pytest.param(
            "StatefulSet/db",
            STATEFUL_SETS,
            {
                "metadata": {"name": "db"},
                "spec": {
                    "serviceName": "db",
                    "selector": {"matchLabels": {"app": "web"}},
                    "template": pod_template(notes={keys.ANN_IDENTITY: keys.IDENTITY_REFRESHED}),
                    "volumeClaimTemplates": [
                        {
                            "metadata": {"name": "data"},
                            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
                        }
                    ],
                },
            },
            id="StatefulSet",
        ),
        pytest.param(
            "Job/batch",
            JOBS,
            {
                "metadata": {"name": "batch"},
                "spec": {
                    "backoffLimit": 0,
                    "template": pod_template(pod={"restartPolicy": "Never"}),
                },
            },
            id="Job",
        ),
        pytest.param(
            "ReplicationController/old",
            shop.REPLICATION_CONTROLLERS,
            {
                "metadata": {"name": "old"},
                "spec": {"replicas": 1, "selector": {"app": "web"}, "template": pod_template()},
            },
            id="ReplicationController",
        ),
        pytest.param(
            "ReplicaSet/plain",
            REPLICA_SETS,
            {
                "metadata": {"name": "plain"},
                "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": pod_template()},
            },
            id="ReplicaSet",
        ),
    ],
)
async def test_every_kind_of_owner(scene, top, resource, body):
    await scene.apply(resource, body)
    (found,) = await scene.made()
    await scene.phase("Creating", found["metadata"]["name"])

    assert top == found["metadata"]["annotations"][keys.ANN_WORKLOAD]
    spec = found["spec"]["job"]["podTemplateSpec"]["spec"]
    assert not {"nodeName", "priority", "tolerations", "hostname", "serviceAccount"} & set(spec)
    assert not any(each["name"].startswith("kube-api-access-") for each in spec.get("volumes", []))
    assert not any("persistentVolumeClaim" in each for each in spec.get("volumes", []))


async def test_an_owner_that_belongs_to_another(scene):
    """As a LeaderWorkerSet does: it makes StatefulSets."""
    group = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "group"}}
    group["spec"] = {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "none"}},
        "template": pod_template(labels={"app": "none"}),
    }
    made = await scene.apply(DEPLOYMENTS, group)
    owner = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "group",
        "uid": made["metadata"]["uid"],
        "controller": True,
    }
    body = {
        "metadata": {"name": "leaders", "ownerReferences": [owner]},
        "spec": {
            "serviceName": "leaders",
            "selector": {"matchLabels": {"app": "web"}},
            "template": pod_template(notes={keys.ANN_IDENTITY: keys.IDENTITY_REFRESHED}),
        },
    }
    await scene.apply(STATEFUL_SETS, body)
    (found,) = await scene.made()

    assert "Deployment/group" == found["metadata"]["annotations"][keys.ANN_WORKLOAD]


async def test_refused_pods_say_why_and_ask_for_nothing(scene):
    name = {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    await scene.apply(DEPLOYMENTS, deployment(env=[name]))
    (refused,) = await scene.pods_with("per-pod-identity")
    on_pod = await scene.told("PerPodIdentity", refused["metadata"]["name"])
    owner = refused["metadata"]["ownerReferences"][0]["name"]
    on_owner = await scene.told("PerPodIdentity", owner)
    await scene.settle()

    assert () == tuple(await scene.checkpoints())
    assert {"Warning"} == {each["type"] for each in [*on_pod, *on_owner]}
    assert f"{keys.ANN_IDENTITY}: refreshed" in on_pod[0]["message"]


async def test_a_deleted_checkpoint_comes_back_with_new_pods_only(scene):
    await scene.apply(DEPLOYMENTS, deployment())
    (cold,) = await scene.pods_with("checkpoint-requested")
    name = await scene.ready()
    await shop.second_of_creation_over(cold)
    await scene.kube.delete(CHECKPOINTS, name, scene.namespace)
    await _let_go_of_artifact(scene, name)
    await scene.kill_controllers()
    scene.controllers.start(shop.VALUES)
    await scene.settle()
    left = await scene.checkpoints()
    await scene.kube.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 2}}, scene.namespace)
    await scene.pods_with("checkpoint-requested", 2)
    (again,) = await scene.made()

    assert () == tuple(left)
    assert name == again["metadata"]["name"]
    (old,) = [pod for pod in await scene.pods() if pod["metadata"]["uid"] == cold["metadata"]["uid"]]
    assert keys.REQUEST_WITHDRAWN == note(old, keys.ANN_REQUEST)


async def _let_go_of_artifact(scene, name):
    """The cleanup Job ends well."""

    async def cleanup():
        return [job for job in await scene.jobs() if job["metadata"]["name"].startswith("checkpoint-cleanup-")]

    for job in await scene.eventually(cleanup, "the cleanup Job"):
        await scene.end_pods(job["metadata"]["name"])
    await scene.gone(CHECKPOINTS, name)


async def test_requests_made_while_nobody_led_are_served(scene):
    await scene.kill_controllers()
    await scene.apply(DEPLOYMENTS, deployment())
    await scene.pods_with("checkpoint-requested")
    scene.controllers.start(shop.VALUES)

    await scene.made()
    assert 1 == len(await scene.told("CheckpointRequested"))


async def test_the_time_of_use_is_written_once(scene):
    await scene.apply(DEPLOYMENTS, deployment())
    name = await scene.ready()

    async def used():
        return (await scene.status(name)).get("lastUsedAt")

    first = await scene.eventually(used, "status.lastUsedAt")
    await scene.kube.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 3}}, scene.namespace)
    await scene.pods_with("restore-shaped", 2)
    await scene.settle()

    assert first == await used()


async def test_pods_of_graphs_are_told_of_too(scene):
    """They have no label of ours, and a selector cannot ask for their annotation."""
    labels = dict.fromkeys(keys.GRAPH_LABELS, "worker") | {"app": "web"}
    notes = {keys.ANN_RESTORE_CANDIDATE: "true", keys.ANN_CHECKPOINT_NAME: "none"}
    metadata = {"name": "candidate", "labels": labels, "annotations": notes}
    await scene.apply(PODS, {"metadata": metadata, "spec": {"containers": [container()]}})

    (event,) = await scene.told("CheckpointNotFound", "candidate")
    assert "DynamoCheckpoint none" in event["message"]


async def test_pods_that_did_not_ask_are_left_alone(scene):
    await scene.apply(
        PODS, {"metadata": {"name": "p", "labels": {"app": "web"}}, "spec": {"containers": [container()]}}
    )
    before = (await scene.pods())[0]["metadata"]["resourceVersion"]
    await scene.settle()

    assert before == (await scene.pods())[0]["metadata"]["resourceVersion"]
    assert () == tuple(
        e for e in (await scene.kube.list(EVENTS, scene.namespace)).items if e["involvedObject"]["name"] == "p"
    )
