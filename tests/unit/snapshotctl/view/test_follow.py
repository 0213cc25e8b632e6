"""What happened between two looks at a collection, told as a watch would have."""

import pytest

from snapshotctl.view.follow import missed


def seen(name, version="1", namespace="ns"):
    return {"metadata": {"namespace": namespace, "name": name, "resourceVersion": version}}


@pytest.mark.parametrize(
    ("expected", "known", "listed"),
    [
        pytest.param([], [seen("a")], [seen("a")], id="nothing"),
        pytest.param([("ADDED", "a")], [], [seen("a")], id="made"),
        pytest.param([("MODIFIED", "a")], [seen("a")], [seen("a", "2")], id="changed"),
        pytest.param([("DELETED", "a")], [seen("a")], [], id="gone"),
        pytest.param(
            [("ADDED", "a"), ("DELETED", "a")], [seen("a", namespace="other")], [seen("a")], id="one-name-elsewhere"
        ),
        pytest.param(
            [("MODIFIED", "b"), ("ADDED", "c"), ("DELETED", "a")],
            [seen("a"), seen("b"), seen("d")],
            [seen("b", "3"), seen("c"), seen("d")],
            id="all-at-once",
        ),
    ],
)
def test_what_was_missed(expected, known, listed):
    assert expected == [(kind, obj["metadata"]["name"]) for kind, obj in missed(known, listed)]
