"""Which installation is asked about a namespace, and what is said where none can be told."""

import pytest

from contract.config.values import values_from
from kube.api import Listing
from kube.errors import ForbiddenError, NotFoundError
from kube.resources import CONFIG_MAPS, NAMESPACES
from snapshotctl.explain.release import RELEASE_LABEL, SELECTOR, Release, find_release, not_served, selects


def config(namespace, text="{}", name="snap"):
    return {
        "metadata": {"name": f"{name}-config", "namespace": namespace, "labels": {RELEASE_LABEL: name}},
        "data": {"config.yaml": text},
    }


class Cluster:
    """The two calls that are made, over a list."""

    def __init__(self, *configs, labels=None, forbidden=()):
        self._configs, self._labels, self._forbidden = configs, labels, forbidden

    async def list(self, resource, namespace=None, *, labels=""):
        assert (CONFIG_MAPS, SELECTOR) == (resource, labels)
        if ("here" if namespace else "all") in self._forbidden:
            raise ForbiddenError(403, "Forbidden", "no")
        return Listing(tuple(c for c in self._configs if namespace in (None, c["metadata"]["namespace"])), "")

    async def get(self, resource, name):
        assert (NAMESPACES, "ns") == (resource, name)
        if self._labels is None:
            raise NotFoundError(404, "NotFound", "no")
        return {"metadata": {"labels": self._labels}}


WIDE = "rbac: {namespaceRestricted: false}"


@pytest.mark.parametrize(
    ("title", "note", "cluster"),
    [
        pytest.param("snap (ns)", "", Cluster(config("ns")), id="its-own"),
        pytest.param("snap (ns)", "", Cluster(config("other", name="a"), config("ns")), id="the-one-that-serves"),
        pytest.param("snap (other)", "", Cluster(config("other", WIDE)), id="cluster-wide"),
        pytest.param("snap (other)", "", Cluster(config("other")), id="none-serves"),
        pytest.param("", "no release of the chart was found", Cluster(), id="not-installed"),
        pytest.param("snap (ns)", "", Cluster(config("ns"), forbidden=("all",)), id="only-own-namespace-readable"),
        pytest.param("", "others may not be read", Cluster(forbidden=("all",)), id="nothing-here"),
        pytest.param("", "may not be read (no)", Cluster(forbidden=("all", "here")), id="nothing-readable"),
        pytest.param("snap (ns)", "wibble: unknown key", Cluster(config("ns", "wibble: 1")), id="newer-values"),
    ],
)
async def test_the_release_that_is_asked(title, note, cluster):
    found = await find_release(cluster, "ns")
    assert title == found.title
    assert note in " ".join(found.notes)
    assert bool(note) == bool(found.notes)


@pytest.mark.parametrize(
    ("words", "values", "labels"),
    [
        pytest.param(None, {"rbac": {"namespaceRestricted": False}}, {}, id="cluster-wide"),
        pytest.param("rbac.namespaceRestricted", {}, {}, id="restricted"),
        pytest.param("coexist", {"coexist": "agentOnly"}, {}, id="agent-only"),
        pytest.param(
            "opted out",
            {"rbac": {"namespaceRestricted": False}},
            {"nvidia.com/snapshot-restore": "disabled"},
            id="opted-out",
        ),
        pytest.param(
            "webhook.namespaceSelector",
            {"webhook": {"namespaceSelector": {"matchLabels": {"a": "b"}}}},
            {},
            id="outside",
        ),
        pytest.param(None, {"webhook": {"namespaceSelector": {"matchLabels": {"a": "b"}}}}, {"a": "b"}, id="inside"),
        pytest.param(
            None, {"webhook": {"namespaceSelector": {"matchLabels": {"a": "b"}}}}, None, id="labels-unreadable"
        ),
        pytest.param(
            "webhook.objectSelector",
            {"rbac": {"namespaceRestricted": False}, "webhook": {"objectSelector": {"matchLabels": {"team": "a"}}}},
            {},
            id="object-selector",
        ),
    ],
)
def test_whom_the_api_server_asks(words, values, labels):
    release = Release(values_from(values), "snap (home)", "home", (), labels)
    found = not_served(release, "ns", {"app": "web"})
    assert (words is None) == (found is None)
    assert words is None or words in found


@pytest.mark.parametrize(
    ("matches", "expression"),
    [
        pytest.param(True, {"key": "a", "operator": "In", "values": ["b"]}, id="in"),
        pytest.param(False, {"key": "x", "operator": "In", "values": ["b"]}, id="in-absent"),
        pytest.param(True, {"key": "x", "operator": "NotIn", "values": ["b"]}, id="not-in-absent"),
        pytest.param(False, {"key": "a", "operator": "NotIn", "values": ["b"]}, id="not-in"),
        pytest.param(True, {"key": "a", "operator": "Exists"}, id="exists"),
        pytest.param(True, {"key": "x", "operator": "DoesNotExist"}, id="does-not-exist"),
    ],
)
def test_selectors(matches, expression):
    assert matches == selects({"matchExpressions": [expression]}, {"a": "b"})
