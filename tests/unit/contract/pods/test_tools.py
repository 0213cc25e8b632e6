import jsonpatch
import pytest

from contract.api import keys
from contract.api.checkpoint import find_targets
from contract.config.storage import storage_from_values
from contract.config.values import load_values
from contract.pods.capture_job import build_capture_job
from contract.pods.common import MountTakenError
from contract.pods.injected_tools import EntrypointUnknownError, tools_for
from contract.pods.restore_patch import Restore, restore_operations
from tests.support.builders.objects import ID, IMAGE, checkpoint, container, opted_in, template

INIT = "placeholder: {mode: inject, inject: {pullSecrets: [{name: tools-pull}]}}"
VOLUME = "placeholder: {mode: inject, inject: {via: imageVolume, image: {repository: r/tools, tag: '9'}}}"
CONFIG = {"entrypoint": ["/bin/tini", "--"], "cmd": ["serve", "--fast"]}
MOUNT = {"name": "snapshot-tools", "mountPath": "/opt/dynamo-snapshot", "readOnly": True}


def restore(text=INIT, image=IMAGE, **fields):
    values = load_values(text)
    given = {"image_config": CONFIG, "pull_secrets": ("pull",)} | fields
    storage = storage_from_values(values)
    tools = tools_for(checkpoint(), image, values)
    return Restore("qwen", ID, "1", storage, "p.json", image=image, tools=tools, **given)


def shape(obj, *arguments, **fields):
    return jsonpatch.JsonPatch(restore_operations(obj, restore(*arguments, **fields), find_targets(obj))).apply(obj)


def named(items, name):
    return next((item for item in items if item["name"] == name), None)


def stock(**fields):
    return {"name": "main", "image": IMAGE, **fields}


def job(text, main, **spec):
    values = load_values(text)
    obj = checkpoint(pod_template=template(main, **spec))
    made = build_capture_job(obj, values=values, storage=storage_from_values(values))
    return made["spec"]["template"]["spec"]


BY_NAME = checkpoint()
AUTOMATIC = checkpoint(annotations={keys.ANN_AUTO_CHECKPOINT: "true", keys.ANN_TEMPLATE_HASH: "0" * 32})
OF_GRAPH = checkpoint(
    annotations={keys.ANN_AUTO_CHECKPOINT: "true", keys.ANN_WORKLOAD: "Deployment/web"}, labels={keys.LABEL_GRAPH: "g"}
)
INJECT = "placeholder: {mode: inject}"
MAPPED = "placeholder: {images: {'stock:1': 'built:1'}}"
STRICT = "automatic: {inject: false}"
BOTH = "{automatic: {inject: false}, placeholder: {mode: inject}}"


@pytest.mark.parametrize(
    ("obj", "text", "image", "needed"),
    [
        pytest.param(BY_NAME, "", "stock:1", False, id="by-name"),
        pytest.param(BY_NAME, INJECT, "stock:1", True, id="by-name-stock"),
        pytest.param(BY_NAME, STRICT, "stock:1", False, id="by-name-strict"),
        pytest.param(OF_GRAPH, "", "stock:1", False, id="graph"),
        pytest.param(OF_GRAPH, INJECT, "stock:1", True, id="graph-stock"),
        pytest.param(AUTOMATIC, "", "stock:1", True, id="automatic"),
        pytest.param(AUTOMATIC, MAPPED, "built:1", False, id="automatic-placeholder"),
        pytest.param(AUTOMATIC, MAPPED, "stock:1", True, id="automatic-captured-before-mapping"),
        pytest.param(AUTOMATIC, STRICT, "stock:1", False, id="automatic-strict"),
        pytest.param(AUTOMATIC, BOTH, "stock:1", True, id="automatic-strict-follows-the-mode"),
        pytest.param(
            BY_NAME,
            "placeholder: {mode: inject, images: {'stock:1': 'built:1'}}",
            "built:1",
            False,
            id="by-name-mapped",
        ),
    ],
)
def test_who_needs_tools(obj, text, image, needed):
    """A capture, and the pods that wait for it, get the same."""
    values = load_values(text)
    assert needed == (tools_for(obj, image, values, capture=True) is not None)
    assert needed == (tools_for(obj, image, values) is not None)


