"""Rotation with overlap: at every moment, a client that trusts the injected bundle accepts what any webhook serves.

Three generations of authorities make that so:

- ``next``: minted and put into the bundle; signs nothing until every API server can have seen that bundle.
- ``current``: signs the serving certificate.
- ``previous``: signs nothing any more, but stays in the bundle until the last certificate that it signed has expired.
  No shorter time is safe: when the last kubelet has brought the last webhook its new certificate cannot be known.

``decide`` looks at what the cluster holds and names the one next step; each step writes one object, so a controller
may die between any two of them and its successor continues. Pure: state and time come in.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from certs.mint import NO_PAIR, Pair, issue_leaf, mint_authority
from certs.policy import Lifetimes, authority_due, can_sign, certificates, leaf_due


@dataclass(frozen=True, slots=True)
class Retired:
    """An authority that signs nothing any more, and when the last certificate that it signed has expired."""

    certificate: str
    until: datetime


@dataclass(frozen=True, slots=True)
class State:
    """The authorities, as the authority Secret holds them; ``NO_PAIR`` means none."""

    current: Pair = NO_PAIR
    next: Pair = NO_PAIR
    next_trusted_since: datetime | None = None
    """When a bundle with ``next`` was first seen in place."""
    previous: tuple[Retired, ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """All that decides about the next step."""

    state: State
    leaf: Pair
    """The serving certificate in the serving Secret; empty if there is none."""
    bundle: str
    """The PEM bundle that the configuration makes API servers trust now; empty if none was injected."""
    dns_names: tuple[str, ...]
    lifetimes: Lifetimes = field(default=Lifetimes())


class Act(StrEnum):
    """What to do next; each writes one object."""

    DISCARD = "discard"
    """Forget a ``next`` that cannot be used (authority Secret)."""
    MINT = "mint"
    """Make a ``next`` (authority Secret)."""
    DISTRUST = "distrust"
    """The bundle lost ``next``: its waiting time starts again (authority Secret)."""
    RETIRE = "retire"
    """Drop a ``previous`` that nothing served can need (authority Secret)."""
    INJECT = "inject"
    """Write the bundle (webhook configuration)."""
    CONFIRM = "confirm"
    """Note that the bundle with ``next`` is in place (authority Secret)."""
    PROMOTE = "promote"
    """``next`` becomes ``current`` (authority Secret)."""
    ISSUE = "issue"
    """Sign a serving certificate (serving Secret)."""


class Step(NamedTuple):
    """One step and its reason."""

    act: Act
    why: str


def decide(observed: Observed, now: datetime) -> Step | None:
    """Return the next step towards a fresh serving certificate that API servers trust, or None when all is well."""
    for act, rule in _RULES:
        why = rule(observed, now)
        if why is not None:
            return Step(act, why)
    return None


def wanted_bundle(state: State) -> str:
    """Return the PEM bundle that API servers must trust: every authority that signed, signs or will sign."""
    members = (state.current.certificate, state.next.certificate, *(old.certificate for old in state.previous))
    return "".join(member.strip() + "\n" for member in members if member)


def after(step: Step, observed: Observed, now: datetime, name: str) -> State:
    """Return the state after a *step* that writes the authority Secret; *name* is whose authority it is.

    Raises:
        ValueError: the step writes another object.
    """
    state = observed.state
    match step.act:
        case Act.DISCARD:
            return replace(state, next=NO_PAIR, next_trusted_since=None)
        case Act.MINT:
            return _with_next(observed, now, name)
        case Act.DISTRUST:
            return replace(state, next_trusted_since=None)
        case Act.CONFIRM:
            return replace(state, next_trusted_since=now)
        case Act.PROMOTE:
            return _promoted(observed, now)
        case Act.RETIRE:
            return replace(state, previous=tuple(old for old in state.previous if old.until > now))
    raise ValueError(f"{step.act} does not write the authorities")


def new_leaf(observed: Observed, now: datetime) -> Pair:
    """Return the serving certificate that ``Act.ISSUE`` asks for."""
    return issue_leaf(observed.state.current, observed.dns_names, now, observed.lifetimes.leaf)


# --- the rules, in order ---------------------------------------------------------------------------------------------
def _discard(observed: Observed, now: datetime) -> str | None:
    if observed.state.next == NO_PAIR:
        return None
    reason = authority_due(observed.state.next, now, observed.lifetimes)
    return reason and f"the next authority cannot be used: {reason.message}"


def _mint(observed: Observed, now: datetime) -> str | None:
    if observed.state.next.certificate:
        return None
    reason = authority_due(observed.state.current, now, observed.lifetimes)
    return reason and f"the authority is due: {reason.message}"


def _distrust(observed: Observed, _: datetime) -> str | None:
    if observed.state.next_trusted_since is None or _trusts(observed.bundle, observed.state.next):
        return None
    return "the injected bundle has lost the next authority"


def _retire(observed: Observed, now: datetime) -> str | None:
    over = sum(old.until <= now for old in observed.state.previous)
    return f"all that {over} former authorities signed has expired" if over else None


def _inject(observed: Observed, _: datetime) -> str | None:
    wanted = wanted_bundle(observed.state)
    if not wanted or _fingerprints(wanted) == _fingerprints(observed.bundle):
        return None
    return "the injected bundle differs from the authorities"


def _confirm(observed: Observed, _: datetime) -> str | None:
    if not observed.state.next.certificate or observed.state.next_trusted_since is not None:
        return None
    return "the bundle with the next authority is in place"


def _promote(observed: Observed, now: datetime) -> str | None:
    state = observed.state
    if state.next_trusted_since is None:
        return None
    if not state.current.certificate and not state.previous:
        return "it is the first authority: no other is trusted"
    # A time-stamp of the future comes from a leader whose clock was ahead; waiting longer is the safe side.
    if now - state.next_trusted_since < observed.lifetimes.propagation:
        return None
    return f"every API server trusts the next authority since {state.next_trusted_since.isoformat()}"


def _issue(observed: Observed, now: datetime) -> str | None:
    state = observed.state
    if not can_sign(state.current, now):
        return None
    reason = leaf_due(observed.leaf, state.current, observed.dns_names, now, observed.lifetimes)
    return reason and f"the serving certificate is due: {reason.message}"


_RULES: Final[tuple[tuple[Act, Callable[[Observed, datetime], str | None]], ...]] = (
    (Act.DISCARD, _discard),
    (Act.MINT, _mint),
    (Act.DISTRUST, _distrust),
    (Act.RETIRE, _retire),
    (Act.INJECT, _inject),
    (Act.CONFIRM, _confirm),
    (Act.PROMOTE, _promote),
    (Act.ISSUE, _issue),
)


# --- how the state moves ---------------------------------------------------------------------------------------------
def _with_next(observed: Observed, now: datetime, name: str) -> State:
    state = observed.state
    fresh = mint_authority(name, now, observed.lifetimes.authority)
    if certificates(state.current.certificate):
        return replace(state, next=fresh, next_trusted_since=None)
    # The authority was lost (its Secret emptied). What API servers trust now is what webhooks may still be serving.
    return State(next=fresh, previous=(*state.previous, *_adopted(observed, now)))


def _adopted(observed: Observed, now: datetime) -> tuple[Retired, ...]:
    known = {mark for old in observed.state.previous for mark in _fingerprints(old.certificate)}
    return tuple(
        Retired(_pem(found), min(found.not_valid_after_utc, now + observed.lifetimes.leaf))
        for found in certificates(observed.bundle)
        if found.not_valid_after_utc > now and _fingerprint(found) not in known
    )


def _promoted(observed: Observed, now: datetime) -> State:
    state = observed.state
    return State(current=state.next, previous=(*state.previous, *_retired(observed, now)))


def _retired(observed: Observed, now: datetime) -> tuple[Retired, ...]:
    """Return the current authority as a former one, valid until the end of anything it can have signed up to *now*."""
    return tuple(
        Retired(observed.state.current.certificate, min(found.not_valid_after_utc, now + observed.lifetimes.leaf))
        for found in certificates(observed.state.current.certificate)
    )


def _trusts(bundle: str, authority: Pair) -> bool:
    return _fingerprints(authority.certificate) <= _fingerprints(bundle)


def _fingerprints(bundle: str) -> frozenset[bytes]:
    return frozenset(_fingerprint(found) for found in certificates(bundle))


def _fingerprint(certificate: x509.Certificate) -> bytes:
    return certificate.fingerprint(hashes.SHA256())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
