import jsonschema
import pytest
import yaml

from contract.api.states import AccessMode, StartupPolicy
from contract.config.storage import StorageError, storage_from_values
from contract.config.values import ValuesError, load_values, values_schema
from contract.version import VERSION


def test_nothing_said_means_the_defaults():
    values = load_values("")
    assert AccessMode.AGENT_MOUNT == values.storage.access_mode
    assert StartupPolicy.IMMEDIATE == values.startup_policy
    assert 1800 == values.wait_timeout_seconds
    assert f"dynamo-snapshot/control-plane:{VERSION}" == values.cleanup_image


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
        pytest.param("runtime: {type: docker}", "runtime.type: input should be 'containerd' or 'crio'", id="runtime"),
        pytest.param("storage: {pvc: {basePath: tmp}}", "storage.pvc.basePath: string should match", id="relative"),
        pytest.param("waitTimeout: soon", "waitTimeout: string should match", id="duration"),
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
        pytest.param("storage: null\nglobal: {any: thing}", id="helm-null-and-global"),
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
