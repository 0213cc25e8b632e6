"""What ``snapshotctl why`` answers: findings in the order in which things happened, each a code with its words.

Pure: from a pod, its checkpoint and a decision to the answer. The outcome is one of six words, made for scripts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from contract.api import keys
from contract.api.checkpoint import TargetError, annotations_of, labels_of, target_containers
from contract.api.conditions import condition
from contract.api.engine import MemoryReport
from contract.api.reports import Report, ReportPhase, Step, read_report, remarks, with_fill
from contract.api.states import (
    Admission,
    AgentReason,
    CheckpointReason,
    ConditionType,
    GateEnd,
    GraphCondition,
    Phase,
    RestoreStatus,
)
from contract.api.trigger import opts_in
from contract.remedies.admission import ADMISSION
from contract.remedies.agent import AGENT
from contract.remedies.checkpoints import CHECKPOINT
from contract.remedies.gates import GATE
from contract.remedies.graphs import GRAPH
from contract.remedies.registry import NOTHING, Reason
from controller.workloads.pods import checkpoint_name
from kube.api import Object
from snapshotctl.explain.stuck import start_problems

if TYPE_CHECKING:
    from webhook.checks import Refusal
    from webhook.decide import Decision

_UNKNOWN: Final = ("A code of another version of this system.", "Use the snapshotctl of that release.", "")
CAPTURE_POD: Final = "This is a pod of a capture Job: it starts cold so that it can be captured."
_NAMED: Final = "The pod waited until a checkpoint was named on it."
SUCCESSOR: Final = "Its checkpoint is Ready by now: delete the pod, and the one made in its place restores."
_OF_A_MOMENT: Final = frozenset({Admission.CHECKPOINT_REQUESTED, Admission.CHECKPOINT_NOT_READY})
"""Codes whose remedy is to wait: good advice until the checkpoint has got on."""
NOT_ASKED_FOR: Final = (
    f"the pod has neither label {keys.LABEL_RESTORE}: {keys.RESTORE_BY_NAME} or {keys.RESTORE_AUTO} "
    f'nor annotation {keys.ANN_RESTORE_CANDIDATE}: "true"'
)
SHAPED: Final = frozenset({Admission.RESTORE_SHAPED, Admission.HELD, Admission.PLACEHOLDER})
"""Codes of pods into which something is restored, now or later."""
_CODE: Final = re.compile(r"(?:\(|failed as )([a-z]+(?:-[a-z]+)*)[),]")
_WAITING_LINES: Final = ("SNAPSHOT_WAITING: ", "SNAPSHOT_PARKED: ")
_COLD_LINE: Final = "SNAPSHOT_COLD_START: "
_RESTORED_LINE: Final = "SNAPSHOT_RESTORED: "


class Outcome(StrEnum):
    """What becomes of a pod."""

    RESTORED = "restored"
    RESTORES = "restores"
    WAITS = "waits"
    PARKED = "parked"
    COLD = "starts-cold"
    REFUSED = "refused"
    """It must not start cold (policy Require), so it does not start at all."""


class Stage(StrEnum):
    """The step of a pod's start that a finding is about."""

    ADMISSION = "admission"
    GATE = "gate"
    RESTORE = "restore"
    CHECKPOINT = "checkpoint"
    NOW = "now"
    GRAPH = "graph"


@dataclass(frozen=True)
class Finding:
    """One fact on the way."""

    stage: Stage
    code: str
    message: str
    """What was so this time."""
    meaning: str
    remedy: str
    link: str
    subject: str = ""
    """The container, checkpoint or template that it is about."""
    steps: tuple[Step, ...] = ()
    """The time line of a container's restore."""
    engine: MemoryReport | None = None
    """How its memory came back."""


@dataclass(frozen=True)
class Answer:
    """Why one pod starts as it does."""

    object: str
    """``Kind/name``."""
    namespace: str
    outcome: Outcome
    code: str
    """The code that decided."""
    findings: tuple[Finding, ...]
    checkpoint: str = ""
    """Name of the DynamoCheckpoint that it is about, whether there is one or not."""
    notes: tuple[str, ...] = ()
    also_refused: tuple[Finding, ...] = ()
    """What else keeps such a pod, created now, from being restored: it would be said once the first is corrected."""

    def as_json(self) -> Object:
        """Describe it for programs."""
        written = asdict(self)
        return written | {"outcome": self.outcome.value, "alsoRefused": written.pop("also_refused")}


