"""What the chart can be told: the model's defaults, and clear refusals."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.config.values import load_values, values_schema
from contract.version import VERSION

DEFAULTS = yaml.safe_load((Path(__file__).parents[2] / "charts/snapshot/values.yaml").read_text())
OPERATOR_BLOCK = {
    "checkpoint": {
        "enabled": False,
        "storage": {
            "type": "pvc",
            "pvc": {
                "pvcName": "theirs",
                "basePath": "/theirs",
                "create": False,
                "size": "2Ti",
                "storageClassName": "fast",
                "accessMode": "ReadWriteOnce",
            },
        },
    }
}


def test_the_values_file_holds_every_default_of_the_model(chart):
    text = (chart / "values.yaml").read_text()

    assert load_values("") == load_values(text)
    model = load_values("").model_dump(mode="json", by_alias=True, exclude={"dynamo_operator"})
    assert {**model, "dynamo-operator": {}} == yaml.safe_load(text)


def test_the_schema_is_the_models(chart):
    assert values_schema() == json.loads((chart / "values.schema.json").read_text())


def test_chart_images_and_package_share_a_version(chart):
    chart = yaml.safe_load((chart / "Chart.yaml").read_text())

    assert (VERSION, VERSION) == (chart["version"], chart["appVersion"])


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param((), id="defaults"),
        pytest.param(("--set", "storage.accessMode=podMount"), id="pod-mount"),
        pytest.param(("--set-json", f"dynamo-operator={json.dumps(OPERATOR_BLOCK)}"), id="operator-block"),
        pytest.param(("--set", "dynamo-operator=null,global=null,storage.s3=null"), id="nulls"),
        pytest.param(("--set", "global.imageRegistry=example.com"), id="globals-of-an-umbrella-chart"),
    ],
)
def test_processes_read_back_what_the_user_said(helm, pick, flags):
    """The rendered configuration loads into the same model, with the same meaning as the flags."""
    objects = helm.render(*flags)
    rendered = load_values(pick(objects, "ConfigMap", "snapshot-config")["data"]["config.yaml"])
    claims = [found for found in objects if found["kind"] == "PersistentVolumeClaim"]

    assert [rendered.storage.pvc.name] * len(claims) == [claim["metadata"]["name"] for claim in claims]
    if OPERATOR_BLOCK["checkpoint"]["enabled"] is rendered.checkpoint.enabled:
        assert ("theirs", "/theirs", False) == (
            rendered.storage.pvc.name,
            rendered.storage.pvc.base_path,
            rendered.storage.pvc.create,
        )


@pytest.mark.parametrize(
    ("words", "setting"),
    [
        pytest.param("Any image will do", "automatic.inject=true", id="default"),
        pytest.param("Any image will do", "automatic.inject=null", id="values-of-an-older-release"),
        pytest.param("Any image will do", "automatic.inject=false,placeholder.mode=inject", id="all-are-injected"),
        pytest.param("Its image must be a placeholder", "automatic.inject=false", id="nothing-is"),
    ],
)
def test_the_notes_say_which_images_will_do(helm, chart, words, setting):
    """As the webhook decides: a value that is not said, after ``helm upgrade --reuse-values``, has its default."""
    notes = helm("install", "snapshot", str(chart), "--namespace", "ns", "--dry-run=client", "--set", setting)

    assert words in notes


UNNAMED = "no registry was named for the images"


@pytest.mark.parametrize(
    ("said", "settings"),
    [
        pytest.param(True, "", id="defaults"),
        pytest.param(True, "daemonset.image.repository=r.example/agent", id="one-of-two"),
        pytest.param(
            False,
            "daemonset.image.repository=r.example/agent,controlPlane.image.repository=r.example/plane",
            id="both",
        ),
        pytest.param(False, "global.imageRegistry=mirror.example", id="registry"),
    ],
)
def test_the_notes_say_that_no_registry_was_named(helm, chart, said, settings):
    notes = helm("install", "snapshot", str(chart), "--namespace", "ns", "--dry-run=client", "--set", settings)

    assert said == (UNNAMED in notes)
    assert said == ("daemonset.image.repository=REGISTRY/agent" in notes)


def test_the_platforms_documented_check_finds_the_configuration(helm, pick):
    """Labels, volume name and a checkpoint block at column 0, as the platform's own guide looks for them."""
    objects = helm.render()
    (deployment,) = [
        found
        for found in objects
        if found["kind"] == "Deployment"
        and found["metadata"]["labels"].get("app.kubernetes.io/name") == "dynamo-operator"
        and found["metadata"]["labels"].get("app.kubernetes.io/component") == "manager"
    ]
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    (name,) = [volume["configMap"]["name"] for volume in volumes if volume["name"] == "operator-config"]
    text = pick(objects, "ConfigMap", name)["data"]["config.yaml"]
    block = text[text.index("\ncheckpoint:") + 1 :].split("\n")

    assert "checkpoint:" == block[0]
    assert "  enabled: true" in block[1:5]


