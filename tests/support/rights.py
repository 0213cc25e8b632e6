"""Rights that rendered objects grant, and rights that an audit log saw used: the two sides of least privilege."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
ANY = "*"
FORBIDDEN = 403


@dataclass(frozen=True, order=True)
class Right:
    """One verb on one resource, or on one object of it."""

    account: str
    """Name of the service account."""
    resource: str
    """``resource.group``, with ``/subresource`` if there is one."""
    name: str
    """Of the only object that it is for, else ``*``."""
    verb: str
    everywhere: bool = False
    """In all namespaces, or of cluster-scoped objects."""


def granted(objects: Iterable[Json]) -> set[Right]:
    """Return all rights of all service accounts, from roles and bindings."""
    found = list(objects)
    roles = {(o["kind"], o["metadata"]["name"]): o for o in found if o["kind"] in {"Role", "ClusterRole"}}
    rights = set()
    for binding in (o for o in found if o["kind"] in {"RoleBinding", "ClusterRoleBinding"}):
        reference = binding["roleRef"]
        for rule in roles[reference["kind"], reference["name"]]["rules"]:
            for subject in binding["subjects"]:
                rights |= set(_of_rule(subject["name"], rule, everywhere=binding["kind"].startswith("Cluster")))
    return rights


def _of_rule(account: str, rule: Json, *, everywhere: bool) -> Iterator[Right]:
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for name in rule.get("resourceNames", [ANY]):
                for verb in rule["verbs"]:
                    yield Right(account, _qualified(resource, group), name, verb, everywhere)


def _qualified(resource: str, group: str) -> str:
    plain, _, subresource = resource.partition("/")
    return plain + (f".{group}" if group else "") + (f"/{subresource}" if subresource else "")


def table(rights: Iterable[Right]) -> list[str]:
    """Return the rows of a Markdown table: who may do what, where."""
    rows: dict[tuple[str, str, str, str], list[str]] = {}
    for right in sorted(rights):
        where = "all namespaces" if right.everywhere else "own namespace"
        verbs = rows.setdefault((right.account, right.resource, right.name, where), [])
        verbs.append(right.verb)
    head = ["| service account | resource | object | verbs | where |", "|---|---|---|---|---|"]
    return head + [
        f"| {account} | {resource} | {'any' if name == ANY else name} | {' '.join(verbs)} | {where} |"
        for (account, resource, name, where), verbs in rows.items()
    ]


@dataclass
class Log:
    """What an audit log says of one namespace's service accounts."""

    used: set[tuple[str, str, str, str]]
    """Account, resource, name, verb."""
    denied: list[str]
    """Requests that were refused, by a role or by a policy, as sentences."""


def read_log(lines: Iterable[str], namespace: str) -> Log:
    """Return the audit log's requests of the service accounts of *namespace*."""
    log = Log(set(), [])
    prefix = f"system:serviceaccount:{namespace}:"
    for line in lines:
        if prefix not in line:
            continue
        event = json.loads(line)
        user = event["user"]["username"]
        about = event.get("objectRef")
        if not user.startswith(prefix) or not about or about.get("resource", "").startswith("selfsubject"):
            continue
        account = user.removeprefix(prefix)
        resource = about["resource"] + (f"/{about['subresource']}" if about.get("subresource") else "")
        use = (account, _qualified(resource, about.get("apiGroup", "")), about.get("name", ""), event["verb"])
        if event.get("annotations", {}).get("authorization.k8s.io/decision") == "allow":
            log.used.add(use)
        if (status := event.get("responseStatus", {})).get("code") == FORBIDDEN:
            where = about.get("namespace", "-")
            log.denied.append(f"{account}: {use[3]} {use[1]} {use[2]} in {where}: {status.get('message', '')}")
    return log


def unused(rights: Iterable[Right], log: Log) -> set[Right]:
    """Return the rights that no request of the log needed."""
    plain = {(account, resource, verb) for account, resource, _, verb in log.used}
    return {
        right
        for right in rights
        if (right.account, right.resource, right.verb) not in plain
        or (right.name != ANY and (right.account, right.resource, right.name, right.verb) not in log.used)
    }
