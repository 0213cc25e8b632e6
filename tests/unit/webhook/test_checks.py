"""The admission table: its order is that of docs/reasons.md, and a pod's target is searched for once."""

import re
from pathlib import Path

import pytest

from contract.api import keys
from contract.api.states import Admission
from contract.config.values import load_values
from tests.support.builders.objects import checkpoint, container, graph_pod, opted_in, ready, request
from tests.support.builders.pods import auto_pod, checkpoint_of
from webhook.checks import CHECKS
from webhook.decide import decide

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "reasons.md").read_text()
VALUES = load_values("")
NO_ROW = {Admission.RESTORE_SHAPED, Admission.HELD, Admission.WEBHOOK_UNREACHABLE}
"""Not refusals of the webhook."""


def test_the_page_has_the_order_of_the_table():
    """A code that several rows have is explained at the first of them."""
    explained = [code for code in re.findall(r"^## (\S+)$", PAGE, re.MULTILINE) if code not in NO_ROW]
    assert explained == list(dict.fromkeys(code.value for code, _ in CHECKS))


def test_every_refusal_has_a_row():
    assert set(Admission) - NO_ROW == {code for code, _ in CHECKS}


class Containers(list):
    """A pod's containers, which count how often they are gone through."""

    searches = 0

    def __iter__(self):
        self.searches += 1
        return super().__iter__()

    def index(self, *_):
        raise AssertionError("the names were read already")


WAIT = {keys.ANN_STARTUP_POLICY: "WaitForCheckpoint"}
SIDECAR = container("proxy")


@pytest.mark.parametrize(
    ("code", "obj", "stored"),
    [
        pytest.param(Admission.RESTORE_SHAPED, opted_in(), [ready()], id="by-name"),
        pytest.param(Admission.RESTORE_SHAPED, opted_in(container(), SIDECAR), [ready()], id="with-a-sidecar"),
        pytest.param(Admission.RESTORE_SHAPED, graph_pod(), [ready()], id="graph"),
        pytest.param(Admission.RESTORE_SHAPED, auto_pod(), [checkpoint_of(auto_pod())], id="automatic"),
        pytest.param(Admission.HELD, auto_pod(annotations=WAIT), [], id="held"),
        pytest.param(Admission.CHECKPOINT_REQUESTED, auto_pod(), [], id="requested"),
        pytest.param(Admission.CHECKPOINT_NOT_READY, opted_in(), [checkpoint()], id="refused"),
        pytest.param(Admission.IMAGE_MISMATCH, opted_in(container(image="other:1")), [ready()], id="another-image"),
        pytest.param(
            Admission.TARGETS_INVALID, opted_in(annotations={keys.ANN_TARGET_CONTAINERS: "x"}), [ready()], id="none"
        ),
    ],
)
def test_the_target_is_searched_for_once(code, obj, stored):
    containers = obj["spec"]["containers"] = Containers(obj["spec"]["containers"])
    found = {item["metadata"]["name"]: item for item in stored}
    assert code == decide(request(obj), lambda _, name: found.get(name), VALUES).code
    assert containers.searches <= 1
