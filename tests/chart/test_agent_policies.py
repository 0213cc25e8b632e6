"""What an agent's token is worth on the real API server: its own node, its own reports, each word once."""

import json
from uuid import uuid4

import pytest

from contract.api import keys
from tests.support.policies import Release, a_pod, until

STATUS = keys.ANN_RESTORE_STATUS_PREFIX + "main"
REPORT = {
    STATUS: "completed",
    keys.ANN_RESTORE_CONTAINER_ID_PREFIX + "main": "abc",
    keys.ANN_RESTORE_REPORT: "{}",
    keys.ANN_CAPTURE_RESULT: "{}",
}
READY = {"metadata": {"labels": {keys.LABEL_NODE_READY: "ready"}}}


@pytest.fixture(scope="module")
def nodes(control_plane):
    names = ("chart-node-1", "chart-node-2")
    for name in names:
        labels = {"kubernetes.io/hostname": name}
        control_plane.kubectl.apply(
            [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}]
        )
    yield names
    control_plane.kubectl("delete", "node", *names)


@pytest.fixture(scope="module")
def release(control_plane, cluster_helm, chart, new_namespace):
    namespace = new_namespace()
    control_plane.kubectl("create", "serviceaccount", "default", "-n", namespace)
    cluster_helm("install", "snapshot", str(chart), "--namespace", namespace)
    yield Release(control_plane.kubectl, namespace)
    cluster_helm("uninstall", "snapshot", "--namespace", namespace, "--no-hooks")


class Agent:
    """kubectl with an agent's token."""

    def __init__(self, release, token):
        self._release, self._token = release, token

    def patch(self, kind, name, body):
        arguments = ("patch", kind, name, "-n", self._release.namespace, "--type=merge", "-p", json.dumps(body))
        return self._release.kubectl(f"--token={self._token}", *arguments)

    def patch_status(self, name, body, *more):
        """As the agent reports a restore: annotations, label and condition at once."""
        arguments = ("patch", "pod", name, "--subresource=status", "--type=strategic", "-p", json.dumps(body))
        return self.run(*arguments, *more)

    def refused_status(self, name, body):
        arguments = ("patch", "pod", name, "--subresource=status", "--type=strategic", "-p", json.dumps(body))
        return self.run_refused(*arguments, "--dry-run=server")

    def annotate(self, kind, name, notes):
        return self.patch(kind, name, {"metadata": {"annotations": notes}})

    def refused(self, kind, name, body):
        """What the API server says; until it does, its copy of the policy may be young."""
        arguments = ("patch", kind, name, "-n", self._release.namespace, "--type=merge", "-p", json.dumps(body))
        return self._release.refusal(f"--token={self._token}", *arguments, "--dry-run=server")

    def run(self, *arguments, stdin=None):
        return self._release.kubectl(f"--token={self._token}", "-n", self._release.namespace, *arguments, stdin=stdin)

    def run_refused(self, *arguments, stdin=None):
        said = (f"--token={self._token}", "-n", self._release.namespace, *arguments)
        return self._release.refusal(*said, stdin=stdin)


@pytest.fixture(scope="module")
def agents(release, nodes):
    """The agents of both nodes, and one whose token names no node."""

    def token(*bound):
        return release.kubectl("create", "token", "snapshot-agent", "-n", release.namespace, *bound).strip()

    bound = [token("--bound-object-kind=Node", f"--bound-object-name={node}") for node in nodes]
    return [Agent(release, each) for each in (*bound, token())]


@pytest.fixture(scope="module")
def agent(agents):
    return agents[0]


@pytest.mark.parametrize("label", keys.NODE_LABELS)
def test_an_agent_labels_its_own_node(release, nodes, agent, label):
    until(lambda: agent.patch("node", nodes[0], {"metadata": {"labels": {label: "ready"}}}))
    found = release.kubectl.json("get", "node", nodes[0])["metadata"]["labels"]

    assert "ready" == found[label]
    agent.patch("node", nodes[0], {"metadata": {"labels": {label: None}}})
    assert label not in release.kubectl.json("get", "node", nodes[0])["metadata"]["labels"]