@pytest.mark.parametrize(
    ("obj", "status", "text", "needed"),
    [
        pytest.param(AUTOMATIC, {"image": {"injected": True}}, STRICT, True, id="with-tools-whatever-the-values"),
        pytest.param(AUTOMATIC, {"image": {"injected": False}}, "", False, id="without-whatever-the-values"),
        pytest.param(BY_NAME, {"image": {"injected": False}}, INJECT, False, id="by-name-without"),
        pytest.param(AUTOMATIC, {"image": {"reference": "built:1"}}, "", False, id="earlier-release-noted-nothing"),
        pytest.param(AUTOMATIC, {}, "", False, id="nothing-noted-at-all"),
        pytest.param(AUTOMATIC, {}, INJECT, True, id="nothing-noted-inject"),
        pytest.param(BY_NAME, {}, INJECT, True, id="by-name-nothing-noted-inject"),
    ],
)
def test_pods_are_restored_as_was_captured(obj, status, text, needed):
    obj = obj | {"status": {"phase": "Ready", **status}}
    assert needed == (tools_for(obj, "built:1", load_values(text)) is not None)


@pytest.mark.parametrize("noted", [True, False], ids=["with", "without"])
def test_a_new_version_is_captured_by_the_values_of_today(noted):
    obj = AUTOMATIC | {"status": {"phase": "Ready", "image": {"injected": noted}}}
    assert tools_for(obj, "stock:1", load_values(""), capture=True) is not None
    assert tools_for(obj, "stock:1", load_values(STRICT), capture=True) is None


@pytest.mark.parametrize(
    ("text", "image", "secrets"),
    [
        pytest.param("daemonset: {image: {repository: r/agent, tag: '3'}}", "r/agent:3", (), id="the-agents"),
        pytest.param(
            "{daemonset: {imagePullSecrets: [{name: own}]},"
            " placeholder: {inject: {image: {repository: r/tools, tag: '9'}}}}",
            "r/tools:9",
            (),
            id="another",
        ),
        pytest.param(
            "daemonset: {image: {tag: '3'}, imagePullSecrets: [{name: own}]}",
            "registry.invalid/dynamo-snapshot/agent:3",
            ("own",),
            id="own",
        ),
        pytest.param(
            "{daemonset: {image: {tag: '3'}, imagePullSecrets: [{name: own}]}, rbac: {namespaceRestricted: false}}",
            "registry.invalid/dynamo-snapshot/agent:3",
            (),
            id="own-is-elsewhere",
        ),
        pytest.param(
            "{daemonset: {image: {tag: '3'}, imagePullSecrets: [{name: own}]},"
            " placeholder: {inject: {pullSecrets: [{name: said}]}}}",
            "registry.invalid/dynamo-snapshot/agent:3",
            ("said",),
            id="said",
        ),
    ],
)
def test_where_tools_come_from(text, image, secrets):
    tools = tools_for(AUTOMATIC, "stock:1", load_values(text))
    assert (image, secrets) == (tools.init["image"], tools.pull_secrets)


def test_an_init_container_of_the_restricted_profile_fills_the_tool_folder_first():
    spec = shape(opted_in(initContainers=[container("own")]))["spec"]
    assert ["snapshot-tools", "own"] == [each["name"] for each in spec["initContainers"]]
    init = spec["initContainers"][0]
    assert [keys.STANDBY, "--install", "/tools"] == init["command"]
    assert [{"name": "snapshot-tools", "mountPath": "/tools"}] == init["volumeMounts"]
    assert {"requests", "limits"} == init["resources"].keys()
    assert {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    } == init["securityContext"]
    assert {"name": "snapshot-tools", "emptyDir": {}} == named(spec["volumes"], "snapshot-tools")
    assert MOUNT in spec["containers"][0]["volumeMounts"]
    assert [{"name": "pull"}, {"name": "tools-pull"}] == spec["imagePullSecrets"]


def test_openshift_chooses_the_user():
    values = load_values("{placeholder: {mode: inject}, openshift: {enabled: true}}")
    assert "runAsUser" not in tools_for(BY_NAME, "x", values).init["securityContext"]


