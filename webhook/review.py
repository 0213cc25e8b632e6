"""From the bytes of an AdmissionReview to the bytes of its answer: no I/O, so that server and command line agree."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import orjson

from contract.api.states import Admission
from contract.api.volume_claims import Claims, unknown
from contract.config.values import Values
from webhook.candidate import Lookup
from webhook.decide import Decision, decide
from webhook.pod_schema import malformed

Json = dict[str, Any]

API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"
AUDIT_KEY: Final = "admission"
"""The API server's audit log shows it behind the name of the webhook."""
LABEL_BAD_OBJECT: Final = "bad-object"


class BadReviewError(ValueError):
    """The body is not an AdmissionReview that can be answered; the message says what is wrong with it."""


@dataclass(frozen=True)
class Answer:
    """What goes back to the API server."""

    body: bytes
    label: str
    """The admission code, or ``bad-object``: a closed set, fit for a metric."""


def answer(body: bytes, lookup: Lookup, values: Values, claims: Claims = unknown) -> Answer:
    """Answer one review.

    Raises:
        BadReviewError: if there is no review to answer.
    """
    request = parse(body)
    try:
        decision = decide(request, lookup, values, claims)
        told = render(request["uid"], decision)
    except RecursionError:
        return _bad_object(request, "it is nested too deeply")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        problem = malformed(request.get("object"))
        if problem is None:
            raise
        return _bad_object(request, f"{problem} ({error})")
    return Answer(told, decision.code.value)


def parse(body: bytes) -> Json:
    """Return the ``request`` of a review.

    Raises:
        BadReviewError: where the body is none.
    """
    try:
        review = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadReviewError(f"the body is not JSON: {error}") from error
    if not isinstance(review, dict) or review.get("kind") != KIND:
        raise BadReviewError(f"the body is not an {KIND}: kind must be {KIND}")
    if review.get("apiVersion") != API_VERSION:
        found = str(review.get("apiVersion"))[:64]
        raise BadReviewError(
            f"apiVersion {found!r} is not served; register the webhook with admissionReviewVersions [v1]"
        )
    request = review.get("request")
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str) or not request["uid"]:
        raise BadReviewError("request.uid is missing, so no answer could be matched to it")
    if not isinstance(request.get("namespace") or "", str):
        raise BadReviewError("request.namespace must be text")
    return request


def render(uid: str, decision: Decision) -> bytes:
    """Render the AdmissionReview that carries a decision."""
    response: Json = {
        "uid": uid,
        "allowed": True,
        "status": {"message": decision.message},
        "auditAnnotations": {AUDIT_KEY: decision.code.value},
    }
    if decision.operations:
        response["patchType"] = "JSONPatch"
        response["patch"] = b64encode(orjson.dumps(decision.operations)).decode()
    if decision.warnings:
        response["warnings"] = decision.warnings
    return _review(response)


def _bad_object(request: Json, problem: str) -> Answer:
    return Answer(_denied(request["uid"], f"object cannot be read as a pod: {problem}"), LABEL_BAD_OBJECT)


def _denied(uid: str, message: str) -> bytes:
    status = {"code": HTTPStatus.BAD_REQUEST.value, "reason": "BadRequest", "message": message}
    return _review({"uid": uid, "allowed": False, "status": status})


def _review(response: Json) -> bytes:
    return orjson.dumps({"apiVersion": API_VERSION, "kind": KIND, "response": response})


LABELS: Final = (*(code.value for code in Admission), LABEL_BAD_OBJECT)
"""Every label that an answer may have."""