@dataclass(frozen=True)
class Facts:
    """What could be learned about a live pod."""

    pod: Mapping[str, Any]
    checkpoint: Mapping[str, Any] | None = None
    now: Decision | None = None
    """The decision about a pod made today from the same template."""
    template: str = ""
    """Whose template that is."""
    unasked: str | None = None
    """Why the webhook is not asked about such pods, if it is not."""
    logs: Mapping[str, str] = field(default_factory=dict)
    """First lines of the targets' logs, by container."""
    notes: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    """All that keeps such a pod from being mutated today, what decided first."""


def finding(stage: Stage, table: Mapping[str, Reason], code: str, message: str, subject: str = "") -> Finding:
    """Look up the words of a code of a closed list."""
    row = table.get(code)
    words = (row.meaning, row.remedy, row.link) if row else _UNKNOWN
    return Finding(stage, str(code), message, *words, subject)


def _named(findings: Iterable[Finding], checkpoint: str, namespace: str) -> tuple[Finding, ...]:
    """Return it with the checkpoint's name and namespace in the commands of the remedies."""
    if not checkpoint:
        return tuple(findings)
    words = f" {checkpoint} -n {namespace}" if namespace else f" {checkpoint}"
    return tuple(replace(each, remedy=each.remedy.replace(" NAME", words)) for each in findings)


@dataclass(frozen=True)
class Ruling:
    """A decision, and what it was made about."""

    decision: Decision
    name: str = ""
    """Of the checkpoint that was looked up; empty: none was."""
    checkpoint: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    """What the decision did not know."""
    refusals: tuple[Refusal, ...] = ()
    """All that keeps the pod from being mutated, what decided first; empty: nothing does."""


_OUTCOMES: Final = {
    Admission.RESTORE_SHAPED: Outcome.RESTORES,
    Admission.HELD: Outcome.WAITS,
    Admission.PLACEHOLDER: Outcome.WAITS,
}


_ON_THE_WAY: Final[Mapping[str, tuple[str, str, str, Outcome]]] = {
    RestoreStatus.IN_PROGRESS: ("The agent is restoring it.", "Wait.", "", Outcome.RESTORES),
    RestoreStatus.PARKED: (
        "The worker is restored and stopped, and holds no device memory.",
        "When it is to go on: snapshotctl wake POD.",
        "docs/parked.md",
        Outcome.PARKED,
    ),
}
"""Status of a restore that has not ended: words, what to do, where more is said, and the outcome."""


def predicted(
    origin: str, namespace: str, ruling: Ruling, *, required: bool = False, notes: tuple[str, ...] = ()
) -> Answer:
    """Answer for a pod that would be created now.

    Args:
        origin: ``Kind/name`` of what it is made from.
        namespace: its namespace.
        ruling: the decision.
        required: whether the API server refuses it if it would start cold.
        notes: what else its reader must know.
    """
    decision = ruling.decision
    findings = [finding(Stage.ADMISSION, ADMISSION, decision.code, decision.message)]
    if ruling.checkpoint is not None:
        findings.append(state_of(ruling.checkpoint))
    outcome = _OUTCOMES.get(decision.code, Outcome.REFUSED if required else Outcome.COLD)
    # Of the warnings, one only repeats the message for those who create pods by hand.
    notes += tuple(each for each in decision.warnings if decision.message not in each)
    also = _named(_also(Stage.ADMISSION, ruling.refusals[1:]), ruling.name, namespace)
    named = _named(findings, ruling.name, namespace)
    return Answer(origin, namespace, outcome, decision.code.value, named, ruling.name, notes, also)


def _also(stage: Stage, refusals: Iterable[Refusal], subject: str = "") -> list[Finding]:
    return [finding(stage, ADMISSION, code, message, subject) for code, message in refusals]


