"""What a deleted checkpoint leaves in storage is said once, by the leader, and only where something stays."""

from types import SimpleNamespace

import pytest

from contract.api import keys
from controller.retention.kept_artifacts import KeptArtifacts, kept_words
from kube.recorder import MAX_MESSAGE
from kube.store import Change
from tests.support.builders.checkpoints import labelled, status_of
from tests.support.builders.objects import ID
from tests.support.pages import sections

VERSIONS = [{"version": "1", "size": 2**20}, {"version": "2", "size": 2**21}]
STATUS = status_of("Ready", location=f"/checkpoints/{ID}/versions/2", versions=VERSIONS)
MADE = labelled(status=STATUS)


def held(checkpoint):
    return checkpoint | {"metadata": checkpoint["metadata"] | {"finalizers": [keys.FINALIZER]}}


def another(checkpoint):
    return checkpoint | {"metadata": checkpoint["metadata"] | {"uid": "uid-of-its-successor"}}


def told_of(*changes, leading=True):
    told, counted = [], []
    recorder = SimpleNamespace(record=lambda *said: told.append(said[1:]))
    kept = KeptArtifacts(recorder, counted.append, lambda: leading)
    handlers = []
    kept.follow(SimpleNamespace(add_handler=handlers.append))
    for old, new in changes:
        handlers[0](Change(old, new))
    assert [reason for _, reason, _ in told] == counted
    return told


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        pytest.param(1, [(None, MADE), (MADE, None)], id="made by hand"),
        pytest.param(1, [(MADE, another(MADE))], id="deleted and made anew while we looked away"),
        pytest.param(0, [(None, MADE), (MADE, MADE)], id="still there"),
        pytest.param(0, [(None, labelled()), (labelled(), None)], id="nothing captured yet"),
        pytest.param(0, [(None, held(MADE)), (held(MADE), None)], id="its artifacts went first"),
        pytest.param(
            0, [(MADE, held(MADE)), (held(MADE), MADE), (MADE, None)], id="our finalizer was put on for its end"
        ),
        pytest.param(1, [(held(MADE), None), (None, another(MADE)), (another(MADE), None)], id="another of that name"),
    ],
)
def test_what_stays_is_told(expected, changes):
    assert [("Normal", "ArtifactKept")] * expected == [told[:2] for told in told_of(*changes)]


def test_only_the_leader_tells():
    assert [] == told_of((None, MADE), (MADE, None), leading=False)


def test_the_words_say_what_stays_where_and_what_to_do():
    words = kept_words(MADE)

    for part in (f"/checkpoints/{ID}/versions, versions 1, 2, 3.0 MiB", "annotation nvidia.com/snapshot-adopt=2"):
        assert part in words
    assert len(words) < MAX_MESSAGE
    page, anchor = words.rsplit(" ", 1)[1].split("#")
    assert keys.FINALIZER in sections(page)[anchor]
