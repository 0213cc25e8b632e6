"""The store: versions, indexes, replacement."""

import pytest

from kube.store import Change, Store
from tests.support.fake_kube import obj


def by_colour(item):
    return (item["colour"],) if "colour" in item else ()


def filled(*items):
    store = Store({"colour": by_colour})
    store.replace(items)
    return store


@pytest.mark.parametrize(
    ("version", "taken"),
    [pytest.param(6, True, id="newer"), pytest.param(5, False, id="same"), pytest.param(4, False, id="older")],
)
def test_only_newer_knowledge_replaces(version, taken):
    store = filled(obj("a", 5, mark="old"))
    change = store.put(obj("a", version, mark="new"))

    assert taken == (change is not None)
    assert ("new" if taken else "old") == store.get("ns", "a")["mark"]


def test_indexes_follow_their_objects():
    store = filled(obj("a", 1, colour="red"), obj("b", 2, colour="red"), obj("c", 3))
    store.put(obj("a", 4, colour="blue"))
    store.remove(obj("b", 5))

    assert () == store.by_index("colour", "red")
    assert ["a"] == [each["metadata"]["name"] for each in store.by_index("colour", "blue")]
    assert ["a", "c"] == sorted(each["metadata"]["name"] for each in store)


def test_an_unknown_index_is_an_error():
    with pytest.raises(KeyError):
        filled().by_index("shape", "round")


def test_a_late_deletion_does_not_take_a_successor_away():
    store = filled(obj("a", 9, uid="second"))

    assert store.remove(obj("a", 7, uid="first")) is None
    assert 1 == len(store)


def test_replacing_tells_exactly_what_is_different():
    store = filled(obj("gone", 1), obj("same", 2), obj("changed", 3))
    changes = store.replace([obj("same", 2), obj("changed", 4), obj("new", 5)])

    names = {(c.old and c.old["metadata"]["name"], c.new and c.new["metadata"]["name"]) for c in changes}
    assert {("gone", None), ("changed", "changed"), (None, "new")} == names


def test_replacing_believes_an_older_version_too():
    """After a restore of etcd the truth is older than what we knew."""
    store = filled(obj("a", 100))
    store.replace([obj("a", 5)])

    assert "5" == store.get("ns", "a")["metadata"]["resourceVersion"]


def test_a_change_needs_an_object():
    with pytest.raises(ValueError, match="old or a new"):
        _ = Change(None, None).object
