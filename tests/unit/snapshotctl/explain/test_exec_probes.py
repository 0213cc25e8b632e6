"""`why` names the probes whose commands do not share the restored worker's clock."""

import json

import pytest
import yaml
from click.testing import CliRunner

from snapshotctl.__main__ import main
from snapshotctl.explain.exec_probes import exec_probe_notes
from tests.support.builders.objects import checkpoint, opted_in, ready

EXEC = {"exec": {"command": ["python3", "/probe.py"]}}
HTTP = {"httpGet": {"port": 8000}}


def with_probes(**probes):
    made = opted_in()
    made["spec"]["containers"][0].update(probes)
    return made


@pytest.mark.parametrize(
    ("expected", "probes"),
    [
        pytest.param([], {}, id="none"),
        pytest.param([], {"readinessProbe": HTTP}, id="http"),
        pytest.param(["livenessProbe"], {"readinessProbe": HTTP, "livenessProbe": EXEC}, id="one"),
        pytest.param(["startupProbe and readinessProbe"], {"readinessProbe": EXEC, "startupProbe": EXEC}, id="two"),
    ],
)
def test_the_targets_exec_probes_are_named(expected, probes):
    assert expected == [note.partition(" of container main ")[0] for note in exec_probe_notes(with_probes(**probes))]


def test_no_target_no_note():
    made = with_probes(livenessProbe=EXEC)
    made["spec"]["containers"] = []
    assert [] == list(exec_probe_notes(made))


@pytest.mark.parametrize(
    ("noted", "state"), [pytest.param(1, ready(), id="restores"), pytest.param(0, checkpoint(), id="starts-cold")]
)
def test_why_says_so_of_a_pod_that_restores(tmp_path, noted, state):
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(with_probes(livenessProbe=EXEC)))
    (tmp_path / "objects.yaml").write_text(yaml.safe_dump(state))
    argv = ["why", "-f", str(tmp_path / "pod.yaml"), "--objects", str(tmp_path / "objects.yaml"), "-o", "json"]
    result = CliRunner().invoke(main, [*argv, "-n", "ns"])
    answer = json.loads(result.stdout)["answers"][0]
    assert noted == len([note for note in answer["notes"] if "livenessProbe" in note]), result.output
