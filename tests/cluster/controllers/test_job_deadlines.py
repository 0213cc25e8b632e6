"""Jobs with a deadline of their own: waiting for a checkpoint never uses it up."""

import pytest

from contract.api import keys
from kube.resources import JOBS, Resource
from tests.support.fixtures import workload as shop
from tests.support.fixtures.workload import gated, note, pod_template

CRON_JOBS = Resource("batch", "v1", "cronjobs", "CronJob")


@pytest.fixture
async def scene(workload_plane, tmp_path):
    async with shop.workloads_in(workload_plane, "deadlines", tmp_path) as found:
        found.controllers.start(shop.VALUES)
        yield found


def job(**spec):
    template = pod_template(wait=True, pod={"restartPolicy": "Never"})
    return {"metadata": {"name": "batch"}, "spec": {"backoffLimit": 0, "template": template, **spec}}


async def test_a_short_deadline_lets_nothing_wait(scene):
    await scene.apply(JOBS, job(activeDeadlineSeconds=12))
    (gone,) = await scene.lifted("job-deadline")

    assert "held" == note(gone, keys.ANN_ADMISSION), "it was shaped for a restore, and starts cold"
    (event,) = await scene.told("GateLifted", gone["metadata"]["name"])
    assert ("Warning", True) == (event["type"], "Job batch ends 12 s after its start" in event["message"])
    # It asked all the same: later runs restore.
    assert await scene.ready() == note(gone, keys.ANN_CHECKPOINT)


@pytest.mark.parametrize("spec", [{}, {"activeDeadlineSeconds": 3600}], ids=["none", "an-hour"])
async def test_a_long_deadline_leaves_time_to_wait(scene, spec):
    await scene.apply(JOBS, job(**spec))
    (held,) = await scene.pods_with("held")
    await scene.ready()
    (gone,) = await scene.lifted("checkpoint-ready")

    assert gated(held)
    assert "startTime" not in held["status"], "a pod's own deadline does not run while it is held"
    assert held["metadata"]["uid"] == gone["metadata"]["uid"]


async def test_a_run_of_a_cron_job_does_not_wait(scene):
    run = {"spec": job()["spec"]}
    await scene.apply(
        CRON_JOBS,
        {
            "metadata": {"name": "often"},
            "spec": {"schedule": "* * * * *", "suspend": True, "concurrencyPolicy": "Replace", "jobTemplate": run},
        },
    )
    cron = await scene.kube.get(CRON_JOBS, "often", scene.namespace)
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "often", "controller": True}
    made = job()
    made["metadata"]["ownerReferences"] = [owner | {"uid": cron["metadata"]["uid"]}]
    await scene.apply(JOBS, made)
    (gone,) = await scene.lifted("job-deadline")
    (event,) = await scene.told("GateLifted", gone["metadata"]["name"])

    assert "is a run of CronJob often" in event["message"]
