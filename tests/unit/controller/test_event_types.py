"""Every Event that one of our processes records, and its type: a Warning is for what somebody should look into.

``kubectl get events --field-selector type=Warning`` and many an alert go by it.
"""

import ast
from pathlib import Path

import pytest

from contract.api.states import Admission, CheckpointReason
from controller.checkpoints.reasons import note
from controller.workloads.admission_events import QUIET

ROOT = Path(__file__).parents[3]
NORMAL, WARNING = "Normal", "Warning"

# What of the reasons is only ever in conditions has a type all the same: the one it would have.
OF_CHECKPOINTS = {
    NORMAL: """
        CheckpointReady JobCreated AdoptionRunning Adopted CleanupRunning ArtifactRemoved ArtifactKept VersionRemoved
        CheckpointExpired RetentionDryRun WorkloadGone RestoresResumed PodCaptureStarted
    """,
    WARNING: """
        CheckpointFailed InvalidCheckpointID DuplicateCheckpointID GMSSnapshotDisabled TemplateInvalid JobForbidden
        ClaimTemplateMissing AcceleratorUnsupported JobNotOurs StorageInvalid
        VolumeClaimMissing VolumeClaimRefused VolumeClaimLost
        AgentMissing AgentNotReady AgentStorageDiffers StorageChanged JobDeleted JobFailed CheckpointVerificationFailed
        RetryScheduled AdoptionBlocked AdoptionFailed Unschedulable PodNotCreated ContainerNotStarted ImageNotPulled
        NoAgent CleanupFailed CleanupBlocked QuotaExceeded PodCaptureFailed PodCaptureNotRequested SourcePodGone
        NoNodes ArchitectureMismatch CPUMismatch KernelMismatch CRIUMismatch GPUMismatch
        RestoresFailing LargerThanPageCache
    """,
}
NEVER_EVENTS = """
    Pending Creating TemplateAccepted AgentMountsStorage VolumeClaimFound VolumeClaimCreated JobSucceeded Scheduled
    NodesCompatible PodCaptured
"""
OF_ADMISSION = """
    restore-shaped already-shaped checkpoint-requested checkpoint-not-ready held capturable
    placeholder
"""
ELSEWHERE = {
    ("agent/pods/node_label.py", NORMAL, "NodeReady"),
    ("agent/pods/node_label.py", WARNING, "NodeNotReady"),
    ("agent/pods/report.py", NORMAL, "RestoreRequested"),
    ("agent/pods/report.py", NORMAL, "RestoreSucceeded"),
    ("agent/pods/report.py", NORMAL, "RestoreParked"),
    ("agent/pods/report.py", WARNING, "RestoreFailed"),
    ("agent/pods/report.py", WARNING, "RestoreAttemptFailed"),
    ("agent/pods/report.py", WARNING, "RestoreAttemptsIgnored"),
    ("agent/pods/report.py", NORMAL, "CheckpointRequested"),
    ("agent/pods/report.py", NORMAL, "CheckpointSucceeded"),
    # CheckpointFailed, or CheckpointWorkerFailed.
    ("agent/pods/report.py", WARNING, "word"),
    ("agent/pods/report.py", WARNING, "CheckpointFailed"),
    ("agent/pods/rights.py", NORMAL, "RightsComplete"),
    ("agent/pods/rights.py", WARNING, "RightsMissing"),
    ("controller/graphs/plan.py", NORMAL, "GraphReason.CHECKPOINT_CREATED"),
    ("controller/graphs/plan.py", NORMAL, "GraphReason.DEPLOYMENT_REMOVED"),
    # The reasons of conditions that turned for the worse.
    ("controller/graphs/status.py", WARNING, "_camel(reason)"),
    ("controller/workloads/gates/gate_controller.py", WARNING, "GateEvent.KEPT"),
    ("controller/workloads/gates/gate_controller.py", WARNING, "GateEvent.REFUSED"),
    ("controller/workloads/gates/gate_controller.py", "'Normal' if ready else 'Warning'", "GateEvent.LIFTED"),
    ("controller/workloads/restores/silent.py", WARNING, "RestoreEvent.AGENT_SILENT"),
    ("controller/workloads/spares/waker.py", NORMAL, "ParkedWorkerWoken"),
    ("controller/workloads/auto_checkpoint_controller.py", NORMAL, "AutomaticCheckpoint"),
    ("controller/workloads/auto_checkpoint_controller.py", WARNING, "CheckpointNotMade"),
    # RestoresFailing, or RestoresResumed.
    (
        "controller/workloads/restores/failing_writer.py",
        "'Warning' if verdict.failing else 'Normal'",
        "verdict.reason.value",
    ),
    # The admission's codes, in camel case.
    ("controller/workloads/admission_events.py", "'Normal' if found in QUIET else 'Warning'", "camel_case(code)"),
    ("controller/checkpoints/reasons.py", "'Normal' if reason in NORMAL else 'Warning'", "reason"),
}
ROOMS = ("agent", "certs", "controller", "daemon", "kube", "webhook")


@pytest.mark.parametrize(
    ("expected", "reason"),
    [pytest.param(kind, name, id=name) for kind, names in OF_CHECKPOINTS.items() for name in names.split()],
)
def test_events_of_checkpoints(expected, reason):
    assert (expected, reason) == (note(CheckpointReason(reason), "").type, note(CheckpointReason(reason), "").reason)


def test_no_reason_is_forgotten():
    listed = " ".join((*OF_CHECKPOINTS.values(), NEVER_EVENTS)).split()

    assert sorted(CheckpointReason) == sorted(listed)


def test_events_of_admission():
    assert set(OF_ADMISSION.split()) == QUIET < set(Admission)


def test_the_types_of_all_others():
    """Read from the sources, so that a new Event gets a line here, and a thought."""
    assert ELSEWHERE == {each for room in ROOMS for path in (ROOT / room).rglob("*.py") for each in events_in(path)}


def events_in(path):
    """Calls with a type of Event as an argument, followed by a reason."""
    for node in ast.walk(ast.parse(path.read_text())):
        for kind, reason in zip(node.args, node.args[1:], strict=False) if isinstance(node, ast.Call) else ():
            if NORMAL in words_of(kind) or WARNING in words_of(kind):
                yield str(path.relative_to(ROOT)), worded(kind), worded(reason)


def words_of(kind):
    parts = (kind.body, kind.orelse) if isinstance(kind, ast.IfExp) else (kind,)
    return {part.value for part in parts if isinstance(part, ast.Constant)}


def worded(expression):
    return expression.value if isinstance(expression, ast.Constant) else ast.unparse(expression)
