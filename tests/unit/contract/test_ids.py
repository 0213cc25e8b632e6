from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.config.storage import BadIdError, artifact_dir, check_id, check_version

HOSTILE = [
    pytest.param("", id="empty"),
    pytest.param("..", id="parent"),
    pytest.param("a/b", id="slash"),
    pytest.param("a\\b", id="backslash"),
    pytest.param("a.b", id="dot"),
    pytest.param("-a", id="leading-hyphen"),
    pytest.param("a-", id="trailing-hyphen"),
    pytest.param("Ab", id="upper-case"),
    pytest.param("a\n", id="newline"),
    pytest.param("é", id="not-ascii"),
    pytest.param("a" * 64, id="too-long"),
    pytest.param("a\0b", id="nul"),
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_ids_are_refused_with_a_remedy(text):
    with pytest.raises(BadIdError, match="lower-case letters, digits and hyphens"):
        check_id(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_versions_are_refused(text):
    with pytest.raises(BadIdError, match="artifact version"):
        check_version(text)


@pytest.mark.parametrize("text", ["1", "3bff874d069f0ed5", "manual-snapshot-1764000000000000000", "a" * 63])
def test_usual_ids_pass(text):
    assert text == check_id(text)


@given(st.text(), st.text())
def test_an_artifact_never_leaves_the_base_path(checkpoint_id, version):
    base = PurePosixPath("/checkpoints")
    try:
        path = artifact_dir(base, checkpoint_id, version)
    except BadIdError:
        return
    assert (base / checkpoint_id / "versions" / version) == path
    assert ".." not in path.parts
    assert 5 == len(path.parts)
