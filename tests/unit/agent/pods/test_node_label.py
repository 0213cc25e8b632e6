"""The node's label says whether shaped pods can start here."""

import pytest

from agent.pods.node_label import NodeLabel
from contract.api import keys
from kube.errors import ForbiddenError
from tests.support.builders.agent import RecordingKube, Said, ScriptedEngine
from tests.support.virtual_time import run

OWN = ("snapshot", "agent-x")


def node(label=None):
    labels = {"kubernetes.io/os": "linux"} | ({keys.LABEL_NODE_READY: label} if label else {})
    return {"kind": "Node", "metadata": {"name": "node-1", "resourceVersion": "1", "labels": labels}}


def world(label=None):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "agent-x", "namespace": "snapshot", "uid": "u"}}
    return RecordingKube(node(label), pod)


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "p.json"
    path.write_text("{}")
    return path


def mark(kube, said, problems=(), profile=None):
    return NodeLabel(kube, said, "node-1", OWN, ScriptedEngine(None, problems=problems), profile)


@pytest.mark.parametrize(
    ("expected", "before", "problems", "patches"),
    [
        pytest.param("ready", None, (), 1, id="becomes ready"),
        pytest.param("ready", "ready", (), 0, id="stays ready without a write"),
        pytest.param(None, "ready", ("criu does not run",), 1, id="is ready no more"),
        pytest.param(None, None, ("criu does not run",), 0, id="is not"),
    ],
)
def test_label(expected, before, problems, patches, profile):
    kube = world(before)
    done = run(mark(kube, Said(), problems, profile).settle())

    assert expected == kube.objects["Node", "node-1"]["metadata"]["labels"].get(keys.LABEL_NODE_READY)
    assert patches == len(kube.patches)
    assert done == (expected == "ready")


def test_a_missing_profile_is_a_problem(tmp_path):
    kube, said = world("ready"), Said()
    run(mark(kube, said, (), tmp_path / "missing.json").settle())

    assert keys.LABEL_NODE_READY not in kube.objects["Node", "node-1"]["metadata"]["labels"]
    assert "missing.json is not there" in said.events[0][3]


def test_no_profile_is_needed_where_none_is_used():
    kube = world()

    assert run(mark(kube, Said()).settle())


def test_each_change_is_told_once_on_the_agents_pod(profile):
    async def scenario():
        kube, said = world(), Said()
        found = mark(kube, said, ("criu does not run",), profile)
        for problems in (("criu does not run",), ("criu does not run",), (), ()):
            found._engine.problems = problems
            await found.settle()
        return said

    said = run(scenario())

    assert [("Pod", "Warning", "NodeNotReady"), ("Pod", "Normal", "NodeReady")] == [each[:3] for each in said.events]


def test_a_label_that_cannot_be_written_is_tried_again(profile):
    kube = world()
    kube.failures = [ForbiddenError(403, "Forbidden", "no rights")]
    found = mark(kube, Said(), (), profile)

    assert not run(found.settle())
    assert run(found.settle())
