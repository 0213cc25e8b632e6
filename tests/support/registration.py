"""Our webhook as it is registered with the API server: the chart's entry, for a process that a test has started."""

import re
from base64 import b64encode
from pathlib import Path

import yaml

TEMPLATES = Path(__file__).parents[2] / "charts" / "snapshot" / "templates"
POD_CREATES = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}


def match_conditions():
    """Return the very conditions of the chart."""
    text = "".join(path.read_text() for path in sorted(TEMPLATES.glob("*.tpl")))
    (found,) = re.findall(r'define "snapshot.matchConditions" -\}\}\n(.+?)\{\{- end', text, re.DOTALL)
    return yaml.safe_load(found)


def configuration(webhook, name, *conditions, **fields):
    """Build the MutatingWebhookConfiguration *name*: *conditions* come after the chart's, *fields* are the entry's."""
    entry = {
        "name": "pods.snapshot.nvidia.com",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": webhook.url, "caBundle": b64encode(webhook.authority.bundle.encode()).decode()},
        # A pod that the webhook did not see in time would make another test than the one that was written.
        "failurePolicy": "Fail",
        "matchConditions": [*match_conditions(), *conditions],
        "reinvocationPolicy": "IfNeeded",
        "rules": [{**POD_CREATES, "scope": "Namespaced"}],
        "sideEffects": "None",
        "timeoutSeconds": 10,
    }
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
    return kind | {"metadata": {"name": name}, "webhooks": [entry | fields]}
