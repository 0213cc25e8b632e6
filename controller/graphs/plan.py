"""From a graph as it is to what is done next, as one pure function.

A service becomes one Deployment, whose pods are candidates for restore from the first template on: that its
checkpoint becomes Ready later changes nothing in it, so nothing that runs is restarted. With WaitForCheckpoint new
workers wait: a Deployment that is not there yet has no replicas until the checkpoint is Ready, and one that runs an
older generation goes on with it. A checkpoint that failed, or is not there in time, delays no worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from contract.api import keys
from contract.api.checkpoint import annotations_of, controller_of, find_container, is_automatic, labels_of
from contract.api.states import DeletionPolicy, GraphReason
from contract.config.values import Values
from contract.pods.template_hash import automatic_name
from controller.graphs import identity
from controller.graphs.actions import (
    Action,
    ApplyDeployment,
    CreateCheckpoint,
    DeleteCheckpoint,
    DeleteDeployment,
    PatchCheckpoint,
)
from controller.graphs.objects import Graph, checkpoint, deployment, graph_uid
from controller.graphs.observed import Observed, Problem, Standing, standing_of
from controller.graphs.services import CheckpointPolicy, Service, services_of
from controller.graphs.status import ServiceOutcome, next_status
from controller.graphs.template import pod_template
from controller.graphs.waits import Waits
from controller.runtime.plan import Plan
from kube.api import Object
from kube.recorder import EventSpec
from kube.resources import CHECKPOINTS, DEPLOYMENTS

REFUSED_SECONDS: Final = 30.0
"""Seconds between tries of what the server forbids, or of a name that is taken: nothing signals when that changes."""


@dataclass(frozen=True, slots=True)
class _Generation:
    """The graph's wanted generation."""

    graph: Graph
    services: tuple[Service, ...]
    templates: Mapping[str, Object]
    worker_hash: str
    usable: Problem | None
    """Why no service can have a checkpoint here; None: they can."""
    waits: Waits


def plan(observed: Observed, now: datetime, values: Values) -> Plan[Action]:
    """Return what to do next for one graph that exists and is not being deleted."""
    generation = _generation(observed.graph, now, values)
    outcomes, actions = [], []
    for service in generation.services:
        outcome, more = _service(observed, generation, service)
        outcomes.append(outcome)
        actions += more
    actions += _removed(observed, generation)
    actions += _policies(observed, generation)
    actions += orphans(observed.labelled, generation.graph.uid)
    status, events = next_status(observed.graph, outcomes, now)
    notes = tuple(_made(actions))
    return Plan(tuple(actions), status, (*notes, *events), _next_look(observed, outcomes))


def _next_look(observed: Observed, outcomes: Iterable[ServiceOutcome]) -> float | None:
    moments = [each.wait.left for each in outcomes if each.held]
    if observed.refusals or any(each.problem is not None and each.problem.fatal for each in outcomes):
        moments.append(REFUSED_SECONDS)
    return min(moments, default=None)


def orphans(labelled: Iterable[Object], uid: str) -> list[Action]:
    """Release or delete automatic checkpoints of a deleted graph; *uid* is that of the graph of their name, if any."""
    actions: list[Action] = []
    for each in labelled:
        made_for = graph_uid(each)
        if not is_automatic(each) or not made_for or made_for == uid or each["metadata"].get("deletionTimestamp"):
            continue
        if annotations_of(each).get(keys.ANN_DELETION_POLICY) == DeletionPolicy.RETAIN:
            metadata = {"labels": {keys.LABEL_GRAPH: None}, "ownerReferences": _others(each, made_for)}
            actions.append(PatchCheckpoint(each, metadata))
        else:
            actions.append(DeleteCheckpoint(each))
    return actions


def _generation(graph: Object, now: datetime, values: Values) -> _Generation:
    services = services_of(graph, values.startup_policy)
    templates = {service.name: pod_template(graph, service) for service in services}
    workers = [(service.name, templates[service.name]) for service in services if service.is_worker]
    before = (graph.get("status") or {}).get("checkpoints") or {}
    return _Generation(
        graph=Graph.of(graph),
        services=services,
        templates=templates,
        worker_hash=identity.worker_hash(workers),
        usable=_usable(graph["metadata"], values),
        waits=Waits(before, now, values.wait_timeout_seconds),
    )


