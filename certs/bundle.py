"""Rotation with overlap: whoever trusts the injected bundle accepts whatever a webhook still serves, at every moment.

Three generations of authorities make that so:

- ``next``: minted and put into the bundle; signs nothing until every API server can have seen that bundle.
- ``current``: signs the serving certificate.
- ``previous``: signs nothing any more, but stays in the bundle until the last certificate that it signed has expired.
  No shorter time is safe: nobody can say when the last kubelet has brought the last webhook its new certificate.

``decide`` looks at what the cluster holds and names the one next step; each step writes one object, so a controller
may die between any two of them and its successor goes on.  Pure: state and time come in.
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
    """The authorities, as the authority Secret holds them; ``NO_PAIR`` stands for none."""

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
    """The serving certificate in the serving Secret; empty where there is none."""
    bundle: str
    """The PEM bundle that the API servers are told to trust now; empty where none was injected."""
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


def decide(world: Observed, now: datetime) -> Step | None:
    """The next step towards a fresh serving certificate that everybody trusts, or None when all is well."""
    for act, rule in _RULES:
        why = rule(world, now)
        if why is not None:
            return Step(act, why)
    return None


def wanted_bundle(state: State) -> str:
    """The PEM bundle that API servers must trust: every authority that signed, signs or will sign."""
    members = (state.current.certificate, state.next.certificate, *(old.certificate for old in state.previous))
    return "".join(member.strip() + "\n" for member in members if member)


def after(step: Step, world: Observed, now: datetime, name: str) -> State:
    """The state after a *step* that writes the authority Secret; *name* is whose authority it is.

    Raises:
        ValueError: the step writes another object.
    """
    state = world.state
    match step.act:
        case Act.DISCARD:
            return replace(state, next=NO_PAIR, next_trusted_since=None)
        case Act.MINT:
            return _with_next(world, now, name)
        case Act.DISTRUST:
            return replace(state, next_trusted_since=None)
        case Act.CONFIRM:
            return replace(state, next_trusted_since=now)
        case Act.PROMOTE:
            return _promoted(world, now)
        case Act.RETIRE:
            return replace(state, previous=tuple(old for old in state.previous if old.until > now))
    raise ValueError(f"{step.act} does not write the authorities")


def new_leaf(world: Observed, now: datetime) -> Pair:
    """The serving certificate that ``Act.ISSUE`` asks for."""
    return issue_leaf(world.state.current, world.dns_names, now, world.lifetimes.leaf)


# --- the rules, in order ---------------------------------------------------------------------------------------------
def _discard(world: Observed, now: datetime) -> str | None:
    if world.state.next == NO_PAIR:
        return None
    reason = authority_due(world.state.next, now, world.lifetimes)
    return reason and f"the next authority cannot be used: {reason.message}"


def _mint(world: Observed, now: datetime) -> str | None:
    if world.state.next.certificate:
        return None
    reason = authority_due(world.state.current, now, world.lifetimes)
    return reason and f"the authority is due: {reason.message}"


def _distrust(world: Observed, _: datetime) -> str | None:
    if world.state.next_trusted_since is None or _trusts(world.bundle, world.state.next):
        return None
    return "the injected bundle has lost the next authority"


def _retire(world: Observed, now: datetime) -> str | None:
    over = sum(old.until <= now for old in world.state.previous)
    return f"all that {over} former authorities signed has expired" if over else None


def _inject(world: Observed, _: datetime) -> str | None:
    wanted = wanted_bundle(world.state)
    if not wanted or _fingerprints(wanted) == _fingerprints(world.bundle):
        return None
    return "the injected bundle differs from the authorities"


def _confirm(world: Observed, _: datetime) -> str | None:
    if not world.state.next.certificate or world.state.next_trusted_since is not None:
        return None
    return "the bundle with the next authority is in place"


def _promote(world: Observed, now: datetime) -> str | None:
    state = world.state
    if state.next_trusted_since is None:
        return None
    if not state.current.certificate and not state.previous:
        return "it is the first authority: nobody trusts another"
    # A time-stamp of the future comes from a leader whose clock was ahead; waiting longer is the safe side.
    if now - state.next_trusted_since < world.lifetimes.propagation:
        return None
    return f"every API server trusts the next authority since {state.next_trusted_since.isoformat()}"


def _issue(world: Observed, now: datetime) -> str | None:
    state = world.state
    if not can_sign(state.current, now):
        return None
    reason = leaf_due(world.leaf, state.current, world.dns_names, now, world.lifetimes)
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
def _with_next(world: Observed, now: datetime, name: str) -> State:
    state = world.state
    fresh = mint_authority(name, now, world.lifetimes.authority)
    if certificates(state.current.certificate):
        return replace(state, next=fresh, next_trusted_since=None)
    # The authority was lost (its Secret emptied).  What API servers trust now is what webhooks may still be serving.
    return State(next=fresh, previous=(*state.previous, *_adopted(world, now)))


def _adopted(world: Observed, now: datetime) -> tuple[Retired, ...]:
    known = {mark for old in world.state.previous for mark in _fingerprints(old.certificate)}
    return tuple(
        Retired(_pem(found), min(found.not_valid_after_utc, now + world.lifetimes.leaf))
        for found in certificates(world.bundle)
        if found.not_valid_after_utc > now and _fingerprint(found) not in known
    )


def _promoted(world: Observed, now: datetime) -> State:
    state = world.state
    return State(current=state.next, previous=(*state.previous, *_retired(world, now)))


def _retired(world: Observed, now: datetime) -> tuple[Retired, ...]:
    """The current authority as a former one: until the end of whatever it can have signed up to *now*."""
    return tuple(
        Retired(world.state.current.certificate, min(found.not_valid_after_utc, now + world.lifetimes.leaf))
        for found in certificates(world.state.current.certificate)
    )


def _trusts(bundle: str, authority: Pair) -> bool:
    return _fingerprints(authority.certificate) <= _fingerprints(bundle)


def _fingerprints(bundle: str) -> frozenset[bytes]:
    return frozenset(_fingerprint(found) for found in certificates(bundle))


def _fingerprint(certificate: x509.Certificate) -> bytes:
    return certificate.fingerprint(hashes.SHA256())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
