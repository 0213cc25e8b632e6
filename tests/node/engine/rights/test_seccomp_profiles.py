"""Containers whose seccomp profile is another one than at the capture, as it is after an upgrade of a runtime."""

import os
import re
from pathlib import Path

import pytest

from contract.api.states import AgentReason
from tests.support.fixtures.bare_container import PYTHON, WORKER, wait_for
from tests.support.fixtures.engine import COLD, until_ready
from tests.support.fixtures.runc_container import RuncContainer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

HEADER = Path(f"/usr/include/{os.uname().machine}-linux-gnu/asm/unistd_64.h")
REFUSED = {"io_uring_setup", "io_uring_enter", "io_uring_register", "kexec_load", "mount", "bpf", "reboot", "swapon"}
NEWEST = {"memfd_secret", "landlock_create_ruleset", "process_mrelease", "cachestat"}
"""Those that an older runtime does not name."""
CONDITIONAL = [
    {
        "names": ["personality"],
        "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}],
    }
    for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)
]
NO_NEW_NAMESPACES = {
    "names": ["clone"],
    "action": "SCMP_ACT_ALLOW",
    "args": [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
}


def profile(*without: str, clone=NO_NEW_NAMESPACES):
    """Return a profile of the form of RuntimeDefault: what is not named is refused, some only with other arguments."""
    calls = set(re.findall(r"#define __NR_(\w+)", HEADER.read_text()))
    names = sorted(calls - REFUSED - {"personality", "clone", *without})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}, *CONDITIONAL, clone],
    }


def start(node, *arguments, seccomp):
    return node.start_as(RuncContainer, *arguments, "--", PYTHON, "-c", WORKER, "8", seccomp=seccomp, user=1000)


@pytest.mark.skipif(not HEADER.exists(), reason="needs the names of system calls: linux-libc-dev")
@pytest.mark.parametrize(
    ("expected", "then", "now"),
    [
        pytest.param("", profile(*NEWEST), profile(), id="a-newer-one-that-allows-more"),
        pytest.param("", profile(), profile(clone=NO_NEW_NAMESPACES | {"args": []}), id="one-without-a-condition"),
        pytest.param(AgentReason.IMAGES_WIDER, profile(), profile(*NEWEST), id="an-older-one"),
        pytest.param(AgentReason.IMAGES_WIDER, profile(), profile("chroot"), id="one-call-is-refused-now"),
    ],
)
async def test_a_worker_keeps_its_filter_if_the_container_allows_as_much(expected, then, now, node, request):
    name = request.node.callspec.id
    source = start(node, "--capture", seccomp=then)
    until_ready(source)
    captured = await node.capture(source, name)
    assert captured.ok, captured.message

    target = start(node, seccomp=now)
    target.init()
    restored = await node.restore(target, name, captured.manifest_digest)

    assert expected == restored.reason, restored.message
    if expected:
        target.says(COLD)
    else:
        assert wait_for(target.get, "an answer")
