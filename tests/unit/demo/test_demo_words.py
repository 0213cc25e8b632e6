"""What the demo shows is what it found, and it says so when the claim does not hold."""

from dataclasses import replace

import pytest

from demo.evidence import event_lines, explaining_lines
from demo.timeline import Start, Story, faults, timeline

COLD = Start("a", "cold", 8.0, "t-cold", "same", "admission: checkpoint-not-found")
RESTORED = Start("b", "restored", 0.5, "t-source", "same", "SNAPSHOT_RESTORED: ...")
FALLBACK = Start("c", "cold", 9.0, "t-new", "same", "SNAPSHOT_COLD_START: ...")
STORY = Story("t-source", 12.0, 128 << 20, COLD, RESTORED, FALLBACK)

DESCRIBED = """\
Name:         b
Labels:       app=minilm
              nvidia.com/snapshot-restore=enabled
Annotations:  nvidia.com/snapshot-admission: restore-shaped
              nvidia.com/snapshot-restore-report:
                {"container":"main"}
              other.example/key: value
Status:       Running
Events:
  Normal  Scheduled         11s  default-scheduler  assigned snapshot-demo/b
  Normal  RestoreSucceeded  10s  snapshot-agent     container main restored
"""


def test_a_true_story_has_no_faults():
    assert [] == faults(STORY)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        pytest.param(replace(STORY, source_token="x"), "not its source's", id="another process"),
        pytest.param(replace(STORY, cold=replace(COLD, token="t-source")), "cold worker has", id="cold one restored"),
        pytest.param(replace(STORY, fallback=replace(FALLBACK, token="t-source")), "not new", id="fallback restored"),
        pytest.param(replace(STORY, restored=replace(RESTORED, answer="other")), "answers differ", id="wrong answer"),
        pytest.param(replace(STORY, restored=replace(RESTORED, seconds=8.5)), "not faster", id="slow"),
    ],
)
def test_a_false_claim_is_named(told: Story, words: str):
    assert 1 == len(faults(told))
    assert words in faults(told)[0]


def test_the_ratio_takes_the_faster_cold_start():
    assert 16.0 == STORY.ratio
    assert any("16.0 times" in line for line in timeline(STORY))


def test_describe_is_cut_to_what_explains():
    lines = [line.strip() for line in explaining_lines(DESCRIBED)]

    assert [
        "nvidia.com/snapshot-restore=enabled",
        "Annotations:  nvidia.com/snapshot-admission: restore-shaped",
        "nvidia.com/snapshot-restore-report:",
        '{"container":"main"}',
        "Normal  RestoreSucceeded  10s  snapshot-agent     container main restored",
    ] == [line for line in lines if "other.example" not in line]


def test_events_come_oldest_first():
    def event(second: int, reason: str) -> dict:
        involved = {"kind": "Pod", "name": "b"}
        return {"lastTimestamp": f"2026-01-01T00:00:0{second}Z", "reason": reason, "involvedObject": involved}

    lines = event_lines([event(2, "RestoreSucceeded"), event(1, "RestoreRequested")])

    assert ["RestoreRequested", "RestoreSucceeded"] == [line.split()[0] for line in lines]
