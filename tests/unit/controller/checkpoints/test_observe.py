"""What is looked at, what wakes whom, and when a live copy is not believed."""

import pytest

from contract.api import keys
from contract.config.storage import storage_from_values
from controller.checkpoints.diagnose.nodes import MAX_FACTS, facts_of, kept_agent_pod
from controller.checkpoints.observe import Observer, kept_job, make_informers
from kube.api import Listing
from kube.errors import ForbiddenError, NotFoundError
from kube.resources import EVENTS, JOBS, LEASES, RESOURCE_CLAIM_TEMPLATES
from kube.store import key_of
from tests.support.builders.checkpoints import (
    AGENT_MOUNT,
    JOB,
    NOW,
    POD_MOUNT,
    agent_pod,
    capture_pod,
    claim,
    condition,
    creating,
    job,
    labelled,
    pending,
    status_of,
)
from tests.support.builders.devices import claim_template, claiming
from tests.support.builders.objects import ID, container, template


def warning(message, moment, about=JOB):
    involved = {"kind": "Job", "name": about}
    return {"metadata": {}, "involvedObject": involved, "lastTimestamp": str(moment), "message": message}


class Server:
    """Knows only what it is given, and counts how often it was asked."""

    def __init__(self, **there):
        self.there, self.asked = there, []

    async def get(self, resource, name, _namespace=None):
        self.asked.append(resource)
        if isinstance(found := self.there.get(resource.plural), Exception):
            raise found
        if found is not None:
            return found
        raise NotFoundError(404, "NotFound", name)

    async def list(self, resource, _namespace=None, *, fields):
        self.asked.append(resource)
        assert {"involvedObject.kind=Job", "type=Warning"} == set(fields.split(","))
        return Listing((warning("new", 2), warning("old", 1), warning("another's", 3, "another")), "1")


class Scene:
    def __init__(self, *objects, values=AGENT_MOUNT, **there):
        self.server, storage = Server(**there), storage_from_values(values)
        self.informers = make_informers(self.server, "ns", storage)
        self.observer = Observer(self.server, self.informers, storage, "ns")
        self.woken = []
        self.woken_later = []
        self.observer.wake(
            lambda change: self.woken.append(key_of(change.object)),
            lambda change: self.woken_later.append(key_of(change.object)),
        )
        for obj in objects:
            self.put(obj)
        self.woken.clear()

    def informer_of(self, obj):
        kinds = {
            "DynamoCheckpoint": self.informers.checkpoints,
            "Job": self.informers.jobs,
            "Pod": self.informers.pods,
            "PersistentVolumeClaim": self.informers.claims,
            "DaemonSet": self.informers.agents,
        }
        return kinds[obj["kind"]]

    def put(self, obj):
        informer = self.informer_of(obj)
        informer._notify(informer.store.put(obj))

    def remove(self, obj):
        informer = self.informer_of(obj)
        informer._notify(informer.store.remove(obj))

    async def look(self, name="qwen"):
        return await self.observer.observe(("ns", name), NOW)


def pod_of_job():
    pod = capture_pod()
    pod["metadata"]["labels"] = {keys.LABEL_JOB_NAME: JOB, keys.LABEL_IS_SOURCE: "true"}
    return pod


async def test_everything_around_a_checkpoint_is_found_without_a_call():
    scene = Scene(
        creating(), job(), pod_of_job(), claim(), labelled("other", status=status_of("Ready")), values=POD_MOUNT
    )
    seen = await scene.look()

    assert JOB == seen.job["metadata"]["name"]
    assert 1 == len(seen.pods) == len(seen.siblings)
    assert "snapshot-pvc" == seen.claim["metadata"]["name"]
    assert [] == scene.server.asked


async def test_a_checkpoint_that_is_gone_is_nothing():
    assert await Scene().look() is None


async def test_a_missing_job_is_believed_only_of_the_server():
    """The copy may be behind our own hand: the Job was made a moment ago."""
    found = await Scene(creating(), jobs=job(age=1)).look()
    gone = Scene(creating())
    seen = await gone.look()

    assert JOB == found.job["metadata"]["name"]
    assert seen.job is None
    assert [JOBS] == gone.server.asked


