"""What went wrong between the command line and the cluster, in words that say what to do next."""

from __future__ import annotations

import re
import shlex
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
_READING: Final = ("get", "list", "watch")
_SERVICE_ACCOUNT: Final = "system:serviceaccount:"
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
    verbs = "get,list,watch" if found["verb"] in _READING else found["verb"]
    role = _role(found)
    return (
        f"; a cluster administrator allows it with `kubectl create {kind} {role} --verb={verbs} "
        f"--resource={resource}{where}` and `kubectl create {kind}binding {role}-{_plain(_account(found['user']))} "
        f"--{kind}={role} {_subject(found['user'])}{where}`"
    )


def _role(found: re.Match[str]) -> str:
    """Name a role after what it allows: one name for all of them would be taken when the next right is missing."""
    deed = "read" if found["verb"] in _READING else found["verb"]
    return f"{ROLE}-{deed}-{_plain(found['resource'])}"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _account(user: str) -> str:
    return user.removeprefix(_SERVICE_ACCOUNT)


def _subject(user: str) -> str:
    account = _account(user)
    return shlex.join([f"--user={user}" if account == user else f"--serviceaccount={account}"])
