"""The guides' own command lines, typed as they stand there; docs/seeds.md says which line each test is the proof of."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.api import keys
from demo.kubectl import Kubectl, wait_for
from demo.platform import Platform
from tests.support.fixtures import node

NAME = "qwen3-06b-bf16"
IDENTITY = {
    "model": "Qwen/Qwen3-0.6B",
    "backendFramework": "vllm",
    "tensorParallelSize": 1,
    "dtype": "bfloat16",
    "maxModelLen": 4096,
}
HASH = "3bff874d069f0ed5"
"""What seed 001 shows in its sample status; it is the hash of a maxModelLen of 4096."""

Shell = Callable[[str], str]


@pytest.fixture(scope="module")
def shell(platform: Platform, installed: Kubectl) -> Shell:
    """A shell as the guides' reader has one: kubectl on PATH, NAMESPACE set; answers what was printed."""
    environment = {
        **os.environ,
        "KUBECONFIG": str(platform.kubeconfig),
        "NAMESPACE": installed.namespace,
        "PATH": f"{Path(platform.kubectl).parent}:{os.environ['PATH']}",
    }

    def run(script: str) -> str:
        argv = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert 0 == done.returncode, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="module")
def ready(installed: Kubectl) -> str:
    """The guides' checkpoint, Ready; the small worker stands in for vLLM."""
    body = node.checkpoint(NAME, readinessProbe=node.probe())
    body["spec"]["identity"] = IDENTITY
    node.create(installed, body)
    node.phase(installed, NAME, "Ready", "Failed")
    return NAME


@pytest.fixture(scope="module")
def worker(installed: Kubectl, ready: str) -> str:
    """A restored worker."""
    node.create(installed, node.pod("seed-worker", NAME, readinessProbe=node.probe()))
    node.await_answer(installed, "seed-worker")
    return "seed-worker"


def test_the_platforms_configuration_is_found_and_enabled(shell: Shell):
    """Seed 001, step 2, word for word but for the name of the namespace variable."""
    found = shell(r"""
PLATFORM_NAMESPACE=${NAMESPACE}
OPERATOR_CONFIG=$(kubectl get deploy -n "${PLATFORM_NAMESPACE}" \
  -l app.kubernetes.io/name=dynamo-operator,app.kubernetes.io/component=manager \
  -o jsonpath='{.items[0].spec.template.spec.volumes[?(@.name=="operator-config")].configMap.name}')

kubectl get configmap "${OPERATOR_CONFIG}" -n "${PLATFORM_NAMESPACE}" \
  -o jsonpath='{.data.config\.yaml}' | sed -n '/^checkpoint:/,/^[^[:space:]]/p'
""")

    assert "enabled: true" in found


def test_the_agent_is_rolled_out(shell: Shell):
    assert "successfully rolled out" in shell("kubectl rollout status daemonset/snapshot-agent -n ${NAMESPACE}")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        pytest.param(
            "kubectl get pods -n ${NAMESPACE} -l app.kubernetes.io/component=snapshot-agent -o wide",
            "snapshot-agent-",
            id="pods of the agent",
        ),
        pytest.param(
            "kubectl get daemonset -n ${NAMESPACE} -l app.kubernetes.io/component=snapshot-agent -o wide",
            "snapshot-agent",
            id="daemonset",
        ),
        pytest.param("kubectl get pvc snapshot-pvc -n ${NAMESPACE}", "Bound", id="claim"),
        pytest.param("kubectl get pvc -n ${NAMESPACE}", "snapshot-pvc", id="claims"),
    ],
)
def test_the_agent_and_its_storage_are_found(shell: Shell, command: str, expected: str):
    assert expected in shell(command)


def test_the_checkpoint_is_listed_as_documented(shell: Shell, ready: str):
    """Seed 000 shows the fifth column as HASH, which the later guides renamed."""
    header, row = shell(f"kubectl get dckpt {ready} -n ${{NAMESPACE}}").splitlines()

    assert ["NAME", "MODEL", "BACKEND", "PHASE", "CHECKPOINTID", "AGE"] == header.split()
    assert [ready, IDENTITY["model"], "vllm", "Ready", HASH] == row.split()[:5]


@pytest.mark.parametrize("kind", ["dckpt", "dynamocheckpoint", "dynamocheckpoints"])
def test_every_name_of_the_resource_lists_it(shell: Shell, ready: str, kind: str):
    assert ready in shell(f"kubectl get {kind} -n ${{NAMESPACE}}")


def test_the_custom_columns_of_the_guide(shell: Shell, ready: str):
    found = shell(r"""
kubectl get dckpt -n ${NAMESPACE} \
  -o custom-columns=NAME:.metadata.name,CHECKPOINT_ID:.status.checkpointID,PHASE:.status.phase
""")

    assert [ready, HASH, "Ready"] in [line.split() for line in found.splitlines()]


def test_the_columns_of_the_troubleshooting(shell: Shell, ready: str):
    found = shell(rf"""
kubectl get dckpt {ready} -n ${{NAMESPACE}} \
  -o custom-columns=NAME:.metadata.name,PHASE:.status.phase,MESSAGE:.status.message,JOB:.status.jobName
""")

    assert f"checkpoint-job-{HASH}-1" in found


