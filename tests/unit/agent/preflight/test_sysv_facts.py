"""Which System V objects are refused, and which are the worker's."""

import pytest

from agent.preflight import ipc
from agent.preflight.ipc import Attached, IpcFacts, attached, sysv_ipc
from linux.ipc.sysvipc import SysvObject
from tests.unit.agent.preflight.test_preflight_checks import process, tree

PAGE = 4096
OWN = "00:01"
SEM = SysvObject("sem", 0x1234, 0, size=3)
SHM = SysvObject("shm", 0x77, 5, size=3 * PAGE - 100, attached=1)
SHM_NAME = "System V shared memory 0x77 (id 5)"
SEM_NAME = "System V semaphores 0x1234 (id 0)"


def piece(start=0x10000, pages=3, offset=0, device=OWN, number=5):
    return Attached(number, start, start + pages * PAGE, offset * PAGE, device)


def found(*objects, pieces=(), pids=frozenset({9001}), **facts):
    what = tree(process(attached=pieces), memory_device=OWN, pids=pids, ipc=IpcFacts(objects, **facts))
    return list(sysv_ipc(what))


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(found(), id="nothing"),
        pytest.param(found(SEM), id="of-the-only-container"),
        pytest.param(found(SHM, pieces=(piece(),)), id="attached-whole"),
        pytest.param(found(SHM, pieces=(piece(),), is_shared=True), id="attached-by-the-worker-alone"),
        pytest.param(
            found(SysvObject("shm", 0x77, 5, size=3 * PAGE, attached=2), pieces=(piece(pages=1), piece(0x11000, 2, 1))),
            id="attached-in-two-pieces",
        ),
        pytest.param(
            found(SysvObject("shm", 0x77, 5, size=3 * PAGE, attached=2), pieces=(piece(), piece(0x13000))),
            id="attached-twice-side-by-side",
        ),
        pytest.param(
            found(SysvObject("sem", 1, 0, users=frozenset({9001, 12})), is_shared=True), id="used-by-the-worker"
        ),
        pytest.param(found(SEM, is_shared=True, restored=frozenset({("sem", 0)})), id="of-an-earlier-restore"),
    ],
)
def test_the_workers_own_are_not_refused(refused):
    assert [] == refused


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        pytest.param(
            f"the pod's IPC namespace is the node's, and has {SEM_NAME}", found(SEM, is_of_node=True), id="host"
        ),
        pytest.param(f"{SHM_NAME} is attached by a process outside of the worker", found(SHM), id="outside"),
        pytest.param(
            f"{SEM_NAME} may be of another container of the pod: no process of the worker made or used it last",
            found(SEM, is_shared=True),
            id="of-another-container",
        ),
        pytest.param(
            f"{SHM_NAME} is locked in memory (SHM_LOCK)",
            found(SysvObject("shm", 0x77, 5, mode=0o2600, size=4), pieces=()),
            id="locked",
        ),
        pytest.param(
            "process 600 (python3) has attached only a part of System V shared memory 0x77 (id 5)",
            found(SysvObject("shm", 0x77, 5, size=3 * PAGE, attached=1), pieces=(piece(pages=2),)),
            id="cut-off",
        ),
        pytest.param(
            "process 600 (python3) has attached only a part of System V shared memory 0x77 (id 5)",
            found(
                SysvObject("shm", 0x77, 5, size=3 * PAGE, attached=2),
                pieces=(piece(pages=1), piece(0x12000, pages=1, offset=2)),
            ),
            id="with-a-hole",
        ),
        pytest.param(
            "process 600 (python3) has attached only a part of System V shared memory 0x77 (id 5)",
            found(SysvObject("shm", 0x77, 5, size=3 * PAGE, attached=1), pieces=(piece(pages=2, offset=1),)),
            id="without-its-beginning",
        ),
        pytest.param(
            "process 600 (python3) has attached System V shared memory 0x77 (id 5), which has huge pages (SHM_HUGETLB)",
            found(SHM, pieces=(piece(device="00:0f"),)),
            id="huge-pages-that-are-attached",
        ),
        pytest.param(
            f"{SHM_NAME} has huge pages (SHM_HUGETLB)",
            found(SysvObject("shm", 0x77, 5, size=2 << 20), devices={5: "00:0f"}),
            id="huge-pages",
        ),
        pytest.param(
            "process 600 (python3) has changed semaphores", found(SEM, undo={600: "has changed semaphores"}), id="undo"
        ),
        pytest.param(
            "the pod destroys System V memory that no process has attached (sysctl kernel.shm_rmid_forced)",
            found(SHM, pieces=(piece(),), destroys_unattached=True),
            id="rmid-forced",
        ),
        pytest.param(
            "the pod has 1 System V objects, 32001 semaphores and 0 bytes of messages, "
            "more than 1024, 32000 or 8388608",
            found(SysvObject("sem", 1, 0, size=32001)),
            id="too-many",
        ),
    ],
)
def test_what_would_be_lost_is_refused(words, refused):
    assert [words] == refused


def test_only_processes_that_can_be_lent_calls_attach_again(monkeypatch):
    monkeypatch.setattr(ipc, "_LENDS_CALLS", False)
    assert [f"process 600 (python3) has attached {SHM_NAME}, which only processes of x86-64 can attach again"] == found(
        SHM, pieces=(piece(),)
    )


@pytest.mark.parametrize(
    ("maps", "expected"),
    [
        pytest.param("7f0-7f1 rw-s 00000000 00:01 5    /memfd:x (deleted)", (), id="other-memory"),
        pytest.param(
            "10000-13000 rw-s 00001000 00:01 5                          /SYSV00000077 (deleted)",
            (Attached(5, 0x10000, 0x13000, 0x1000, OWN),),
            id="removed",
        ),
        pytest.param(
            "10000-13000 r--s 00000000 00:01 0                          /SYSV00000000",
            (Attached(0, 0x10000, 0x13000, 0, OWN),),
            id="with-a-name",
        ),
        pytest.param("10000-13000 r--s 00000000 08:01 7 /SYSV00000000.txt", (), id="a-file-named-alike"),
    ],
)
def test_attached_memory_is_found_in_maps(maps, expected):
    assert expected == attached(f"{maps}\n")
