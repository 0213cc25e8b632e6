from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from certs.bundle import Act, Observed, Retired, State, after, decide, new_leaf, wanted_bundle
from certs.mint import NO_PAIR, Pair, issue_leaf, mint_authority
from certs.policy import Lifetimes

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
LIVES = Lifetimes()
NAMES = ("snap-webhook.ns.svc",)
OLD = mint_authority("snap", NOW - 600 * DAY, LIVES.authority)
CA = mint_authority("snap", NOW, LIVES.authority)
NEXT = mint_authority("snap", NOW, LIVES.authority)
LEAF = issue_leaf(CA, NAMES, NOW, LIVES.leaf)
FRESH = Observed(State(current=CA), LEAF, CA.certificate, NAMES)
ROTATING = replace(
    FRESH,
    state=State(current=CA, next=NEXT, next_trusted_since=NOW),
    bundle=CA.certificate + NEXT.certificate,
)


def step_of(world, at=NOW):
    step = decide(world, at)
    return step and step.act


@pytest.mark.parametrize(
    ("expected", "world", "at"),
    [
        pytest.param(None, FRESH, NOW, id="all-is-well"),
        pytest.param(Act.MINT, Observed(State(), NO_PAIR, "", NAMES), NOW, id="a-new-release"),
        pytest.param(Act.MINT, replace(FRESH, state=State(current=OLD)), NOW, id="authority-expiring"),
        pytest.param(Act.MINT, replace(FRESH, state=State(Pair(CA.certificate))), NOW, id="authority-key-lost"),
        pytest.param(Act.INJECT, replace(FRESH, bundle=""), NOW, id="bundle-lost"),
        pytest.param(Act.INJECT, replace(FRESH, bundle=NEXT.certificate), NOW, id="foreign-bundle"),
        pytest.param(Act.INJECT, replace(FRESH, bundle="garbage"), NOW, id="unreadable-bundle"),
        pytest.param(Act.ISSUE, replace(FRESH, leaf=NO_PAIR), NOW, id="leaf-lost"),
        pytest.param(Act.ISSUE, FRESH, NOW + 70 * DAY, id="leaf-expiring"),
        pytest.param(None, ROTATING, NOW + MINUTE, id="bundle-still-on-its-way"),
        pytest.param(Act.PROMOTE, ROTATING, NOW + 2 * MINUTE, id="bundle-arrived-everywhere"),
        pytest.param(None, ROTATING, NOW - MINUTE, id="stamp-of-a-clock-ahead"),
        pytest.param(Act.DISTRUST, replace(ROTATING, bundle=CA.certificate), NOW, id="bundle-lost-the-next-one"),
        pytest.param(
            Act.CONFIRM,
            replace(ROTATING, state=replace(ROTATING.state, next_trusted_since=None)),
            NOW,
            id="bundle-just-injected",
        ),
        pytest.param(
            Act.DISCARD,
            replace(ROTATING, state=replace(ROTATING.state, next=Pair(NEXT.certificate))),
            NOW,
            id="next-without-key",
        ),
        pytest.param(
            Act.RETIRE,
            replace(FRESH, state=State(CA, previous=(Retired(OLD.certificate, NOW),))),
            NOW,
            id="former-authority-over",
        ),
    ],
)
def test_the_one_step_that_is_due(expected, world, at):
    assert expected == step_of(world, at)


def test_a_leaf_is_renewed_while_an_authority_waits_for_trust():
    """The rotation of one must not hold up the other: the current authority still signs."""
    assert Act.ISSUE == step_of(replace(ROTATING, leaf=NO_PAIR), NOW + MINUTE)


def test_the_new_authority_signs_once_promoted_and_the_old_one_stays_in_the_bundle():
    step = decide(ROTATING, NOW + 5 * MINUTE)
    state = after(step, ROTATING, NOW + 5 * MINUTE, "snap")
    promoted = replace(ROTATING, state=state)

    assert NEXT == state.current
    assert NEXT.certificate + CA.certificate == wanted_bundle(state)
    assert (Retired(CA.certificate, NOW + 5 * MINUTE + LIVES.leaf),) == state.previous
    assert Act.ISSUE == step_of(promoted, NOW + 5 * MINUTE)


def test_a_lost_authority_is_kept_in_trust_from_the_bundle():
    """Emptied Secret: webhooks still serve what the lost authority signed."""
    world = replace(FRESH, state=State())
    state = after(decide(world, NOW), world, NOW, "snap")

    assert NO_PAIR == state.current
    assert [CA.certificate] == [old.certificate for old in state.previous]
    assert CA.certificate in wanted_bundle(state)


def test_the_first_authority_needs_no_waiting():
    world = Observed(State(next=NEXT, next_trusted_since=NOW), NO_PAIR, NEXT.certificate, NAMES)

    assert Act.PROMOTE == step_of(world)


def test_the_leaf_is_signed_by_the_current_authority():
    world = replace(FRESH, leaf=new_leaf(replace(FRESH, leaf=NO_PAIR), NOW))

    assert step_of(world) is None


def test_steps_on_other_objects_do_not_change_the_authorities():
    with pytest.raises(ValueError, match="issue does not write"):
        after(decide(replace(FRESH, leaf=NO_PAIR), NOW), FRESH, NOW, "snap")
