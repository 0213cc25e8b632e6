"""Rows of /proc/sysvipc."""

import pytest

from linux.ipc.sysvipc import SysvObject, sysv_objects

HEADS = {
    "shm": "       key      shmid perms                  size  cpid  lpid nattch",
    "sem": "       key      semid perms",
    "msg": "       key      msqid perms      cbytes       qnum lspid lrpid",
}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param({}, [], id="none"),
        pytest.param({"sem": "      4660          0  1600"}, ["System V semaphores 0x1234 (id 0)"], id="semaphores"),
        pytest.param(
            {"shm": "-559038737 65538 600"}, ["System V shared memory 0xdeadbeef (id 65538)"], id="key-above-2-31"
        ),
        pytest.param(
            {"shm": "0 1 600\n0 2 600", "msg": "1 7 600"},
            [
                "System V shared memory 0x0 (id 1)",
                "System V shared memory 0x0 (id 2)",
                "System V message queue 0x1 (id 7)",
            ],
            id="several",
        ),
    ],
)
def test_objects_are_named_by_kind_and_key(tmp_path, rows, expected):
    assert expected == [str(each) for each in read(tmp_path, rows)]


def read(folder, rows):
    (folder / "sysvipc").mkdir()
    for kind, head in HEADS.items():
        (folder / "sysvipc" / kind).write_text(f"{head}\n" + (f"{rows[kind]}\n" if kind in rows else ""))
    return list(sysv_objects(folder))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        pytest.param(
            {"shm": "7 1 3600 4096 12 13 2"},
            SysvObject("shm", 7, 1, 0o3600, 4096, attached=2, creator=12, users=frozenset({12, 13})),
            id="memory",
        ),
        pytest.param(
            {"msg": "7 1 600 5 1 12 0"},
            SysvObject("msg", 7, 1, 0o600, 5, users=frozenset({12})),
            id="queue",
        ),
    ],
)
def test_what_is_known_of_an_object(tmp_path, row, expected):
    assert [expected] == read(tmp_path, row)


@pytest.mark.parametrize(
    ("mode", "is_locked"), [pytest.param(0o600, False, id="no"), pytest.param(0o2600, True, id="yes")]
)
def test_memory_may_be_locked(mode, is_locked):
    assert is_locked == SysvObject("shm", 7, 1, mode).is_locked
