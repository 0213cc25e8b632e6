"""What the Job's annotations say is taken over only where it is well-formed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.api import keys
from controller.checkpoints.capture_result import (
    MAX_CONFIG,
    MAX_WORDS,
    agent_reason,
    image_config,
    image_of,
    size_of,
    source_of,
)
from tests.support.builders.checkpoints import AGENT_MOUNT, creating, job

CONFIG = {"entrypoint": ["python3", "-c", "a\nb"], "cmd": ["serve"], "user": "1000:1000", "workingDir": "/srv"}


def test_an_honest_image_is_told_whole():
    assert CONFIG == image_config(json.dumps(CONFIG))


def test_empty_fields_are_left_out():
    assert {"cmd": ["x"]} == image_config('{"entrypoint": null, "cmd": ["x"], "user": "", "workingDir": null}')


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("{", id="not-json"),
        pytest.param("[" * 20000, id="deep"),
        pytest.param("[1]", id="not-an-object"),
        pytest.param('{"cmd": "sh -c x"}', id="text-for-list"),
        pytest.param('{"cmd": [1]}', id="number-in-list"),
        pytest.param('{"cmd": ["a\\u0000b"]}', id="nul"),
        pytest.param('{"cmd": ["\\ud800"]}', id="half-a-character"),
        pytest.param('{"user": {"a": 1}}', id="object-for-text"),
        pytest.param(json.dumps({"cmd": ["x"] * (MAX_WORDS + 1)}), id="too-many"),
        pytest.param(json.dumps({"cmd": ["x" * MAX_CONFIG]}), id="too-long"),
    ],
)
def test_one_bad_field_and_nothing_is_believed(text):
    assert {} == image_config(text)


@given(st.text())
def test_no_text_breaks_it(text):
    assert not set(image_config(text)) - set(CONFIG)


def test_unknown_fields_do_not_get_into_the_status():
    assert CONFIG == image_config(json.dumps(CONFIG | {"privileged": True}))


def test_the_image_is_the_one_that_ran_with_what_it_would_run():
    seen = job(annotations={keys.ANN_IMAGE_CONFIG: json.dumps(CONFIG)})

    expected = {"reference": "example.test/ran:1", "injected": False} | CONFIG
    assert expected == image_of(creating(), seen, AGENT_MOUNT)


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        pytest.param("amd64", "amd64", id="known"),
        pytest.param(None, "amd64 and more", id="no-word"),
        pytest.param(None, ["amd64"], id="no-text"),
    ],
)
def test_the_architecture_of_the_node_is_noted(expected, said):
    seen = job(annotations={keys.ANN_CAPTURE_REPORT: json.dumps({"architecture": said})})

    assert expected == image_of(creating(), seen, AGENT_MOUNT).get("architecture")


def test_tools_that_were_brought_in_are_noted():
    seen = job()
    seen["spec"]["template"]["spec"]["volumes"] = [{"name": keys.TOOLS_VOLUME, "emptyDir": {}}]

    assert {"reference": "example.test/ran:1", "injected": True} == image_of(creating(), seen, AGENT_MOUNT)


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        pytest.param('{"reason": "artifact-exists"}', "artifact-exists", id="code"),
        pytest.param("nonsense", "", id="not-json"),
        pytest.param("{}", "", id="none"),
    ],
)
def test_the_agents_code(report, reason):
    assert reason == agent_reason(job(annotations={keys.ANN_CAPTURE_REPORT: report}))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        pytest.param("134217728", 134217728, id="bytes"),
        pytest.param("", None, id="none"),
        pytest.param("-1", None, id="negative"),
        pytest.param("\u0661", None, id="other-digits"),
        pytest.param("9" * 19, None, id="more-than-the-status-holds"),
        pytest.param("9" * 5000, None, id="more-than-a-number-may-have"),
    ],
)
def test_the_size_is_a_number_that_the_status_can_hold(text, size):
    assert size == size_of(job(annotations={keys.ANN_ARTIFACT_SIZE: text}))


@pytest.mark.parametrize(
    ("node", "source", "expected"),
    [
        pytest.param("node-1", {"kernel": "6.1"}, {"node": "node-1", "kernel": "6.1"}, id="whole"),
        pytest.param("-; rm", {"kernel": "6.1"}, {"kernel": "6.1"}, id="no-node"),
        pytest.param("node-1", {"kernel": 6}, None, id="unusable"),
        pytest.param("node-1", None, None, id="an-earlier-agent"),
    ],
)
def test_what_it_was_taken_on(node, source, expected):
    notes = {keys.ANN_NODE: node, keys.ANN_CAPTURE_REPORT: json.dumps({"source": source})}
    assert expected == source_of(job(annotations=notes))
