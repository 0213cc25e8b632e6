import jsonschema
import pytest
import yaml

from contract.api.states import AccessMode, StartupPolicy
from contract.config.images import in_registry
from contract.config.storage import StorageError, storage_from_values
from contract.config.values import ValuesError, load_values, values_schema
from contract.version import VERSION


def test_nothing_said_means_the_defaults():
    values = load_values("")
    assert AccessMode.AGENT_MOUNT == values.storage.access_mode
    assert StartupPolicy.IMMEDIATE == values.startup_policy
    assert 1800 == values.wait_timeout_seconds
    assert f"registry.invalid/dynamo-snapshot/control-plane:{VERSION}" == values.cleanup_image


def test_all_problems_at_once_with_path_and_remedy():
    text = """
storage: {accesMode: podMount, accessMode: nfs, pvc: {size: 1, create: "yes"}}
daemonset: {image: {tag: 1.2}}
webhook: {timeoutSeconds: 31}
"""
    with pytest.raises(ValuesError) as caught:
        load_values(text)
    assert (
        "storage.accessMode: input should be 'agentMount' or 'podMount', found 'nfs'",
        "storage.pvc.create: input should be a valid boolean, found 'yes'; write true or false without quotes",
        "storage.pvc.size: input should be a valid string, found 1; quote it (with Helm: --set-string)",
        "storage.accesMode: unknown key; did you mean accessMode?",
        "daemonset.image.tag: input should be a valid string, found 1.2; quote it (with Helm: --set-string)",
        "webhook.timeoutSeconds: input should be less than or equal to 30, found 31",
    ) == caught.value.problems


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("a: [", "(document): not YAML", id="not-yaml"),
        pytest.param("a: \udc80", "(document): not YAML", id="no-letter"),
        pytest.param("- a", "(document): must be a mapping of values, found list", id="list"),
        pytest.param("wibble: 1", "wibble: unknown key; known here: admission", id="unknown-root"),
        pytest.param("storage: {type: s3}", "storage.type: input should be 'pvc'", id="s3-not-served"),
        pytest.param("storage: {s3: {uri: s3://x}}", "storage.s3.uri: input should be ''", id="s3-uri"),
        pytest.param("placeholder: {mode: both}", "placeholder.mode: input should be 'image' or 'inject'", id="mode"),
        pytest.param(
            "placeholder: {inject: {via: pod}}", "placeholder.inject.via: input should be 'init' or", id="via"
        ),
        pytest.param(
            "placeholder: {inject: {image: {tag: '1'}}}",
            "placeholder.inject.image: value error, a tag alone names no image; set repository too",
            id="tools-tag-alone",
        ),
        pytest.param(
            "automatic: {inject: 'no'}", "automatic.inject: input should be a valid boolean", id="automatic-inject"
        ),
        pytest.param(
            "gpu: {deniedDrivers: [{versions: 570.x, reason: x, report: a/b#1}]}",
            "gpu.deniedDrivers[0].versions: cannot be '570.x'; write a version, or its beginning",
            id="denied-driver-version",
        ),
        pytest.param(
            "gpu: {deniedDrivers: [{versions: '570.*', reason: x, report: heard it}]}",
            "gpu.deniedDrivers[0].report: cannot be 'heard it'; name a public report",
            id="denied-driver-report",
        ),
        pytest.param(
            "gpu: {deniedDrivers: [{versions: '570.*', report: a/b#1}]}",
            "gpu.deniedDrivers[0].reason: field required",
            id="denied-driver-reason",
        ),
        pytest.param("runtime: {type: docker}", "runtime.type: input should be 'containerd' or 'crio'", id="runtime"),
        pytest.param(
            "storage: {pvc: {basePath: tmp}}", "storage.pvc.basePath: cannot be 'tmp'; write it with /", id="relative"
        ),
        pytest.param(
            "waitTimeout: soon", "waitTimeout: cannot be 'soon'; write hours, minutes and seconds", id="duration"
        ),
        pytest.param(
            "checkpoint: {cleanupImage: 'busybox: 1.36'}", "checkpoint.cleanupImage: cannot be", id="cleanup-blank"
        ),
        pytest.param(
            "daemonset: {image: {repository: ' '}}",
            "daemonset.image.repository: cannot be ' '; write it",
            id="image-blank",
        ),
        pytest.param(
            "daemonset: {image: {repository: 'reg.example.com/agent:1.0'}}",
            "daemonset.image.repository: cannot be 'reg.example.com/agent:1.0'; write it without",
            id="tag-in-repository",
        ),
        pytest.param(
            "global: {imageRegistry: 'https://reg.example.com'}",
            "global.imageRegistry: cannot be 'https://reg.example.com'; write it without https://",
            id="scheme",
        ),
        pytest.param(
            "daemonset: {resources: {limits: {memory: 4GB}}}",
            "daemonset.resources.limits.memory: cannot be '4GB'; write an amount as Kubernetes does",
            id="amount",
        ),
        pytest.param("controlPlane: {resources: {limit: {}}}", "controlPlane.resources.limit", id="resources-key"),
        pytest.param("config: {criu: {imageIoMode: fast}}", "config.criu.imageIoMode: input should", id="image-io"),
    ],
)
def test_bad_values(text, problem):
    with pytest.raises(ValuesError) as caught:
        load_values(text)
    assert caught.value.problems[0].startswith(problem)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("storage: {pvc: {create: true}}", id="seed-default"),
        pytest.param(
            "storage: {accessMode: podMount, pvc: {create: false}}\nrbac: {namespaceRestricted: false}",
            id="seed-shared",
        ),
        pytest.param("runtime: {type: crio}\nopenshift: {enabled: true}", id="seed-openshift"),
        pytest.param("startupPolicy: WaitForCheckpoint", id="startup-policy"),
        pytest.param("storage: {pvc: {size: 100Gi}}", id="seed-size"),
        pytest.param("config: {criu: {imageIoMode: writeback}}", id="upstream-image-io-mode"),
        pytest.param("runtime: {socketPath: /run/k3s/containerd/containerd.sock}", id="upstream-socket"),
        pytest.param("storage: null\nglobal: {any: thing}", id="helm-null-and-global"),
        pytest.param("global: {imageRegistry: 'localhost:5000/mirror/'}", id="registry-with-port-and-folder"),
        pytest.param("controlPlane: {image: {repository: a/b@sha256, tag: '0123'}}", id="digest"),
        pytest.param(
            "daemonset: {resources: {limits: {cpu: 1.5, memory: 4e9, hugepages-2Mi: 1G}, requests: {cpu: 2}}}",
            id="amounts-as-numbers",
        ),
        pytest.param("placeholder: {inject: {resources: {}}}", id="no-amounts"),
    ],
)
def test_the_seeds_values_load_and_fit_the_schema(text):
    load_values(text)
    raw = {key: value for key, value in yaml.safe_load(text).items() if value is not None}
    jsonschema.Draft7Validator(values_schema()).validate(raw)