def test_an_image_volume_needs_no_init_container():
    spec = shape(opted_in(), VOLUME)["spec"]
    assert "initContainers" not in spec
    source = {"reference": "r/tools:9", "pullPolicy": "IfNotPresent"}
    assert {"name": "snapshot-tools", "image": source} == named(spec["volumes"], "snapshot-tools")
    assert MOUNT | {"subPath": "opt/dynamo-snapshot"} in spec["containers"][0]["volumeMounts"]


@pytest.mark.parametrize(
    ("fields", "config", "command", "args"),
    [
        pytest.param({"command": ["python3"], "args": ["x"]}, {}, ["python3"], ["x"], id="own-command"),
        pytest.param({}, CONFIG, ["/bin/tini", "--"], ["serve", "--fast"], id="entrypoint-and-cmd"),
        pytest.param({"args": ["mine"]}, CONFIG, ["/bin/tini", "--"], ["mine"], id="own-args"),
        pytest.param({}, {"cmd": ["serve"]}, [], ["serve"], id="cmd-only"),
        pytest.param({}, {"entrypoint": ["serve"]}, ["serve"], None, id="entrypoint-only"),
        pytest.param({"command": [], "args": []}, CONFIG, ["/bin/tini", "--"], ["serve", "--fast"], id="empty-lists"),
    ],
)
def test_the_command_of_a_stock_image_is_written_out(fields, config, command, args):
    main = shape(opted_in(stock(**fields)), image_config=config)["spec"]["containers"][0]
    assert [keys.STANDBY, "--", *command] == main["command"]
    assert args == main.get("args")


def test_what_a_stock_image_runs_must_be_known():
    with pytest.raises(EntrypointUnknownError, match="container 'main' has no command"):
        shape(opted_in(stock()), image_config={})


@pytest.mark.parametrize("text", [INIT, VOLUME], ids=["init", "image-volume"])
def test_shaping_twice_gives_nothing(text):
    obj = opted_in(stock(), container("b"), initContainers=[container("own")])
    shaped = shape(obj, text)
    assert [] == restore_operations(shaped, restore(text), find_targets(shaped))


def test_a_mount_in_the_tool_folders_place_is_refused():
    taken = container(volumeMounts=[{"name": "data", "mountPath": keys.TOOLS_DIR}])
    with pytest.raises(MountTakenError, match="'data' at /opt/dynamo-snapshot"):
        shape(opted_in(taken))


def test_capture_brings_the_same_tools():
    spec = job(INIT, stock(), initContainers=[container("own")], imagePullSecrets=[{"name": "tools-pull"}])
    assert ["snapshot-tools", "own"] == [each["name"] for each in spec["initContainers"]]
    assert MOUNT in spec["containers"][0]["volumeMounts"]
    assert [keys.STANDBY, "--capture", "--image-entrypoint", "--"] == spec["containers"][0]["command"]
    ready = spec["containers"][0]["readinessProbe"]["exec"]["command"]
    assert [keys.STANDBY, "--opened", "/snapshot-control", "ready-for-snapshot"] == ready
    assert [{"name": "tools-pull"}] == spec["imagePullSecrets"]
    assert tools_for(BY_NAME, IMAGE, load_values(INIT)).init == spec["initContainers"][0]


def test_capture_of_a_mapped_image_brings_none():
    spec = job("placeholder: {mode: inject, images: {'stock:1': 'built:1'}}", container(image="stock:1"))
    assert "built:1" == spec["containers"][0]["image"]
    assert named(spec["volumes"], "snapshot-tools") is None
    assert "initContainers" not in spec


def test_capture_from_a_shaped_pod_has_one_init_container_of_ours():
    shaped = shape(opted_in(container()))["spec"]
    shaped["initContainers"][0]["image"] = "older/tools:0"
    spec = job(INIT, shaped["containers"][0], initContainers=shaped["initContainers"], volumes=shaped["volumes"])
    (init,) = spec["initContainers"]
    assert "older/tools:0" != init["image"]
    assert 1 == [each["name"] for each in spec["volumes"]].count("snapshot-tools")


def test_capture_by_image_volume():
    spec = job(VOLUME, container())
    assert "image" in named(spec["volumes"], "snapshot-tools")
    assert "initContainers" not in spec
