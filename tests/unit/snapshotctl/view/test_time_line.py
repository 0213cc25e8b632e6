"""The bar picture of a restore's steps."""

import json

import pytest

from contract.api import keys
from contract.api.reports import ReportPhase, Step
from snapshotctl.explain.answers import Facts, lived
from snapshotctl.view.answer_text import as_text, rendered
from snapshotctl.view.time_line import bars
from tests.support.builders.objects import ID, opted_in

STATUS = keys.ANN_RESTORE_STATUS_PREFIX + "main"


@pytest.mark.parametrize(
    ("expected", "steps"),
    [
        pytest.param([], [], id="none"),
        pytest.param([], [Step(ReportPhase.OPEN, 0.0, 0.0)], id="no-time"),
        pytest.param(
            ["open           |" + "█" * 40 + "|    0.500 s from 0.000 s"],
            [Step(ReportPhase.OPEN, 0.0, 0.5)],
            id="one",
        ),
        pytest.param(
            [
                "enter          |" + "█" * 40 + "|    1.000 s from 0.000 s",
                "criu           |" + " " * 20 + "█" * 20 + "|    0.500 s from 0.500 s",
                "verdict        |" + " " * 39 + "▏|    0.001 s from 0.999 s",
            ],
            [
                Step(ReportPhase.ENTER, 0.0, 1.0),
                Step(ReportPhase.CRIU, 0.5, 0.5),
                Step(ReportPhase.VERDICT, 0.999, 0.001),
            ],
            id="within-and-at-the-end",
        ),
    ],
)
def test_each_step_is_drawn_where_it_ran(expected, steps):
    assert expected == bars(steps)


@pytest.mark.parametrize(("word", "outcome"), [("completed", "restored"), ("failed", "failed")])
def test_why_shows_the_time_line(word, outcome):
    report = {
        "container": "main",
        "outcome": outcome,
        "reason": "restore-failed",
        "seconds": {"total": 0.2},
        "bytes": 1,
        "steps": [["criu", 0.1, 0.1]],
        "at": "2026-11-29T10:00:00.000000Z",
        "engine": {"plan": [["memory", "served", "large", 3 << 30]]},
    }
    pod = opted_in(
        labels={keys.LABEL_CHECKPOINT_ID: ID, keys.LABEL_IS_RESTORE_TARGET: "true"},
        annotations={
            keys.ANN_ADMISSION: "restore-shaped",
            STATUS: word,
            keys.ANN_RESTORE_REPORT: json.dumps(report),
            keys.ANN_RESTORE_FILL: json.dumps({"at": report["at"], "step": ["fill", 0.15, 0.05]}),
        },
    )
    pod["metadata"]["name"] = "web-0"
    answer = lived(Facts(pod))
    assert "\n                criu           |" + " " * 20 + "█" * 20 + "|" in as_text([answer], ())
    told = json.loads(rendered([answer], (), "json"))["answers"][0]["findings"][1]
    fill = {"phase": "fill", "start": 0.15, "seconds": 0.05}
    assert [{"phase": "criu", "start": 0.1, "seconds": 0.1}, fill] == told["steps"]
    if word == "completed":
        assert "\n    engine      memory (3.0 GiB) filled while it runs\n" in as_text([answer], ())
        choice = {"memory": "memory", "way": "served", "because": "large", "bytes": 3 << 30}
        assert {"plan": [choice], "came": [choice]} == told["engine"]