def test_waiting_for_the_phase(shell: Shell, ready: str):
    found = shell(rf"""
kubectl wait \
  --for=jsonpath='{{.status.phase}}'=Ready \
  dynamocheckpoint/{ready} \
  -n ${{NAMESPACE}} \
  --timeout=30m
""")

    assert "condition met" in found


def test_describing_the_checkpoint(shell: Shell, ready: str):
    """The words of both guides; kubectl writes the field names with spaces."""
    found = shell(f"kubectl describe dckpt {ready} -n ${{NAMESPACE}}")

    words = (
        f"Checkpoint ID:  {HASH}",
        f"Identity Hash:  {HASH}",
        "Phase:",
        "Storage Type:",
        "Created At:",
        "Location:",
    )
    missing = [word for word in words if " ".join(word.split()) not in " ".join(found.split())]
    assert [] == missing


def test_the_status_block(installed: Kubectl, ready: str):
    status = installed.get("dckpt", ready)["status"]

    expected = {"phase": "Ready", "checkpointID": HASH, "identityHash": HASH, "jobName": f"checkpoint-job-{HASH}-1"}
    assert expected == {field: status[field] for field in expected}
    assert "" == status.get("message", "")
    assert status["createdAt"].endswith("Z")


def test_the_jobs_of_checkpoints_are_listed(shell: Shell, ready: str):
    found = shell("kubectl get jobs -l nvidia.com/checkpoint-source=true -n ${NAMESPACE}")

    assert f"checkpoint-job-{HASH}-1" in found


def test_the_logs_of_the_job(shell: Shell, ready: str):
    """The Job's name is read from the status, as seed 001 does."""
    shell(rf"""
JOB_NAME=$(kubectl get dckpt {ready} -n ${{NAMESPACE}} -o jsonpath='{{.status.jobName}}')
if [ -n "${{JOB_NAME}}" ]; then
  kubectl logs job/"${{JOB_NAME}}" -n ${{NAMESPACE}}
fi
""")


def test_the_logs_of_the_agent(shell: Shell, ready: str):
    assert HASH in shell("kubectl logs daemonset/snapshot-agent -n ${NAMESPACE} --all-containers")


def test_the_artifact_is_seen_through_the_agent(shell: Shell, ready: str):
    """Seed 000 looks for the artifact with ls, in the pod of the agent."""
    found = shell("""
AGENT=$(kubectl get pods -n ${NAMESPACE} -l app.kubernetes.io/component=snapshot-agent -o name | head -n 1)
kubectl exec ${AGENT} -n ${NAMESPACE} -- ls -la /checkpoints
""")

    assert HASH in found


def test_a_restored_worker_says_so_first(installed: Kubectl, worker: str):
    """Seed 004: the first log line of a restored container."""
    assert f"SNAPSHOT_RESTORED: container restored from checkpoint {HASH}" == node.first_line(installed, worker)


def test_the_environment_of_a_restored_worker(shell: Shell, worker: str):
    found = shell(f"kubectl exec {worker} -n ${{NAMESPACE}} -- env | grep DYN_CHECKPOINT")

    artifact = f"/checkpoints/{HASH}/versions/1"
    expected = {
        f"{keys.ENV_CHECKPOINT_STORAGE_TYPE}=pvc",
        f"{keys.ENV_CHECKPOINT_LOCATION}={artifact}",
        f"{keys.ENV_CHECKPOINT_PATH}={artifact}",
        f"{keys.ENV_CHECKPOINT_HASH}={HASH}",
    }
    assert expected == set(found.split())


def test_the_signal_file_is_told_in_creation_only(installed: Kubectl, ready: str, worker: str):
    def names(kind: str, name: str, *path: str) -> set[str]:
        found = installed.get(kind, name)
        for step in path:
            found = found[step]
        return {entry["name"] for entry in found["spec"]["containers"][0]["env"]}

    job = installed.get("dckpt", ready)["status"]["jobName"]
    assert keys.ENV_CHECKPOINT_SIGNAL_FILE in names("job", job, "spec", "template")
    assert keys.ENV_CHECKPOINT_SIGNAL_FILE not in names("pod", worker)


def test_a_worker_without_its_artifact_says_falling_back_to_cold_start(
    shell: Shell, installed: Kubectl, ready: str, worker: str
):
    """Seed 000: look for this message.  The artifact is hidden, and comes back afterwards."""
    move = "kubectl exec daemonset/snapshot-agent -n ${{NAMESPACE}} -- mv /checkpoints/{0} /checkpoints/{1}"
    shell(move.format(HASH, "hidden"))
    try:
        node.create(installed, node.pod("seed-cold", NAME, readinessProbe=node.probe()))
        node.await_answer(installed, "seed-cold")
        found = wait_for(
            lambda: shell("kubectl logs seed-cold -n ${NAMESPACE}") or None, "the log of the cold worker", 30
        )
    finally:
        shell(move.format("hidden", HASH))

    assert "Falling back to cold start" in found
