"""What went wrong between the command line and the cluster, in words that say what to do next."""

from __future__ import annotations

import re
from typing import Final

from contract.api import keys
from kube.errors import (
    ConfigError,
    ForbiddenError,
    KubeError,
    NotFoundError,
    ServerUnavailableError,
    UnauthorizedError,
)

ROLE: Final = "snapshot-user"
_FORBIDDEN: Final = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]+)")?'
)
NOT_INSTALLED: Final = (
    f"the cluster does not know {keys.CHECKPOINT_KIND}; install the chart: "
    "`helm install snapshot charts/snapshot --namespace NAMESPACE --create-namespace`, "
    "or only its resource definitions: `kubectl apply --server-side -f charts/snapshot/crds`"
)


def not_installed(error: KubeError) -> bool:
    """Distinguish a kind that the server does not know from an object that does not exist."""
    return isinstance(error, NotFoundError) and error.of_kind


def explain(error: KubeError) -> str:
    """Say in one line what happened, and the next command to type."""
    if isinstance(error, ConfigError):
        return str(error)
    if not_installed(error):
        return NOT_INSTALLED
    if isinstance(error, UnauthorizedError):
        return f"the cluster refuses the credentials: {error}; log in again, or choose another with --kube-context"
    if isinstance(error, ForbiddenError):
        return f"{error}{_allow(error)}"
    if isinstance(error, ServerUnavailableError):
        return f"the API server gives no answer: {error}; is it the right cluster? `kubectl cluster-info`"
    return str(error)


def _allow(error: ForbiddenError) -> str:
    found = _FORBIDDEN.search(error.message)
    if found is None:
        return ""
    resource = found["resource"] + (f".{found['group']}" if found["group"] else "")
    namespace = found["namespace"]
    kind, where = ("role", f" -n {namespace}") if namespace else ("clusterrole", "")
    verbs = "get,list,watch" if found["verb"] in ("get", "list", "watch") else found["verb"]
    return (
        f"; a cluster administrator allows it with `kubectl create {kind} {ROLE} --verb={verbs} "
        f"--resource={resource}{where}` and `kubectl create {kind}binding {ROLE} --{kind}={ROLE} "
        f"{_subject(found['user'])}{where}`"
    )


def _subject(user: str) -> str:
    account = user.removeprefix("system:serviceaccount:")
    return f"--user={user}" if account == user else f"--serviceaccount={account}"
