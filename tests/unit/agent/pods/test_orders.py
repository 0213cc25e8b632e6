"""What a pod that is to be restored asks of the agent, as tables."""

import json
from pathlib import PurePosixPath

import pytest

from agent.executor.api import RejectRequest, RestoreRequest
from agent.pods import orders
from contract.api import keys
from contract.api.states import AccessMode, AgentReason
from contract.pods.canary import Canary, CanaryCall, command_stamp
from tests.support.builders import agent
from tests.support.builders.agent import DIGEST, FIRST, ID, SECOND, UID, running

FOLDER = f"/var/lib/kubelet/pods/{UID}/volumes/kubernetes.io~empty-dir"
WOKEN = {keys.ANN_WAKE: "now"}
VERSIONS = [
    {"version": "1", "manifestDigest": "blake3:" + "1" * 64},
    {"version": "2", "manifestDigest": "blake3:" + "2" * 64},
    {"version": "3"},
]
TAKEN_OF = {"image": {"reference": "img:1"}}


@pytest.mark.parametrize(
    ("expected", "pod"),
    [
        pytest.param(True, agent.parking(running()), id="parks"),
        pytest.param(False, agent.parking(running(), annotations=WOKEN), id="is woken"),
        pytest.param(False, agent.target(running()), id="does not park"),
        pytest.param(
            False, agent.target(running(), annotations={keys.ANN_STANDBY: keys.STANDBY_PARKS}), id="says so too late"
        ),
    ],
)
def test_whether_a_restore_parks(expected, pod):
    assert expected == orders.restore(pod, "main", agent.checkpoint(), agent.storage()).parks


def test_restore_order():
    """Everything that may be restored comes from the DynamoCheckpoint."""
    request = orders.restore(agent.target(running()), "main", agent.checkpoint(), agent.storage())

    assert isinstance(request, RestoreRequest)
    assert (ID, "1", DIGEST) == (request.checkpoint_id, request.version, request.manifest_digest)
    assert (PurePosixPath("/checkpoints"), False) == (request.base_path, request.through_pod)
    assert ("ns", "web-1", UID, "main", FIRST) == (
        request.place.namespace,
        request.place.pod,
        request.place.pod_uid,
        request.place.container,
        request.place.container_id,
    )


def test_a_canary_goes_with_the_request():
    asking = agent.target(running(), annotations={keys.ANN_CANARY: '{"path": "/health", "port": 8000}'})
    request = orders.restore(asking, "main", agent.checkpoint(), agent.storage())
    assert isinstance(request, RestoreRequest)
    assert CanaryCall(Canary(path="/health", port=8000), 8000) == request.canary


def test_a_command_that_was_named_later_is_refused():
    """Admission stamps what the pod was created with; an annotation can be written by others since."""
    asking = agent.target(running(), annotations={keys.ANN_CANARY: '{"exec": {"command": ["true"]}}'})
    refused = orders.restore(asking, "main", agent.checkpoint(), agent.storage())
    assert (RejectRequest, AgentReason.CANARY_FAILED) == (type(refused), refused.reason)
    stamp = command_stamp(asking)
    asking["spec"]["containers"][0]["env"] = [{"name": name, "value": value} for name, value in stamp.items()]
    request = orders.restore(asking, "main", agent.checkpoint(), agent.storage())
    assert ("true",) == request.canary.canary.exec.command


def test_what_a_pods_owner_bypasses_goes_with_the_request():
    notes = {keys.ANN_BYPASS: "cpu-mismatch, memory-limit"}
    request = orders.restore(agent.target(annotations=notes), "main", agent.checkpoint(), agent.storage())
    assert isinstance(request, RestoreRequest)
    assert {AgentReason.CPU_MISMATCH, AgentReason.MEMORY_LIMIT} == request.bypass
    assert frozenset() == orders.restore(agent.target(), "main", agent.checkpoint(), agent.storage()).bypass


