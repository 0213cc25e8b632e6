import base64
from datetime import UTC, datetime, timedelta

import pytest

from certs import store
from certs.bundle import Retired, State
from certs.mint import NO_PAIR, Pair, mint_authority

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
YEAR = timedelta(days=365)
ONE, TWO, THREE, FOUR = (mint_authority("snap", NOW, YEAR) for _ in range(4))


def written(state):
    return {key: value for key, value in store.write_state(state).items() if value is not None}


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(State(), id="nothing"),
        pytest.param(State(current=ONE), id="current"),
        pytest.param(State(next=TWO), id="next"),
        pytest.param(State(ONE, TWO, NOW), id="trusted-next"),
        pytest.param(
            State(ONE, previous=(Retired(THREE.certificate, NOW), Retired(FOUR.certificate, NOW + YEAR))),
            id="former-ones",
        ),
    ],
)
def test_what_is_written_is_what_is_read(state):
    assert state == store.read_state(written(state))


def test_absent_parts_are_taken_out_of_the_secret():
    """A merge patch keeps what it does not name: the promoted authority must not linger as the next one."""
    data = store.write_state(State(current=ONE))

    assert data["ca-next.crt"] is None
    assert data["ca-next.key"] is None


@pytest.mark.parametrize(
    ("expected", "data"),
    [
        pytest.param(NO_PAIR, {}, id="empty"),
        pytest.param(NO_PAIR, {"tls.crt": "%%%"}, id="not-base64"),
        pytest.param(NO_PAIR, {"tls.crt": base64.b64encode(b"\xff\xfe").decode()}, id="not-text"),
        pytest.param(Pair("c", "k"), {"tls.crt": "Yw==", "tls.key": "aw=="}, id="pair"),
    ],
)
def test_a_leaf_that_cannot_be_read_counts_as_absent(expected, data):
    assert expected == store.read_leaf(data)


@pytest.mark.parametrize("times", [pytest.param(b"[not json", id="no JSON"), pytest.param(b"[" * 100_000, id="deep")])
def test_a_former_authority_without_its_time_stays_until_its_own_end(times):
    data = written(State(previous=(Retired(ONE.certificate, NOW),)))
    data["ca-previous.until"] = base64.b64encode(times).decode()

    assert (Retired(ONE.certificate, NOW + YEAR),) == store.read_state(data).previous


@pytest.mark.parametrize(
    ("expected", "configuration"),
    [
        pytest.param("", {}, id="no-webhooks"),
        pytest.param("", {"webhooks": [{"name": "a.b.c", "clientConfig": {"service": {}}}]}, id="not-injected"),
        pytest.param("", {"webhooks": [{"name": "x.y.z", "clientConfig": {"caBundle": "Yw=="}}]}, id="other-entry"),
        pytest.param("c", {"webhooks": [{"name": "a.b.c", "clientConfig": {"caBundle": "Yw=="}}]}, id="injected"),
    ],
)
def test_the_bundle_of_our_entry(expected, configuration):
    assert expected == store.read_bundle(configuration, "a.b.c")
