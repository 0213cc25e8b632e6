"""What can go wrong between us and an API server.

::

    KubeError
    ├── ConfigError              no usable kubeconfig and no service account
    ├── ServerUnavailableError   no whole answer, or 5xx: try again later
    └── ApiError                 the server understood and refused
        ├── BadRequestError      400
        ├── UnauthorizedError    401
        ├── ForbiddenError       403
        ├── NotFoundError        404
        ├── ConflictError        409: the object changed meanwhile (or a field has another owner)
        │   └── AlreadyExistsError
        ├── GoneError            410: the resource version or continue token is too old, list again
        ├── TooLargeError        413
        ├── InvalidError         422: the object breaks its schema or an admission rule
        └── TooManyRequestsError 429: ``retry_after`` says when

Callers meet only these, so the HTTP library can change; its own error stays as ``__cause__``.
Messages come from the server and end up in logs, Events and conditions, so they are bounded.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

# The API server's words for a path that it does not serve at all, with and without its group.
_UNKNOWN_PATH: Final = ("could not find the requested resource", "404 page not found")
MAX_MESSAGE: Final = 2048
"""Characters kept of a server's message: an Invalid answer can quote a whole pod template."""
HTTP_CONFLICT: Final = 409
HTTP_SERVER_ERROR: Final = 500


class KubeError(Exception):
    """Anything that keeps a call from succeeding."""

    retry_after: float | None = None
    """Seconds the server asked to wait, if it did."""


class ConfigError(KubeError):
    """There is no usable way to reach a cluster."""


class ServerUnavailableError(KubeError):
    """No whole answer came, or one that says the server itself is in trouble."""


class ApiError(KubeError):
    """The server refused: *status* is the HTTP code, *reason* the machine-readable word, *message* its sentence."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


class BadRequestError(ApiError):
    """400: the request itself is malformed."""


class UnauthorizedError(ApiError):
    """401: the credentials are missing, wrong or expired."""


class ForbiddenError(ApiError):
    """403: RBAC, a quota or an admission policy says no."""


class NotFoundError(ApiError):
    """404: no such object, namespace or kind."""

    @property
    def of_kind(self) -> bool:
        """Whether the server does not know the kind, so that nothing is said about the object."""
        return any(words in self.message for words in _UNKNOWN_PATH)


class ConflictError(ApiError):
    """409: the object changed since it was read, or a field belongs to another manager."""


class AlreadyExistsError(ConflictError):
    """409 on create: the name is taken."""


class GoneError(ApiError):
    """410: the resource version is too old; list again."""


class TooLargeError(ApiError):
    """413: the body exceeds the server's limit."""


class InvalidError(ApiError):
    """422: schema validation or an immutable field."""


class TooManyRequestsError(ApiError):
    """429: the server sheds load."""


REFUSALS: Final = (InvalidError, BadRequestError, TooLargeError, ForbiddenError)
"""What says that the very thing asked for is not wanted, and not that the server is in trouble."""
_BY_STATUS: Final[Mapping[int, type[ApiError]]] = {
    400: BadRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    413: TooLargeError,
    422: InvalidError,
    429: TooManyRequestsError,
}


def bounded(text: str, limit: int = MAX_MESSAGE) -> str:
    """Return *text* cut to *limit* characters, with a mark if something is missing."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def from_answer(status: int, body: bytes, retry_after: str | None = None) -> KubeError:
    """Return the error that an answer of HTTP *status* means; *body* is a Status object or any text."""
    details = _status_object(body)
    message = bounded(str(details.get("message") or body[: 4 * MAX_MESSAGE].decode(errors="replace") or "no message"))
    error = _build(status, str(details.get("reason") or ""), message)
    seconds = retry_after or (details.get("details") or {}).get("retryAfterSeconds")
    if seconds is not None and str(seconds).isdecimal():
        error.retry_after = float(seconds)
    return error


def from_status(status: Mapping[str, Any]) -> KubeError:
    """Return the error that a Status object in a watch stream means."""
    code = int(status.get("code") or HTTP_SERVER_ERROR)
    return _build(code, str(status.get("reason") or ""), bounded(str(status.get("message") or "no message")))


def _build(status: int, reason: str, message: str) -> KubeError:
    if status >= HTTP_SERVER_ERROR:
        return ServerUnavailableError(f"{status} {reason}: {message}")
    if status == HTTP_CONFLICT and reason == "AlreadyExists":
        return AlreadyExistsError(status, reason, message)
    return _BY_STATUS.get(status, ApiError)(status, reason, message)


def _status_object(body: bytes) -> Mapping[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
