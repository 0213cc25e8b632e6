"""Queues that a restore may make: of no owner that no process of the container could have given one."""

import pytest

from agent.container.ipc.queues import refuse_other_owners
from agent.container.rights import CHOWN, SETGID, SETUID
from agent.errors import RefusedError
from artifact.queues import PosixQueue, PosixQueues
from contract.api.states import AgentReason
from tests.support.builders.rights import rights


def of(uid=1000, gid=1000):
    queue = PosixQueue(name="jobs", mode=0o600, uid=uid, gid=gid, most=10, size=8192, messages=[])
    return PosixQueues(queues=[queue], opened=[])


@pytest.mark.parametrize(
    ("found", "container"),
    [
        pytest.param(of(), rights(), id="its-own-user"),
        pytest.param(of(gid=5), rights(), id="its-own-group"),
        pytest.param(of(uid=0), rights(SETUID), id="may-be-any-user"),
        pytest.param(of(gid=0), rights(SETGID), id="may-be-any-group"),
        pytest.param(of(uid=0, gid=0), rights(CHOWN), id="may-give-it-away"),
    ],
)
def test_the_container_could_have_made_it(found, container):
    refuse_other_owners(found, container)


@pytest.mark.parametrize(
    ("found", "container", "whose"),
    [
        pytest.param(of(uid=0), rights(), "user 0", id="user"),
        pytest.param(of(uid=0), rights(SETGID), "user 0", id="user-of-another-who-may-be-any-group"),
        pytest.param(of(gid=7), rights(SETUID), "group 7", id="group"),
    ],
)
def test_it_could_not(found, container, whose):
    with pytest.raises(RefusedError, match=f"/jobs was of {whose}") as caught:
        refuse_other_owners(found, container)
    assert AgentReason.IMAGES_WIDER == caught.value.code
