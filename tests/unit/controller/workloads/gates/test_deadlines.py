"""A wait never uses up what its workload has: as a table, and in the rule for gates."""

import pytest

from contract.api.states import GateEnd
from controller.workloads.gates.deadlines import LEAST_SECONDS, SHARE, Allowance, allowance
from controller.workloads.gates.gate_policy import CheckpointView, Hold, Lift, plan
from tests.support.builders.opted_in import NOW, ago, of_phase, ready, waiting

CRON = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": "c", "controller": True}
CREATING = CheckpointView(of_phase("Creating"))


def job(deadline=None, *, started=5, owner=None):
    metadata = {"name": "batch", "uid": "j", "creationTimestamp": ago(5)} | (
        {"ownerReferences": [owner]} if owner else {}
    )
    spec = {} if deadline is None else {"activeDeadlineSeconds": deadline}
    return {"metadata": metadata, "spec": spec, "status": {} if started is None else {"startTime": ago(started)}}


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        pytest.param(None, job(), id="no-deadline"),
        pytest.param(0, job(12), id="of-seconds"),
        pytest.param(None, job(2**62), id="beyond-all-dates"),
        pytest.param(0, job(LEAST_SECONDS * SHARE - 1), id="just-too-short"),
        pytest.param(LEAST_SECONDS, job(LEAST_SECONDS * SHARE), id="just-enough"),
        pytest.param(360, job(3600), id="of-an-hour"),
        pytest.param(300, job(3600, started=605), id="a-second-try"),
        pytest.param(0, job(3600, started=4000), id="passed"),
        pytest.param(360, job(3600, started=None), id="not-started-yet"),
        pytest.param(0, job(owner=CRON), id="run-of-a-cron-job"),
        pytest.param(None, job(owner=CRON | {"kind": "JobSet"}), id="of-a-set"),
    ],
)
def test_what_a_job_lets_its_pod_wait(expected, found):
    allowed = allowance(waiting(age=5), found)

    assert expected == (allowed and allowed.seconds)


def test_the_reason_names_the_job_and_its_deadline():
    assert "Job batch ends 12 s after its start (activeDeadlineSeconds)" in allowance(waiting(), job(12)).why


@pytest.mark.parametrize(
    ("expected", "age", "allowed"),
    [
        pytest.param(Hold(355), 5, Allowance(360, "x"), id="within"),
        pytest.param(Hold(1795), 5, Allowance(7200, "x"), id="longer-than-the-time-out"),
        pytest.param(GateEnd.JOB_DEADLINE, 0, Allowance(0, "x"), id="not-at-all"),
        pytest.param(GateEnd.JOB_DEADLINE, 360, Allowance(360, "x"), id="used-up"),
        pytest.param(GateEnd.WAIT_TIMEOUT, 1800, Allowance(360, "x"), id="the-time-out-is-older"),
    ],
)
def test_a_pod_is_let_go_in_time(expected, age, allowed):
    step = plan(waiting(age=age), CREATING, NOW, 1800, allowed)

    assert expected == (step.end if isinstance(step, Lift) else step)


def test_a_ready_checkpoint_is_restored_however_little_time_is_left():
    assert GateEnd.CHECKPOINT_READY == plan(waiting(), CheckpointView(ready()), NOW, 1800, Allowance(0, "x")).end