@pytest.mark.parametrize(
    ("message", "which", "body"),
    [
        pytest.param("only the node that it runs on", 1, READY, id="another-node"),
        pytest.param(
            "only the node that it runs on",
            1,
            {"metadata": {"labels": {keys.LABEL_GPU_DRIVER: "580.159.04"}}},
            id="gpus-of-another-node",
        ),
        pytest.param("only the labels", 0, {"metadata": {"labels": {"role": "x"}}}, id="another-label"),
        pytest.param(
            "only the labels", 0, {"metadata": {"labels": {"nvidia.com/snapshot-gpu-x": "1"}}}, id="a-label-like-ours"
        ),
        pytest.param("only the labels", 0, {"metadata": {"labels": {"nvidia.com/gpu.present": "true"}}}, id="others"),
        pytest.param(
            "only the labels",
            0,
            {"metadata": {"labels": {keys.LABEL_GPU_COUNT: "1", "role": "x"}}},
            id="another-label-beside-ours",
        ),
        pytest.param(
            "only the labels", 0, {"metadata": {"labels": {"kubernetes.io/hostname": None}}}, id="label-removed"
        ),
        pytest.param("only the labels", 0, {"metadata": {"annotations": {"a": "b"}}}, id="annotation"),
        pytest.param("only the labels", 0, {"spec": {"unschedulable": True}}, id="cordon"),
        pytest.param("only the labels", 0, {"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}, id="taint"),
    ],
)
def test_an_agent_may_change_nothing_else_of_a_node(nodes, agent, message, which, body):
    said = until(lambda: agent.refused("node", nodes[which], body))

    assert message in said, said


def test_a_stolen_token_without_a_node_is_worth_nothing(nodes, agents, pods, job, lease):
    everything = [
        ("node that it runs on", ("node", nodes[0], READY)),
        ("node that it runs on", ("pod", pods[0], {"metadata": {"annotations": REPORT}})),
        ("claims", ("job", job, {"metadata": {"annotations": {keys.ANN_NODE: nodes[0]}}})),
        ("Leases of its own", ("lease", lease, {"spec": {"leaseDurationSeconds": 9}})),
    ]
    for message, change in everything:
        said = until(lambda what=change: agents[2].refused(*what))
        assert message in said, said


@pytest.fixture(scope="module")
def pods(release, nodes):
    """One pod on each node, one on none."""
    names = ("on-first", "on-second", "nowhere")
    for name, node in zip(names, (*nodes, ""), strict=True):
        pod = a_pod(name, annotations={"team": "x", keys.ANN_CHECKPOINT: "qwen"})
        pod["spec"] |= {"nodeName": node, "automountServiceAccountToken": False} if node else {}
        release.create(pod, dry_run=False)
    return names


def test_an_agent_reports_on_pods_of_its_node(release, agent, pods):
    until(lambda: agent.annotate("pod", pods[0], REPORT))
    agent.annotate("pod", pods[0], REPORT | {STATUS: "failed"})
    found = release.kubectl.json("get", "pod", pods[0], "-n", release.namespace)["metadata"]["annotations"]

    assert {"team": "x", keys.ANN_CHECKPOINT: "qwen"} | REPORT | {STATUS: "failed"} == found


@pytest.fixture(scope="module")
def reads_status(release):
    """Kubectl reads a status before it patches it; the agent does not, and may not."""
    where = ("-n", release.namespace)
    release.kubectl("create", "role", "reads-status", *where, "--verb=get", "--resource=pods/status")
    account = f"--serviceaccount={release.namespace}:snapshot-agent"
    release.kubectl("create", "rolebinding", "reads-status", *where, "--role=reads-status", account)


@pytest.mark.usefixtures("reads_status")
def test_an_agent_reports_a_restore_in_one_write(release, agent, pods):
    """Annotations and label travel with the status, in which the conditions of others stay."""
    patch = {"metadata": {"annotations": REPORT, "labels": {keys.LABEL_OUTCOME: keys.OUTCOME_RESTORED}}}
    patch["status"] = {"conditions": [{"type": keys.CONDITION_RESTORED, "status": "True", "reason": "Restored"}]}
    others = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    release.kubectl("patch", "pod", pods[0], "-n", release.namespace, "--subresource=status", "-p", json.dumps(others))
    until(lambda: agent.patch_status(pods[0], patch))
    found = release.kubectl.json("get", "pod", pods[0], "-n", release.namespace)

    assert REPORT.items() <= found["metadata"]["annotations"].items()
    assert keys.OUTCOME_RESTORED == found["metadata"]["labels"][keys.LABEL_OUTCOME]
    assert {"Ready", keys.CONDITION_RESTORED} == {each["type"] for each in found["status"]["conditions"]}
    wait = ("wait", f"--for=condition={keys.CONDITION_RESTORED}", f"pod/{pods[0]}", "--timeout=10s")
    assert "condition met" in release.kubectl(*wait, "-n", release.namespace)


OURS = [{"type": keys.CONDITION_RESTORED, "status": "True"}]


@pytest.mark.usefixtures("reads_status")
@pytest.mark.parametrize(
    ("message", "which", "body"),
    [
        pytest.param("pods of the node", 1, {"status": {"conditions": OURS}}, id="pod-of-another-node"),
        pytest.param(
            "only condition", 0, {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}, id="ready"
        ),
        pytest.param("only condition", 0, {"status": {"phase": "Failed"}}, id="phase"),
        pytest.param("only condition", 0, {"status": {"podIP": "10.9.9.9", "podIPs": [{"ip": "10.9.9.9"}]}}, id="ip"),
        pytest.param("only condition", 0, {"status": {"conditions": OURS, "message": "x"}}, id="message-beside-ours"),
        pytest.param(
            "only condition",
            0,
            {"status": {"containerStatuses": [{"name": "main", "ready": True, "image": "x", "imageID": "x"}]}},
            id="containers",
        ),
        pytest.param("only its reports", 0, {"metadata": {"labels": {"app": "x"}}}, id="label"),
        pytest.param("only its reports", 0, {"metadata": {"annotations": {"team": "y"}}}, id="annotation"),
    ],
)
def test_an_agent_may_change_nothing_else_of_a_status(agent, pods, message, which, body):
    def refused():
        said = agent.refused_status(pods[which], body)
        assert "cannot get resource" not in said, said
        return said

    assert message in until(refused)


def note(**notes):
    return {"metadata": {"annotations": notes}}


@pytest.mark.parametrize(
    ("message", "which", "body"),
    [
        pytest.param("pods of the node", 1, note(**REPORT), id="pod-of-another-node"),
        pytest.param("pods of the node", 2, note(**REPORT), id="pod-of-no-node"),
        pytest.param("only its reports", 0, note(team="y"), id="foreign-annotation"),
        pytest.param("only its reports", 0, note(team=None), id="foreign-annotation-removed"),
        pytest.param("only its reports", 0, note(**{keys.ANN_CHECKPOINT: "llama"}), id="another-checkpoint"),
        pytest.param("only its reports", 0, note(**{keys.ANN_TEMPLATE_HASH: "0" * 32}), id="template-hash"),
        pytest.param("only its reports", 0, {"metadata": {"labels": {"app": "x"}}}, id="label"),
        pytest.param("only its reports", 0, {"metadata": {"finalizers": ["a.b/c"]}}, id="finalizer"),
        pytest.param("only its reports", 0, {"spec": {"containers": [{"name": "main", "image": "y"}]}}, id="image"),
    ],
)
def test_an_agent_may_change_nothing_else_of_a_pod(agent, pods, message, which, body):
    said = until(lambda: agent.refused("pod", pods[which], body))

    assert message in said, said


@pytest.mark.parametrize("verb", ["create", "delete"])
def test_an_agent_makes_and_deletes_no_pod(agent, pods, verb):
    stdin = json.dumps(a_pod("new")) if verb == "create" else None
    said = agent.run_refused(verb, *(("-f", "-") if stdin else ("pod", pods[0])), stdin=stdin)

    assert "cannot" in said


def a_job(name, labels):
    container = {"name": "main", "image": "x"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {keys.LABEL_CHECKPOINT_ID: "id"}, "annotations": NOTES},
        "spec": {
            "template": {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never", "containers": [container]}}
        },
    }


CAPTURE = {keys.LABEL_IS_SOURCE: "true"}
NOTES = {keys.ANN_CHECKPOINT: "qwen"}
COMPLETED = {
    keys.ANN_CHECKPOINT_STATUS: "completed",
    keys.ANN_MANIFEST_DIGEST: "blake3:" + "a" * 64,
    keys.ANN_ARTIFACT_SIZE: "1",
    keys.ANN_CAPTURE_REPORT: "{}",
}


@pytest.fixture
def job(release):
    """A capture Job that nobody has claimed."""
    name = f"checkpoint-job-{uuid4().hex[:12]}"
    make(release, a_job(name, CAPTURE))
    return name


def make(release, obj):
    release.kubectl("create", "-n", release.namespace, "-f", "-", stdin=json.dumps(obj))


def test_an_agent_claims_a_capture_and_reports_once(release, nodes, agent, job):
    claim = {keys.ANN_NODE: nodes[0]}
    until(lambda: agent.annotate("job", job, claim))
    agent.annotate("job", job, {keys.ANN_IMAGE_CONFIG: "{}"})
    agent.annotate("job", job, claim | COMPLETED)
    found = release.kubectl.json("get", "job", job, "-n", release.namespace)["metadata"]["annotations"]

    assert {keys.ANN_CHECKPOINT: "qwen", keys.ANN_IMAGE_CONFIG: "{}"} | claim | COMPLETED == found


def test_an_agent_may_report_at_once_what_it_refuses_to_capture(nodes, agent, job):
    words = {keys.ANN_CHECKPOINT_STATUS: "failed", keys.ANN_CAPTURE_MESSAGE: "no", keys.ANN_CAPTURE_REPORT: "{}"}
    until(lambda: agent.annotate("job", job, {keys.ANN_NODE: nodes[0], **words}))


@pytest.mark.parametrize(
    ("message", "before", "body"),
    [
        pytest.param("claims", {}, note(**COMPLETED), id="unclaimed"),
        pytest.param("claims", {keys.ANN_NODE: "chart-node-2"}, note(**COMPLETED), id="of-another-node"),
        pytest.param("claims", {keys.ANN_NODE: "chart-node-2"}, note(**{keys.ANN_NODE: "chart-node-1"}), id="stolen"),
        pytest.param("claims", {}, note(**{keys.ANN_NODE: "chart-node-2"}), id="for-another-node"),
        pytest.param("claims", {keys.ANN_NODE: "chart-node-1"}, note(**{keys.ANN_NODE: None}), id="claim-dropped"),
        pytest.param(
            "only once",
            {keys.ANN_NODE: "chart-node-1", keys.ANN_MANIFEST_DIGEST: "blake3:" + "b" * 64},
            note(**COMPLETED),
            id="another-digest",
        ),
        pytest.param(
            "only once",
            {keys.ANN_NODE: "chart-node-1", keys.ANN_CHECKPOINT_STATUS: "failed"},
            note(**{keys.ANN_CHECKPOINT_STATUS: "completed"}),
            id="another-verdict",
        ),
        pytest.param(
            "only once",
            {keys.ANN_NODE: "chart-node-1", keys.ANN_CHECKPOINT_STATUS: "failed"},
            note(**{keys.ANN_CHECKPOINT_STATUS: None}),
            id="verdict-removed",
        ),
        pytest.param(
            "final",
            {keys.ANN_NODE: "chart-node-1", keys.ANN_CHECKPOINT_STATUS: "failed"},
            note(**{keys.ANN_CAPTURE_MESSAGE: "later"}),
            id="after-the-last-word",
        ),
        pytest.param(
            "final", {keys.ANN_NODE: "chart-node-1"}, note(**{keys.ANN_CHECKPOINT_STATUS: "perhaps"}), id="no-verdict"
        ),
        pytest.param("only its report", {keys.ANN_NODE: "chart-node-1"}, note(team="x"), id="foreign-annotation"),
        pytest.param(
            "only once", {keys.ANN_NODE: "chart-node-1"}, note(**{keys.ANN_CHECKPOINT: "llama"}), id="other-checkpoint"
        ),
        pytest.param(
            "only its report", {keys.ANN_NODE: "chart-node-1"}, {"metadata": {"labels": {"a": "b"}}}, id="label"
        ),
        pytest.param("only its report", {keys.ANN_NODE: "chart-node-1"}, {"spec": {"suspend": True}}, id="spec"),
    ],
)
def test_an_agent_may_change_nothing_else_of_a_job(release, agent, job, message, before, body):
    if before:
        pairs = [f"{key}={value}" for key, value in before.items()]
        release.kubectl("annotate", "job", job, "-n", release.namespace, *pairs)
    said = until(lambda: agent.refused("job", job, body))

    assert message in said, said


def test_an_agent_claims_no_job_of_others(release, nodes, agent):
    make(release, a_job("theirs", {}))
    said = until(lambda: agent.refused("job", "theirs", note(**{keys.ANN_NODE: nodes[0]})))

    assert "only capture Jobs" in said


def a_lease(name, holder):
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 30}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def lease(release):
    """A Lease that the agent of the first node holds."""
    name = f"checkpoint-job-{uuid4().hex[:12]}"
    make(release, a_lease(name, "snapshot-agent/chart-node-1"))
    return name


def test_an_agent_holds_and_gives_back_its_own_lease(release, agent):
    create = ("create", "-f", "-")
    body = json.dumps(a_lease("checkpoint-job-x-1", "snapshot-agent/chart-node-1"))
    until(lambda: agent.run(*create, stdin=body))
    agent.patch("lease", "checkpoint-job-x-1", {"spec": {"holderIdentity": "snapshot-agent/chart-node-1"}})
    agent.patch("lease", "checkpoint-job-x-1", {"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}})
    agent.run("delete", "lease", "checkpoint-job-x-1")


@pytest.mark.parametrize(
    ("message", "name", "holder"),
    [
        pytest.param("Leases of its own", "checkpoint-job-y-1", "snapshot-agent/chart-node-2", id="of-another-agent"),
        pytest.param("Leases of its own", "snapshot-controller", "snapshot-controller-7d9_1", id="the-controllers"),
    ],
)
def test_an_agent_touches_no_lease_of_others(release, agent, message, name, holder):
    """The controller's lies in the same namespace: without it there is no leader."""
    make(release, a_lease(name, holder))
    taken = until(lambda: agent.refused("lease", name, {"spec": {"holderIdentity": "snapshot-agent/chart-node-1"}}))
    gone = agent.run_refused("delete", "lease", name, "--dry-run=server")

    assert message in taken, taken
    assert message in gone, gone


def test_an_agent_makes_leases_of_captures_only(agent):
    body = json.dumps(a_lease("snapshot-controller", "snapshot-agent/chart-node-1"))
    said = until(lambda: agent.run_refused("create", "-f", "-", "--dry-run=server", stdin=body))

    assert "named after capture Jobs" in said
