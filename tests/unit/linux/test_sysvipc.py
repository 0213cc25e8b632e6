"""Rows of /proc/sysvipc, in words."""

import pytest

from linux.sysvipc import sysv_objects

HEADS = {
    "shm": "       key      shmid perms",
    "sem": "       key      semid perms",
    "msg": "       key      msqid perms",
}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param({}, [], id="none"),
        pytest.param({"sem": "      4660          0  1600"}, ["semaphores 0x1234 (id 0)"], id="semaphores"),
        pytest.param({"shm": "-559038737 65538 600"}, ["shared memory 0xdeadbeef (id 65538)"], id="key-above-2-31"),
        pytest.param(
            {"shm": "0 1 600\n0 2 600", "msg": "1 7 600"},
            ["shared memory 0x0 (id 1)", "shared memory 0x0 (id 2)", "message queue 0x1 (id 7)"],
            id="several",
        ),
    ],
)
def test_objects_are_named_by_kind_and_key(tmp_path, rows, expected):
    (tmp_path / "sysvipc").mkdir()
    for kind, head in HEADS.items():
        (tmp_path / "sysvipc" / kind).write_text(f"{head}\n" + (f"{rows[kind]}\n" if kind in rows else ""))
    assert expected == list(sysv_objects(tmp_path))
