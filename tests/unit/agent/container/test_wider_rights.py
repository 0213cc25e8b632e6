"""What a restored thread may not have more of than the first process of its container."""

import struct
from dataclasses import replace

import pytest

from agent.container.rights import SETGID, SETUID, SYS_RESOURCE, UNLIMITED, Rights, wider
from linux.proc import CAPABILITY_SETS

CAPS = 0b1111
FILTER, OWN = b"container", b"worker"
# runc asks for the architectures of RuntimeDefault in another order in each container.
ENDS = (0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x80000000)
ONE_ORDER, ANOTHER_ORDER, ANOTHER_ANSWER = (
    b"".join(struct.pack("=HBBI", *each) for each in ((0x20, 0, 0, 0), *asks, *ENDS))
    for asks in (
        ((0x15, 1, 0, 62), (0x15, 1, 2, 183)),
        ((0x15, 2, 0, 183), (0x15, 0, 2, 62)),
        ((0x15, 1, 0, 183), (0x15, 1, 2, 62)),
    )
)
CONTAINER = Rights(
    users=frozenset({1000}),
    groups=frozenset({1000, 5}),
    capabilities=dict.fromkeys(CAPABILITY_SETS, CAPS),
    no_new_privileges=True,
    seccomp=2,
    filters=(FILTER,),
    label="cri-containerd.apparmor.d",
    limits=(UNLIMITED, 1024),
    namespaces=("ipc:[1]", "mnt:[2]"),
)


def caps(**sets):
    return CONTAINER.capabilities | sets


def permitted(capability):
    return replace(CONTAINER, capabilities=caps(CapPrm=CAPS | 1 << capability))


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        pytest.param("capabilities 0x10 (CapPrm)", {"capabilities": caps(CapPrm=0x1F)}, id="permitted"),
        pytest.param("capabilities 0x10 (CapEff)", {"capabilities": caps(CapEff=0x1F)}, id="effective"),
        pytest.param("capabilities 0x10 (CapInh)", {"capabilities": caps(CapInh=0x1F)}, id="inheritable"),
        pytest.param("capabilities 0x10 (CapAmb)", {"capabilities": caps(CapAmb=0x1F)}, id="ambient"),
        pytest.param("capabilities 0x10 (CapBnd)", {"capabilities": caps(CapBnd=0x1F)}, id="bounding"),
        pytest.param("users [0]", {"users": frozenset({0, 1000})}, id="user"),
        pytest.param("groups [0]", {"groups": frozenset({0, 5})}, id="group"),
        pytest.param("may let through", {"filters": ()}, id="fewer-filters"),
        pytest.param("no_new_privs is off", {"no_new_privileges": False}, id="new-privileges"),
        pytest.param("no seccomp filter", {"seccomp": 0, "filters": None}, id="no-filter"),
        pytest.param("may let through", {"filters": (OWN, FILTER)}, id="other-filters"),
        pytest.param("security label another", {"label": "another"}, id="another-profile"),
        pytest.param("security label unconfined", {"label": ""}, id="no-profile"),
        pytest.param("hard limits [1]", {"limits": (0, 1025)}, id="limit"),
        pytest.param("hard limits [2]", {"limits": (0, 0, 1)}, id="unknown-limit"),
        pytest.param("namespaces of its own", {"namespaces": ("ipc:[1]", "mnt:[3]")}, id="namespaces"),
    ],
)
def test_more_than_the_container(words, wanted):
    (problem,) = wider(replace(CONTAINER, **wanted), CONTAINER)
    assert words in problem


def test_a_filter_that_answers_otherwise():
    (problem,) = wider(replace(CONTAINER, filters=(ANOTHER_ANSWER,)), replace(CONTAINER, filters=(ONE_ORDER,)))
    assert "may let through" in problem


@pytest.mark.parametrize(
    ("container", "wanted"),
    [
        pytest.param(CONTAINER, {}, id="the-same"),
        pytest.param(CONTAINER, {"label": None}, id="no-label-recorded"),
        pytest.param(replace(CONTAINER, label=None), {"label": "another"}, id="labels-are-not-compared"),
        pytest.param(CONTAINER, {"capabilities": dict.fromkeys(CAPABILITY_SETS, 0)}, id="fewer-capabilities"),
        pytest.param(CONTAINER, {"filters": (FILTER, OWN)}, id="own-filter-above"),
        pytest.param(
            replace(CONTAINER, filters=(ONE_ORDER,)), {"filters": (ANOTHER_ORDER, OWN)}, id="filter-in-another-order"
        ),
        pytest.param(CONTAINER, {"seccomp": None, "filters": None}, id="filters-of-the-first-thread"),
        pytest.param(CONTAINER, {"seccomp": 1, "filters": None}, id="strict"),
        pytest.param(CONTAINER, {"limits": (5, 1)}, id="lower-limits"),
        pytest.param(CONTAINER, {"limits": (), "namespaces": ()}, id="not-read"),
        pytest.param(permitted(SETUID), {"users": frozenset({0, 33})}, id="may-change-users"),
        pytest.param(permitted(SETGID), {"groups": frozenset({0, 33})}, id="may-change-groups"),
        pytest.param(permitted(SYS_RESOURCE), {"limits": (UNLIMITED, UNLIMITED)}, id="may-raise-limits"),
        pytest.param(replace(CONTAINER, no_new_privileges=False), {"no_new_privileges": False}, id="may-gain"),
    ],
)
def test_no_more_than_the_container(container, wanted):
    assert [] == list(wider(replace(CONTAINER, **wanted), container))
