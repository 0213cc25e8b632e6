"""Which installation serves a namespace, and with which values: read from the ConfigMap that its processes read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from contract.config.values import Values, ValuesError, load_values
from kube.api import KubeClient, Object
from kube.errors import ForbiddenError, NotFoundError
from kube.resources import CONFIG_MAPS, NAMESPACES

SELECTOR: Final = "app.kubernetes.io/part-of=dynamo-snapshot,app.kubernetes.io/component=config"
CONFIG_KEY: Final = "config.yaml"
RELEASE_LABEL: Final = "app.kubernetes.io/instance"
_NAME_LABEL: Final = "kubernetes.io/metadata.name"
_OPT_OUT: Final = "nvidia.com/snapshot-restore"
_DEFAULTS_NOTE: Final = "answered with the chart's default values; give the real ones with --values"


@dataclass(frozen=True)
class Release:
    """An installation as far as it can be read."""

    values: Values
    title: str = ""
    """``name (namespace)``; empty if none was found."""
    namespace: str = ""
    notes: tuple[str, ...] = ()
    """What the reader of an answer must know about it."""
    namespace_labels: Mapping[str, str] | None = None
    """Labels of the namespace in question; None if they may not be read."""
    name: str = ""
    """Label of its objects; empty if none was found."""

    def unasked(self, namespace: str, pod_labels: Mapping[str, str] | None = None) -> str | None:
        """Say why the API server would not ask this release about such pods; None if it would."""
        return not_served(self, namespace, pod_labels) if self.title else None


async def find_release(kube: KubeClient, namespace: str) -> Release:
    """Find the release that serves *namespace*, else another, else the chart's defaults; the notes say which."""
    found, notes = await _config_maps(kube, namespace)
    labels = await _labels(kube, namespace)
    releases = [_release(obj, notes, labels) for obj in found]
    serving = [each for each in releases if each.unasked(namespace) is None]
    if serving or releases:
        return (serving or releases)[0]
    words = notes or (f"no release of the chart was found; {_DEFAULTS_NOTE}",)
    return Release(Values(), notes=words, namespace_labels=labels)


async def _config_maps(kube: KubeClient, namespace: str) -> tuple[tuple[Object, ...], tuple[str, ...]]:
    try:
        return (await kube.list(CONFIG_MAPS, labels=SELECTOR)).items, ()
    except ForbiddenError:
        pass
    try:
        here = (await kube.list(CONFIG_MAPS, namespace, labels=SELECTOR)).items
    except ForbiddenError as error:
        return (), (f"the installed values may not be read ({error}); {_DEFAULTS_NOTE}",)
    return here, () if here else (f"no release in namespace {namespace}, others may not be read; {_DEFAULTS_NOTE}",)


async def _labels(kube: KubeClient, namespace: str) -> Mapping[str, str] | None:
    try:
        found = await kube.get(NAMESPACES, namespace)
    except (ForbiddenError, NotFoundError):
        return None
    labels: Mapping[str, str] = found["metadata"].get("labels") or {}
    return labels


def _release(config: Object, notes: tuple[str, ...], labels: Mapping[str, str] | None) -> Release:
    metadata = config["metadata"]
    name = (metadata.get("labels") or {}).get(RELEASE_LABEL, metadata["name"])
    title = f"{name} ({metadata['namespace']})"
    try:
        values = load_values(str((config.get("data") or {}).get(CONFIG_KEY, "")))
    except ValuesError as error:
        # Another version of the chart may know other values.
        values, notes = Values(), (*notes, f"the values of release {title} cannot be read: {error}; {_DEFAULTS_NOTE}")
    return Release(values, title, metadata["namespace"], notes, labels, name)


def not_served(release: Release, namespace: str, pod_labels: Mapping[str, str] | None) -> str | None:
    """Say why pods of *namespace* never reach the webhook of *release*, as the chart writes its configuration."""
    values = release.values
    if values.coexist == "agentOnly":
        return f"release {release.title} has no webhook (coexist: agentOnly)"
    labels = {**(release.namespace_labels or {}), _NAME_LABEL: namespace}
    selector = values.webhook.namespace_selector
    if selector:
        if release.namespace_labels is not None and not selects(selector, labels):
            return f"namespace {namespace} is outside webhook.namespaceSelector of release {release.title}"
    elif values.rbac.namespace_restricted and namespace != release.namespace:
        return (
            f"release {release.title} serves its own namespace only (rbac.namespaceRestricted=true), "
            f"so it is not asked about pods of {namespace}"
        )
    elif not values.rbac.namespace_restricted and labels.get(_OPT_OUT) == "disabled":
        return f"namespace {namespace} has opted out with label {_OPT_OUT}: disabled"
    wanted = values.webhook.object_selector
    if wanted and pod_labels is not None and not selects(wanted, pod_labels):
        return f"the pod's labels are outside webhook.objectSelector of release {release.title}"
    return None


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Say whether a Kubernetes label selector matches."""
    exact = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in exact.items()) and all(
        _fits(each, labels) for each in selector.get("matchExpressions") or ()
    )


def _fits(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = expression.get("key"), expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return labels.get(str(key)) in values
        case "NotIn":
            return labels.get(str(key)) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels
