import base64
import json

import jsonpatch
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.api import keys
from contract.api.states import Admission
from contract.config.values import load_values
from tests.support.builders.objects import container, opted_in, pod, ready, review
from webhook.review import LABELS, BadReviewError, answer, malformed

VALUES = load_values("")


def ask(body, *stored):
    found = {item["metadata"]["name"]: item for item in stored}
    return answer(orjson.dumps(body), lambda _, name: found.get(name), VALUES)


def test_a_shaped_pod():
    body = review(opted_in())
    result = ask(body, ready())
    told = json.loads(result.body)
    assert ("admission.k8s.io/v1", "AdmissionReview") == (told["apiVersion"], told["kind"])
    response = told["response"]
    assert ("0b5d", True, "JSONPatch") == (response["uid"], response["allowed"], response["patchType"])
    assert {"admission": "restore-shaped"} == response["auditAnnotations"]
    assert "warnings" not in response
    patch = json.loads(base64.b64decode(response["patch"]))
    shaped = jsonpatch.JsonPatch(patch).apply(body["request"]["object"])
    assert "restore-shaped" == shaped["metadata"]["annotations"][keys.ANN_ADMISSION]
    assert Admission.RESTORE_SHAPED == result.label


def test_a_pod_that_did_not_ask_gets_no_patch():
    response = json.loads(ask(review(pod())).body)["response"]
    assert {"uid", "allowed", "status", "auditAnnotations"} == response.keys()


def test_a_cold_start_is_a_warning():
    (warning,) = json.loads(ask(review(opted_in())).body)["response"]["warnings"]
    assert "DynamoCheckpoint ns/qwen does not exist" in warning


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"{", "not JSON", id="cut-off"),
        pytest.param(b"\xff\xfe", "not JSON", id="not-utf8"),
        pytest.param(b"[]", "kind must be AdmissionReview", id="list"),
        pytest.param(b'{"kind":"Pod"}', "kind must be AdmissionReview", id="other-kind"),
        pytest.param(
            b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1"}', "v1beta1", id="other-version"
        ),
        pytest.param(b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}', "request.uid", id="no-request"),
        pytest.param(
            b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":""}}',
            "request.uid",
            id="no-uid",
        ),
    ],
)
def test_what_is_no_review_is_refused_with_the_reason(body, message):
    with pytest.raises(BadReviewError, match=message):
        answer(body, lambda *_: None, VALUES)


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        pytest.param({"spec": []}, "spec must be an object", id="spec"),
        pytest.param({"metadata": {"labels": ["a"]}}, "metadata.labels must map text to text", id="labels"),
        pytest.param({"metadata": {"annotations": {"a": 1}}}, "metadata.annotations must map", id="annotations"),
        pytest.param({"spec": {"containers": "x"}}, "spec.containers must be a list", id="containers"),
        pytest.param({"spec": {"volumes": [1]}}, "spec.volumes[0] must be an object", id="volumes"),
        pytest.param({"spec": {"volumes": [None]}}, "spec.volumes must be a list of objects", id="null-volume"),
        pytest.param(
            {"spec": {"containers": [container(startupProbe={"periodSeconds": "x"})]}},
            "spec.containers[0].startupProbe.periodSeconds must be a whole number",
            id="probe",
        ),
        pytest.param({"spec": {"containers": [container(env={"a": 1})]}}, "spec.containers[0].env must", id="env"),
        pytest.param({"spec": {"containers": [container(command="run")]}}, "containers[0].command", id="command"),
        pytest.param({"spec": {"containers": [{"image": "x"}]}}, "containers[0].name must not be empty", id="name"),
        pytest.param(
            {"spec": {"containers": [container(image=["x"])]}}, "containers[0].image must be text", id="image"
        ),
    ],
)
def test_what_is_no_pod_is_told_by_field(parts, problem):
    assert problem in malformed(opted_in() | {"metadata": {}} | parts)


def test_a_pod_is_not_malformed():
    assert malformed(opted_in()) is None


def test_what_is_no_pod_is_denied():
    """The only answer that denies: the API server sends whole pods, so this is somebody else calling."""
    result = ask(review(opted_in(container(env={"a": 1}))), ready())
    response = json.loads(result.body)["response"]
    assert ("0b5d", False, 400) == (response["uid"], response["allowed"], response["status"]["code"])
    assert "spec.containers[0].env must be a list of objects" in response["status"]["message"]
    assert "bad-object" == result.label


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "env", "command", "image", "containers", "volumes", "metadata", "spec", "labels"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    st.builds(
        lambda spec, main: opted_in() | {"spec": spec if spec is not None else {"containers": [main]}},
        st.none() | anything,
        anything,
    )
)
def test_whatever_comes_is_answered_with_its_uid(obj):
    """Garbage where a pod should be ends in a denial or an unshaped pod, never in an exception."""
    result = ask(review(obj), ready())
    response = json.loads(result.body)["response"]
    assert "0b5d" == response["uid"]
    assert result.label in LABELS
