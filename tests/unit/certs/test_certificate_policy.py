from datetime import UTC, datetime, timedelta

import pytest

from certs.mint import NO_PAIR, Pair, issue_leaf, mint_authority
from certs.policy import Due, Lifetimes, authority_due, can_sign, certificates, leaf_due

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
DAY = timedelta(days=1)
LIVES = Lifetimes()
NAMES = ("snap-webhook.ns.svc",)
CA = mint_authority("snap", NOW, LIVES.authority)
OTHER_CA = mint_authority("snap", NOW, LIVES.authority)
LEAF = issue_leaf(CA, NAMES, NOW, LIVES.leaf)
LAST_LEAF = issue_leaf(CA, NAMES, NOW + 720 * DAY, LIVES.leaf)
GARBAGE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("expected", "leaf", "at"),
    [
        pytest.param(None, LEAF, NOW, id="fresh"),
        pytest.param(None, LEAF, NOW + 60 * DAY, id="a-month-left"),
        pytest.param(Due.EXPIRING, LEAF, NOW + 61 * DAY, id="less-than-a-month-left"),
        pytest.param(Due.EXPIRING, LEAF, NOW + 365 * DAY, id="expired"),
        pytest.param(None, LAST_LEAF, NOW + 725 * DAY, id="ends-with-its-authority"),
        pytest.param(Due.NOT_YET_VALID, LEAF, NOW - DAY, id="clock-went-back"),
        pytest.param(Due.MISSING, NO_PAIR, NOW, id="missing"),
        pytest.param(Due.UNREADABLE, Pair("hello", LEAF.key), NOW, id="no-pem"),
        pytest.param(Due.UNREADABLE, Pair(GARBAGE, LEAF.key), NOW, id="no-certificate"),
        pytest.param(Due.KEY_MISSING, Pair(LEAF.certificate), NOW, id="no-key"),
        pytest.param(Due.KEY_MISMATCH, Pair(LEAF.certificate, CA.key), NOW, id="foreign-key"),
        pytest.param(Due.KEY_MISMATCH, Pair(LEAF.certificate, "hello"), NOW, id="unreadable-key"),
        pytest.param(Due.OTHER_ISSUER, issue_leaf(OTHER_CA, NAMES, NOW, DAY), NOW, id="other-authority"),
        pytest.param(Due.NAMES_DIFFER, issue_leaf(CA, ("x.y.svc",), NOW, LIVES.leaf), NOW, id="other-names"),
        pytest.param(Due.NAMES_DIFFER, CA, NOW, id="no-names"),
    ],
)
def test_a_serving_certificate_says_why_it_is_due(expected, leaf, at):
    reason = leaf_due(leaf, CA, NAMES, at, LIVES)

    assert expected == (reason and reason.due)


@pytest.mark.parametrize(
    ("expected", "signs", "authority", "at"),
    [
        pytest.param(None, True, CA, NOW, id="fresh"),
        pytest.param(None, True, CA, NOW + 550 * DAY, id="two-leaves-left"),
        pytest.param(Due.EXPIRING, True, CA, NOW + 551 * DAY, id="less-than-two-leaves-left"),
        pytest.param(Due.EXPIRING, False, CA, NOW + 731 * DAY, id="expired"),
        pytest.param(Due.NOT_YET_VALID, False, CA, NOW - DAY, id="clock-went-back"),
        pytest.param(Due.MISSING, False, NO_PAIR, NOW, id="missing"),
        pytest.param(Due.UNREADABLE, False, Pair("hello", CA.key), NOW, id="unreadable"),
        pytest.param(Due.KEY_MISSING, False, Pair(CA.certificate), NOW, id="trust-only"),
        pytest.param(Due.KEY_MISMATCH, False, Pair(CA.certificate, OTHER_CA.key), NOW, id="foreign-key"),
        pytest.param(Due.NOT_AN_AUTHORITY, False, LEAF, NOW, id="a-leaf-in-its-place"),
    ],
)
def test_an_authority_says_why_it_is_due_and_whether_it_can_still_sign(expected, signs, authority, at):
    reason = authority_due(authority, at, LIVES)

    assert expected == (reason and reason.due)
    assert signs == can_sign(authority, at)


def test_reasons_are_sentences_for_people():
    reason = leaf_due(LEAF, OTHER_CA, NAMES, NOW, LIVES)

    assert reason is not None
    assert "it was not signed by CN=snap CA" in reason.message


@pytest.mark.parametrize(
    ("count", "bundle"),
    [
        pytest.param(0, "", id="empty"),
        pytest.param(0, "hello", id="no-pem"),
        pytest.param(2, CA.certificate + OTHER_CA.certificate, id="two"),
    ],
)
def test_a_bundle_is_read_whole_or_not_at_all(count, bundle):
    assert count == len(certificates(bundle))
