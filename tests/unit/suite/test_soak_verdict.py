"""What the soak counts as restored, and when it says that the promise held: it must be able to fail."""

import json

import pytest

from agent.executor.api import ExecutionResult
from benchmarks import soak
from benchmarks.soak import COLD, DEAD, DOUBLED, RESTORED, WRONG, Seen, Source
from contract.api.states import AgentReason

SOURCE = Source("blake3:1", (json.dumps({"token": "source"}), "hits"), 1)
OTHER = (json.dumps({"token": "another"}), "hits")
OK, FAILED = ExecutionResult(ok=True), ExecutionResult(False, AgentReason.RESTORE_FAILED, "criu said no")
WOKEN = "SNAPSHOT_RESTORED: container restored from checkpoint soak\n"
FELL_BACK = "SNAPSHOT_COLD_START: Falling back to cold start: criu said no\n"


@pytest.mark.parametrize(
    ("expected", "outcome", "answers", "live", "said"),
    [
        pytest.param(RESTORED, OK, SOURCE.answers, 1, WOKEN, id="as-its-source"),
        pytest.param(DEAD, OK, None, 0, WOKEN, id="no-answer"),
        pytest.param(DOUBLED, OK, SOURCE.answers, 2, WOKEN, id="one-more-process"),
        pytest.param(WRONG, OK, OTHER, 1, WOKEN, id="another-worker"),
        pytest.param(WRONG, OK, (SOURCE.answers[0], "no hits"), 1, WOKEN, id="other-hits"),
        pytest.param(WRONG, OK, SOURCE.answers, 1, WOKEN * 2, id="woken-twice"),
        pytest.param(COLD, FAILED, OTHER, 1, FELL_BACK, id="fell-back"),
        pytest.param(WRONG, FAILED, SOURCE.answers, 1, FELL_BACK, id="restored-all-the-same"),
        pytest.param(WRONG, FAILED, OTHER, 1, "", id="cold-without-a-word"),
    ],
)
def test_what_a_container_is(expected, outcome, answers, live, said):
    assert expected == soak.judge(SOURCE, outcome, answers, live, said).outcome


@pytest.mark.parametrize(
    ("expected", "counts"),
    [
        pytest.param(True, {RESTORED: 1000}, id="all"),
        pytest.param(True, {RESTORED: 999, COLD: 1}, id="one-of-a-thousand-cold"),
        pytest.param(False, {RESTORED: 998, COLD: 2}, id="two-cold"),
        pytest.param(False, {RESTORED: 99, COLD: 1}, id="one-of-a-hundred-cold"),
        pytest.param(False, {RESTORED: 9999, DEAD: 1}, id="one-dead"),
        pytest.param(False, {RESTORED: 9999, WRONG: 1}, id="one-wrong"),
        pytest.param(False, {RESTORED: 9999, DOUBLED: 1}, id="one-doubled"),
        pytest.param(False, {}, id="none"),
    ],
)
def test_the_promise(expected, counts):
    assert expected == soak.held([Seen(outcome, 1.0) for outcome, number in counts.items() for _ in range(number)])
