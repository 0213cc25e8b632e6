"""`why` names the Secrets whose content enters an artifact."""

import json

import pytest
import yaml
from click.testing import CliRunner

from snapshotctl.__main__ import main
from snapshotctl.explain.worker_secrets import secret_notes
from tests.support.builders.objects import checkpoint, opted_in, ready

KEY = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}
PLAIN = {"name": "MODE", "value": "fast"}
TLS = {"name": "tls", "secret": {"secretName": "serving-tls"}}
MIXED = {"name": "mixed", "projected": {"sources": [{"secret": {"name": "peers"}}, {"configMap": {"name": "c"}}]}}


def with_secrets(volumes=(), **fields):
    made = opted_in()
    made["spec"]["containers"][0].update(fields)
    made["spec"]["volumes"] = list(volumes)
    return made


def mounts(*names):
    return [{"name": name, "mountPath": f"/{name}"} for name in names]


@pytest.mark.parametrize(
    ("expected", "made"),
    [
        pytest.param([], with_secrets(env=[PLAIN]), id="none"),
        pytest.param(["hub (environment)"], with_secrets(env=[PLAIN, KEY]), id="a-variable"),
        pytest.param(["all (environment)"], with_secrets(envFrom=[{"secretRef": {"name": "all"}}]), id="variables"),
        pytest.param(["serving-tls (mounted at /tls)"], with_secrets([TLS], volumeMounts=mounts("tls")), id="volume"),
        pytest.param(
            ["peers (mounted at /mixed)"], with_secrets([MIXED], volumeMounts=mounts("mixed")), id="projected"
        ),
        pytest.param([], with_secrets([TLS]), id="of-another-container"),
        pytest.param(
            ["hub (environment), serving-tls (mounted at /tls)"],
            with_secrets([TLS], env=[KEY, KEY], volumeMounts=mounts("tls")),
            id="each-once",
        ),
    ],
)
def test_the_targets_secrets_are_named(expected, made):
    assert expected == [note.partition("memory: ")[2].partition(";")[0] for note in secret_notes(made)]


@pytest.mark.parametrize(
    ("noted", "state"),
    [pytest.param(1, ready(), id="restores"), pytest.param(1, checkpoint(), id="is-captured")],
)
def test_why_names_them(tmp_path, noted, state):
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(with_secrets(env=[KEY])))
    (tmp_path / "objects.yaml").write_text(yaml.safe_dump(state))
    argv = ["why", "-f", str(tmp_path / "pod.yaml"), "--objects", str(tmp_path / "objects.yaml"), "-o", "json"]
    result = CliRunner().invoke(main, [*argv, "-n", "ns"])
    answer = json.loads(result.stdout)["answers"][0]
    assert noted == len([note for note in answer["notes"] if "hub (environment)" in note]), result.output
