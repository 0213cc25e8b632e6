"""Whatever is posted: an answer with the request's uid, or a refusal that says why; never an exception or a leak.

The API server sends only pods that it has parsed.  Somebody else in the cluster may post anything.
"""

import gc
import os
from contextlib import suppress
from pathlib import Path
from random import Random

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contract.api import keys
from contract.config.values import load_values
from tests.support.builders.objects import checkpoint, ready, review
from tests.support.builders.pods import auto_pod, checkpoint_of, random_pod, worker
from webhook.review import LABELS, BadReviewError, answer

REVIEWS = 10_000
GROWTH = 10 * 2**20
"""Bytes."""
INJECT = load_values("{placeholder: {mode: inject}, startupPolicy: WaitForCheckpoint, storage: {accessMode: podMount}}")
STORED = {item["metadata"]["name"]: item for item in (ready(), checkpoint("young"), checkpoint_of(auto_pod()))}


def everything(wanted):
    """A pod in which every field that admission reads is there."""
    obj = random_pod(Random(1), wanted=wanted)
    probe = {"exec": {"command": ["x"]}, "periodSeconds": 5, "failureThreshold": 3, "initialDelaySeconds": 1}
    downward = {"items": [{"path": "a", "fieldRef": {"fieldPath": "metadata.labels"}}]}
    term = {"matchExpressions": [{"key": "a", "operator": "Exists"}]}
    main = worker(
        env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}],
        envFrom=[{"configMapRef": {"name": "c"}}],
        resources={"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
        volumeMounts=[{"name": name, "mountPath": f"/{name}"} for name in ("d", "p", "e", "c")],
        volumeDevices=[{"name": "b", "devicePath": "/dev/b"}],
        securityContext={"runAsUser": 1},
        startupProbe=probe,
        livenessProbe=probe,
    )
    volumes = [
        {"name": "d", "downwardAPI": downward},
        {"name": "p", "projected": {"sources": [{"downwardAPI": downward}]}},
        {"name": "e", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "c"}},
    ]
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": term}],
        }
    }
    owned = {"fieldsV1": {"f:metadata": {"f:annotations": {f"f:{keys.ANN_TEMPLATE_HASH}": {}}}}}
    obj["metadata"] |= {"ownerReferences": [{"kind": "Job", "name": "j"}], "managedFields": [owned]}
    obj["spec"] |= {"containers": [main], "volumes": volumes, "affinity": affinity, "initContainers": [worker("i")]}
    obj["spec"] |= {"imagePullSecrets": [{"name": "s"}], "schedulingGates": [{"name": "g"}], "os": {"name": "linux"}}
    obj["spec"] |= {"securityContext": {"fsGroup": 1}, "serviceAccountName": "a"}
    return obj


def places(value, path=()):
    """Every place in a JSON value."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*path, key))


def with_garbage(value, path, garbage):
    """Return *value* with something else in one place; all beside it is shared, as nothing is written to it."""
    if not path:
        return garbage
    result = value.copy()
    result[path[0]] = with_garbage(value[path[0]], path[1:], garbage)
    return result


def check(body, values=INJECT):
    try:
        result = answer(body, lambda _, name: STORED.get(name), values)
    except BadReviewError:
        return
    response = orjson.loads(result.body)["response"]
    assert orjson.loads(body)["request"]["uid"] == response["uid"]
    assert result.label in LABELS
    assert response["allowed"] or "object cannot be read as a pod: " in response["status"]["message"]


PODS = [everything(wanted) for wanted in ("name", "auto", "graph")]
BY_HAND = 9
"""Examples that are always among them."""
WHERE = [(pod, path) for pod in map(review, PODS) for path in places(pod)]
GARBAGE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=REVIEWS // len(WHERE) + 1 - BY_HAND, deadline=None)
@given(GARBAGE)
@example(None)
@example([None])
@example([[]])
@example({})
@example([{}])
@example("")
@example(0)
@example(2**62)
@example("x" * 300)
def test_garbage_in_any_place(garbage):
    """Together at least 10,000 reviews, each with something strange in one place of a pod that is otherwise good."""
    for body, path in WHERE:
        check(orjson.dumps(with_garbage(body, path, garbage), default=str, option=orjson.OPT_PASSTHROUGH_DATACLASS))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2), st.integers(0, 2**32), st.binary(max_size=4), st.integers(0, 4))
def test_bytes_that_were_cut_or_changed(which, where, inserted, dropped):
    body = orjson.dumps(review(PODS[which]))
    at = where % len(body)
    check(body[:at])
    check(body[:at] + inserted + body[at + dropped :])


@pytest.mark.parametrize("depth", [10, 200, 900, 100_000])
@pytest.mark.parametrize("field", ["securityContext", "resources", "env"])
def test_depth(depth, field):
    """Deep nesting ends neither the process nor the answers."""
    body = orjson.dumps(review(auto_pod(worker(**{field: "HERE"}))))
    check(body.replace(b'"HERE"', b'[{"a":' * depth + b"1" + b"}]" * depth))


def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_ten_thousand_hostile_reviews_leave_nothing_behind():
    bodies = [orjson.dumps(with_garbage(body, path, [])) for body, path in WHERE]
    for body in bodies:
        check(body)
    gc.collect()
    before = resident()
    for _ in range(REVIEWS // len(bodies) + 1):
        for body in bodies:
            with suppress(BadReviewError):
                answer(body, lambda _, name: STORED.get(name), INJECT)
    gc.collect()
    assert resident() - before < GROWTH