@pytest.mark.parametrize(
    ("message", "flags"),
    [
        pytest.param("/runtime/type': value must be one of 'containerd', 'crio'", "runtime.type=docker", id="runtime"),
        pytest.param("/runtime/socketPath'", "runtime.socketPath=run/x.sock", id="relative-socket"),
        pytest.param("/storage/type': value must be 'pvc'", "storage.type=s3", id="storage-type"),
        pytest.param("/storage/s3/uri'", "storage.s3.uri=s3://bucket", id="object-store"),
        pytest.param("/storage/accessMode': value must be one of", "storage.accessMode=hostMount", id="access-mode"),
        pytest.param("/storage/pvc/accessMode'", "storage.pvc.accessMode=ReadOnlyMany", id="claim-access-mode"),
        pytest.param("/storage/pvc/size'", "storage.pvc.size=lots", id="size"),
        pytest.param("storage.pvc.size: must be more than zero", "storage.pvc.size=0Gi", id="size-zero"),
        pytest.param("/storage/pvc/basePath'", "storage.pvc.basePath=checkpoints", id="relative-base-path"),
        pytest.param("storage.pvc.basePath:", "storage.pvc.basePath=/a/../b", id="base-path-with-dots"),
        pytest.param("storage.pvc.basePath:", "storage.pvc.basePath=/etc/x", id="base-path-over-the-system"),
        pytest.param("/storage/pvc': additional properties 'nmae'", "storage.pvc.nmae=x", id="misspelt-key"),
        pytest.param("additional properties 'storge' not allowed", "storge.type=pvc", id="misspelt-block"),
        pytest.param("/startupPolicy'", "startupPolicy=Later", id="startup-policy"),
        pytest.param("/waitTimeout'", "waitTimeout=soon", id="wait-timeout"),
        pytest.param("/webhook/failurePolicy'", "webhook.failurePolicy=Maybe", id="failure-policy"),
        pytest.param("/webhook/timeoutSeconds'", "webhook.timeoutSeconds=31", id="timeout-too-long"),
        pytest.param("/webhook/timeoutSeconds'", "webhook.timeoutSeconds=two", id="timeout-in-words"),
        pytest.param("webhook.excludedNamespaces:", "webhook.excludedNamespaces={a}", id="exclusion-without-effect"),
        pytest.param("/controlPlane/replicas'", "controlPlane.replicas=0", id="no-webhook"),
        pytest.param("/rbac/namespaceRestricted'", "rbac.namespaceRestricted=maybe", id="not-a-boolean"),
        pytest.param("/daemonset/image/pullPolicy'", "daemonset.image.pullPolicy=Often", id="pull-policy"),
        pytest.param("daemonset.affinity.nodeAffinity:", "daemonset.affinity.nodeAffinity.x=y", id="node-affinity"),
        pytest.param("serviceAccount.name:", "serviceAccount.create=false", id="no-service-account"),
        pytest.param("/admission/nodeAffinity'", "admission.nodeAffinity=Maybe", id="node-affinity-mode"),
        pytest.param("/graphDeployments/enabled'", "graphDeployments.enabled=perhaps", id="graphs"),
        pytest.param("/placeholder/inject/via'", "placeholder.inject.via=hostPath", id="inject"),
        pytest.param("/retention/keepVersions'", "retention.keepVersions=0", id="keep-nothing"),
        pytest.param("/retention/namespaceQuota'", "retention.namespaceQuota=lots", id="quota"),
        pytest.param("/automatic/attempts'", "automatic.attempts=0", id="no-attempt"),
        pytest.param("/automatic/backoff", "automatic.backoff={soon}", id="pause-in-words"),
        pytest.param("/policy/require'", "policy.require.enable=true", id="misspelt-policy"),
        pytest.param("/networkPolicy/apiServerPorts", "networkPolicy.apiServerPorts={https}", id="port-in-words"),
        pytest.param("/webhook/objectSelector'", "webhook.objectSelector=app", id="object-selector"),
        pytest.param("/dynamo-operator/checkpoint", "dynamo-operator.checkpoint.storage.type=nfs", id="operator-block"),
    ],
)
def test_a_bad_value_is_refused_by_name(helm, chart, message, flags):
    said = helm.refusal("template", "snapshot", str(chart), "--set", flags)

    assert message in said, said


@pytest.mark.parametrize(
    ("message", "flags"),
    [
        pytest.param('runtime.type: "docker" is unknown; set containerd or crio', "runtime.type=docker", id="runtime"),
        pytest.param('storage.type: "s3" is not served by this version; set pvc', "storage.type=s3", id="storage-type"),
        pytest.param("storage.accessMode: ", "storage.accessMode=x", id="access-mode"),
    ],
)
def test_who_skips_the_schema_meets_the_chart_itself(helm, chart, message, flags):
    said = helm.refusal("template", "snapshot", str(chart), "--skip-schema-validation", "--set", flags)

    assert message in said, said


def test_an_old_cluster_is_refused(helm, chart):
    said = helm.refusal("template", "snapshot", str(chart), "--kube-version", "1.29.9")

    assert ">=1.30.0" in said


def blocks(found: dict[str, Any], above: str = "") -> Iterator[str]:
    """Paths of the blocks that hold further values by default."""
    for name, value in found.items():
        if isinstance(value, dict) and value:
            yield f"{above}{name}"
            yield from blocks(value, f"{above}{name}.")


@pytest.mark.parametrize("block", list(blocks(DEFAULTS)))
def test_a_block_that_an_older_release_did_not_have(helm, chart, block):
    """``helm upgrade --reuse-values`` knows no defaults of the new chart."""
    command = [helm.program, "template", "snapshot", chart, "--set", f"{block}=null"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    words = f"{block}: this block of values is missing, as after helm upgrade --reuse-values"
    assert not done.returncode or words in done.stderr
