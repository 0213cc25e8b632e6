"""Settings: everything wrong is reported at once, in the words of those who must set it."""

import pytest

from contract.config.values import load_values
from daemon.settings import DEFAULT_CONFIG, SettingsError, read_config, read_settings

WHOLE = {
    "POD_NAMESPACE": "ns",
    "POD_NAME": "pod-0",
    "NODE_NAME": "node-1",
    "RELEASE_NAME": "snap",
    "RELEASE_FULLNAME": "snap-snapshot",
    "RESTRICTED_NAMESPACE": "ns",
    "SNAPSHOT_LOG_LEVEL": "Debug",
    "SNAPSHOT_HEALTH_PORT": "9000",
}


def test_reads_what_the_chart_sets():
    settings = read_settings(required=("pod_namespace", "pod_name"), environment=WHOLE)

    assert ("ns", "pod-0", "node-1", "snap", "snap-snapshot") == (
        settings.pod_namespace,
        settings.pod_name,
        settings.node_name,
        settings.release_name,
        settings.release_fullname,
    )
    assert ("debug", 9000, DEFAULT_CONFIG) == (settings.log_level, settings.health_port, settings.config_path)


@pytest.mark.parametrize(
    ("value", "watched"), [pytest.param("ns", "ns", id="restricted"), pytest.param("", None, id="all-namespaces")]
)
def test_which_namespace_is_watched(value, watched):
    assert watched == read_settings(environment=WHOLE | {"RESTRICTED_NAMESPACE": value}).watched_namespace


def test_all_problems_are_told_at_once():
    wrong = {"SNAPSHOT_LOG_LEVEL": "loud", "SNAPSHOT_HEALTH_PORT": "70000", "POD_NAME": " "}
    with pytest.raises(SettingsError) as caught:
        read_settings(required=("pod_namespace", "pod_name"), environment=wrong)

    told = [problem.split(":")[0] for problem in caught.value.problems]
    assert ["POD_NAMESPACE", "POD_NAME", "SNAPSHOT_LOG_LEVEL", "SNAPSHOT_HEALTH_PORT"] == told


def test_the_environment_of_the_process_is_the_default(monkeypatch):
    monkeypatch.setenv("POD_NAMESPACE", "from-the-process")

    assert "from-the-process" == read_settings().pod_namespace


def test_a_config_file_is_parsed(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("checkpoint: {enabled: false}\n")

    assert not read_config(path, load_values).checkpoint.enabled


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(None, ["config.yaml", "SNAPSHOT_CONFIG"], id="missing"),
        pytest.param("checkpoint: {enabeld: true}", ["checkpoint.enabeld", "enabled"], id="unknown-key"),
        pytest.param("a: [", ["YAML"], id="not-yaml"),
    ],
)
def test_an_unusable_config_file_is_named_with_the_field(tmp_path, text, words):
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_config(path, load_values)

    assert [] == [word for word in [str(path), *words] if word not in str(caught.value)]
