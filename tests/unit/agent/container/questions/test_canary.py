"""Which answers to a canary are right."""

import pytest

from agent.container.questions.canary import Answer, wrong
from contract.pods.canary import Canary

ONE, TWO = "1" * 64, "2" * 64


@pytest.mark.parametrize(
    ("fields", "answer", "source", "words"),
    [
        pytest.param({}, Answer(200, ONE), None, None, id="a-status-is-enough"),
        pytest.param({}, Answer(503, ""), None, "status 503, not 200", id="another-status"),
        pytest.param({"status": 503}, Answer(503, ""), None, None, id="the-status-that-is-named"),
        pytest.param({"sha256": ONE}, Answer(200, ONE), TWO, None, id="the-digest-that-is-named"),
        pytest.param({"sha256": ONE}, Answer(200, TWO), None, f"{TWO}, not {ONE}", id="another-digest"),
        pytest.param({"same": True}, Answer(200, ONE), ONE, None, id="the-same"),
        pytest.param({"same": True}, Answer(200, TWO), ONE, "another than just before the capture", id="not-the-same"),
        pytest.param({}, Answer(200, TWO), ONE, None, id="need-not-be-the-same"),
    ],
)
def test_an_answer_is_right_or_says_what_is_wrong(fields, answer, source, words):
    found = wrong(Canary(path="/x", **fields), answer, source)
    assert (words is None) == (found is None)
    assert (words or "") in (found or "")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(Answer(0, ONE), None, id="success"),
        pytest.param(Answer(4, "", "no model"), "/check ends with status 4, not 0: no model", id="says-why"),
        pytest.param(Answer(4, ""), "/check ends with status 4, not 0", id="says-nothing"),
    ],
)
def test_a_command_is_judged_by_how_it_ends(answer, words):
    assert words == wrong(Canary.model_validate({"exec": {"command": ["/check"]}}), answer, None)
