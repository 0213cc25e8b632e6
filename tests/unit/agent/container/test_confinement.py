"""What confines a container, and what of it a restored worker comes under."""

import errno
import os

import pytest

from agent.container import confinement
from agent.container.confinement import expected_label, has_module, label_of, profile_of
from agent.errors import RefusedError
from contract.api.states import AgentReason

PROFILE = "cri-containerd.apparmor.d"
CONTEXT = "system_u:system_r:container_t:s0"


def thread(folder, content, *, apparmor):
    if content is not None:
        (folder / "attr/apparmor").mkdir(parents=True)
        (folder / "attr/current").write_text(content)
        if apparmor:
            (folder / "attr/apparmor/current").write_text(content)
    return folder


@pytest.mark.parametrize(
    ("label", "profile", "content", "apparmor"),
    [
        pytest.param(PROFILE, PROFILE, f"{PROFILE} (enforce)\n", True, id="apparmor"),
        pytest.param(PROFILE, PROFILE, f"{PROFILE} (complain)\n", True, id="complain-mode"),
        pytest.param("a//b", "a//b", "a//b (enforce)\n", True, id="child-profile"),
        pytest.param(PROFILE, "", f"{PROFILE} (enforce)\n", False, id="apparmor-of-an-old-kernel"),
        pytest.param("a//&b", "", "a//&b (enforce)\n", True, id="two-profiles"),
        pytest.param(":lxd:a", "", ":lxd:a (enforce)\n", True, id="profile-of-a-namespace"),
        pytest.param(CONTEXT, "", f"{CONTEXT}\0", False, id="selinux"),
        pytest.param("strict (v2)", "strict (v2)", "strict (v2) (enforce)\n", True, id="name-with-brackets"),
        pytest.param("kernel", "kernel", "kernel (enforce)\n", True, id="profile-of-that-name"),
        pytest.param("", "", "unconfined\n", True, id="unconfined"),
        pytest.param("", "", "kernel\0", False, id="selinux-without-a-policy"),
        pytest.param("", "", None, False, id="no-security-module"),
    ],
)
def test_what_confines_a_thread(tmp_path, label, profile, content, apparmor):
    task = thread(tmp_path, content, apparmor=apparmor)
    assert (label, profile) == (label_of(task), profile_of(task))
    assert has_module(task) == (content is not None)


def test_two_modules_at_once(tmp_path):
    """What both say is not known from one of them."""
    task = thread(tmp_path, CONTEXT, apparmor=True)
    (task / "attr/apparmor/current").write_text(f"{PROFILE} (enforce)\n")
    assert (CONTEXT, "") == (label_of(task), profile_of(task))


@pytest.mark.parametrize(
    ("label", "number"),
    [
        pytest.param("what cannot be read (Permission denied)", errno.EACCES, id="denied"),
        pytest.param("", errno.EINVAL, id="no-module-is-on"),
        pytest.param("", errno.ESRCH, id="ended"),
    ],
)
def test_a_label_that_cannot_be_read(monkeypatch, tmp_path, label, number):
    def fails(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(confinement, "read_plainly", fails)
    assert (label, "") == (label_of(tmp_path), profile_of(tmp_path))


@pytest.mark.parametrize(
    ("expected", "label", "profile", "allowed"),
    [
        pytest.param("", "", "", False, id="not-confined"),
        pytest.param(PROFILE, PROFILE, PROFILE, False, id="apparmor"),
        pytest.param(PROFILE, PROFILE, PROFILE, True, id="what-can-be-kept-is"),
        pytest.param(None, CONTEXT, "", True, id="the-operator-allows-it"),
    ],
)
def test_the_label_of_each_restored_thread(expected, label, profile, allowed):
    assert expected == expected_label(label, profile, allow_unconfined=allowed)


def test_a_container_whose_confinement_would_be_lost_is_no_place_for_a_restore():
    with pytest.raises(RefusedError, match="confined by system_u:system_r:container_t:s0") as refused:
        expected_label(CONTEXT, "", allow_unconfined=False)
    assert AgentReason.CONFINEMENT_LOST == refused.value.code
