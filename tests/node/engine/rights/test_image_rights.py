"""Images that would give a worker more than its container has: refused before criu runs, or before the worker does."""

import os
import re
import shutil
import struct
import time
from pathlib import Path

import pytest
import yaml

from agent import protobuf
from agent.container.rights import of_container
from agent.criu.images.files import read_image, replace_image
from agent.criu.images.rights import refuse_wider_images, rights_in
from agent.executor.engine import NodeEngine
from agent.executor.environment import NodeEnvironment
from agent.protobuf import Field
from artifact.digest import digest_of, sum_of
from artifact.manifest import MANIFEST
from contract.api.reports import ReportPhase
from contract.api.states import AgentReason
from tests.support.fixtures.bare_container import PYTHON, WORKER, BareContainer
from tests.support.fixtures.engine import COLD, until_ready
from tests.support.fixtures.runc_container import RuncContainer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

USER = 65532
SYS_ADMIN, NET_RAW = 1 << 21, 1 << 13
TASK, THREAD, CREDS = 3, 5, 10
EUID, CAP_EFF, CAP_PRM, CAP_BND, CAP_AMB, GROUPS, NO_NEW_PRIVS = 3, 11, 10, 12, 19, 14, 18
RLIMITS, MEMLOCK, SECCOMP_MODE = 8, 8, 11
ALLOW_ALL = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
SANDBOXED = f"""
import ctypes, struct
code = ctypes.create_string_buffer({ALLOW_ALL + ALLOW_ALL!r})
program = struct.pack("HxxxxxxQ", 2, ctypes.addressof(code))
assert ctypes.CDLL(None).prctl(22, 2, ctypes.c_char_p(program), 0, 0) == 0
{WORKER}"""
"""A worker with a filter of its own above the container's."""


def start(node, *arguments, worker=WORKER):
    return node.start_as(RuncContainer, *arguments, "--", PYTHON, "-c", worker, "8", user=USER)


async def sealed(node, checkpoint_id, worker=WORKER):
    """Capture a worker; return the digest of its manifest."""
    source = start(node, "--capture", worker=worker)
    until_ready(source)
    outcome = await node.capture(source, checkpoint_id)
    assert outcome.ok, outcome.message
    return outcome.manifest_digest


def copied(node, checkpoint_id, edit):
    """Copy the artifact with other images, its manifest made to fit; return the digest."""
    version = node.store / checkpoint_id / "versions/1"
    shutil.copytree(node.store / "rights/versions/1", version)
    apply(version, edit)
    manifest = yaml.safe_load((version / MANIFEST).read_text())
    manifest["checkpointId"] = checkpoint_id
    for name, entry in manifest["files"].items():
        with (version / name).open("rb") as file:
            entry |= {"size": os.fstat(file.fileno()).st_size, "blake3": sum_of(file.fileno())}
    text = yaml.safe_dump(manifest).encode()
    (version / MANIFEST).write_bytes(text)
    return digest_of(text)