def test_the_platform_charts_block_goes_first():
    text = """
storage: {accessMode: podMount, pvc: {create: false}}
checkpoint: {enabled: false}
dynamo-operator:
  checkpoint:
    enabled: true
    storage:
      type: pvc
      pvc: {pvcName: mine, basePath: /data, create: true, size: 2Ti, storageClassName: nfs, accessMode: ReadWriteOnce}
      signalHostPath: /var/lib/signals
"""
    values = load_values(text)
    storage = storage_from_values(values)
    assert values.checkpoint.enabled
    assert ("mine", "/data", True, "2Ti", "nfs", "ReadWriteOnce") == (
        storage.pvc_name,
        storage.base_path,
        storage.create,
        storage.size,
        storage.storage_class,
        storage.pvc_access_mode,
    )
    assert storage.in_pod


def test_an_empty_platform_block_changes_nothing():
    plain = load_values("storage: {pvc: {name: mine}}")
    block = load_values("storage: {pvc: {name: mine}}\ndynamo-operator: {checkpoint: {}}")
    assert plain.storage == block.storage
    assert plain.checkpoint == block.checkpoint


@pytest.mark.parametrize(
    ("expected", "image", "registry"),
    [
        pytest.param("r.example/a/b:1", "r.example/a/b:1", "", id="none"),
        pytest.param("mirror.example/a/b:1", "r.example/a/b:1", "mirror.example", id="host"),
        pytest.param("mirror.example/x/b:1", "r:5000/b:1", "mirror.example/x/", id="port-and-folder"),
        pytest.param("mirror.example/b", "localhost/b", "mirror.example", id="localhost"),
        pytest.param("mirror.example/team/b:1", "team/b:1", "mirror.example", id="folder-is-no-host"),
        pytest.param("mirror.example/busybox:1.36", "busybox:1.36", "mirror.example", id="name-alone"),
    ],
)
def test_the_registry_of_an_installation(expected, image, registry):
    assert expected == in_registry(image, registry)


