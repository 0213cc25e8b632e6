"""Condition Compatible of a Ready checkpoint: whether there are nodes that could restore it."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from contract.api.states import AgentReason, CheckpointReason, ConditionType
from contract.nodes.node_facts import NodeFacts, lacks, read_source
from controller.checkpoints.observed import Pass
from controller.checkpoints.plan.status import Status
from controller.checkpoints.reasons import Problem, note

REASONS: Final[Mapping[AgentReason, CheckpointReason]] = {
    AgentReason.ARCHITECTURE_MISMATCH: CheckpointReason.ARCHITECTURE_MISMATCH,
    AgentReason.CPU_MISMATCH: CheckpointReason.CPU_MISMATCH,
    AgentReason.KERNEL_MISMATCH: CheckpointReason.KERNEL_MISMATCH,
    AgentReason.CRIU_MISMATCH: CheckpointReason.CRIU_MISMATCH,
    AgentReason.GPU_MISMATCH: CheckpointReason.GPU_MISMATCH,
}


def check_nodes(current: Pass, status: Status) -> Status:
    """State the condition; as it is if nothing is known of the nodes, or of what the checkpoint was taken on."""
    source, nodes = read_source(status.fields.get("source")), current.observed.nodes
    if source is None or nodes is None:
        return status
    problem, words = _judge(source.facts, nodes, current.values.config.restore.bypass)
    if problem is None:
        reason = CheckpointReason.NODES_COMPATIBLE
        return status.with_condition(ConditionType.COMPATIBLE, met=True, reason=reason, message=words)
    if status.reason_before(ConditionType.COMPATIBLE) != problem.reason:
        status = status.with_event(note(problem.reason, problem.message))
    return status.unmet(ConditionType.COMPATIBLE, problem)


def _judge(then: NodeFacts, nodes: Mapping[NodeFacts, int], bypass: list[str]) -> tuple[Problem | None, str]:
    """Return what most nodes lack if none could restore; and how many could."""
    total, lacking, example = sum(nodes.values()), Counter[AgentReason](), dict[AgentReason, str]()
    for facts, count in nodes.items():
        if (found := lacks(then, facts, bypass)) is not None:
            lacking[found[0]] += count
            example.setdefault(*found)
    if not total:
        return Problem(CheckpointReason.NO_NODES, "no agent that is ready says what its node is"), ""
    fit = total - lacking.total()
    others = ", ".join(f"{count} {reason}" for reason, count in sorted(lacking.items(), key=lambda item: -item[1]))
    if fit:
        return None, f"{fit} of {total} nodes could restore it" + (f"; the others: {others}" if others else "")
    most = max(lacking, key=lambda reason: lacking[reason])
    words = f"none of {total} nodes could restore it: {others}; on one of them: {example[most]}"
    return Problem(REASONS[most], words), ""
