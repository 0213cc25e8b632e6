"""The chart's admission policies, judged by the real API server."""

import json

import pytest

from tests.support.policies import Release, a_pod, until

OPTED_IN = {"nvidia.com/snapshot-restore": "enabled"}
AUTOMATIC = {"nvidia.com/snapshot-restore": "auto"}
GRAPH = {"nvidia.com/dynamo-component": "w", "nvidia.com/dynamo-namespace": "n", "nvidia.com/selector": "s"}
SHAPED = {"nvidia.com/snapshot-is-restore-target": "true", "nvidia.com/snapshot-checkpoint-id": "0123456789abcdef"}
NAMED = {"nvidia.com/dynamo-checkpoint-name": "qwen"}
STAMPED = {"nvidia.com/snapshot-checkpoint": "qwen"}
"""What the webhook leaves of the name on a pod that it shapes."""


@pytest.fixture(scope="module")
def release(control_plane, cluster_helm, chart, new_namespace):
    """One release; its webhook runs nowhere, so it cannot be reached."""
    namespace = new_namespace()
    control_plane.kubectl("create", "serviceaccount", "default", "-n", namespace)
    flags = ("--namespace", namespace, "--set", "policy.restoreVerb.enabled=true")
    cluster_helm("install", "snapshot", str(chart), *flags)
    yield Release(control_plane.kubectl, namespace)
    cluster_helm("uninstall", "snapshot", "--namespace", namespace, "--no-hooks")


def admission_of(pod):
    return pod["metadata"].get("annotations", {}).get("nvidia.com/snapshot-admission")


@pytest.mark.parametrize(
    ("labels", "annotations"),
    [
        pytest.param(OPTED_IN, {}, id="by-label"),
        pytest.param({"nvidia.com/snapshot-restore": "auto"}, {}, id="automatic"),
        pytest.param({}, {"nvidia.com/dynamo-checkpoint-restore-candidate": "true"}, id="graph-pod"),
    ],
)
def test_a_pod_that_opted_in_says_that_the_webhook_was_not_reached(release, labels, annotations):
    def attempt():
        pod = release.create(a_pod(labels=labels, annotations=annotations))
        assert "webhook-unreachable" == admission_of(pod)

    until(attempt)


@pytest.mark.parametrize(
    ("labels", "annotations"),
    [
        pytest.param({}, {}, id="nothing"),
        pytest.param({"app": "x"}, {"note": "y"}, id="other-words"),
        pytest.param({"nvidia.com/snapshot-restore": "disabled"}, {}, id="disabled"),
        pytest.param({}, {"nvidia.com/dynamo-checkpoint-restore-candidate": "false"}, id="no-candidate"),
    ],
)
def test_other_pods_are_left_as_they_are(release, labels, annotations):
    assert annotations == release.create(a_pod(labels=labels, annotations=annotations))["metadata"].get(
        "annotations", {}
    )


def test_pods_of_other_namespaces_are_left_as_they_are(release, new_namespace):
    other = Release(release.kubectl, new_namespace())
    release.kubectl("create", "serviceaccount", "default", "-n", other.namespace)

    assert None is admission_of(other.create(a_pod(labels=OPTED_IN)))


@pytest.fixture(scope="module")
def accounts(release):
    """One service account that may restore the checkpoint qwen, one that may restore all, one that may nothing."""
    namespace = release.namespace
    verb = ("--verb=restore", "--resource=dynamocheckpoints.nvidia.com", "-n", namespace)
    release.kubectl("create", "role", "one", "--resource-name=qwen", *verb)
    release.kubectl("create", "role", "every", *verb)
    for account, role in (("one", "one"), ("every", "every"), ("none", "")):
        release.kubectl("create", "serviceaccount", account, "-n", namespace)
        if role:
            binding = (f"--role={role}", f"--serviceaccount={namespace}:{account}", "-n", namespace)
            release.kubectl("create", "rolebinding", account, *binding)