def _usable(metadata: Mapping[str, Any], values: Values) -> Problem | None:
    if not values.checkpoint.enabled:
        words = "checkpoints are switched off, workers start cold; set the chart value checkpoint.enabled=true"
        return Problem(GraphReason.CHECKPOINTS_DISABLED, words)
    if metadata.get("namespace") in values.webhook.excluded_namespaces:
        words = "the namespace is excluded, workers start cold; see the chart value webhook.excludedNamespaces"
        return Problem(GraphReason.CHECKPOINTS_DISABLED, words)
    return None


def _service(observed: Observed, generation: _Generation, service: Service) -> tuple[ServiceOutcome, list[Action]]:
    template = generation.templates[service.name]
    policy = service.policy
    problem = _unfit(observed, generation, service, template)
    if policy is None or problem is not None:
        outcome = ServiceOutcome(service, observed.deployments.get(service.deployment), problem=problem)
        fatal = problem is not None and problem.fatal
        return (outcome, []) if fatal else _deploy(observed, generation, outcome, template)
    outcome, actions = _checkpoint(observed, generation, service, policy, template)
    wait = generation.waits.of(service, outcome.checkpoint_name, outcome.standing, outcome.checkpoint)
    outcome, more = _deploy(observed, generation, replace(outcome, wait=wait), template)
    return outcome, [*actions, *more]


def _unfit(observed: Observed, generation: _Generation, service: Service, template: Object) -> Problem | None:
    """Say why the service cannot be made, or cannot have the checkpoint that it requests."""
    name = service.deployment
    if twins := [each.name for each in generation.services if each.deployment == name and each != service]:
        words = f"its Deployment {name} would be that of service {twins[0]} too; rename one of them"
        return Problem(GraphReason.NAME_TAKEN, words, fatal=True)
    if owner := observed.taken.get(name):
        words = f"Deployment {name} exists and belongs to {owner}; delete it, or rename the service"
        return Problem(GraphReason.NAME_TAKEN, words, fatal=True)
    if service.nodes != 1:
        words = "multinode.nodeCount must be 1: a Deployment's pods do not form groups; use one node a replica"
        return Problem(GraphReason.SERVICE_INVALID, words, fatal=True)
    if service.policy is None:
        return None
    return _unfit_policy(service, service.policy, template) or generation.usable


def _unfit_policy(service: Service, policy: CheckpointPolicy, template: Object) -> Problem | None:
    if service.gpu_memory_service:
        words = "GPU memory service together with a checkpoint is not supported; switch one of the two off"
        return Problem(GraphReason.GMS_DISABLED, words, fatal=True)
    if not service.is_worker:
        words = f"componentType {service.kind} has nothing to restore; only worker, prefill and decode have checkpoints"
        return Problem(GraphReason.NOT_A_WORKER, words)
    if find_container(template["spec"], policy.target) is None or len(policy.target) > keys.MAX_CONTAINER_NAME:
        words = (
            f"checkpoint.targetContainerName {policy.target!r} must be a container of extraPodSpec "
            f"with at most {keys.MAX_CONTAINER_NAME} characters"
        )
        return Problem(GraphReason.TARGET_MISSING, words)
    return None


def _checkpoint(
    observed: Observed, generation: _Generation, service: Service, policy: CheckpointPolicy, template: Object
) -> tuple[ServiceOutcome, list[Action]]:
    """Return the state of the service's checkpoint, and the action that makes it if there is none."""
    live = observed.deployments.get(service.deployment)
    if policy.reference:
        name = observed.referred.get(policy.reference)
        found = observed.checkpoint(name) if name else None
        problem = None if found is not None else _not_found(generation.graph, policy)
        # A checkpoint of that name may come yet; then new pods find it, and the template need not change.
        named = name or policy.reference
        return ServiceOutcome(service, live, named, "", found, standing_of(found), problem), []
    checkpoint_id = generation.graph.checkpoint_id(service, generation.worker_hash)
    name = automatic_name(checkpoint_id)
    found = observed.checkpoint(name)
    refusal = observed.refusals.get(f"{CHECKPOINTS.kind}/{name}")
    problem = None
    if refusal is not None and found is None:
        problem = Problem(GraphReason.CHECKPOINT_REFUSED, f"DynamoCheckpoint {name} is refused: {refusal}")
    standing = Standing.FAILED if problem else standing_of(found)
    outcome = ServiceOutcome(service, live, name, checkpoint_id, found, standing, problem)
    if found is not None or problem is not None:
        return outcome, []
    return outcome, [CreateCheckpoint(checkpoint(generation.graph, service, policy, template, generation.worker_hash))]


