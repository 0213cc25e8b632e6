"""What is said of a capture that took longer than anybody waited for it."""

import pytest

from snapshotctl.live.waiting import unfinished
from tests.support.builders.objects import checkpoint


@pytest.mark.parametrize(
    ("words", "status"),
    [
        pytest.param(
            "not done in 90 s, it goes on: `snapshotctl describe qwen -n ns`", {"phase": "Creating"}, id="slow"
        ),
        pytest.param(
            "no controller has taken it up in 90 s: `kubectl get pods -A -l app.kubernetes.io/component=controller`",
            None,
            id="nobody",
        ),
    ],
)
def test_it_says_where_to_look(words, status):
    ended = unfinished(checkpoint(status=status), 90)

    assert (False, "pending") == (ended.ok, ended.facts["status"])
    assert words in ended.message
