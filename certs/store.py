"""How the two Secrets are laid out: authorities with their keys in one, what the webhook serves in the other.

The authorities' keys are in a Secret of their own, which no webhook mounts: a stolen webhook cannot sign.
Pure: Secret data in, state out, and back. What cannot be read counts as absent, and is made again.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from certs.bundle import Retired, State
from certs.mint import Pair
from certs.policy import certificates

CURRENT_CERT: Final = "ca-current.crt"
CURRENT_KEY: Final = "ca-current.key"
NEXT_CERT: Final = "ca-next.crt"
NEXT_KEY: Final = "ca-next.key"
NEXT_SINCE: Final = "ca-next.trusted-since"
"""RFC 3339: since when the injected bundle holds ``ca-next.crt``."""
PREVIOUS_CERTS: Final = "ca-previous.crt"
PREVIOUS_UNTIL: Final = "ca-previous.until"
"""JSON: SHA-256 fingerprint of a certificate of ``ca-previous.crt`` to the time (RFC 3339) until which it stays."""
SERVING_CERT: Final = "tls.crt"
SERVING_KEY: Final = "tls.key"
SERVING_CA: Final = "ca.crt"
"""The bundle at the time of issue, for people and tools; nothing of ours reads it."""


def read_state(data: Mapping[str, str]) -> State:
    """Return the authorities in the *data* (base64 values) of their Secret."""
    return State(
        current=Pair(_text(data, CURRENT_CERT), _text(data, CURRENT_KEY)),
        next=Pair(_text(data, NEXT_CERT), _text(data, NEXT_KEY)),
        next_trusted_since=_time(_text(data, NEXT_SINCE)),
        previous=_previous(_text(data, PREVIOUS_CERTS), _text(data, PREVIOUS_UNTIL)),
    )


def write_state(state: State) -> dict[str, str | None]:
    """Return the *state* as data of the authority Secret; None takes a key away (merge patch)."""
    since = state.next_trusted_since
    fields = {
        CURRENT_CERT: state.current.certificate,
        CURRENT_KEY: state.current.key,
        NEXT_CERT: state.next.certificate,
        NEXT_KEY: state.next.key,
        NEXT_SINCE: since.isoformat() if since else "",
        PREVIOUS_CERTS: "".join(old.certificate for old in state.previous),
        PREVIOUS_UNTIL: json.dumps(_untils(state), indent=1) if state.previous else "",
    }
    return {key: _base64(value) if value else None for key, value in fields.items()}


def read_leaf(data: Mapping[str, str]) -> Pair:
    """Return the serving certificate in the *data* of its Secret."""
    return Pair(_text(data, SERVING_CERT), _text(data, SERVING_KEY))


def write_leaf(leaf: Pair, bundle: str) -> dict[str, str]:
    """Return the *leaf* as data of the serving Secret."""
    return {
        SERVING_CERT: _base64(leaf.certificate),
        SERVING_KEY: _base64(leaf.key),
        SERVING_CA: _base64(bundle),
    }


def read_bundle(configuration: Mapping[str, Any], entry: str) -> str:
    """Return the PEM bundle of the webhook *entry* in a webhook configuration; empty if none was injected."""
    for webhook in configuration.get("webhooks") or ():
        if webhook.get("name") == entry:
            return _text(webhook.get("clientConfig") or {}, "caBundle")
    return ""


def write_bundle(bundle: str) -> str:
    """Return the *bundle* as the API writes it."""
    return _base64(bundle)


def _previous(certs: str, until: str) -> tuple[Retired, ...]:
    times = _mapping(until)
    return tuple(
        Retired(
            found.public_bytes(Encoding.PEM).decode(),
            # Without its time it stays as long as it could ever matter.
            _time(times.get(found.fingerprint(hashes.SHA256()).hex(), "")) or found.not_valid_after_utc,
        )
        for found in certificates(certs)
    )


def _untils(state: State) -> dict[str, str]:
    return {
        found.fingerprint(hashes.SHA256()).hex(): old.until.isoformat()
        for old in state.previous
        for found in certificates(old.certificate)
    }


def _mapping(text: str) -> Mapping[str, Any]:
    try:
        parsed = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _time(text: Any) -> datetime | None:  # noqa: ANN401 - whatever stood in the JSON
    try:
        parsed = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _text(data: Mapping[str, str], key: str) -> str:
    try:
        return base64.b64decode(data.get(key) or "", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
