"""A worker that reads its environment again where it is restored, as those of NVIDIA Dynamo do."""

import json
import os

import pytest

from contract.api import control_files
from tests.support.fixtures.bare_container import PYTHON, BareContainer
from tests.support.fixtures.engine import until_ready
from tests.support.fixtures.runc_container import RuncContainer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

POLLS = """
import json, os, pathlib, time
control = pathlib.Path(os.environ["DYN_SNAPSHOT_CONTROL_DIR"])
print("warm", flush=True)
(control / "ready-for-snapshot").write_text("ready")
while not (control / "restore-complete").exists():
    time.sleep(0.1)
for name, value in json.loads((control / "restore-context.json").read_text())["env"].items():
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
print("env", *(os.environ.get(name) for name in ("DYN_NAMESPACE", "POD_UID", "ETCD_ENDPOINTS", "HOME_OF")), flush=True)
time.sleep(600)
"""
STAYS = (PYTHON, "-c", "print('cold', flush=True)")
THERE = {"DYN_NAMESPACE": "old", "ETCD_ENDPOINTS": "http://old:2379", "HOME_OF": "old"}
HERE = {"DYN_NAMESPACE": "new", "POD_UID": "1-2", "HOME_OF": "new", "PASSWORD": "secret"}


@pytest.mark.parametrize(
    "options",
    [pytest.param({"kind": BareContainer}, id="root"), pytest.param({"kind": RuncContainer, "user": 1000}, id="user")],
)
async def test_a_worker_learns_what_its_new_pod_says(node, options, request):
    name, kind = f"context-{request.node.callspec.id}", options["kind"]
    rest = {"user": options["user"]} if "user" in options else {}
    source = node.start_as(kind, "--capture", "--", PYTHON, "-c", POLLS, env=THERE, **rest)
    until_ready(source)
    captured = await node.capture(source, name)
    assert captured.ok, captured
    target = node.start_as(kind, "--", *STAYS, env=HERE, **rest)
    target.init()
    restored = await node.restore(target, name, captured.manifest_digest)
    assert restored.ok, restored
    target.says("env new 1-2 None old")
    text = (target.control / control_files.RESTORE_CONTEXT).read_text()
    assert "abc" != json.loads(text)["checkpointId"] == name
    assert "secret" not in text