GLOBAL = """
global: {imageRegistry: mirror.example, imagePullSecrets: [pull, {name: own}], other: 1}
daemonset: {image: {repository: r.example/agent, tag: '3'}, imagePullSecrets: [{name: own}, {name: agent}]}
controlPlane: {image: {repository: r.example/plane, tag: '4'}}
"""


def test_global_registry_and_secrets_serve_every_image():
    values = load_values(GLOBAL)
    inject = load_values(GLOBAL + "placeholder: {inject: {image: {repository: r.example/tools, tag: '5'}}}")
    cleanup = load_values(GLOBAL + "checkpoint: {cleanupImage: 'busybox:1.36'}")

    assert ("mirror.example/agent:3", "mirror.example/agent:3") == (values.agent_image, values.tools_image)
    assert "mirror.example/tools:5" == inject.tools_image
    assert ("mirror.example/plane:4", "mirror.example/busybox:1.36") == (values.cleanup_image, cleanup.cleanup_image)
    assert ["pull", "own", "agent"] == [secret.name for secret in values.agent_pull_secrets]
    assert ["pull", "own"] == [secret.name for secret in values.control_plane_pull_secrets]
    assert ["pull", "own", "agent"] == [secret.name for secret in values.tools_pull_secrets]
    assert ["pull", "own"] == [secret.name for secret in inject.tools_pull_secrets]


def test_global_secrets_are_not_asked_of_namespaces_that_lack_them():
    values = load_values(GLOBAL + "rbac: {namespaceRestricted: false}")

    assert [] == values.tools_pull_secrets


def test_default_images_are_names_that_no_registry_serves():
    values = load_values("")

    for image in (values.agent_image, values.cleanup_image, values.tools_image):
        assert image.partition("/")[0].endswith(".invalid")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        pytest.param("storage: {pvc: {basePath: /a/../b}}", "storage.pvc.basePath", id="parent"),
        pytest.param("storage: {pvc: {basePath: /a/./b}}", "storage.pvc.basePath", id="dot"),
        pytest.param("storage: {pvc: {size: '0'}}", "storage.pvc.size", id="no-size"),
    ],
)
def test_storage_that_does_not_fit_names_the_field(text, field):
    with pytest.raises(StorageError) as caught:
        storage_from_values(load_values(text))
    assert field == caught.value.field


def test_the_schema_refuses_unknown_keys_everywhere():
    validator = jsonschema.Draft7Validator(values_schema())
    assert not validator.is_valid({"wibble": 1})
    assert not validator.is_valid({"config": {"criu": {"wibble": 1}}})
    assert validator.is_valid(load_values("").model_dump(mode="json", by_alias=True))


def test_dumped_values_load_again():
    values = load_values("storage: {accessMode: podMount}\nretention: {ttlAfterLastUse: 24h}")
    assert values == load_values(values.model_dump_json(by_alias=True))
