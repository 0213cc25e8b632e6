"""Whatever a file holds: an answer or a message, never a traceback."""

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.api import keys
from contract.config.values import Values
from snapshotctl.errors import InputError, UserError
from snapshotctl.explain.explainer import Explainer, about_manifests
from snapshotctl.explain.release import Release
from snapshotctl.offline.objects import read_manifests
from tests.support.builders.objects import ready
from tests.support.builders.pods import worker

WORDS = st.sampled_from(["main", "", "ns", "true", "auto", "enabled", keys.STANDBY, "Deployment", "Job", "web", "0"])
LEAVES = st.none() | st.booleans() | st.integers(-1, 2**33) | st.floats() | WORDS
PLAIN = """
kind metadata spec template containers initContainers volumes labels annotations name namespace generateName env command
args image volumeMounts jobTemplate volumeClaimTemplates serviceName completionMode status items ownerReferences
securityContext affinity imagePullSecrets startupProbe readinessProbe exec valueFrom fieldRef
"""
OURS = (
    keys.LABEL_RESTORE,
    keys.ANN_CHECKPOINT_NAME,
    keys.ANN_TARGET_CONTAINERS,
    keys.ANN_TEMPLATE_HASH,
    keys.ANN_ADMISSION,
    keys.ANN_STARTUP_POLICY,
    keys.LABEL_CHECKPOINT_ID,
)
FIELDS = st.sampled_from([*PLAIN.split(), *OURS])
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=5))


RELEASE = Release(Values())


def answered(obj, run=asyncio.run):
    """Whether there was an answer."""
    try:
        objects = read_manifests(json.dumps(obj), "file")
        oracle = Explainer(None, RELEASE, [ready()])
        return bool(run(about_manifests(oracle, objects, None, "ns")))
    except (InputError, UserError):
        return False


HEAD = "kind: Rollout\nmetadata: {name: x}\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        pytest.param("file: not YAML: nested too deeply", f"{HEAD}a: {'[' * 500}", id="deep-yaml"),
        pytest.param("file: not JSON: nested too deeply", "[" * 50_000, id="deep-json"),
        pytest.param("file: document 1: nested deeper than 100", "[" * 150 + "]" * 150, id="rather-deep-json"),
        pytest.param("file: not YAML: Exceeds the limit", f"{HEAD}a: {'1' * 5000}", id="long-number-in-yaml"),
        pytest.param("file: not JSON: Exceeds the limit", f'{{"a": {"1" * 5000}}}', id="long-number-in-json"),
        pytest.param("file: document 1: contains itself", f"{HEAD}spec: &a {{x: *a}}", id="alias-of-itself"),
    ],
)
def test_text_that_cannot_be_read_is_refused(words, text):
    with pytest.raises(InputError, match=words):
        read_manifests(text, "file")


def test_an_alias_is_read_as_what_it_stands_for():
    (obj,) = read_manifests(f"{HEAD}spec: {{a: &a {{x: 1}}, b: *a, c: [*a, *a]}}", "file")
    assert {"a": {"x": 1}, "b": {"x": 1}, "c": [{"x": 1}, {"x": 1}]} == obj["spec"]


@settings(max_examples=200, deadline=None)
@given(TREES)
def test_any_document(tree):
    answered(tree)


def replaced(obj, path, value):
    """A copy with one field replaced."""
    if not path:
        return value
    copy = list(obj) if isinstance(obj, list) else dict(obj)
    copy[path[0]] = replaced(obj[path[0]], path[1:], value)
    return copy


def paths(obj):
    yield ()
    items = obj.items() if isinstance(obj, dict) else enumerate(obj) if isinstance(obj, list) else ()
    for key, value in items:
        yield from ((key, *rest) for rest in paths(value))


LABELS = {keys.LABEL_RESTORE: "auto"}
ENV = [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
SPEC = {
    "containers": [
        worker(env=ENV, volumeMounts=[{"name": "data", "mountPath": "/data"}], resources={"limits": {"cpu": 1}})
    ],
    "volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "1Gi"}}],
    "securityContext": {"runAsUser": 1},
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}}},
}
WORKLOAD = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {"name": "web", "namespace": "ns"},
    "spec": {
        "serviceName": "web",
        "template": {"metadata": {"labels": LABELS, "annotations": {keys.ANN_CHECKPOINT_NAME: "qwen"}}, "spec": SPEC},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
    },
}
PATHS = [path for path in paths(WORKLOAD) if path]


@pytest.mark.parametrize(
    ("kind", "wish"),
    [("StatefulSet", "auto"), ("Deployment", "enabled"), ("CronJob", "auto"), ("Rollout", "auto"), ("Pod", "enabled")],
)
def test_one_wrong_field_anywhere(kind, wish):
    """Each field of a good workload in turn is of another type."""
    base = replaced(WORKLOAD, ("spec", "template", "metadata", "labels"), {keys.LABEL_RESTORE: wish})
    if kind == "CronJob":
        base = base | {"kind": kind, "spec": {"jobTemplate": {"spec": base["spec"]}}}
    elif kind == "Pod":
        template = base["spec"]["template"]
        base = {"kind": kind, "metadata": template["metadata"] | {"name": "x"}, "spec": template["spec"]}
    else:
        base = base | {"kind": kind}
    assert answered(base)
    with asyncio.Runner() as runner:
        for path in filter(None, paths(base)):
            for value in (None, [], {}, "", 1, {"a": 1}, [None]):
                answered(replaced(base, path, value), runner.run)
