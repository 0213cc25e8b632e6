"""What a canary may ask, and what is wrong with one that cannot be asked."""

import hashlib
import json
from contextlib import nullcontext

import pytest

from contract.api import keys
from contract.pods.canary import (
    Canary,
    CanaryError,
    canary_call,
    command_stamp,
    parse_canary,
    refuse_later_command,
)
from tests.support.builders.objects import container, pod

PROBE = {"httpGet": {"path": "/health", "port": 8000}}
PROMPT = {"path": "/v1/completions", "body": {"prompt": "a", "seed": 1}, "same": True, "select": ["/choices/0/text"]}


def asking(value, **fields):
    text = value if isinstance(value, str) else json.dumps(value)
    return pod(container(**fields), annotations={keys.ANN_CANARY: text})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("/health", Canary(path="/health"), id="a-path"),
        pytest.param('{"path": "/x", "status": 204}', Canary(path="/x", status=204), id="status"),
        pytest.param(json.dumps(PROMPT), Canary(**(PROMPT | {"select": ("/choices/0/text",)})), id="prompt"),
    ],
)
def test_a_canary_is_a_path_or_json(text, expected):
    assert expected == parse_canary(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("health", "neither a path that begins with / nor JSON", id="no-path"),
        pytest.param('["/health"]', 'write {"path": "/health"}', id="a-list"),
        pytest.param("{}", "path: field required", id="no-question"),
        pytest.param('{"path": "/x", "sha": "1"}', "sha: unknown key; did you mean sha256?", id="unknown-key"),
        pytest.param('{"path": "/x", "sha256": "AB"}', "sha256: ", id="no-digest"),
        pytest.param('{"path": "/x", "status": "200"}', "status: ", id="status-as-text"),
        pytest.param('{"path": "/x", "seconds": 601}', "seconds: ", id="too-long"),
        pytest.param('{"path": "/a b"}', "path: ", id="a-space-ends-a-request-line"),
        pytest.param('{"path": "/x", "headers": {"A": "b\\r\\nC: d"}}', "headers.A: ", id="a-header-is-one-line"),
        pytest.param('{"path": "/x", "same": true, "select": ["text"]}', "'text' is no JSON pointer", id="no-pointer"),
        pytest.param('{"path": "/x", "select": ["/text"]}', "set same or sha256", id="selected-and-not-compared"),
        pytest.param("[" * 100_000, "neither a path", id="deep"),
        pytest.param('{"exec": {}}', "exec.command: field required", id="no-command"),
        pytest.param('{"exec": {"command": []}}', "exec.command: ", id="an-empty-command"),
        pytest.param('{"exec": {"command": "true"}}', "exec.command: ", id="a-line-and-no-list"),
        pytest.param('{"exec": {"command": [""]}}', "names no program", id="no-program"),
        pytest.param('{"exec": {"command": ["a\\u0000b"]}}', "exec.command[0]: ", id="a-word-ends-in-nul"),
        pytest.param(json.dumps({"exec": {"command": ["a" * 32_000]}}), "longer than 32000 bytes", id="long-command"),
        pytest.param('{"exec": {"command": ["true"]}, "path": "/x"}', "path: belongs to a request", id="both"),
        pytest.param('{"exec": {"command": ["true"]}, "port": 80}', "port: belongs to a request", id="a-port-too"),
        pytest.param('{"exec": {"command": ["true"]}, "status": 256}', "from 0 to 255", id="no-exit-status"),
        pytest.param('{"path": "/x", "status": 3}', "from 100 to 599", id="no-http-status"),
    ],
)
def test_what_cannot_be_asked_says_why(text, words):
    with pytest.raises(CanaryError) as caught:
        parse_canary(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("expected", "fields"),
    [pytest.param(0, {}, id="by-default"), pytest.param(3, {"status": 3}, id="as-named")],
)
def test_a_command_ends_with_a_status_and_needs_no_port(expected, fields):
    call = canary_call(asking({"exec": {"command": ["python3", "check.py"]}} | fields), "main")

    assert (expected, ("python3", "check.py")) == (call.canary.status, call.canary.exec.command)


COMMAND = {"exec": {"command": ["true"]}}
STAMP = {"name": keys.ENV_CANARY, "value": hashlib.sha256(json.dumps(COMMAND).encode()).hexdigest()}


@pytest.mark.parametrize(
    ("refused", "value", "env"),
    [
        pytest.param(False, COMMAND, [STAMP], id="as-created"),
        pytest.param(True, COMMAND, [], id="added-later"),
        pytest.param(True, {"exec": {"command": ["sh"]}}, [STAMP], id="changed-later"),
        pytest.param(False, {"path": "/x", "port": 1}, [], id="a-request-added-later"),
        pytest.param(False, "none", [STAMP], id="not-one-at-all"),
    ],
)
def test_a_command_that_the_pod_was_not_created_with_is_refused(refused, value, env):
    """Who may annotate a pod may not execute in it by that."""
    with pytest.raises(CanaryError, match="not created with") if refused else nullcontext():
        refuse_later_command(asking(value, env=env), "main")


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        pytest.param([STAMP], COMMAND, id="a-command"),
        pytest.param([], {"path": "/x"}, id="a-request"),
        pytest.param([], "{", id="unreadable"),
    ],
)
def test_admission_stamps_commands_alone(expected, value):
    assert expected == [{"name": name, "value": said} for name, said in command_stamp(asking(value)).items()]


def test_a_pod_without_the_annotation_has_none():
    assert canary_call(pod(container()), "main") is None


@pytest.mark.parametrize(
    ("value", "fields", "port"),
    [
        pytest.param("/x", {"readinessProbe": PROBE}, 8000, id="the-probe's"),
        pytest.param({"path": "/x", "port": 9000}, {"readinessProbe": PROBE}, 9000, id="number"),
        pytest.param({"path": "/x", "port": "web"}, {"ports": [{"name": "web", "containerPort": 80}]}, 80, id="name"),
    ],
)
def test_the_port_is_its_own_or_the_probes(value, fields, port):
    call = canary_call(asking(value, **fields), "main")
    assert call is not None
    assert port == call.port


@pytest.mark.parametrize(
    ("value", "fields", "words"),
    [
        pytest.param("/x", {}, "port: is needed", id="no-probe"),
        pytest.param("/x", {"readinessProbe": {"grpc": {"port": 9000}}}, "port: is needed", id="grpc-speaks-no-http-1"),
        pytest.param({"path": "/x", "port": "web"}, {}, "no port 'web'", id="no-such-name"),
        pytest.param({"path": "/x", "port": 70000}, {}, "no port 70000", id="no-port-number"),
    ],
)
def test_a_port_that_is_not_there_is_named(value, fields, words):
    with pytest.raises(CanaryError, match=words):
        canary_call(asking(value, **fields), "main")


@pytest.mark.parametrize(
    ("fields", "body", "headers"),
    [
        pytest.param({}, None, {}, id="get"),
        pytest.param({"body": "text"}, b"text", {}, id="text"),
        pytest.param({"body": {"a": 1}}, b'{"a": 1}', {"Content-Type": "application/json"}, id="json"),
        pytest.param(
            {"body": [1], "headers": {"Content-Type": "x/y"}}, b"[1]", {"Content-Type": "x/y"}, id="own-content-type"
        ),
    ],
)
def test_what_is_sent(fields, body, headers):
    call = canary_call(asking({"path": "/x", "port": 1, **fields}), "main")
    assert call is not None
    assert (body, headers) == (call.body, call.headers)
