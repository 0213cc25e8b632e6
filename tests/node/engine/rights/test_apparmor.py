"""Workers that AppArmor confines: on a machine that has it, with a profile as runtimes give every container.

CI's machine has none: CONTRIBUTING.md says where these were run.
"""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from agent.container.confinement import label_of
from agent.criu.images import labels as image_labels
from agent.executor.restore import tree
from contract.api.states import AgentReason
from linux.proc import PROC, pids
from tests.support.fixtures.bare_container import PYTHON, WORKER, wait_for
from tests.support.fixtures.engine import COLD, Node, until_ready
from tests.support.fixtures.runc_container import RuncContainer

ENABLED = Path("/sys/module/apparmor/parameters/enabled")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu"),
    pytest.mark.skipif(not ENABLED.exists() or ENABLED.read_text() != "Y\n", reason="needs a kernel with AppArmor on"),
    pytest.mark.skipif(shutil.which("apparmor_parser") is None, reason="needs apparmor_parser"),
]

PROFILE, OTHER = "snapshot-test", "snapshot-test-other"
DENIED = "/var/tmp/denied"
"""To workers of the first profile; to none of the other."""
RULES = """
profile {name} flags=(attach_disconnected,mediate_deleted) {{
  network,
  capability,
  file,
  umount,
  signal (receive) peer=unconfined,
  signal (send, receive) peer={name},
  ptrace (trace, read, tracedby, readby) peer={name},
  deny /proc/sysrq-trigger rwklx,
  deny mount,
  {rule}
}}
"""
THREADS = f"""
import threading
def tries(path):
    try:
        open(path, "w")
    except PermissionError:
        return "denied"
    return "allowed"

class Asked(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.asked, self.answered, self.said = threading.Event(), threading.Event(), ""
        self.start()
    def run(self):
        while self.asked.wait():
            self.asked.clear()
            self.said = tries("{DENIED}")
            self.answered.set()
    def ask(self):
        self.answered.clear(); self.asked.set(); self.answered.wait()
        return self.said
thread = Asked()
"""
CONFINED = THREADS + WORKER.replace("words = [token,", f"words = [tries('{DENIED}'), thread.ask(), token,")
"""A worker that says what the thread of its server, and one that is older than its capture, may do."""


@pytest.fixture(scope="module", autouse=True)
def profiles(tmp_path_factory):
    rules = tmp_path_factory.mktemp("apparmor") / "profiles"
    denies = f"deny {DENIED} w,"
    rules.write_text("".join(RULES.format(name=name, rule=rule) for name, rule in ((PROFILE, denies), (OTHER, ""))))
    subprocess.run(["apparmor_parser", "--replace", "--skip-cache", rules], check=True)
    yield
    subprocess.run(["apparmor_parser", "--remove", rules], check=True)


def start(node, *arguments, profile=PROFILE, user=0, worker=CONFINED):
    command = (*arguments, "--", PYTHON, "-c", worker, "8")
    return node.start_as(RuncContainer, *command, user=user, profile=profile)


def ready(node, **options):
    source = start(node, "--capture", **options)
    until_ready(source)
    return source


def labels(container) -> set[str]:
    """Of every thread in the container."""
    processes = (container.cgroups[0] / "cgroup.procs").read_text().split()
    tasks = [PROC / pid / "task" for pid in processes]
    return {label_of(folder / str(number)) for folder in tasks for number in pids(folder)}


@pytest.mark.parametrize("user", [pytest.param(0, id="root"), pytest.param(1000, id="user")])
async def test_a_restored_worker_is_as_confined_as_it_was(node: Node, user):
    source = ready(node, user=user)
    before = source.get()
    assert before.startswith("denied denied ")
    outcome = await node.capture(source, f"confined-{user}")
    assert outcome.ok, outcome
    target = start(node, user=user)
    target.init()
    restored = await node.restore(target, f"confined-{user}", outcome.manifest_digest)
    assert restored.ok, restored
    assert before == target.get()
    assert {PROFILE} == labels(target)


