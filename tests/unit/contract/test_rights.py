"""The rights of the agent, as they are asked about and as they are named."""

import pytest

from contract.api.rights import AGENT, Right, in_words

LIST_PODS = Right("list", "pods")
PATCH_NODES = Right("patch", "nodes", namespaced=False)


@pytest.mark.parametrize(
    ("expected", "rights"),
    [
        pytest.param("", [], id="none"),
        pytest.param("list pods", [LIST_PODS], id="one"),
        pytest.param("list, watch pods; patch jobs.batch", [LIST_PODS, Right("patch", "jobs", "batch"),
                     Right("watch", "pods")], id="of-one-resource-together"),
        pytest.param("patch pods/status", [Right("patch", "pods", subresource="status")], id="a-part"),
    ],
)  # fmt: skip
def test_rights_in_words(expected, rights):
    assert expected == in_words(rights)


@pytest.mark.parametrize(
    ("expected", "right", "namespace"),
    [
        pytest.param("ns", LIST_PODS, "ns", id="of-a-namespace"),
        pytest.param(None, LIST_PODS, None, id="of-all"),
        pytest.param(None, PATCH_NODES, "ns", id="nodes-are-of-none"),
    ],
)
def test_where_a_right_is_asked_about(expected, right, namespace):
    assert expected == right.attributes(namespace).get("namespace")


def test_no_right_is_listed_twice():
    assert len(set(AGENT)) == len(AGENT)