async def test_warnings_about_a_job_are_read_only_where_it_stays_without_a_pod():
    young, old, served = Scene(creating(), job(age=5)), Scene(creating(), job()), Scene(creating(), job(), pod_of_job())
    looks = [await scene.look() for scene in (young, old, served)]

    assert [(), ("old", "new"), ()] == [tuple(event["message"] for event in seen.job_events) for seen in looks]
    assert [[], [EVENTS], []] == [scene.server.asked for scene in (young, old, served)]


RESOURCES, OF_POD = claiming()
CLAIMS = template(container(resources=RESOURCES), **OF_POD)
NOT_SERVED = "the server could not find the requested resource"


@pytest.mark.parametrize(
    ("expected", "there"),
    [
        pytest.param({"gpus": claim_template()}, claim_template(), id="there"),
        pytest.param({"gpus": None}, NotFoundError(404, "NotFound", "gpus"), id="missing"),
        pytest.param({}, NotFoundError(404, "NotFound", NOT_SERVED), id="an-older-server"),
        pytest.param({}, ForbiddenError(403, "Forbidden", "no"), id="older-roles"),
    ],
)
async def test_the_templates_of_claims_are_read(expected, there):
    scene = Scene(pending(pod_template=CLAIMS), resourceclaimtemplates=there)
    seen = await scene.look()

    assert expected == seen.claim_templates
    assert [RESOURCE_CLAIM_TEMPLATES] == scene.server.asked


async def test_while_a_job_runs_no_claims_are_read():
    scene = Scene(creating(pod_template=CLAIMS), job(), pod_of_job(), resourceclaimtemplates=claim_template())

    assert {} == (await scene.look()).claim_templates


async def test_a_job_that_was_never_made_is_not_asked_for():
    scene = Scene(pending())
    await scene.look()

    assert [] == scene.server.asked


@pytest.mark.parametrize(
    ("annotations", "asked"),
    [
        pytest.param({}, [LEASES], id="no-word-yet"),
        pytest.param({keys.ANN_CHECKPOINT_STATUS: "completed"}, [], id="completed"),
        pytest.param({keys.ANN_CHECKPOINT_STATUS: "failed"}, [], id="failed"),
    ],
)
async def test_the_lease_is_read_only_where_it_decides(annotations, asked):
    scene = Scene(creating(), job(condition("Complete"), annotations=annotations))
    await scene.look()

    assert asked == scene.server.asked


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(job(), id="its-job"),
        pytest.param(pod_of_job(), id="its-pod"),
        pytest.param(claim(), id="the-volume"),
        pytest.param(labelled("other", status=status_of("Ready")), id="a-rival"),
    ],
)
def test_a_change_wakes_the_checkpoint_that_it_concerns(change):
    scene = Scene(creating(), pending(name="unrelated", labels={keys.LABEL_CHECKPOINT_ID: "x"}), values=POD_MOUNT)
    scene.put(change)

    assert ("ns", "qwen") in scene.woken


def test_the_end_of_a_rival_wakes_those_that_wait_for_its_id():
    rival = labelled("other", status=status_of("Ready"))
    scene = Scene(pending(), rival)
    scene.remove(rival)

    assert ("ns", "qwen") in scene.woken


def test_a_rival_that_only_writes_its_message_wakes_nobody():
    rival = labelled("other", status=status_of("Ready"))
    scene = Scene(pending(), rival)
    scene.put(labelled("other", status=status_of("Ready", message="hello")))

    assert [("ns", "other")] == scene.woken


def test_a_job_without_an_annotation_is_found_by_its_name():
    scene = Scene(creating())
    nameless = job()
    nameless["metadata"]["annotations"] = {}
    scene.put(nameless)

    assert [("ns", "qwen")] == scene.woken


def test_hostile_ids_are_not_indexed():
    scene = Scene(labelled(labels={keys.LABEL_CHECKPOINT_ID: "../x"}))

    assert () == scene.informers.checkpoints.store.by_index("id", "ns/../x")
    assert () == scene.informers.checkpoints.store.by_index("id", f"ns/{ID}")


def elsewhere(name="other"):
    found = labelled(name, status=status_of("Ready"))
    found["metadata"]["namespace"] = "another"
    return found


