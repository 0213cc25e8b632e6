"""The one promise of a rotation, over every order of events that hypothesis can think of."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography.exceptions import InvalidSignature
from hypothesis import given, settings
from hypothesis import strategies as st

from certs.bundle import Act, Observed, after, decide, new_leaf, wanted_bundle
from certs.mint import NO_PAIR, Pair
from certs.policy import Lifetimes, certificates
from certs.reconcile import MAX_STEPS
from certs.store import read_leaf, read_state, write_leaf, write_state

START = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
LIVES = Lifetimes(authority=timedelta(days=300), leaf=timedelta(days=90), leaf_renewal=timedelta(days=30))
KUBELET_LIMIT = timedelta(days=29)
"""A kubelet that takes longer lets the certificate expire; no order of steps could help."""
NAMES = ("snap-webhook.ns.svc",)


@dataclass
class Stored:
    """An object of the API server: its version changes with every write."""

    value: dict | str
    version: int = 0

    def write(self, value, version):
        if version == self.version:  # else: conflict, another client wrote meanwhile
            self.value, self.version = value, version + 1


@dataclass
class Follower:
    """An API server that learns of bundles, or a kubelet that learns of certificates: late."""

    source: Stored
    patience: timedelta
    seen: dict | str
    late_since: datetime | None = None

    def sync(self):
        self.seen, self.late_since = self.source.value, None

    def before_time_passes(self, now, until):
        if self.seen == self.source.value:
            self.late_since = None
        elif self.late_since is None:
            self.late_since = now
        if self.late_since is not None and until - self.late_since >= self.patience:
            self.sync()


@dataclass
class Sim:
    now: datetime = START
    bundle: Stored = field(default_factory=lambda: Stored(""))
    authorities: Stored = field(default_factory=lambda: Stored({}))
    serving: Stored = field(default_factory=lambda: Stored({}))
    readings: dict = field(default_factory=dict)
    loaded: dict = field(default_factory=dict)

    def __post_init__(self):
        self.apiservers = [Follower(self.bundle, LIVES.propagation, "") for _ in range(2)]
        self.kubelets = [Follower(self.serving, KUBELET_LIMIT, {}) for _ in range(2)]

    def read(self, who):
        world = Observed(
            read_state(self.authorities.value), read_leaf(self.serving.value), self.bundle.value, NAMES, LIVES
        )
        versions = (self.bundle.version, self.authorities.version, self.serving.version)
        self.readings[who] = (world, self.now, versions)

    def write(self, who):
        if who not in self.readings:
            return False
        world, at, (bundle, authorities, serving) = self.readings.pop(who)
        step = decide(world, at)
        if step is None:
            return False
        if step.act is Act.INJECT:
            self.bundle.write(wanted_bundle(world.state), bundle)
        elif step.act is Act.ISSUE:
            self.serving.write(write_leaf(new_leaf(world, at), ""), serving)
        else:
            state = after(step, world, at, "snap")
            self.authorities.write({k: v for k, v in write_state(state).items() if v}, authorities)
        return True

    def reconcile(self, who):
        for _ in range(MAX_STEPS):
            self.read(who)
            if not self.write(who):
                return
        raise AssertionError("it never settles")

    def kubelet(self, which):
        self.kubelets[which].sync()

    def reload(self, which):
        pair = read_leaf(self.kubelets[which].seen)
        if pair != NO_PAIR:  # the server keeps the last good one
            self.loaded[which] = pair

    def apiserver(self, which):
        self.apiservers[which].sync()

    def wait(self, minutes):
        until = self.now + timedelta(minutes=minutes)
        for follower in (*self.apiservers, *self.kubelets):
            follower.before_time_passes(self.now, until)
        for which, kubelet in enumerate(self.kubelets):
            if kubelet.late_since is None:
                self.reload(which)
        self.now = until

    def lose(self, what):
        stored = {"authorities": self.authorities, "serving": self.serving}[what]
        stored.value, stored.version = {}, stored.version + 1

    def check(self):
        for trusted in (parsed(server.seen) for server in self.apiservers if server.seen):
            for pair in self.loaded.values():
                (leaf,) = parsed(pair.certificate)
                if leaf.not_valid_after_utc > self.now:
                    assert any(signed(leaf, authority, self.now) for authority in trusted)


parsed = cache(certificates)


def signed(leaf, authority, now):
    return issued_by(leaf, authority) and authority.not_valid_after_utc >= now


@cache
def issued_by(leaf, authority):
    """Check the signature; the same two certificates are met after nearly every event."""
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, InvalidSignature):
        return False
    return True


TWO = st.integers(0, 1)
EVENTS = st.one_of(
    st.tuples(st.just("read"), TWO),
    st.tuples(st.just("write"), TWO),
    st.tuples(st.just("reconcile"), TWO),
    st.tuples(st.just("kubelet"), TWO),
    st.tuples(st.just("reload"), TWO),
    st.tuples(st.just("apiserver"), TWO),
    st.tuples(st.just("wait"), st.sampled_from([1, 3, 600, 1440, 20 * 1440])),
    st.tuples(st.just("lose"), st.sampled_from(["authorities", "serving"])),
)


def a_sim(age):
    """Make a new release (None), or one that has served for *age* days: rotations begin at 120."""
    sim = Sim()
    if age is not None:
        sim.reconcile(0)
        sim.wait(age * 1440)
    return sim


@given(st.sampled_from([None, 1, 119, 125, 250]), st.lists(EVENTS, min_size=10, max_size=60))
@settings(max_examples=120, deadline=None)
def test_whoever_trusts_the_injected_bundle_accepts_whatever_is_served(age, events):
    """Two controllers (one a stale leader), late API servers and kubelets, lost Secrets: no handshake fails."""
    sim = a_sim(age)
    for name, argument in events:
        getattr(sim, name)(argument)
        sim.check()


def test_left_alone_for_two_years_it_stays_fresh_and_rotates():
    """Liveness: with a look every day the leaf never expires, authorities change, and old ones leave the bundle."""
    sim = Sim()
    issuers = set()
    for _ in range(2 * 365):
        sim.reconcile(0)
        sim.wait(3)
        sim.reconcile(0)
        sim.wait(1440)
        sim.check()
        leaf = read_leaf(sim.serving.value)
        (found,) = certificates(leaf.certificate)
        issuers.add(found.issuer.rfc4514_string())

        assert found.not_valid_after_utc > sim.now + timedelta(days=28)
        assert len(certificates(sim.bundle.value)) <= 3
    assert 5 <= len(issuers)


def test_the_simulation_sees_a_rotation_without_overlap():
    """The check itself works: a leaf of an authority that is not trusted yet is noticed."""
    sim = Sim()
    sim.reconcile(0)
    sim.wait(3)
    other = Sim()
    other.reconcile(0)
    sim.loaded[0] = Pair(read_leaf(other.serving.value).certificate)

    try:
        sim.check()
    except AssertionError:
        return
    raise AssertionError("a foreign certificate went unnoticed")
