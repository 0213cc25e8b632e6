"""Answers become errors with the server's own words, bounded."""

import json

import pytest

from kube import errors


def status(code, reason="", message="words", **details):
    return json.dumps(
        {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details}
    ).encode()


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        pytest.param(400, "BadRequest", errors.BadRequestError, id="bad-request"),
        pytest.param(401, "Unauthorized", errors.UnauthorizedError, id="unauthorized"),
        pytest.param(403, "Forbidden", errors.ForbiddenError, id="forbidden"),
        pytest.param(404, "NotFound", errors.NotFoundError, id="not-found"),
        pytest.param(409, "Conflict", errors.ConflictError, id="conflict"),
        pytest.param(409, "AlreadyExists", errors.AlreadyExistsError, id="already-exists"),
        pytest.param(410, "Expired", errors.GoneError, id="expired"),
        pytest.param(413, "RequestEntityTooLarge", errors.TooLargeError, id="too-large"),
        pytest.param(422, "Invalid", errors.InvalidError, id="invalid"),
        pytest.param(429, "TooManyRequests", errors.TooManyRequestsError, id="too-many"),
        pytest.param(418, "", errors.ApiError, id="unheard-of"),
        pytest.param(503, "ServiceUnavailable", errors.ServerUnavailableError, id="unavailable"),
        pytest.param(504, "Timeout", errors.ServerUnavailableError, id="timeout"),
    ],
)
def test_each_status_has_its_error(code, reason, kind):
    error = errors.from_answer(code, status(code, reason))

    assert kind is type(error)
    assert "words" in str(error)
    assert isinstance(errors.from_status(json.loads(status(code, reason))), kind)


@pytest.mark.parametrize(
    ("header", "details", "seconds"),
    [
        pytest.param("3", {}, 3.0, id="header"),
        pytest.param(None, {"retryAfterSeconds": 2}, 2.0, id="body"),
        pytest.param(None, {}, None, id="neither"),
        pytest.param("Wed, 21 Oct 2026 07:28:00 GMT", {}, None, id="a-date-is-ignored"),
    ],
)
def test_when_to_try_again(header, details, seconds):
    assert seconds == errors.from_answer(429, status(429, **details), header).retry_after


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>proxy</html>", id="html"),
        pytest.param(b"\xff\xfe", id="binary"),
        pytest.param(b"[1]", id="a-list"),
        pytest.param(b'{"details": null}', id="null-details"),
    ],
)
def test_any_body_makes_an_error(body):
    assert isinstance(errors.from_answer(502, body), errors.ServerUnavailableError)
    assert isinstance(errors.from_answer(404, body), errors.NotFoundError)


def test_messages_are_bounded():
    error = errors.from_answer(422, status(422, "Invalid", "x" * 100_000))

    assert errors.MAX_MESSAGE == len(str(error))
    assert str(error).endswith("…")