@pytest.mark.parametrize(
    ("expected", "statuses"),
    [
        pytest.param("x@sha256:00", (), id="before-it-starts-as-the-pod-says"),
        pytest.param("x@sha256:11", (running(imageID="x@sha256:11"),), id="as-the-runtime-says"),
        pytest.param("", (running(imageID=None),), id="not-known"),
    ],
)
def test_the_image_is_the_running_one(expected, statuses):
    pod = agent.target(*statuses)
    pod["spec"]["containers"][0]["image"] = "x@sha256:00"
    assert expected == orders.restore(pod, "main", agent.checkpoint(), agent.storage()).image


@pytest.mark.parametrize(
    ("reason", "pod", "checkpoint"),
    [
        pytest.param(
            AgentReason.BYPASS_INVALID,
            agent.target(annotations={keys.ANN_BYPASS: "wider-rights"}),
            agent.checkpoint(),
            id="bypass of what cannot be",
        ),
        pytest.param(
            AgentReason.CANARY_FAILED,
            agent.target(annotations={keys.ANN_CANARY: "health"}),
            agent.checkpoint(),
            id="canary that cannot be asked",
        ),
        pytest.param(
            AgentReason.CHECKPOINT_UNNAMED,
            agent.target(annotations={keys.ANN_CHECKPOINT: ""}),
            agent.checkpoint(),
            id="none named",
        ),
        pytest.param(AgentReason.CHECKPOINT_NOT_FOUND, agent.target(), None, id="gone"),
        pytest.param(
            AgentReason.CHECKPOINT_NOT_READY,
            agent.target(),
            agent.checkpoint(phase="Failed"),
            id="failed",
        ),
        pytest.param(AgentReason.CHECKPOINT_NOT_READY, agent.target(), {"metadata": {}}, id="no status"),
        pytest.param(
            AgentReason.CHECKPOINT_CHANGED,
            agent.target(),
            agent.checkpoint(checkpointID="other"),
            id="other id",
        ),
        pytest.param(
            AgentReason.CHECKPOINT_CHANGED,
            agent.target(annotations={keys.ANN_ARTIFACT_VERSION: "2"}),
            agent.checkpoint(),
            id="other version",
        ),
        pytest.param(
            AgentReason.CHECKPOINT_CHANGED,
            agent.target(),
            agent.checkpoint(location="/x"),
            id="strange location",
        ),
        pytest.param(
            AgentReason.DIGEST_UNKNOWN,
            agent.target(),
            agent.checkpoint(manifestDigest=None),
            id="no digest",
        ),
        pytest.param(
            AgentReason.ID_INVALID,
            agent.target(labels={keys.LABEL_CHECKPOINT_ID: "../x"}),
            agent.checkpoint(checkpointID="../x"),
            id="hostile id",
        ),
        pytest.param(
            AgentReason.ID_INVALID,
            agent.target(annotations={keys.ANN_ARTIFACT_VERSION: "../../x"}),
            agent.checkpoint(),
            id="hostile version",
        ),
    ],
)
def test_refused_restores(reason, pod, checkpoint):
    found = orders.restore(pod, "main", checkpoint, agent.storage())

    assert isinstance(found, RejectRequest)
    assert reason == found.reason
    assert found.message
    assert "main" == found.place.container


@pytest.mark.parametrize(
    ("expected", "version", "status"),
    [
        pytest.param("1" * 64, "1", {}, id="an older version"),
        pytest.param("1" * 64, "1", {"phase": "Creating"}, id="while the next is captured"),
        pytest.param("1" * 64, "1", {"phase": "Failed"}, id="though the next failed"),
        pytest.param("2" * 64, "2", {"location": f"/c/{agent.ID}/versions/2"}, id="the newest"),
        pytest.param("", "3", {}, id="one whose digest is not known"),
        pytest.param("", "4", {}, id="one that is not kept"),
        pytest.param("", "1", {"checkpointID": "other"}, id="one of another artifact"),
    ],
)
def test_each_pod_gets_the_digest_of_its_own_version(expected, version, status):
    pod = agent.target(annotations={keys.ANN_ARTIFACT_VERSION: version})
    found = orders.restore(pod, "main", agent.checkpoint(**{"versions": VERSIONS, **status}), agent.storage())

    assert expected == getattr(found, "manifest_digest", "").removeprefix("blake3:")


