"""Whether a pod asks for a checkpoint that is its own."""

import pytest

from contract.api import keys
from contract.api.states import AgentReason
from controller.workloads.auto_checkpoint import ForeignPodError, Workload, check_origin
from tests.support.builders.objects import checkpoint, container, template
from tests.support.builders.opted_in import DEPLOYED, pod, whole

OTHER = container(image="example.test/somebody-elses:1")
RENAMED = container(name="renamed")


def of(*containers, top="Deployment/web"):
    source = {"kind": "ReplicaSet", "metadata": {"name": "web-7d9c"}, "spec": {"template": template(*containers)}}
    return Workload(top, source)


def stored(*containers, **spec):
    return whole("capturable", owner=DEPLOYED, containers=list(containers) or [container()], **spec)


def asked_for_by(workload):
    return checkpoint("automatic", annotations={keys.ANN_WORKLOAD: workload} if workload else None)


def refusal(workload, seen, made=None):
    with pytest.raises(ForeignPodError) as refused:
        check_origin(pod("capturable"), workload, seen, checkpoint=made)
    return refused.value.reason


@pytest.mark.parametrize(
    ("seen", "made"),
    [
        pytest.param(None, None, id="by-a-job"),
        pytest.param(stored(), None, id="running"),
        pytest.param(stored(), asked_for_by("Deployment/web"), id="running-again"),
        pytest.param(stored(container(), container("mesh")), None, id="with-a-container-beside-it"),
    ],
)
def test_what_is_its_own(seen, made):
    check_origin(pod("capturable"), of(), seen, checkpoint=made)


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(stored(OTHER), id="image"),
        pytest.param(stored(RENAMED), id="target"),
        pytest.param(stored(container(env=[{"name": "A", "value": "b"}])), id="environment"),
        pytest.param(stored(container(command=["sh", "-c", "mine"])), id="command"),
        pytest.param(stored(shareProcessNamespace=True), id="processes-beside-it"),
        pytest.param(stored(hostPID=True), id="the-nodes-processes"),
    ],
)
def test_a_pod_that_names_anothers_owner_is_refused(seen):
    assert AgentReason.TEMPLATE_DIFFERS == refusal(of(), seen)


def test_a_stamp_that_its_template_has_not_is_refused_for_a_job_too():
    assert AgentReason.TEMPLATE_DIFFERS == refusal(of(OTHER), None)


@pytest.mark.parametrize("workload", ["Deployment/other", "Pod/web-1", "StatefulSet/web", ""])
def test_what_another_workload_asked_for_is_not_taken_over(workload):
    assert AgentReason.OTHER_WORKLOAD == refusal(of(), stored(), asked_for_by(workload))