@pytest.mark.parametrize(
    ("then", "now", "says"),
    [
        pytest.param(PROFILE, OTHER, "allowed allowed ", id="another-profile"),
        pytest.param(PROFILE, "", "allowed allowed ", id="none-any-more"),
        pytest.param("", PROFILE, "denied denied ", id="one-that-it-had-not"),
    ],
)
async def test_what_confines_it_is_what_its_container_has_now(node: Node, request, then, now, says):
    """A node may have another version of a runtime, or no AppArmor: what counts is the pod that is admitted there."""
    name = request.node.callspec.id
    source = ready(node, profile=then)
    before = source.get().split()[2:]
    outcome = await node.capture(source, name)
    assert outcome.ok, outcome
    target = start(node, profile=now)
    target.init()
    restored = await node.restore(target, name, outcome.manifest_digest)
    assert restored.ok, restored
    answer = target.get()
    assert answer.startswith(says)
    assert before == answer.split()[2:]
    assert {now} == labels(target)


async def test_a_restored_worker_is_captured_again(node: Node):
    source = ready(node)
    before = source.get()
    first = await node.capture(source, "again")
    assert first.ok, first
    target = start(node)
    target.init()
    assert (await node.restore(target, "again", first.manifest_digest)).ok
    second = await node.capture_running(target, "again", "2")
    assert second.ok, second
    assert before == target.get()
    assert {PROFILE} == labels(target)


async def test_a_thread_that_did_not_change_is_a_cold_start(node: Node, monkeypatch):
    """The threads are looked at while they are stopped, whatever criu was asked to do."""
    outcome = await node.capture(ready(node), "freed")
    assert outcome.ok, outcome
    real = image_labels.with_profile
    threads = iter(range(1000))
    spoiled = lambda core, profile: core if next(threads) == 1 else real(core, profile)  # noqa: E731 - once
    monkeypatch.setattr(image_labels, "with_profile", spoiled)
    target = start(node)
    target.init()
    restored = await node.restore(target, "freed", outcome.manifest_digest)
    assert (False, AgentReason.IMAGES_WIDER) == (restored.ok, restored.reason), restored
    assert "security label unconfined, not snapshot-test" in restored.message
    target.says(COLD)
    assert wait_for(target.get, "the cold worker").startswith("denied denied ")


async def test_without_a_profile_in_the_images_nothing_is_restored(node: Node, monkeypatch):
    outcome = await node.capture(ready(node), "forgotten")
    assert outcome.ok, outcome
    monkeypatch.setattr(tree, "write_profile", lambda *_: None)
    target = start(node)
    target.init()
    restored = await node.restore(target, "forgotten", outcome.manifest_digest)
    assert (False, AgentReason.IMAGES_WIDER) == (restored.ok, restored.reason), restored
    target.says(COLD)


async def test_a_worker_that_changed_its_own_profile_is_refused_before_it_is_frozen(node: Node):
    own = CONFINED.replace(
        'print("warm"',
        f'open("/proc/thread-self/attr/current", "w").write("changeprofile {OTHER}")\nprint("warm"',
    )
    source = ready(node, profile="", worker=own)
    outcome = await node.capture(source, "changed")
    assert (False, AgentReason.CONFINEMENT_LOST) == (outcome.ok, outcome.reason), outcome
    assert f"is confined by {OTHER}, and its container by nothing" in outcome.message


async def test_two_profiles_at_once_are_refused(node: Node):
    """No profile can be changed to that is two: the operator of the nodes may leave them out."""
    stacked = ready(node, profile=f"{PROFILE}//&{OTHER}")
    refused = await node.capture(stacked, "stacked")
    assert (False, AgentReason.CONFINEMENT_LOST) == (refused.ok, refused.reason), refused
    node.engine._environment = replace(node.environment, allow_unconfined=True)
    captured = await node.capture(ready(node, profile=f"{PROFILE}//&{OTHER}"), "allowed")
    assert captured.ok, captured
    target = start(node, profile=f"{PROFILE}//&{OTHER}")
    target.init()
    assert (await node.restore(target, "allowed", captured.manifest_digest)).ok
    again = await node.capture_running(target, "allowed", "2")
    assert again.ok, again


async def test_a_thread_under_another_profile_is_refused_by_name(node: Node):
    own = CONFINED.replace(
        "thread = Asked()",
        "def changes():\n"
        f"    open('/proc/thread-self/attr/current', 'w').write('changeprofile {OTHER}')\n"
        "    threading.Event().wait()\n"
        "threading.Thread(target=changes, daemon=True).start()\n"
        "thread = Asked()",
    )
    outcome = await node.capture(ready(node, profile="", worker=own), "a-thread")
    assert (False, AgentReason.CONFINEMENT_LOST) == (outcome.ok, outcome.reason), outcome
    assert f"is confined by {OTHER}, and its container by nothing" in outcome.message