def test_a_checkpoint_that_is_being_deleted_is_not_restored_from():
    checkpoint = agent.checkpoint()
    checkpoint["metadata"]["deletionTimestamp"] = "2026-11-21T03:00:00Z"

    assert (
        AgentReason.CHECKPOINT_NOT_FOUND == orders.restore(agent.target(), "main", checkpoint, agent.storage()).reason
    )


def test_a_pod_that_waited_in_vain_says_so():
    pod = agent.target(annotations={keys.ANN_GATE: "checkpoint-failed"})
    found = orders.restore(pod, "main", agent.checkpoint(phase="Failed"), agent.storage())

    assert found.message.startswith("the pod waited for its checkpoint and was let go (checkpoint-failed): ")


@pytest.mark.parametrize(
    ("expected", "command", "status"),
    [
        pytest.param("sha256:ab", ["x", "--capture", "--image-entrypoint", "--"], {}, id="asks"),
        pytest.param(None, ["x", "--capture", "--", "python3"], {}, id="has its command"),
        pytest.param(None, ["x", "--capture", "--image-entrypoint", "--"], {"imageID": ""}, id="image not known yet"),
        pytest.param(
            None, ["x", "--capture", "--image-entrypoint", "--"], {"state": {"waiting": {}}}, id="not started"
        ),
    ],
)
def test_a_stock_images_standby_is_told(expected, command, status):
    container = {"name": "main", "command": command}
    pod = agent.source(running(**{"imageID": "sha256:ab", **status}), containers=[container])
    found = orders.provide_image_config(pod)

    assert expected == (found and found.image_id)


@pytest.mark.parametrize(
    ("expected", "mode", "annotations"),
    [
        pytest.param("/checkpoints", AccessMode.POD_MOUNT, {}, id="as configured"),
        pytest.param("/data/c", AccessMode.POD_MOUNT, {keys.ANN_STORAGE_BASE_PATH: "/data/c"}, id="pod's word first"),
        pytest.param("/checkpoints", AccessMode.AGENT_MOUNT, {keys.ANN_STORAGE_BASE_PATH: "/etc"}, id="our own mount"),
        pytest.param(
            AgentReason.STORAGE_PATH, AccessMode.POD_MOUNT, {keys.ANN_STORAGE_BASE_PATH: "data"}, id="relative"
        ),
        pytest.param(
            AgentReason.STORAGE_PATH, AccessMode.POD_MOUNT, {keys.ANN_STORAGE_BASE_PATH: "/a/../b"}, id="dots"
        ),
        pytest.param(
            AgentReason.STORAGE_PATH, AccessMode.POD_MOUNT, {keys.ANN_STORAGE_BASE_PATH: "/a/"}, id="not clean"
        ),
        pytest.param(AgentReason.STORAGE_PATH, AccessMode.POD_MOUNT, {keys.ANN_STORAGE_BASE_PATH: "/"}, id="root"),
        pytest.param(AgentReason.STORAGE_TYPE, AccessMode.POD_MOUNT, {keys.ANN_STORAGE_TYPE: "s3"}, id="another store"),
    ],
)
def test_base_path(expected, mode, annotations):
    pod = agent.target(running(), annotations=annotations)
    found = orders.restore(pod, "main", agent.checkpoint(), agent.storage(mode))

    assert expected == (found.reason if isinstance(found, RejectRequest) else str(found.base_path))
    if isinstance(found, RestoreRequest):
        assert (mode == AccessMode.POD_MOUNT) == found.through_pod


