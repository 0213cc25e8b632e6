"""The end of each certificate as a moment, and none without one."""

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from certs.bundle import Observed, State
from certs.expiry import AUTHORITY, SERVING, Expiry
from certs.mint import NO_PAIR, Pair, issue_leaf, mint_authority
from certs.serve import ServingContext

NOW = datetime(2026, 11, 21, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def expiry():
    return Expiry()


def ends(expiry):
    registry = CollectorRegistry()
    registry.register(expiry)
    name = "snapshot_certificate_expiry_timestamp_seconds"
    return {
        which: registry.get_sample_value(name, {"certificate": which})
        for which in (SERVING, AUTHORITY)
        if registry.get_sample_value(name, {"certificate": which}) is not None
    }


def test_the_controller_tells_of_the_secrets_as_they_change(expiry):
    authority = mint_authority("snap", NOW, 30 * DAY)
    leaf = issue_leaf(authority, ("a",), NOW, 10 * DAY)
    expiry.see_observed(Observed(State(current=authority), leaf, "", ("a",)))
    before = ends(expiry)
    expiry.see_observed(Observed(State(current=authority), Pair("no certificate"), "", ("a",)))

    assert {SERVING: (NOW + 10 * DAY).timestamp(), AUTHORITY: (NOW + 30 * DAY).timestamp()} == before
    assert {AUTHORITY: (NOW + 30 * DAY).timestamp()} == ends(expiry)


def test_where_nothing_was_minted_yet_nothing_is_said(expiry):
    expiry.see_observed(Observed(State(), NO_PAIR, "", ("a",)))

    assert {} == ends(expiry)


def test_the_webhook_tells_of_what_it_serves(tmp_path, expiry):
    serving = ServingContext(tmp_path, lambda end: expiry.see(SERVING, end))
    serving.refresh()
    before = ends(expiry)
    authority = mint_authority("snap", NOW, 30 * DAY)
    for days in (5, 9):
        leaf = issue_leaf(authority, ("a",), NOW, days * DAY)
        (tmp_path / "tls.crt").write_text(leaf.certificate)
        (tmp_path / "tls.key").write_text(leaf.key)
        assert serving.refresh()

    assert ({}, {SERVING: (NOW + 9 * DAY).timestamp()}) == (before, ends(expiry))