def state_of(checkpoint: Mapping[str, Any]) -> Finding:
    """State how far a checkpoint has got, and of a Ready one what keeps it from being restored."""
    status = checkpoint.get("status") or {}
    entry = hindrance(checkpoint) or condition(checkpoint, ConditionType.READY) or {}
    code = entry.get("reason") or (CHECKPOINT_OF_PHASE.get(status.get("phase") or Phase.PENDING, "Pending"))
    phase = status.get("phase") or Phase.PENDING.value
    words = status.get("message") or entry.get("message")
    message = f"{phase}: {words}" if words else str(phase)
    name, namespace = str(checkpoint["metadata"]["name"]), str(checkpoint["metadata"].get("namespace") or "")
    found = finding(Stage.CHECKPOINT, CHECKPOINT, str(code), message, name)
    ended = phase in (Phase.FAILED, Phase.PENDING) or code == CheckpointReason.RESTORES_FAILING
    agents = _agents_reason(str(words or "")) if ended else None
    found = replace(found, remedy=agents.remedy, link=agents.link) if agents else found
    return _named([found], name, namespace)[0]


def _agents_reason(message: str) -> Reason | None:
    """Find the code that ends the agent's words on a capture, or that restores failed as."""
    codes = [code for code in _CODE.findall(message) if code in AGENT]
    return AGENT[codes[-1]] if codes else None