@pytest.mark.parametrize(
    ("expected", "mount"),
    [
        pytest.param({"/cache"}, {"name": "cache", "mountPath": "/cache"}, id="plain"),
        pytest.param({"/c"}, {"name": "cache", "mountPath": "/c", "subPath": "a/b"}, id="subPath"),
        pytest.param({"/c"}, {"name": "cache", "mountPath": "/c", "subPathExpr": "$(X)"}, id="subPathExpr"),
        pytest.param(set(), {"name": "cache", "mountPath": "/dev/shm"}, id="shared memory"),
        pytest.param(set(), {"name": "config", "mountPath": "/config"}, id="another kind of volume"),
    ],
)
def test_empty_dirs(expected, mount):
    control = {"name": keys.CONTROL_VOLUME, "mountPath": keys.CONTROL_DIR, "subPath": "main"}
    volumes = [
        {"name": keys.CONTROL_VOLUME, "emptyDir": {}},
        {"name": "cache", "emptyDir": {}},
        {"name": "config", "configMap": {}},
    ]
    pod = agent.target(containers=[{"name": "main", "volumeMounts": [control, mount]}], volumes=volumes)
    request = orders.restore(pod, "main", agent.checkpoint(), agent.storage())

    assert expected == request.place.empty_dirs


@pytest.mark.parametrize(
    ("reason", "again"),
    [
        pytest.param(AgentReason.CANARY_FAILED, False, id="canary"),
        pytest.param(AgentReason.RESTORE_FAILED, True, id="another-reason"),
    ],
)
def test_a_pod_whose_restored_worker_failed_its_canary_is_not_restored_again(reason, again):
    report = json.dumps({"container": "main", "outcome": "failed", "reason": reason.value})
    pod = agent.target(running(SECOND), annotations={keys.ANN_RESTORE_REPORT: report})
    request = orders.restore(pod, "main", agent.checkpoint(), agent.storage())
    assert again == isinstance(request, RestoreRequest)
    assert again or request.reason == AgentReason.CANARY_FAILED


@pytest.mark.parametrize(
    ("expected", "pod", "status"),
    [
        pytest.param(None, agent.placeholder(running()), TAKEN_OF, id="the captured image"),
        pytest.param(None, agent.placeholder(running(), image="img:2"), {}, id="which image was captured is not known"),
        pytest.param(AgentReason.IMAGE_MISMATCH, agent.placeholder(running(), image="img:2"), TAKEN_OF, id="another"),
        pytest.param(
            None,
            agent.placeholder(running(), image="img:2", annotations={keys.ANN_BYPASS: "image-mismatch"}),
            TAKEN_OF,
            id="another, by the owner's word",
        ),
        pytest.param(
            None,
            agent.target(running(), containers=[{"name": "main", "image": "img:2"}]),
            TAKEN_OF,
            id="a pod that admission has compared",
        ),
        pytest.param(
            None,
            agent.placeholder(running(), annotations={keys.ANN_TARGET_CONTAINERS: "main=main"}),
            TAKEN_OF,
            id="continues what was captured",
        ),
        pytest.param(
            AgentReason.TARGETS_INVALID,
            agent.placeholder(running(), annotations={keys.ANN_TARGET_CONTAINERS: "engine=main"}),
            TAKEN_OF,
            id="continues what was not captured",
        ),
        pytest.param(
            AgentReason.CHECKPOINT_CHANGED,
            agent.placeholder(running(), labels={keys.LABEL_CHECKPOINT_ID: "another"}),
            TAKEN_OF,
            id="an id that is not that of the checkpoint named beside it",
        ),
        pytest.param(
            AgentReason.ID_INVALID,
            agent.placeholder(running(), labels={keys.LABEL_CHECKPOINT_ID: "../../etc"}),
            TAKEN_OF,
            id="a path",
        ),
    ],
)
def test_what_is_patched_onto_a_placeholder_is_judged(expected, pod, status):
    request = orders.restore(pod, "main", agent.checkpoint(**status), agent.storage())

    assert expected == (request.reason if isinstance(request, RejectRequest) else None)
