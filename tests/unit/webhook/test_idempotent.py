"""Pods of every kind: a second look changes nothing, others' work stays, and the order of webhooks does not matter."""

import re
from itertools import permutations
from random import Random

import jsonpatch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.api import keys
from contract.api.states import Admission
from contract.config.values import load_values
from contract.pods.placeholder import waits
from contract.pods.restore_patch import STALE_ANNOTATIONS
from tests.support.builders.objects import IMAGE, checkpoint, container, copied, ready, request
from tests.support.builders.pods import checkpoint_of, random_pod
from webhook.decide import decide

PODS = 2000
PODS_AT_ONCE = 20
ORDERS_OF = 12
"""Pods that are sent through all orders of five webhooks."""
VALUES = [
    load_values(""),
    load_values("{storage: {accessMode: podMount}, admission: {nodeAffinity: Preferred}}"),
    load_values("{placeholder: {mode: inject}, startupPolicy: WaitForCheckpoint}"),
    load_values("{placeholder: {mode: inject, inject: {via: imageVolume, pullSecrets: [{name: tools}]}}}"),
    load_values("{checkpoint: {seccomp: {disabled: true}}, admission: {nodeAffinity: None}}"),
]
OTHER_IMAGE = "example.test/vllm-placeholder:0"
"""Captured for pods that accept the checkpoint's image."""


def world(obj, chance):
    """What is stored when the pod comes: its checkpoint in some phase, or none."""
    phase = chance.choice(["Ready", "Ready", "Ready", "Pending", "Failed", None])
    if phase is None:
        return {}
    image = {"reference": chance.choice([IMAGE, OTHER_IMAGE]), "entrypoint": ["/entry"], "cmd": ["serve"]}
    status = {"phase": phase} | ({"image": image} if phase == "Ready" else {})
    named = ready("qwen", status=ready()["status"] | status) if phase == "Ready" else checkpoint("qwen", status=status)
    stored = [named, checkpoint_of(obj, **status)]
    return {item["metadata"]["name"]: item for item in stored}


def case(seed):
    chance = Random(seed)
    obj = random_pod(chance)
    return obj, world(obj, chance), chance.choice(VALUES)


def patch(obj, stored, values):
    before = copied(obj)
    decision = decide(request(obj), lambda _, name: stored.get(name), values)
    assert before == obj
    return decision


def apply(obj, decision):
    return jsonpatch.JsonPatch(copied(decision.operations)).apply(copied(obj), in_place=True)


