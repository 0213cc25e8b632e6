"""What a process is asked that may have forbidden itself something."""

import errno
from contextlib import contextmanager

import pytest

from linux.ptrace import sandboxes
from linux.ptrace.sandboxes import Forbidden, forbidden

PRCTL, KCMP = 157, 312


@pytest.mark.parametrize(
    ("answers", "other", "expected"),
    [
        pytest.param({PRCTL: 0, KCMP: 1}, 1, Forbidden(), id="nothing"),
        pytest.param({PRCTL: 1, KCMP: 1}, 1, Forbidden(written_programs=True), id="written-programs"),
        pytest.param({PRCTL: -errno.EINVAL, KCMP: -errno.EPERM}, 1, Forbidden(looks=True), id="looks"),
        pytest.param({PRCTL: 0, KCMP: -errno.ESRCH}, 1, Forbidden(), id="has-ended"),
        pytest.param({PRCTL: 0}, None, Forbidden(), id="not-asked"),
    ],
)
def test_one_halt_for_all_questions(monkeypatch, answers, other, expected):
    halts = []

    class Process:
        def call(self, number, *_):
            return answers[number]

    @contextmanager
    def borrowed(pid):
        halts.append(pid)
        yield Process()

    monkeypatch.setattr(sandboxes, "borrowed", borrowed)
    assert (expected, [60]) == (forbidden(60, 1001, other), halts)