def hindrance(checkpoint: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Find the condition by which a Ready checkpoint is not restored all the same."""
    if (checkpoint.get("status") or {}).get("phase") != Phase.READY:
        return None
    for kind, bad in _HINDRANCES.items():
        entry = condition(checkpoint, kind)
        if entry is not None and entry.get("status") == bad:
            return entry
    return None


_HINDRANCES: Final[Mapping[ConditionType, str]] = {
    ConditionType.RESTORES_FAILING: "True",
    ConditionType.COMPATIBLE: "False",
}
CHECKPOINT_OF_PHASE: Final[Mapping[str, str]] = {
    Phase.PENDING: "Pending",
    Phase.CREATING: "Creating",
    Phase.READY: "CheckpointReady",
    Phase.FAILED: "CheckpointFailed",
}


def graph_findings(graph: Mapping[str, Any]) -> tuple[Finding, ...]:
    """List the conditions of a graph deployment that are not as they should be."""
    name = str(graph["metadata"]["name"])
    return tuple(
        finding(Stage.GRAPH, GRAPH, str(entry.get("reason")), str(entry.get("message") or ""), name)
        for entry in (graph.get("status") or {}).get("conditions") or ()
        if entry.get("status") == ("True" if entry.get("type") == GraphCondition.STARTED_COLD else "False")
    )


def lived(facts: Facts) -> Answer:
    """Answer for a pod that exists."""
    pod = facts.pod
    admission = _admitted(facts)
    findings = [_by_now(admission, facts.now)]
    outcome, code = _first_outcome(admission), admission.code
    if admission.code in SHAPED and not _waits_for_its_checkpoint(facts.pod, admission):
        later, outcome, code = _afterwards(facts)
        findings += later
        if outcome == Outcome.COLD and annotations_of(pod).get(keys.ANN_POLICY) == keys.POLICY_REQUIRE:
            outcome = Outcome.REFUSED
    if facts.checkpoint is not None:
        findings.append(state_of(facts.checkpoint))
    also: list[Finding] = []
    if facts.now is not None and admission.meaning != CAPTURE_POD:
        unasked = facts.unasked if facts.now.code != Admission.NOT_OPTED_IN else None
        words = unasked or facts.now.message
        said = Admission.NAMESPACE_EXCLUDED if unasked else facts.now.code
        findings.append(finding(Stage.NOW, ADMISSION, said, words, facts.template))
        also = _also(Stage.NOW, facts.refusals if unasked else facts.refusals[1:], facts.template)
    name, namespace = pod["metadata"]["name"], pod["metadata"].get("namespace", "")
    about = checkpoint_name(dict(pod))
    return Answer(
        f"Pod/{name}",
        namespace,
        outcome,
        str(code),
        _named(findings, about, namespace),
        about,
        (*start_problems(pod), *facts.notes),
        _named(also, about, namespace),
    )


def _by_now(admission: Finding, now: Decision | None) -> Finding:
    """Return what admission said, with the advice that is good today."""
    if admission.code == Admission.PLACEHOLDER and admission.message:
        return replace(admission, meaning=_NAMED, remedy=NOTHING)
    if admission.code not in _OF_A_MOMENT or now is None or now.code in (*_OF_A_MOMENT, Admission.HELD):
        return admission
    restores = now.code == Admission.RESTORE_SHAPED
    return replace(admission, remedy=SUCCESSOR if restores else ADMISSION[now.code].remedy)


def _of_a_job(pod: Mapping[str, Any]) -> bool:
    return any(owner.get("kind") == "Job" for owner in pod["metadata"].get("ownerReferences") or ())


def _first_outcome(admission: Finding) -> Outcome:
    return next((outcome for code, outcome in _OUTCOMES.items() if code == admission.code), Outcome.COLD)


def _waits_for_its_checkpoint(pod: Mapping[str, Any], admission: Finding) -> bool:
    """Say whether it is a placeholder on which no checkpoint is named yet."""
    return admission.code == Admission.PLACEHOLDER and not labels_of(pod).get(keys.LABEL_CHECKPOINT_ID)


def _admitted(facts: Facts) -> Finding:
    """Find what admission said, or why it said nothing."""
    annotations, labels = annotations_of(facts.pod), labels_of(facts.pod)
    said = annotations.get(keys.ANN_ADMISSION)
    if labels.get(keys.LABEL_IS_SOURCE):
        found = finding(Stage.ADMISSION, ADMISSION, Admission.ALREADY_SHAPED, "")
        # The closed list's words are for a pod with copied labels; on a capture Job's own pod all is well.
        return replace(found, meaning=CAPTURE_POD, remedy=NOTHING) if _of_a_job(facts.pod) else found
    wanted = labels.get(keys.LABEL_RESTORE) in (keys.RESTORE_BY_NAME, keys.RESTORE_AUTO)
    wanted = wanted or opts_in(labels, annotations)
    if not wanted and annotations.get(keys.ANN_RESTORE_CANDIDATE) != "true" and not is_shaped(facts.pod):
        return finding(Stage.ADMISSION, ADMISSION, Admission.NOT_OPTED_IN, NOT_ASKED_FOR)
    if said:
        name = annotations.get(keys.ANN_CHECKPOINT)
        return finding(Stage.ADMISSION, ADMISSION, said, f"for DynamoCheckpoint {name}" if name else "")
    if facts.unasked:
        return finding(Stage.ADMISSION, ADMISSION, Admission.NAMESPACE_EXCLUDED, facts.unasked)
    message = f"the pod opted in, but carries no annotation {keys.ANN_ADMISSION}"
    return finding(Stage.ADMISSION, ADMISSION, Admission.WEBHOOK_UNREACHABLE, message)


def _afterwards(facts: Facts) -> tuple[list[Finding], Outcome, str]:
    """Find what became of a mutated pod: gate, then each target."""
    findings: list[Finding] = []
    gates = (facts.pod.get("spec") or {}).get("schedulingGates") or ()
    if any(gate.get("name") == keys.SCHEDULING_GATE for gate in gates):
        return [], Outcome.WAITS, Admission.HELD.value
    lifted = annotations_of(facts.pod).get(keys.ANN_GATE)
    if lifted:
        findings.append(finding(Stage.GATE, GATE, lifted, ""))
    targets = [_restored(facts, target) for target in _targets(facts.pod)]
    findings += [found for found, _ in targets if found is not None]
    outcomes = [outcome for _, outcome in targets]
    let_go_cold = lifted if lifted not in (None, GateEnd.CHECKPOINT_READY, GateEnd.VOLUME_CLAIM_UNAVAILABLE) else None
    if Outcome.COLD in outcomes:
        cold = next(found for found, outcome in targets if outcome == Outcome.COLD and found is not None)
        return findings, Outcome.COLD, let_go_cold or cold.code
    if let_go_cold:
        return findings, Outcome.COLD, let_go_cold
    return findings, *_restores(outcomes, lifted)


def _restores(outcomes: Collection[Outcome], lifted: str | None) -> tuple[Outcome, str]:
    """Say how far the targets of a pod are together, of which none starts cold."""
    if Outcome.PARKED in outcomes:
        return Outcome.PARKED, Outcome.PARKED.value
    if set(outcomes) == {Outcome.RESTORED}:
        return Outcome.RESTORED, Admission.RESTORE_SHAPED.value
    if lifted == GateEnd.VOLUME_CLAIM_UNAVAILABLE:
        return Outcome.WAITS, lifted
    return Outcome.RESTORES, Admission.RESTORE_SHAPED.value


def is_shaped(pod: Mapping[str, Any]) -> bool:
    """Say whether admission made it a restore pod."""
    return labels_of(pod).get(keys.LABEL_IS_RESTORE_TARGET) == "true"


def _targets(pod: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        return target_containers(pod)
    except TargetError:
        return ()


def _restored(facts: Facts, container: str) -> tuple[Finding | None, Outcome]:
    """Say how the restore of one container went."""
    annotations = annotations_of(facts.pod)
    status = annotations.get(keys.ANN_RESTORE_STATUS_PREFIX + container)
    lines = facts.logs.get(container, "").splitlines()
    line = next((each for each in lines if not each.startswith(_WAITING_LINES)), "")
    report = _report(annotations, container)
    steps = _steps(annotations, container)
    if status == RestoreStatus.COMPLETED:
        words, done = _took(annotations, container), "The container was restored."
        engine = _engine(annotations, container)
        return Finding(Stage.RESTORE, status, words, done, "", "", container, steps, engine), Outcome.RESTORED
    if status == RestoreStatus.FAILED:
        code = str(report.get("reason") or AgentReason.INTERNAL_ERROR)
        message = line.partition(_COLD_LINE)[2] or "the restore failed, the container started cold"
        message += _bypassed(read_report(annotations.get(keys.ANN_RESTORE_REPORT, "")))
        message += _tried(annotations, container)
        return replace(finding(Stage.RESTORE, AGENT, code, message, container), steps=steps), Outcome.COLD
    if status is not None and status in _ON_THE_WAY:
        words, then, link, outcome = _ON_THE_WAY[status]
        return Finding(Stage.RESTORE, status, "", words, then, link, container), outcome
    if _COLD_LINE in line:
        message = line.partition(_COLD_LINE)[2]
        return finding(Stage.RESTORE, AGENT, AgentReason.ALREADY_STARTED, message, container), Outcome.COLD
    if _RESTORED_LINE in line:
        words = line.partition(_RESTORED_LINE)[2]
        done = "The container was restored."
        return Finding(Stage.RESTORE, "completed", words, done, "", "", container), Outcome.RESTORED
    return None, Outcome.RESTORES


def _report(annotations: Mapping[str, str], container: str) -> Object:
    try:
        report = json.loads(annotations.get(keys.ANN_RESTORE_REPORT, "{}"))
    except (ValueError, RecursionError):
        return {}
    return report if isinstance(report, dict) and report.get("container") in (None, container) else {}


def _steps(annotations: Mapping[str, str], container: str) -> tuple[Step, ...]:
    report = read_report(annotations.get(keys.ANN_RESTORE_REPORT, ""))
    if report is None or report.container != container:
        return ()
    return with_fill(report, annotations.get(keys.ANN_RESTORE_FILL, "")).steps


def _engine(annotations: Mapping[str, str], container: str) -> MemoryReport | None:
    report = read_report(annotations.get(keys.ANN_RESTORE_REPORT, ""))
    return report.engine if report is not None and report.container == container else None


def _took(annotations: Mapping[str, str], container: str) -> str:
    report = read_report(annotations.get(keys.ANN_RESTORE_REPORT, ""))
    if report is None or report.container not in ("", container) or not report.seconds:
        return "completed"
    total = report.seconds.get(ReportPhase.TOTAL, sum(report.seconds.values()))
    memory = report.memory if report.engine is None else None  # has a line of its own
    words = f"in {total:.2f} s, {report.size / 2**20:.1f} MiB{remarks(report.connections, memory, hot=report.hot)}"
    return words + _tried(annotations, container) + _bypassed(report)


def _bypassed(report: Report | None) -> str:
    return f"; bypassed {', '.join(report.bypassed)}" if report is not None and report.bypassed else ""


def _tried(annotations: Mapping[str, str], container: str) -> str:
    """Say how attempts before the last one ended; empty if there was none."""
    report = read_report(annotations.get(keys.ANN_RESTORE_REPORT, ""))
    if report is None or report.container != container or not report.tried:
        return ""
    return f" (attempt {len(report.tried) + 1}; before it: {', '.join(report.tried)})"
