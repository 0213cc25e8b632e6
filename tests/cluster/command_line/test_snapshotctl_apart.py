"""The command line against a real API server: what it cannot find or may not read, and what it waits for."""

import json
import os
import shlex
import subprocess
import sys
import threading

import pytest

from cluster.api import ControlPlane
from contract.api import keys
from tests.support.builders.objects import checkpoint
from tests.support.fixtures.cli import DIGEST, READY, ROOT, VERSIONS, World, made_in
from tests.support.waiting import until


@pytest.fixture(scope="module")
def world(control_plane):
    return made_in(control_plane)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("why", "restored-1"), "did you mean restored-0?", id="pod"),
        pytest.param(("describe", "qwem"), "did you mean qwen?", id="checkpoint"),
        pytest.param(("why", "deployment/nothing-like-it"), "choose one with -n", id="workload"),
        pytest.param(("why", "wibble/x"), "deployment/NAME", id="kind"),
        pytest.param(("why", "dgd/grap"), "did you mean graph?", id="graph"),
        pytest.param(("get", "nobody"), "no checkpoint nobody", id="get"),
        pytest.param(("adopt", "nobody"), "create it first", id="adopt"),
    ],
)
def test_names_that_are_not_there(world, arguments, words):
    result = world.run(*arguments)
    assert 1 == result.exit_code
    assert words in result.stderr


@pytest.mark.parametrize("where", [(), ("-A",)], ids=["namespace", "all"])
def test_what_lists_all_names_is_typed_in_any_namespace(world, where):
    advice = world.run("get", "pods", "nobody", *where).stderr.split("`")[1].split()

    assert f"-n {world.namespace}".split() == advice[-2:] if not where else advice[-1] == "-A"
    assert 0 == world.run(*advice[1:]).exit_code


def test_without_rights_it_says_which_command_gives_them(world, control_plane, tmp_path):
    """The commands in the message, typed as they are, are enough."""
    kubectl, namespace = control_plane.kubectl, world.namespace
    kubectl("-n", namespace, "create", "serviceaccount", "reader")
    token = kubectl("-n", namespace, "create", "token", "reader").strip()
    limited = tmp_path / "kubeconfig"
    limited.write_text(control_plane.kubeconfig.read_text().replace(control_plane.token, token))
    for _ in range(6):
        result = world.run("why", "restored-0", kubeconfig=limited)
        if result.exit_code != 1:
            break
        for command in result.stderr.split("`")[1::2]:
            program, *words = shlex.split(command)
            assert "kubectl" == program
            kubectl(*words)
        wait_until_allowed(world, result.stderr, limited)
    assert 0 == result.exit_code, result.output
    assert "may not be read" in result.stdout


def wait_until_allowed(world, before, kubeconfig):
    """The server's authorizer follows new bindings a moment later."""

    def changed():
        result = world.run("why", "restored-0", kubeconfig=kubeconfig)
        return result.exit_code != 1 or result.stderr != before

    until(changed, "the new right")


def test_without_the_chart_it_says_how_to_install_it(tmp_path):
    """A cluster of its own, because the kinds of the session's one are there already."""
    with ControlPlane.start() as bare:
        result = World(bare, "default").run("get")
    assert 1 == result.exit_code
    assert "helm install" in result.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", "no usable cluster configuration", id="no-cluster"),
        pytest.param("server", "is it the right cluster?", id="nobody-answers"),
        pytest.param("token", "log in again", id="wrong-token"),
    ],
)
def test_clusters_that_cannot_be_asked(world, control_plane, tmp_path, text, words):
    path = tmp_path / "kubeconfig"
    config = control_plane.kubeconfig.read_text()
    replaced = {
        "": "",
        "server": config.replace(control_plane.server, "https://127.0.0.1:1"),
        "token": config.replace(control_plane.token, "x"),
    }
    path.write_text(replaced[text])
    result = world.run("get", kubeconfig=path)
    assert 1 == result.exit_code
    assert words in result.stderr


def complete(world, line):
    words = f"snapshotctl {line}"
    environment = os.environ | {
        "KUBECONFIG": str(world.plane.kubeconfig),
        "_SNAPSHOTCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    argv = [sys.executable, "-c", "from snapshotctl.__main__ import main; main(prog_name='snapshotctl')"]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return [each.partition(",")[2] for each in done.stdout.split()]


def test_completion_knows_live_names(world):
    """It gives up soon, so a busy machine may need several looks."""
    until(lambda: ["restored-0"] == complete(world, f"why -n {world.namespace} rest"), "a pod")
    until(lambda: ["qwen"] == complete(world, f"describe -n {world.namespace} q"), "a checkpoint")
    until(lambda: [world.namespace] == complete(world, f"get -n {world.namespace[:-1]}"), "a namespace")


def test_adopt_waits_for_the_answer(world, control_plane):
    """The controller's half is played here: condition and status first, then the question is taken away."""
    kubectl, namespace = control_plane.kubectl, world.namespace
    kubectl.apply([{**checkpoint("old"), "metadata": {"name": "old", "namespace": namespace}}])

    def answer():
        wait = ["wait", "--for=jsonpath={.metadata.annotations.nvidia\\.com/snapshot-adopt}=7", "--timeout=60s"]
        kubectl("-n", namespace, *wait, "dckpt/old")
        condition = {"type": "Adopted", "status": "True", "reason": "Adopted", "message": "version 7: taken over"}
        condition |= {"lastTransitionTime": "2026-01-29T10:05:00Z"}
        status = READY | {"versions": [VERSIONS[0] | {"version": "7"}], "conditions": [condition]}
        body = json.dumps({"status": status})
        kubectl("-n", namespace, "patch", "dckpt", "old", "--subresource=status", "--type=merge", "-p", body)
        kubectl("-n", namespace, "annotate", "dckpt", "old", f"{keys.ANN_ADOPT}-")

    other = threading.Thread(target=answer)
    other.start()
    result = world.run("adopt", "old", "--version", "7", "--timeout", "60")
    other.join()
    assert 0 == result.exit_code, result.output
    facts = dict(line.split("=", 1) for line in result.stdout.splitlines())
    assert ("completed", "old", "7", DIGEST) == tuple(
        facts[k] for k in ("status", "name", "version", "manifest_digest")
    )


def test_adopt_gives_up_in_time_and_says_what_it_waited_for(world):
    result = world.run("adopt", "busy", "--version", "3", "--timeout", "1")
    assert 1 == result.exit_code
    assert "status=pending" in result.stdout
    assert "the controller has not started" in result.stderr


def test_watch_goes_on_with_changes(world, control_plane):
    """From the table on: a change that comes before the watch is told too."""
    environment = os.environ | {"KUBECONFIG": str(control_plane.kubeconfig), "PYTHONUNBUFFERED": "1"}
    argv = [sys.executable, "-m", "snapshotctl", "get", "-n", world.namespace, "--watch", "busy"]
    failed = json.dumps({"status": {"phase": "Failed"}})
    with subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            head = [process.stdout.readline().split() for _ in range(2)]
            patch = ("patch", "dckpt", "busy", "--subresource=status", "--type=merge", "-p", failed)
            control_plane.kubectl("-n", world.namespace, *patch)
            found = next(words for words in map(str.split, process.stdout) if "Failed" in words)
        finally:
            process.terminate()
    assert ["NAME", "busy"] == [words[0] for words in head]
    assert ["busy", "Failed"] == found[:2]
