import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.graphs import identity


def checkpoint_id(**fields):
    base = {"namespace": "ns", "graph": "dgd", "uid": "uid-1", "component": "worker", "worker_hash": "hash-1"}
    return identity.checkpoint_id(**{**base, **fields})


def test_the_known_id():
    """The platform's own example."""
    assert "197725d87a037228bc935cbbfe6158a8" == checkpoint_id()


@pytest.mark.parametrize("field", ["namespace", "graph", "uid", "component", "worker_hash"])
def test_every_field_counts(field):
    assert checkpoint_id() != checkpoint_id(**{field: "other"})


@pytest.mark.parametrize(
    ("expected", "fields"),
    [
        pytest.param("575bfb3af08e1eaa939a813b256c3852", {"namespace": ""}, id="namespace"),
        pytest.param("b857822870f3765ba89906e543cf91a5", {"uid": ""}, id="uid"),
        pytest.param("d3bafb07789225e5a9ca309630238d95", {"worker_hash": ""}, id="worker-hash"),
    ],
)
def test_what_is_empty_is_left_out(expected, fields):
    assert expected == checkpoint_id(**fields)


def test_the_worker_hash_is_short_and_knows_no_order():
    one, other = ("a", {"spec": {"x": 1, "y": 2}}), ("b", {"spec": {}})

    assert identity.worker_hash([one, other]) == identity.worker_hash([other, ("a", {"spec": {"y": 2, "x": 1}})])
    assert 8 == len(identity.worker_hash([one]))
    assert identity.worker_hash([one]) != identity.worker_hash([other])


@given(st.dictionaries(st.text(), st.text()))
def test_any_text_can_be_hashed(template):
    assert 8 == len(identity.worker_hash([("a", template)]))


@pytest.mark.parametrize(
    ("expected", "said", "container"),
    [
        pytest.param("sglang", "sglang", {"args": ["-m", "dynamo.vllm"]}, id="said"),
        pytest.param("vllm", "", {"command": ["python3", "-m", "dynamo.vllm"]}, id="command"),
        pytest.param("trtllm", "", {"args": ["python3 -m dynamo.trtllm --x"]}, id="one-string"),
        pytest.param("generic", "", {}, id="nothing"),
        pytest.param("generic", "mine", {}, id="unknown"),
    ],
)
def test_the_backend_is_determined(expected, said, container):
    assert expected == identity.backend_of(said, container)
