"""Images whose rights criu could read in another way than we do are refused."""

import os
import struct
from contextlib import nullcontext

import pytest

from agent import protobuf
from agent.container.rights import Rights
from agent.criu.images.labels import with_profile, write_profile
from agent.criu.images.rights import POLICIES, SECCOMP, refuse_wider_images, rights_in
from agent.errors import RefusedError
from agent.protobuf import BYTES, VARINT, Field
from linux.proc import CAPABILITY_SETS

CONTAINER = Rights(
    users=frozenset({7}),
    groups=frozenset({7}),
    capabilities=dict.fromkeys(CAPABILITY_SETS, 1 << 33 | 1),
    no_new_privileges=False,
    seccomp=0,
    limits=(10, 20),
)
CREDS = [*((number, 7) for number in range(1, 9)), *((number, word) for number in (9, 10, 11, 12) for word in (1, 2))]
LIMITS = [(1, [(1, 5), (2, 10)]), (1, [(1, 5), (2, 20)])]


def message(fields) -> bytes:
    return protobuf.encode(
        Field(number, VARINT, value) if isinstance(value, int) else Field(number, BYTES, content(value))
        for number, value in fields
    )


def content(value) -> bytes:
    return value if isinstance(value, bytes) else message(value)


def image(fields, magic=0x54564319) -> bytes:
    return struct.pack("=II", magic, 0x55053847) + protobuf.framed(message(fields))


def core(task=(), thread=(), creds=CREDS, **options) -> bytes:
    return image([(1, 1), (3, [(1, 1), (8, LIMITS), *task]), (5, [(10, creds), *thread])], **options)


def look(folder, cores, filters=None):
    (folder / "core-17.img").write_bytes(cores)
    if filters is not None:
        (folder / SECCOMP).write_bytes(image([(1, entry) for entry in filters]))
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        refuse_wider_images(rights_in(directory), CONTAINER)
    finally:
        os.close(directory)


@pytest.mark.parametrize(
    "cores",
    [
        pytest.param(core(), id="usual"),
        pytest.param(image([(1, 1), (5, [(10, CREDS)])]), id="another-thread"),
        pytest.param(image([(1, 1), (3, [(1, 2)])]), id="zombie"),
        pytest.param(core(thread=[(11, 2), (12, 0)]), id="own-filters"),
    ],
)
def test_what_is_no_more_passes(tmp_path, cores):
    look(tmp_path, cores, [[(1, b"first"), (2, 1)], [(1, b"then")]])


@pytest.mark.parametrize(
    ("words", "cores"),
    [
        pytest.param("another layout", core(magic=0x55053847), id="older-layout"),
        pytest.param("cut off", core()[:-1], id="cut-off"),
        pytest.param("cut off", b"\x19\x43\x56\x54", id="no-message"),
        pytest.param("without credentials", image([(3, [(1, 1)])]), id="no-thread"),
        pytest.param("without credentials", core(thread=[(10, CREDS)]), id="credentials-twice"),
        pytest.param("field 5 is there 2 times", image([(5, [(10, CREDS)]), (5, [])]), id="thread-twice"),
        pytest.param("field 3 is there 2 times", image([(3, [(1, 2)]), (3, [(1, 1)])]), id="dead-and-alive"),
        pytest.param("number 1 is there 2 times", core(task=[(1, 2)]), id="two-states"),
        pytest.param("number 3 is there 2 times", core(creds=[*CREDS, (3, 0)]), id="two-users"),
        pytest.param("field 11 is no number", core(creds=[*CREDS, (11, b"\xff\xff")]), id="packed-capabilities"),
        pytest.param("capabilities", core(creds=[*CREDS, (11, 1)]), id="more-capabilities"),
        pytest.param("users", core(creds=[(1, 1 << 32), *CREDS[1:]]), id="number-too-long"),
        pytest.param("without limits", image([(3, [(1, 1)]), (5, [(10, CREDS)])]), id="no-limits"),
        pytest.param("old releases", core(task=[(11, 0)]), id="old-seccomp"),
        pytest.param("no seccomp filter 5", core(thread=[(11, 2), (12, 5)]), id="no-such-filter"),
        pytest.param("no seccomp filter 2", core(thread=[(11, 2), (12, 2)]), id="filters-in-a-circle"),
    ],
)
def test_what_has_no_single_meaning_is_refused(tmp_path, words, cores):
    with pytest.raises(RefusedError, match=words) as refused:
        look(tmp_path, cores, [[(1, b"first"), (2, 1)], [(1, b"then")], [(1, b"round"), (2, 2)]])
    assert "images-wider" == refused.value.code


@pytest.mark.parametrize(
    ("refused", "content"),
    [
        pytest.param(False, b"\x19\x43\x56\x54" + b"\0" * 4, id="criu-writes-it-empty"),
        pytest.param(True, image([(1, b"policy")]), id="policies"),
    ],
)
def test_policies_of_apparmor_are_refused(tmp_path, refused, content):
    """Criu would load them into the kernel."""
    (tmp_path / POLICIES).write_bytes(content)
    with pytest.raises(RefusedError, match="policies of AppArmor") if refused else nullcontext():
        look(tmp_path, core())


def test_threads_with_the_same_rights_are_one(tmp_path):
    for number in (1, 2, 3):
        (tmp_path / f"core-{number}.img").write_bytes(image([(5, [(10, CREDS)])]) if number > 1 else core())
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert 2 == len(rights_in(directory))
    finally:
        os.close(directory)


ZOMBIE = image([(1, 1), (3, [(1, 2)])])
MORE = b"\x02\0\0\0\x08\x01"


@pytest.mark.parametrize(
    ("expected", "before"),
    [
        pytest.param(
            core(creds=[*CREDS, (15, b"p"), (18, 1)]), core(creds=[*CREDS, (15, b"other"), (18, 1)]), id="other"
        ),
        pytest.param(core(creds=[*CREDS, (15, b"p")], thread=[(11, 2)]), core(thread=[(11, 2)]), id="none"),
        pytest.param(core(creds=[*CREDS, (15, b"p")]) + MORE, core() + MORE, id="more-in-the-image"),
        pytest.param(ZOMBIE, ZOMBIE, id="zombie"),
    ],
)
def test_a_thread_gets_a_profile(expected, before):
    assert expected == with_profile(before, "p")


def test_all_threads_get_it_and_nothing_else_does(tmp_path):
    before = {"core-1.img": core(), "core-2.img": image([(5, [(10, CREDS)])]), "pstree.img": core()}
    for name, image_before in before.items():
        (tmp_path / name).write_bytes(image_before)
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        write_profile(directory, "a/profile")
    finally:
        os.close(directory)
    changed = {path.name for path in tmp_path.iterdir() if path.read_bytes() != before[path.name]}
    assert {"core-1.img", "core-2.img"} == changed
    assert all(b"a/profile" in (tmp_path / name).read_bytes() for name in changed)