WAYS = [
    pytest.param(OPTED_IN, NAMED, id="by-name-unshaped"),
    pytest.param(OPTED_IN, {"nvidia.com/restore-from": "qwen"}, id="by-synonym-unshaped"),
    pytest.param(OPTED_IN | SHAPED, STAMPED, id="by-name-shaped"),
    pytest.param(AUTOMATIC, STAMPED, id="automatic-unshaped"),
    pytest.param(AUTOMATIC | SHAPED, STAMPED, id="automatic-shaped"),
    pytest.param(GRAPH | SHAPED, STAMPED, id="graph-shaped"),
    pytest.param(GRAPH, NAMED | {"nvidia.com/dynamo-checkpoint-restore-candidate": "true"}, id="graph-unshaped"),
    pytest.param(SHAPED, STAMPED, id="shaped-by-hand"),
]


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize(("labels", "annotations"), WAYS)
def test_restoring_needs_the_verb(release, labels, annotations):
    """However the pod came to name the checkpoint: policies see it after the webhook, which takes the wish away."""
    said = until(lambda: release.refused(a_pod(labels=labels, annotations=annotations, account="none")))

    assert "service account none may not restore DynamoCheckpoint qwen" in said
    for account in ("one", "every"):
        until(lambda name=account: release.create(a_pod(labels=labels, annotations=annotations, account=name)))


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize(
    "annotations",
    [
        pytest.param({"nvidia.com/snapshot-checkpoint": "llama"}, id="stamped"),
        pytest.param({"nvidia.com/dynamo-checkpoint-name": "llama"}, id="wished"),
        pytest.param(STAMPED | {"nvidia.com/restore-from": "llama"}, id="wished-besides-the-allowed-one"),
    ],
)
def test_a_right_to_one_checkpoint_is_none_to_another(release, annotations):
    said = until(lambda: release.refused(a_pod(labels=OPTED_IN, annotations=annotations, account="one")))

    assert "service account one may not restore DynamoCheckpoint llama" in said


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize(
    ("labels", "annotations"),
    [
        pytest.param({}, {}, id="any-pod"),
        pytest.param({"nvidia.com/snapshot-is-checkpoint-source": "true"}, STAMPED, id="capture"),
    ],
)
def test_who_does_not_restore_needs_no_verb(release, labels, annotations):
    release.create(a_pod(labels=labels, annotations=annotations, account="none"))


@pytest.mark.usefixtures("accounts")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({}, {"annotations": STAMPED, "labels": SHAPED}, id="named-later"),
        pytest.param(
            {"labels": SHAPED | {"nvidia.com/snapshot-is-checkpoint-source": "true"}, "annotations": STAMPED},
            {"labels": {"nvidia.com/snapshot-is-checkpoint-source": None}},
            id="no-capture-any-more",
        ),
    ],
)
def test_a_pod_cannot_become_a_restore_later(release, before, after):
    """The agent looks at labels and annotations as they are, and those of a running pod can be changed."""
    name = "late" if before else "later"
    release.create(a_pod(name, account="none", **before), dry_run=False)
    change = ("patch", "pod", name, "-n", release.namespace, "--type=merge", "-p", json.dumps({"metadata": after}))
    said = until(lambda: release.refusal(*change, "--dry-run=server"))
    release.kubectl("annotate", "pod", name, "-n", release.namespace, "note=x")

    assert "service account none may not restore DynamoCheckpoint qwen" in said


@pytest.mark.parametrize(
    ("account", "labels"), [pytest.param("a", OPTED_IN, id="one"), pytest.param("b", AUTOMATIC, id="automatic")]
)
def test_the_refusal_says_how_to_grant_the_right(release, account, labels):
    """Its very words, run by an administrator, let the pod in."""
    release.kubectl("create", "serviceaccount", account, "-n", release.namespace)
    pod = a_pod(labels=labels, annotations=STAMPED, account=account)
    said = until(lambda: release.refused(pod))
    for command in said.partition("allow it: ")[2].splitlines()[0].split(" && "):
        release.kubectl(*command.split()[1:])

    until(lambda: release.create(pod))
