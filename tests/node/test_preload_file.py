"""A pod whose root has no capability names a library in /etc/ld.so.preload: criu, which has all, does not load it."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.api import control_files
from demo.kubectl import Kubectl
from tests.support import trap
from tests.support.fixtures import node

ROOT = {"runAsUser": 0, "capabilities": {"drop": ["ALL"]}}
SET_TRAP = """
import base64, os
open("/trap.so", "wb").write(base64.b64decode(os.environ["TRAP"]))
open("/etc/ld.so.preload", "w").write("/trap.so\\n")
"""
NONE = f"CapEff:\t{0:016x}"
"""What a process of the container itself is loaded with, and leaves in the mark."""


@pytest.fixture
def names(installed: Kubectl) -> Iterator[str]:
    yield "tiny-preload"
    installed("delete", "pod", "tiny-preload", "--ignore-not-found", "--wait=false")


def test_the_library_is_loaded_by_the_container_alone(installed: Kubectl, names: str, tmp_path: Path):
    library = base64.b64encode(trap.build(tmp_path).read_bytes()).decode()
    worker = {
        "command": ["python3", "-c", SET_TRAP + node.WORKER],
        "env": [{"name": "TRAP", "value": library}],
        "securityContext": ROOT,
    }
    node.create(installed, node.checkpoint(names, **worker))
    assert "Ready" == node.phase(installed, names, "Ready", "Failed")["status"]["phase"]
    node.create(installed, node.pod(names, names, **worker))
    node.await_answer(installed, names)

    assert node.first_line(installed, names).startswith(control_files.LOG_RESTORED.partition("{")[0])
    # This very command is loaded with the library: the mark is there, and only such lines are in it.
    marks = installed("exec", names, "-c", "main", "--", "python3", "-c", "print(open('/sprung').read())").split("\n")
    assert {NONE} == {mark for mark in marks if mark}
