import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.api.states import DeletionPolicy, StartupPolicy
from controller.graphs.services import deployment_name, references_of, services_of


def graph(**services):
    return {"metadata": {"name": "demo"}, "spec": {"services": services}}


def one(startup=StartupPolicy.IMMEDIATE, **body):
    (found,) = services_of(graph(Worker=body), startup)
    return found


@pytest.mark.parametrize(
    ("kind", "is_worker", "body"),
    [
        pytest.param("worker", True, {"componentType": "Worker"}, id="upper-case"),
        pytest.param("prefill", True, {"componentType": "prefill"}, id="prefill"),
        pytest.param("decode", True, {"componentType": "decode"}, id="decode"),
        pytest.param("frontend", False, {"componentType": "frontend", "checkpoint": {"enabled": True}}, id="frontend"),
        pytest.param("worker", True, {"checkpoint": {"enabled": True}}, id="only-a-checkpoint-block"),
        pytest.param("worker", True, {"checkpoint": {}}, id="a-block-that-is-off"),
        pytest.param("", False, {}, id="nothing"),
    ],
)
def test_what_kind_a_service_is(kind, is_worker, body):
    found = one(**body)

    assert (kind, is_worker) == (found.kind, found.is_worker)


@pytest.mark.parametrize(
    ("expected", "default", "block"),
    [
        pytest.param("Immediate", "Immediate", {}, id="default"),
        pytest.param("WaitForCheckpoint", "WaitForCheckpoint", {}, id="the-installations"),
        pytest.param("Immediate", "WaitForCheckpoint", {"startupPolicy": "Immediate"}, id="the-services-own"),
    ],
)
def test_the_startup_policy(expected, default, block):
    found = one(StartupPolicy(default), checkpoint={"enabled": True, **block})

    assert expected == found.policy.startup


@pytest.mark.parametrize("mode", ["auto", "Auto", "Manual", None])
def test_the_mode_is_ignored(mode):
    found = one(checkpoint={"enabled": True, "mode": mode})

    assert ("", "main", DeletionPolicy.DELETE) == (found.policy.reference, found.policy.target, found.policy.deletion)


@pytest.mark.parametrize("block", [None, {}, {"enabled": False}, {"checkpointRef": "qwen"}])
def test_without_enabled_there_is_no_wish(block):
    assert one(checkpoint=block).policy is None


def test_references_are_those_of_enabled_checkpoints():
    said = {name: {"checkpoint": {"enabled": name != "c", "checkpointRef": name}} for name in ("a", "b", "c")}

    assert {"a", "b"} == references_of(graph(**said, d={}))


@pytest.mark.parametrize(
    ("expected", "name", "service"),
    [
        pytest.param("vllm-auto-demo-vllmdecodeworker", "vllm-auto-demo", "VllmDecodeWorker", id="the-guides"),
        pytest.param("a" * 61 + "-b", "a" * 61, "B", id="just-fits"),
    ],
)
def test_deployments_are_named_after_graph_and_service(expected, name, service):
    assert expected == deployment_name(name, service)


def test_long_names_are_cut_and_stay_apart():
    names = {deployment_name("g" * 63, service) for service in ("W" * 63, "W" * 62 + "x")}

    assert 2 == len(names)
    assert {63} == {len(name) for name in names}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=6,
)
UNTYPED = ("multinode", "gpuMemoryService", "sharedMemory", "extraPodMetadata", "volumeMounts", "dynamoNamespace")


@pytest.mark.parametrize("value", [True, "x", [1], {"nodeCount": "x"}, {"nodeCount": [1]}, {"enabled": "x"}])
@pytest.mark.parametrize("field", UNTYPED)
def test_what_the_api_server_does_not_check_stops_nobody(field, value):
    """The live copy files every graph by its references: what failed there ended the process."""
    hostile = graph(Worker={field: value, "checkpoint": {"enabled": True, "checkpointRef": "qwen"}})

    assert {"qwen"} == references_of(hostile)
    assert ["Worker"] == [service.name for service in services_of(hostile, StartupPolicy.IMMEDIATE)]


@given(spec=ANYTHING, body=ANYTHING, block=ANYTHING)
def test_no_graph_breaks_the_index(spec, body, block):
    for hostile in (
        {"spec": spec},
        graph(Worker=body),
        {"spec": {"services": body}},
        graph(Worker={"checkpoint": block}),
    ):
        assert all(references_of({"metadata": {"name": "demo"}} | hostile))


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        pytest.param(1, {}, id="nothing"),
        pytest.param(1, {"nodeCount": 1}, id="one"),
        pytest.param(2, {"nodeCount": 2}, id="two"),
        pytest.param(0, {"nodeCount": "many"}, id="no-number"),
        pytest.param(0, {"nodeCount": True}, id="a-word"),
    ],
)
def test_the_nodes_of_a_replica(nodes, said):
    assert nodes == one(multinode=said).nodes