def of_random_pods(pods):
    """Check a property of so many pods, each made from a seed; some at a time, as drawing one costs more than a pod."""

    def made(check):
        @settings(max_examples=pods // PODS_AT_ONCE, deadline=None)
        @given(st.integers(0, 2**64))
        def test(first):
            for seed in range(first, first + PODS_AT_ONCE):
                check(seed)

        test.__name__ = test.__qualname__ = check.__name__
        return test

    return made


@of_random_pods(PODS)
def test_a_second_look_changes_nothing(seed):
    obj, stored, values = case(seed)
    decision = patch(obj, stored, values)
    again = patch(apply(obj, decision), stored, values)
    assert () == again.operations
    assert again.code in (decision.code, Admission.ALREADY_SHAPED)


OWN_ENVIRONMENT = ("DYN_SNAPSHOT_", "DYN_CHECKPOINT_")
OURS = {
    keys.CONTROL_VOLUME,
    keys.STORAGE_VOLUME,
    keys.SHARED_MEMORY_VOLUME,
    keys.TOOLS_VOLUME,
    keys.SCHEDULING_GATE,
    "tools",
}


def by_name(items):
    return {item["name"]: item for item in items or ()}


def check_list(before, after, field):
    """Items of a list by name: all that were there are there as they were; what is new is ours."""
    old, new = by_name(before.get(field)), by_name(after.get(field))
    assert old == {name: new.get(name) for name in old}
    assert new.keys() - old.keys() <= OURS
    kept = [item["name"] for item in after.get(field) or () if item["name"] in old]
    assert list(old) == kept, "in their order"


def check_container(before, after):
    """A target: its own command behind standby, its own environment and mounts beside ours."""
    ours = {"command", "env", "volumeMounts", "startupProbe", "image", "args"}
    assert {k: v for k, v in before.items() if k not in ours} == {k: v for k, v in after.items() if k not in ours}
    own = after["command"][after["command"].index("--") + 1 :]
    assert (before.get("command") or own) == own
    assert before["image"] == after["image"] or after["image"] == OTHER_IMAGE
    # Arguments are the pod's own; only where a stock image's command is written out do its own join them.
    assert (before.get("args") or after.get("args")) == after.get("args")
    own = [entry for entry in before.get("env") or () if not entry["name"].startswith(OWN_ENVIRONMENT)]
    assert own == [entry for entry in after["env"] if not entry["name"].startswith(OWN_ENVIRONMENT)]
    check_list(before, after, "volumeMounts")
    probe = before.get("startupProbe") or before.get("livenessProbe") or before.get("readinessProbe")
    gate = after.get("startupProbe") or {}
    assert gate or "httpGet" in before["readinessProbe"]
    if "httpGet" in gate:
        assert probe["httpGet"] == gate["httpGet"]
    elif gate and not waits(after):  # of a placeholder standby asks by itself what kubelet would
        assert ((probe or {}).get("exec") or {}).get("command", []) == gate["exec"]["command"][5:]


def check_spec(before, after):
    ours = {"containers", "initContainers", "volumes", "imagePullSecrets", "schedulingGates"}
    ours |= {"securityContext", "affinity"}
    assert {k: v for k, v in before.items() if k not in ours} == {k: v for k, v in after.items() if k not in ours}
    for field in ("initContainers", "volumes", "imagePullSecrets", "schedulingGates"):
        check_list(before, after, field)
    for old, new in zip(before["containers"], after["containers"], strict=True):
        if old["name"] == "main":
            check_container(old, new)
        else:
            assert old == new
    context = after.get("securityContext") or {}
    assert (before.get("securityContext") or {}) | {"seccompProfile": context.get("seccompProfile")} == context | {
        "seccompProfile": context.get("seccompProfile")
    }
    check_affinity(before.get("affinity") or {}, after.get("affinity") or {})


def check_affinity(before, after):
    assert {k: v for k, v in before.items() if k != "nodeAffinity"} == {
        k: v for k, v in after.items() if k != "nodeAffinity"
    }
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    terms = (before.get("nodeAffinity") or {}).get(required, {}).get("nodeSelectorTerms", [])
    found = (after.get("nodeAffinity") or {}).get(required, {}).get("nodeSelectorTerms", [])
    for old, new in zip(terms, found[: len(terms)], strict=True):
        assert all(expression in new["matchExpressions"] for expression in old["matchExpressions"])


@of_random_pods(PODS)
def test_nothing_of_others_is_removed_or_replaced(seed):
    obj, stored, values = case(seed)
    decision = patch(obj, stored, values)
    result = apply(obj, decision)
    labels, notes = obj["metadata"]["labels"], obj["metadata"]["annotations"]
    assert labels.items() <= result["metadata"]["labels"].items()
    kept = {key: value for key, value in notes.items() if not key.startswith("nvidia.com/")}
    assert kept.items() <= result["metadata"]["annotations"].items()
    if decision.code in (Admission.RESTORE_SHAPED, Admission.HELD, Admission.PLACEHOLDER):
        check_spec(obj["spec"], result["spec"])
    else:
        assert obj["spec"] == result["spec"]


PATHS = re.compile(
    r"""/metadata/(labels|annotations)
    | /metadata/(labels|annotations)/nvidia\.com~1[a-zA-Z0-9.-]+
    | /spec/containers/\d+/(image|command|args|env|env/-|env/\d+|startupProbe|volumeMounts|volumeMounts/-)
    | /spec/(volumes|imagePullSecrets|schedulingGates)(/-)?
    | /spec/initContainers(/0)?
    | /spec/affinity
    | /spec/securityContext(/seccompProfile)?
    """,
    re.VERBOSE,
)
STALE = "|".join(re.escape(key.replace("/", "~1")) for key in STALE_ANNOTATIONS)
REMOVED = re.compile(rf"/metadata/annotations/({STALE}|nvidia\.com~1snapshot-(restore-|storage-).+)")


@of_random_pods(PODS)
def test_operations_stay_within_what_is_allowed(seed):
    obj, stored, values = case(seed)
    for operation in patch(obj, stored, values).operations:
        allowed = REMOVED if operation["op"] == "remove" else PATHS
        assert operation["op"] in {"add", "replace", "remove"}
        assert allowed.fullmatch(operation["path"]), operation


def with_future_fields(value, chance):
    """Fields that no API server of today knows, anywhere."""
    if isinstance(value, dict):
        result = {key: with_future_fields(item, chance) for key, item in value.items()}
        return result | ({"futureField": {"a": [1, {"b": None}]}} if chance.random() < 0.2 else {})
    return [with_future_fields(item, chance) for item in value] if isinstance(value, list) else value


def future_fields(value):
    if isinstance(value, dict):
        return ("futureField" in value) + sum(future_fields(v) for k, v in value.items() if k != "futureField")
    return sum(map(future_fields, value)) if isinstance(value, list) else 0


@of_random_pods(PODS // 4)
def test_fields_of_the_future_pass_through(seed):
    obj, stored, values = case(seed)
    obj["spec"] = with_future_fields(obj["spec"], Random(seed))
    result = apply(obj, patch(obj, stored, values))
    assert future_fields(result["spec"]) >= future_fields(obj["spec"]) - replaced_entries(obj)


def replaced_entries(obj):
    """Environment entries of our names, the startup probe and the pod's seccomp profile are replaced whole."""
    main = next(each for each in obj["spec"]["containers"] if each["name"] == "main")
    seccomp = future_fields((obj["spec"].get("securityContext") or {}).get("seccompProfile"))
    return (
        seccomp
        + future_fields(main.get("startupProbe") or {})
        + sum(future_fields(entry) for entry in main.get("env") or () if entry["name"].startswith(OWN_ENVIRONMENT))
    )


def add_sidecar(obj):
    spec = obj["spec"]
    if "istio-proxy" not in by_name(spec["containers"]):
        spec["containers"] = [container("istio-proxy", image="mesh:1"), *spec["containers"]]
        spec["initContainers"] = [container("istio-init", image="mesh:1"), *spec.get("initContainers", [])]


def add_volume(obj):
    spec = obj["spec"]
    if "vault" not in by_name(spec.get("volumes")):
        spec["volumes"] = [{"name": "vault", "emptyDir": {"medium": "Memory"}}, *spec.get("volumes", [])]
        for each in spec["containers"]:
            if each["name"] != "main":
                each["volumeMounts"] = [*each.get("volumeMounts", []), {"name": "vault", "mountPath": "/vault"}]


def add_labels(obj):
    obj["metadata"].setdefault("labels", {})["example.com/mesh"] = "on"
    obj["metadata"].setdefault("annotations", {})["example.com/injected"] = "yes"


def add_scheduling(obj):
    spec = obj["spec"]
    gates = spec.setdefault("schedulingGates", [])
    if {"name": "example.com/queue"} not in gates:
        gates.append({"name": "example.com/queue"})
    spec.setdefault("nodeSelector", {})["queue"] = "a"


OTHERS = [add_sidecar, add_volume, add_labels, add_scheduling]


def admitted(obj, order, stored, values):
    """As the API server does it: each webhook in turn, and all once more if a later one changed something."""
    obj = copied(obj)
    for _ in range(2):
        for step in order:
            if step is None:
                obj = apply(obj, patch(obj, stored, values))
            else:
                step(obj)
    return obj


def ours_in(obj):
    """All that is ours, wherever it stands in its list."""
    spec, main = obj["spec"], by_name(obj["spec"]["containers"])["main"]
    notes = obj["metadata"]["annotations"]
    return {
        "labels": {key: value for key, value in obj["metadata"]["labels"].items() if key.startswith("nvidia.com/")},
        "annotations": {key: value for key, value in notes.items() if key.startswith("nvidia.com/")},
        "target": main,
        "volumes": {name: item for name, item in by_name(spec.get("volumes")).items() if name in OURS},
        "inits": {name: item for name, item in by_name(spec.get("initContainers")).items() if name in OURS},
        "gated": {"name": keys.SCHEDULING_GATE} in spec.get("schedulingGates", []),
        "affinity": spec.get("affinity"),
        "seccomp": (spec.get("securityContext") or {}).get("seccompProfile"),
        "secrets": spec.get("imagePullSecrets"),
    }


@pytest.mark.parametrize("seed", range(ORDERS_OF))
def test_all_orders_of_four_other_webhooks_end_alike(seed):
    obj, stored, values = case(seed)
    found = [ours_in(admitted(obj, order, stored, values)) for order in permutations([None, *OTHERS])]
    assert 120 == len(found)
    assert all(found[0] == other for other in found)


def test_the_random_pods_are_of_every_kind():
    """Else the properties above would say little."""
    codes = [patch(*case(seed)).code for seed in range(400)]
    wanted = {Admission.RESTORE_SHAPED, Admission.HELD, Admission.CHECKPOINT_REQUESTED, Admission.CHECKPOINT_FAILED}
    wanted |= {Admission.NO_READY_SIGNAL, Admission.POD_UNSUPPORTED, Admission.IMAGE_MISMATCH}
    wanted |= {Admission.ENTRYPOINT_UNKNOWN, Admission.CHECKPOINT_NOT_READY, Admission.CHECKPOINT_NOT_FOUND}
    assert wanted <= set(codes)
    assert codes.count(Admission.RESTORE_SHAPED) > 40