@pytest.mark.parametrize(
    ("values", "rivals"),
    [pytest.param(AGENT_MOUNT, 1, id="one-volume-for-all"), pytest.param(POD_MOUNT, 0, id="a-volume-for-each")],
)
async def test_who_shares_the_volume_shares_its_ids(values, rivals):
    seen = await Scene(pending(), elsewhere(), values=values).look()

    assert rivals == len(seen.siblings)


async def test_nodes_are_counted_by_kind_once_their_agents_are_listed():
    scene = Scene(labelled(status=status_of("Ready")), pending(name="later"))
    copy = scene.informers.agent_pods
    for pod in (agent_pod("a"), agent_pod("b"), agent_pod("c", kernel="5.15"), agent_pod("d", ready="False")):
        copy._notify(copy.store.put(kept_agent_pod(pod)))
    before = (await scene.look()).nodes
    copy.synced.set()

    assert before is None
    assert {"6.1.0": 2, "5.15": 1} == {facts.kernel: count for facts, count in (await scene.look()).nodes.items()}
    assert {("ns", "qwen")} == set(scene.woken_later)


async def test_only_what_a_node_is_wakes_what_is_ready():
    scene = Scene(labelled(status=status_of("Ready")))
    copy = scene.informers.agent_pods
    copy.synced.set()
    changes = [agent_pod("a"), agent_pod("a", version="2"), agent_pod("a", version="3", ready="False")]
    woken = []
    for pod in changes:
        copy._notify(copy.store.put(kept_agent_pod(pod)))
        woken.append(len(scene.woken_later))
        await scene.look()

    assert [1, 1, 2] == woken
    assert {} == (await scene.look()).nodes


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("{", id="not-json"),
        pytest.param("[" * 10_000, id="deep"),
        pytest.param('{"kernel": 6}', id="no-text"),
        pytest.param('{"kernel": "6.1"}' + " " * MAX_FACTS, id="too-long"),
    ],
)
def test_what_an_agent_may_not_say_is_no_node(text):
    pod = agent_pod("a")
    pod["metadata"]["annotations"] = {keys.ANN_RESTORE_NODE: text}
    assert facts_of(kept_agent_pod(pod)) is None


async def test_agents_are_unknown_until_they_are_listed():
    scene = Scene(pending())
    before = (await scene.look()).agents
    scene.informers.agents.synced.set()

    assert (None, ()) == (before, (await scene.look()).agents)


async def test_a_job_of_another_namespace_wakes_its_checkpoint():
    """With agentMount, Jobs on checkpoint storage run where the volume is."""
    scene = Scene(elsewhere())
    notes = {keys.ANN_CHECKPOINT: "other", keys.ANN_CHECKPOINT_NAMESPACE: "another"}
    scene.put(job(name="checkpoint-adopt-x-1", annotations=notes))

    assert [("another", "other")] == scene.woken


def test_of_a_job_in_the_copy_only_what_is_asked_for_is_kept():
    whole = job()
    whole["metadata"]["managedFields"] = [{}]
    whole["spec"] = {
        "activeDeadlineSeconds": 60,
        "template": {
            "metadata": {"labels": {keys.LABEL_IS_SOURCE: "true"}},
            "spec": {
                "containers": [{"name": "main", "image": "i:1", "env": [{"name": "A", "value": "b"}]}],
                "volumes": [{"name": keys.TOOLS_VOLUME, "emptyDir": {}}],
                "affinity": {},
            },
        },
    }
    kept = kept_job(whole)

    assert {"containers": [{"name": "main", "image": "i:1"}], "volumes": [{"name": keys.TOOLS_VOLUME}]} == (
        kept["spec"]["template"]["spec"]
    )
    assert (60, {keys.LABEL_IS_SOURCE: "true"}) == (
        kept["spec"]["activeDeadlineSeconds"],
        kept["spec"]["template"]["metadata"]["labels"],
    )
    assert "managedFields" not in kept["metadata"]
    assert (whole["status"], whole["metadata"]["annotations"]) == (kept["status"], kept["metadata"]["annotations"])


@pytest.mark.parametrize("bare", [{}, {"spec": {}}, {"spec": {"template": None}}], ids=["nothing", "spec", "template"])
def test_a_job_with_nothing_in_it_is_kept(bare):
    assert {"containers": [], "volumes": []} == kept_job({"metadata": {}, **bare})["spec"]["template"]["spec"]