def apply(version: Path, edit) -> None:
    directory = os.open(version, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for path in sorted(version.iterdir()):
            if content := edited(directory, path.name, edit):
                replace_image(directory, path.name, content)
    finally:
        os.close(directory)


def edited(directory: int, name: str, edit) -> bytes | None:
    """Return what an edit makes of the first message of an image; None of one that it leaves alone."""
    if not re.fullmatch(r"core-\d+\.img|seccomp\.img", name):
        return None
    image = read_image(directory, name)
    fields = protobuf.parse(protobuf.message(image)[0])
    changed = edit(name, fields)
    return None if changed is None else image[: protobuf.MAGIC] + protobuf.framed(protobuf.encode(changed))


def inside(*path: int, change):
    """Return an edit of a message within the core images, at these fields."""

    def edit(name, fields):
        return at(fields, path) if name.startswith("core-") else None

    def at(fields, path):
        if not path:
            return change(fields)
        return [
            field._replace(value=protobuf.encode(at(protobuf.parse(field.value), path[1:])))
            if field.number == path[0]
            else field
            for field in fields
        ]

    return edit


def only_threads(edit):
    """Leave the first thread of each process as it is."""

    def others(name, fields):
        return None if any(field.number == TASK for field in fields) else edit(name, fields)

    return others


def with_capability(*sets):
    return inside(
        THREAD,
        CREDS,
        change=lambda fields: (
            [field for field in fields if field.number not in sets]
            + [Field(number, protobuf.VARINT, word) for number in sets for word in (SYS_ADMIN, 0)]
        ),
    )


def number(wanted, value):
    return lambda fields: protobuf.replaced(fields, {wanted: value})


def without(wanted):
    return lambda fields: [field for field in fields if field.number != wanted]


def high_limit(fields):
    limits = [protobuf.parse(field.value) for field in fields]
    limits[MEMLOCK] = protobuf.replaced(limits[MEMLOCK], {2: (1 << 64) - 1})
    return [Field(1, protobuf.BYTES, protobuf.encode(limit)) for limit in limits]


def open_filter(name, fields):
    if name != "seccomp.img":
        return None
    return [Field(1, protobuf.BYTES, protobuf.encode([Field(1, protobuf.BYTES, ALLOW_ALL)])) for _ in fields]


EVERY_SET = with_capability(CAP_PRM, CAP_EFF, CAP_BND)
EDITS = [
    pytest.param(EVERY_SET, "capabilities 0x200000", id="capability"),
    pytest.param(only_threads(EVERY_SET), "capabilities 0x200000", id="capability-of-a-thread"),
    pytest.param(with_capability(CAP_BND), "CapBnd", id="bounding-set"),
    pytest.param(with_capability(CAP_AMB), "CapAmb", id="ambient-set"),
    pytest.param(inside(THREAD, CREDS, change=number(EUID, 0)), r"users [0]", id="root"),
    pytest.param(
        inside(THREAD, CREDS, change=lambda fields: [*fields, Field(GROUPS, protobuf.VARINT, 0)]),
        r"groups [0]",
        id="group",
    ),
    pytest.param(inside(THREAD, CREDS, change=number(NO_NEW_PRIVS, 0)), "no_new_privs", id="no-new-privileges"),
    pytest.param(inside(THREAD, change=number(SECCOMP_MODE, 0)), "no seccomp filter", id="no-seccomp"),
    pytest.param(open_filter, "may let through", id="another-filter"),
    pytest.param(inside(TASK, RLIMITS, change=high_limit), "hard limits [8]", id="limit"),
    pytest.param(inside(THREAD, change=without(CREDS)), "without credentials", id="no-credentials"),
    pytest.param(inside(change=without(THREAD)), "without credentials", id="no-thread"),
]


@pytest.fixture
async def artifact(node):
    """The digest of an artifact, made once a file."""
    digest = node.folder / "rights-digest"
    if not digest.exists():
        digest.write_text(await sealed(node, "rights"))
    return digest.read_text()


@pytest.mark.parametrize(("edit", "words"), EDITS)
async def test_images_that_give_more_are_refused(node, artifact, request, edit, words):
    """The attacker can write the store, and the manifest's sums with it."""
    name = f"rights-{request.node.callspec.id}"
    digest = copied(node, name, edit)
    target = start(node)
    node.engine = NodeEngine(NodeEnvironment(**{**vars(node.environment), "criu": NeverRun(node.environment.criu)}))
    outcome = await node.restore(target, name, digest)
    assert (AgentReason.IMAGES_WIDER, True) == (outcome.reason, words in outcome.message), outcome
    assert target.says("outcome NOT_MANAGED").startswith(COLD)


class NeverRun:
    def __init__(self, criu):
        self.version = criu.version

    def restore(self, _):
        raise AssertionError("criu was run")


# An ambient set keeps criu waiting, and a higher limit needs a right that a machine of tests may lack.
@pytest.mark.parametrize(("edit", "words"), [*EDITS[:3], *EDITS[4:8]])
async def test_what_criu_made_is_checked_again(node, artifact, request, edit, words):
    """Whatever the images said when they were looked at."""
    name = f"made-{request.node.callspec.id}"
    digest = copied(node, name, lambda *_: None)
    criu = ReadsOthers(node.environment.criu, edit)
    node.engine = NodeEngine(NodeEnvironment(**{**vars(node.environment), "criu": criu}))
    target = start(node)
    outcome = await node.restore(target, name, digest)
    assert (AgentReason.IMAGES_WIDER, True) == (outcome.reason, words in outcome.message), outcome
    assert target.says("outcome NOT_MANAGED").startswith(COLD)


class ReadsOthers:
    """The real criu, which finds other images than were checked."""

    def __init__(self, criu, edit):
        self.version, self._criu, self._edit = criu.version, criu, edit

    def restore(self, request):
        apply(Path(f"/proc/self/fd/{request.images}"), self._edit)
        return self._criu.restore(request)


@pytest.mark.parametrize(
    ("name", "worker"), [pytest.param("plain", WORKER, id="plain"), pytest.param("boxed", SANDBOXED, id="own-filter")]
)
async def test_the_workers_own_rights_come_back(node, name, worker):
    digest = await sealed(node, f"own-{name}", worker)
    target = start(node, worker=worker)
    outcome = await node.restore(target, f"own-{name}", digest)
    assert outcome.ok, outcome.message
    target.says("outcome RESTORED")
    init, child = of_container(target.init()), of_container(target.children()[0])
    assert (init.capabilities, init.limits) == (child.capabilities, child.limits)
    assert init.filters == child.filters[: len(init.filters)]
    assert len(child.filters) == len(init.filters) + (name == "boxed")


async def test_a_program_with_a_capability_is_seen_before_the_freeze(node):
    """It could not be restored: nothing that an artifact says gives a capability."""
    program = node.folder / "tools/capped"
    shutil.copy("/bin/sleep", program)
    os.setxattr(program, "security.capability", struct.pack("<5I", 0x02000001, NET_RAW, 0, 0, 0))
    worker = f"import subprocess; subprocess.Popen(['/tools/capped', '600']){WORKER}"
    source = node.start_as(BareContainer, "--capture", "--", PYTHON, "-c", worker, "8", user=USER)
    until_ready(source)
    outcome = await node.capture(source, "capped")
    assert (AgentReason.IMAGES_WIDER, True) == (outcome.reason, f"{NET_RAW:#x} (CapPrm)" in outcome.message), outcome
    assert ReportPhase.DUMP not in outcome.seconds


async def test_the_look_is_cheap(node, artifact, figure):
    """Reading the rights of a plain worker's images takes less than 5 ms."""
    container = of_container(start(node).init())
    directory = os.open(node.store / "rights/versions/1", os.O_RDONLY | os.O_DIRECTORY)
    try:
        seconds = []
        for _ in range(5):
            begin = time.perf_counter()
            refuse_wider_images(rights_in(directory), container)
            seconds.append(time.perf_counter() - begin)
    finally:
        os.close(directory)
    figure(f"{min(seconds) * 1000:.2f} ms")
    assert min(seconds) < 0.005
