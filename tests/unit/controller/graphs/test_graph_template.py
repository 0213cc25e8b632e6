import pytest

from contract.api import keys
from contract.api.states import StartupPolicy
from controller.graphs.objects import Graph, deployment
from controller.graphs.services import services_of
from controller.graphs.template import merged, pod_template


def shaped(spec=None, **body):
    graph = {"metadata": {"name": "demo", "namespace": "ns"}, "spec": {**(spec or {}), "services": {"W": body}}}
    (service,) = services_of(graph, StartupPolicy.IMMEDIATE)
    return pod_template(graph, service)


def main(**body):
    return shaped(**body)["spec"]["containers"][0]


def own(**fields):
    return {"mainContainer": {"image": "i", **fields}}


@pytest.mark.parametrize(
    ("expected", "fields"),
    [
        pytest.param((["/bin/sh", "-c"], ["run me"]), {"args": ["run me"]}, id="one-string"),
        pytest.param((None, ["run", "me"]), {"args": ["run", "me"]}, id="words"),
        pytest.param((["a"], ["run me"]), {"command": ["a"], "args": ["run me"]}, id="own-command"),
        pytest.param((None, None), {}, id="entrypoint"),
    ],
)
def test_the_command_line(expected, fields):
    found = main(componentType="worker", extraPodSpec=own(**fields))

    assert expected == (found.get("command"), found.get("args"))


def test_a_frontend_runs_the_platforms_frontend_unless_told_otherwise():
    usual = main(componentType="frontend", extraPodSpec=own())
    told = main(componentType="frontend", extraPodSpec=own(args=["-m", "mine"]))

    assert ["python3", "-m", "dynamo.frontend"] == [*usual["command"], *usual["args"]]
    assert ["-m", "mine"] == told["args"]
    assert "command" not in told


@pytest.mark.parametrize(
    ("expected", "resources"),
    [
        pytest.param({"limits": {"nvidia.com/gpu": "1"}}, {"limits": {"nvidia.com/gpu": "1"}}, id="by-resource"),
        pytest.param({"limits": {"nvidia.com/gpu": "1"}}, {"limits": {"gpu": "1"}}, id="gpu"),
        pytest.param(
            {"limits": {"gpu.intel.com/xe": "2"}}, {"limits": {"gpu": "2", "gpuType": "gpu.intel.com/xe"}}, id="type"
        ),
        pytest.param(
            {"requests": {"cpu": "1", "x/y": "3"}}, {"requests": {"cpu": "1", "custom": {"x/y": "3"}}}, id="custom"
        ),
        pytest.param({"claims": [{"name": "c"}]}, {"claims": [{"name": "c"}]}, id="claims"),
        pytest.param(None, {"limits": {}}, id="none"),
    ],
)
def test_resources(expected, resources):
    assert expected == main(resources=resources, extraPodSpec=own()).get("resources")


def test_the_containers_own_resources_go_before_the_services():
    found = main(resources={"limits": {"cpu": "1", "gpu": "1"}}, extraPodSpec=own(resources={"limits": {"cpu": "2"}}))

    assert {"limits": {"cpu": "2", "nvidia.com/gpu": "1"}} == found["resources"]


def test_the_nearest_environment_wins():
    found = main(
        spec={"envs": [{"name": "A", "value": "graph"}, {"name": "B", "value": "graph"}]},
        envs=[{"name": "B", "value": "service"}, {"name": "C", "value": "service"}],
        extraPodSpec=own(env=[{"name": "C", "value": "container"}]),
        envFromSecret="keys",
    )

    assert {"A": "graph", "B": "service", "C": "container"} == {each["name"]: each["value"] for each in found["env"]}
    assert [{"secretRef": {"name": "keys"}}] == found["envFrom"]


def test_pod_fields_and_sidecars_stay():
    found = shaped(extraPodSpec={**own(), "nodeSelector": {"a": "b"}, "containers": [{"name": "side", "image": "s"}]})

    assert {"a": "b"} == found["spec"]["nodeSelector"]
    assert ["main", "side"] == [each["name"] for each in found["spec"]["containers"]]
    assert "mainContainer" not in found["spec"]


def test_probes_volumes_and_shared_memory():
    probe = {"httpGet": {"path": "/", "port": 1}}
    found = shaped(
        readinessProbe=probe,
        volumeMounts=[{"name": "models", "mountPoint": "/models"}],
        sharedMemory={"size": "2Gi"},
        extraPodSpec=own(),
    )
    container = found["spec"]["containers"][0]

    assert probe == container["readinessProbe"]
    assert ["/models", "/dev/shm"] == [mount["mountPath"] for mount in container["volumeMounts"]]
    assert [
        {"name": "models", "persistentVolumeClaim": {"claimName": "models"}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}},
    ] == found["spec"]["volumes"]


def test_labels_and_annotations_of_graph_service_and_pod():
    found = shaped(
        spec={"labels": {"a": "graph", "b": "graph"}},
        labels={"b": "service"},
        extraPodMetadata={"annotations": {"note": "x"}},
        extraPodSpec=own(),
    )

    assert {"labels": {"a": "graph", "b": "service"}, "annotations": {"note": "x"}} == found["metadata"]


OPTED_IN = {
    "labels": {"team": "x", keys.LABEL_RESTORE: keys.RESTORE_BY_NAME, keys.LABEL_CHECKPOINT_ID: "id"},
    "annotations": {
        "note": "x",
        keys.ANN_CHECKPOINT_NAME: "c",
        keys.ANN_RESTORE_CANDIDATE: "true",
        keys.ANN_POLICY: "p",
    },
}


@pytest.mark.parametrize(
    ("notes", "labels", "body"),
    [
        pytest.param({"note"}, {"team"}, {"checkpoint": {"enabled": False}}, id="switched-off"),
        pytest.param({"note"}, {"team"}, {"checkpoint": {}}, id="never-switched-on"),
        pytest.param(OPTED_IN["annotations"].keys(), OPTED_IN["labels"].keys(), {}, id="no-block-so-the-users-own"),
    ],
)
def test_what_a_service_without_checkpoint_keeps_of_its_template(notes, labels, body):
    """Left in place, the words of an earlier checkpoint would restore pods of a service that wants none."""
    spec = {"services": {"W": {**body, "extraPodMetadata": OPTED_IN, "extraPodSpec": own()}}}
    obj = {"metadata": {"name": "demo", "namespace": "ns", "uid": "u"}, "spec": spec}
    (service,) = services_of(obj, StartupPolicy.IMMEDIATE)
    made = deployment(Graph.of(obj), service, pod_template(obj, service), None, 1)
    metadata = made["spec"]["template"]["metadata"]

    assert notes == metadata["annotations"].keys()
    assert labels == metadata["labels"].keys() & OPTED_IN["labels"].keys()


@pytest.mark.parametrize(
    ("expected", "base", "over"),
    [
        pytest.param({"a": 1, "b": 2}, {"a": 1}, {"b": 2}, id="maps"),
        pytest.param(
            [{"name": "x", "v": 2}, {"name": "y"}],
            [{"name": "x", "v": 1}],
            [{"name": "x", "v": 2}, {"name": "y"}],
            id="by-name",
        ),
        pytest.param([3], [1, 2], [3], id="plain-lists"),
        pytest.param(
            [{"mountPath": "/a", "name": "new"}],
            [{"mountPath": "/a", "name": "old"}],
            [{"mountPath": "/a", "name": "new"}],
            id="by-path",
        ),
        pytest.param("b", {"a": 1}, "b", id="replaced"),
    ],
)
def test_merging(expected, base, over):
    assert expected == merged(base, over)
