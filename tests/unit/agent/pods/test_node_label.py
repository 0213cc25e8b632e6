"""The node's labels say whether shaped pods can start here, and what GPUs it has."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.executor.api import NodeGpus
from agent.pods.node_label import NodeLabel, gpu_labels, label_value
from contract.api import keys
from kube.errors import ForbiddenError
from tests.support.builders.agent import RecordingKube, Said, ScriptedEngine
from tests.support.virtual_time import run

OWN = ("snapshot", "agent-x")


def node(label=None):
    labels = {"kubernetes.io/os": "linux"} | ({keys.LABEL_NODE_READY: label} if label else {})
    return {"kind": "Node", "metadata": {"name": "node-1", "resourceVersion": "1", "labels": labels}}


def world(label=None):
    metadata = {"name": "agent-x", "namespace": "snapshot", "uid": "u", "resourceVersion": "1"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    return RecordingKube(node(label), pod)


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "p.json"
    path.write_text("{}")
    return path


def mark(kube, said, problems=(), profile=None, node_gpus=None):
    return NodeLabel(kube, said, "node-1", OWN, ScriptedEngine(None, problems=problems, node_gpus=node_gpus), profile)


def written(kube, kind):
    return [body["metadata"] for patched, _, body in kube.patches if patched == kind]


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
    assert patches == len(written(kube, "Node"))
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


@pytest.mark.parametrize(
    ("expected", "failures"),
    [
        pytest.param(1, ["no rights", "no rights", "no rights"], id="once"),
        pytest.param(2, ["no rights", "no answer"], id="another"),
        pytest.param(2, ["no rights", None, "no rights"], id="again"),
    ],
)
def test_why_a_label_cannot_be_written_is_said_once(expected, failures, profile, caplog):
    kube = world("ready")
    found = mark(kube, Said(), (), profile)
    for words in failures:
        kube.failures = [ForbiddenError(403, "Forbidden", words)] if words else []
        run(found.settle())
    assert expected == sum(
        "label not written" in each.getMessage() for each in caplog.records if each.levelname == "WARNING"
    )


H100, H200 = "NVIDIA H100 80GB HBM3", "NVIDIA H200"


def labels_for(model, count, driver):
    return {keys.LABEL_GPU_MODEL: model, keys.LABEL_GPU_COUNT: count, keys.LABEL_GPU_DRIVER: driver}


@pytest.mark.parametrize(
    ("expected", "gpus"),
    [
        pytest.param(labels_for(None, None, None), None, id="no-driver"),
        pytest.param(labels_for("NVIDIA-H100-80GB-HBM3", "1", "580.159.04"), NodeGpus((H100,), "580.159.04"), id="one"),
        pytest.param(labels_for("NVIDIA-H200", "8", "580.159.04"), NodeGpus((H200,) * 8, "580.159.04"), id="eight"),
        pytest.param(labels_for("several-models", "2", "570.1"), NodeGpus((H100, H200), "570.1"), id="two-models"),
        pytest.param(labels_for(None, "1", None), NodeGpus(("??",), "??"), id="no-letter-is-left"),
    ],
)
def test_what_the_labels_say_of_gpus(expected, gpus):
    assert expected == gpu_labels(gpus)


@given(st.text(max_size=100))
def test_every_text_becomes_a_value_that_the_api_server_takes(text):
    assert re.fullmatch(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?", label_value(text))
    assert len(label_value(text)) <= 63


def test_labels_of_gpus_come_and_go_with_the_driver(profile):
    kube = world("ready")
    found = mark(kube, Said(), (), profile, NodeGpus((H100,), "580.159.04"))
    engine = found._engine

    assert run(found.settle())
    assert "580.159.04" == kube.objects["Node", "node-1"]["metadata"]["labels"][keys.LABEL_GPU_DRIVER]
    run(found.settle())
    assert 1 == len(written(kube, "Node"))
    engine.node_gpus = None
    run(found.settle())
    assert {"kubernetes.io/os", keys.LABEL_NODE_READY} == set(kube.objects["Node", "node-1"]["metadata"]["labels"])


def test_a_node_is_ready_though_the_labels_of_its_gpus_are_refused(profile):
    kube = world("ready")

    async def refuse(*_, **__):
        raise ForbiddenError(403, "Forbidden", "policy of an earlier release")

    kube.patch = refuse
    assert run(mark(kube, Said(), (), profile, NodeGpus((H100,), "580.159.04")).settle())


def test_what_the_node_is_is_said_on_the_agents_pod_and_only_once(profile):
    async def scenario():
        kube = world()
        found = mark(kube, Said(), (), profile)
        there = found._engine.node_facts
        steps = [
            ((), there),
            ((), there),
            ((), None),
            (("criu does not run",), there),
            (("again",), there),
            ((), there),
        ]
        for found._engine.problems, found._engine.node_facts in steps:
            await found.settle()
        return written(kube, "Pod")

    said = [body["annotations"][keys.ANN_RESTORE_NODE] for body in run(scenario())]

    assert said[0] == '{"architecture":"amd64","kernel":"6.1.0","criu":"4.2.1","cpuFlags":"avx2"}'
    assert [said[0], None, said[0]] == said
