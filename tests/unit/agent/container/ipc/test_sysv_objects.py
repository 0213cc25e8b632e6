"""Objects that a restore may make: no id or key of others, no creator that the container could not be."""

import pytest

from agent.container.ipc.objects import refuse_other_creators, taken
from agent.container.rights import SETGID, SETUID
from agent.errors import RefusedError
from artifact.ipc import Segment, SemaphoreSet, SysvIpc
from contract.api.states import AgentReason
from linux.ipc.sysvipc import SysvObject
from tests.support.builders.rights import rights


def of(uid=1000, gid=1000, **fields):
    usual = {"id": 3, "key": 0x77, "mode": 0o600, "uid": 0, "gid": 0, "creator_uid": uid, "creator_gid": gid}
    return SysvIpc(segments=[Segment(size=4096, **usual | fields)])


@pytest.mark.parametrize(
    ("found", "container"),
    [
        pytest.param(of(), rights(), id="its-own-user"),
        pytest.param(of(gid=5), rights(), id="its-own-group"),
        pytest.param(of(uid=0), rights(SETUID), id="may-be-any-user"),
        pytest.param(of(gid=0), rights(SETGID), id="may-be-any-group"),
    ],
)
def test_the_container_could_have_made_it(found, container):
    refuse_other_creators(found, container)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        pytest.param(of(uid=0), "System V shared memory 0x77 (id 3) was made by user 0", id="user"),
        pytest.param(of(gid=7), "System V shared memory 0x77 (id 3) was made by group 7", id="group"),
    ],
)
def test_it_could_not(found, words):
    with pytest.raises(RefusedError) as caught:
        refuse_other_creators(found, rights())
    assert AgentReason.IMAGES_WIDER == caught.value.code
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("there", "is_taken"),
    [
        pytest.param(SysvObject("shm", 0, 3), True, id="id"),
        pytest.param(SysvObject("shm", 0x77, 9), True, id="key"),
        pytest.param(SysvObject("sem", 0x77, 3), False, id="of-another-kind"),
        pytest.param(SysvObject("shm", 0x78, 4), False, id="another"),
    ],
)
def test_an_id_or_key_may_be_taken(there, is_taken):
    assert is_taken == bool(taken(of(), [there]))


def test_keys_above_2_to_the_31_are_compared():
    """The kernel lists them as negative numbers."""
    assert taken(of(key=0xDEADBEEF), [SysvObject("shm", -559038737, 9)])


def test_objects_without_a_key_are_in_no_ones_way():
    found = SysvIpc(
        semaphores=[SemaphoreSet(id=3, key=0, mode=0, uid=0, gid=0, creator_uid=0, creator_gid=0, values=[0])]
    )
    assert taken(found, [SysvObject("sem", 0, 4)]) is None
