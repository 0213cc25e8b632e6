"""Why is this certificate due? An ordered chain of named checks, each of which answers with its reason or nothing.

Pure: the certificate, what it should be and the time come in. The reasons are what an operator reads in the log.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from certs.mint import NO_PAIR, Pair


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long things live; the defaults leave a month for whatever keeps a renewed certificate from arriving."""

    authority: timedelta = timedelta(days=730)
    leaf: timedelta = timedelta(days=90)
    leaf_renewal: timedelta = timedelta(days=30)
    """A leaf is renewed when less than this remains."""
    propagation: timedelta = timedelta(minutes=2)
    """From an injected bundle to the last API server that uses it: a watch event, so seconds, with a large margin."""

    @property
    def authority_renewal(self) -> timedelta:
        """An authority is replaced when less than this remains: no leaf of full length fits beneath it much longer."""
        return 2 * self.leaf


class Due(StrEnum):
    """The closed list of reasons."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    KEY_MISSING = "key-missing"
    KEY_MISMATCH = "key-mismatch"
    NOT_AN_AUTHORITY = "not-an-authority"
    OTHER_ISSUER = "other-issuer"
    NAMES_DIFFER = "names-differ"
    NOT_YET_VALID = "not-yet-valid"
    EXPIRING = "expiring"


class Reason(NamedTuple):
    """Why a certificate is due, for programs and for people."""

    due: Due
    message: str


@dataclass(frozen=True, slots=True)
class _Case:
    """Everything a check may look at."""

    pair: Pair
    now: datetime
    renewal: timedelta
    issuer: Pair = NO_PAIR
    dns_names: tuple[str, ...] = ()

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.pair.certificate.encode())


def leaf_due(leaf: Pair, issuer: Pair, dns_names: Sequence[str], now: datetime, lifetimes: Lifetimes) -> Reason | None:
    """Return why the serving certificate must be renewed, or None.

    Args:
        leaf: what is served now; empty strings if there is nothing.
        issuer: the authority that serving certificates are signed by now.
        dns_names: exactly the names it must be good for.
        now: the present, timezone-aware.
        lifetimes: when a leaf counts as expiring.
    """
    return _first(_LEAF_CHECKS, _Case(leaf, now, lifetimes.leaf_renewal, issuer, tuple(dns_names)))


def authority_due(authority: Pair, now: datetime, lifetimes: Lifetimes) -> Reason | None:
    """Say why the authority must be replaced, or None."""
    return _first(_AUTHORITY_CHECKS, _Case(authority, now, lifetimes.authority_renewal))


def can_sign(authority: Pair, now: datetime) -> bool:
    """Say whether clients would accept now what *authority* signs now; one that is merely expiring still can."""
    return _first(_AUTHORITY_CHECKS, _Case(authority, now, timedelta(0))) is None


def certificates(bundle: str) -> tuple[x509.Certificate, ...]:
    """Return all certificates of a PEM *bundle*; none if it cannot be read."""
    try:
        return tuple(x509.load_pem_x509_certificates(bundle.encode()))
    except ValueError:
        return ()


def _first(checks: "tuple[tuple[Due, Callable[[_Case], str | None]], ...]", case: _Case) -> Reason | None:
    for due, check in checks:
        message = check(case)
        if message is not None:
            return Reason(due, message)
    return None


def _missing(case: _Case) -> str | None:
    return None if case.pair.certificate else "there is no certificate yet"


def _unreadable(case: _Case) -> str | None:
    try:
        _ = case.certificate
    except ValueError as error:
        return f"the certificate cannot be read: {error}"
    return None


def _key_missing(case: _Case) -> str | None:
    return None if case.pair.key else "its private key is missing"


def _key_mismatch(case: _Case) -> str | None:
    try:
        key = load_pem_private_key(case.pair.key.encode(), password=None)
    except (ValueError, TypeError) as error:
        return f"its private key cannot be read: {error}"
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*spki) != case.certificate.public_key().public_bytes(*spki):
        return "certificate and private key do not belong together"
    return None


def _not_an_authority(case: _Case) -> str | None:
    try:
        constraints = case.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return "it may not sign certificates"
    return None if constraints.ca else "it may not sign certificates"


def _other_issuer(case: _Case) -> str | None:
    issuer = x509.load_pem_x509_certificate(case.issuer.certificate.encode())
    try:
        case.certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return f"it was not signed by {issuer.subject.rfc4514_string()}"
    return None


def _names_differ(case: _Case) -> str | None:
    try:
        names = case.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = set(names.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        found = set()
    wanted = set(case.dns_names)
    return None if found == wanted else f"it is good for {sorted(found)}, needed are {sorted(wanted)}"


def _not_yet_valid(case: _Case) -> str | None:
    start = case.certificate.not_valid_before_utc
    return f"it is not valid before {start.isoformat()}" if case.now < start else None


def _expiring(case: _Case) -> str | None:
    end = case.certificate.not_valid_after_utc
    return f"it ends {end.isoformat()}" if end - case.now < case.renewal else None


def _expiring_leaf(case: _Case) -> str | None:
    issuer = x509.load_pem_x509_certificate(case.issuer.certificate.encode())
    # One that ends with its authority cannot be bettered by that authority: the next one will sign the next.
    return _expiring(case) if case.certificate.not_valid_after_utc < issuer.not_valid_after_utc else None


_READABLE: Final = (
    (Due.MISSING, _missing),
    (Due.UNREADABLE, _unreadable),
    (Due.KEY_MISSING, _key_missing),
    (Due.KEY_MISMATCH, _key_mismatch),
)
_AUTHORITY_CHECKS: Final = (
    *_READABLE,
    (Due.NOT_AN_AUTHORITY, _not_an_authority),
    (Due.NOT_YET_VALID, _not_yet_valid),
    (Due.EXPIRING, _expiring),
)
_LEAF_CHECKS: Final = (
    *_READABLE,
    (Due.OTHER_ISSUER, _other_issuer),  # before the names: another authority's certificate is not ours to judge
    (Due.NAMES_DIFFER, _names_differ),
    (Due.NOT_YET_VALID, _not_yet_valid),
    (Due.EXPIRING, _expiring_leaf),
)