def _not_found(graph: Graph, policy: CheckpointPolicy) -> Problem:
    words = (
        f"no DynamoCheckpoint of namespace {graph.namespace} has the name or the checkpoint id {policy.reference!r}; "
        "create it (a reference never does), correct checkpointRef, or remove it for an automatic checkpoint"
    )
    return Problem(GraphReason.CHECKPOINT_NOT_FOUND, words)


def _deploy(
    observed: Observed, generation: _Generation, outcome: ServiceOutcome, template: Object
) -> tuple[ServiceOutcome, list[Action]]:
    service, live = outcome.service, outcome.deployment
    name = outcome.checkpoint_name or None
    body = deployment(generation.graph, service, template, name, service.replicas)
    there = live is not None and _is_applied(live, body)
    if not outcome.wait.left or (there and outcome.standing == Standing.READY):
        return _apply(observed, outcome, body)
    if live is not None and (live.get("spec") or {}).get("replicas"):
        # Workers of an older generation, or from before a new capture: they serve on, the new ones wait.
        return outcome.waiting(), []
    return _apply(observed, outcome.waiting(), deployment(generation.graph, service, template, name, 0))


def _apply(observed: Observed, outcome: ServiceOutcome, body: Object) -> tuple[ServiceOutcome, list[Action]]:
    service, live = outcome.service, outcome.deployment
    if refusal := observed.refusals.get(f"{DEPLOYMENTS.kind}/{service.deployment}"):
        words = f"Deployment {service.deployment} is refused: {refusal}; correct the service"
        return outcome.failed(Problem(GraphReason.DEPLOYMENT_REFUSED, words, fatal=True)), []
    if live is not None and _is_applied(live, body):
        return outcome, []
    return outcome.rolling(), [ApplyDeployment(body)]


def _is_applied(live: Object, body: Object) -> bool:
    """Say whether this very configuration was applied last: later changes by others, like an autoscaler's, stay."""
    same = annotations_of(live).get(keys.ANN_APPLIED) == annotations_of(body)[keys.ANN_APPLIED]
    return same and controller_of(live) is not None


def _removed(observed: Observed, generation: _Generation) -> list[Action]:
    wanted = {service.deployment for service in generation.services}
    return [
        DeleteDeployment(each)
        for name, each in observed.deployments.items()
        if name not in wanted and not each["metadata"].get("deletionTimestamp")
    ]


def _policies(observed: Observed, generation: _Generation) -> list[Action]:
    """Return the deletion policy as the graph has it now, on every generation's checkpoint."""
    graph = generation.graph
    policies = {s.name: s.policy for s in generation.services if s.policy is not None and not s.policy.reference}
    actions: list[Action] = []
    for each in observed.labelled:
        policy = policies.get(labels_of(each).get(keys.LABEL_COMPONENT, ""))
        if policy is None or graph_uid(each) != graph.uid or each["metadata"].get("deletionTimestamp"):
            continue
        owners = _others(each, graph.uid)
        if policy.deletion == DeletionPolicy.DELETE:
            owners = [*owners, graph.owner()]
        said = annotations_of(each).get(keys.ANN_DELETION_POLICY)
        if said != policy.deletion or owners != (each["metadata"].get("ownerReferences") or []):
            metadata = {"annotations": {keys.ANN_DELETION_POLICY: policy.deletion.value}, "ownerReferences": owners}
            actions.append(PatchCheckpoint(each, metadata))
    return actions


def _others(obj: Object, uid: str) -> list[Object]:
    return [owner for owner in obj["metadata"].get("ownerReferences") or () if owner.get("uid") != uid]


def _made(actions: Iterable[Action]) -> Iterable[EventSpec]:
    for action in actions:
        match action:
            case CreateCheckpoint(body):
                component = labels_of(body).get(keys.LABEL_COMPONENT)
                words = f"created DynamoCheckpoint {body['metadata']['name']} for service {component}"
                yield EventSpec("Normal", GraphReason.CHECKPOINT_CREATED, words)
            case DeleteDeployment(removed):
                words = f"removed Deployment {removed['metadata']['name']}: the graph has no such service"
                yield EventSpec("Normal", GraphReason.DEPLOYMENT_REMOVED, words)
            case _:
                pass
