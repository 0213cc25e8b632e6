"""Messages of a queue, taken out of it."""

import os

import pytest

from linux.ipc import mqueue

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it opens a queue of any mode")


def test_a_queue_that_others_fill_meanwhile_is_taken_all_the_same(monkeypatch):
    name = f"snapshot-test-{os.getpid()}"
    mqueue.make(mqueue.QueueState(name, 0o600, 0, 0, 2, 8, [(1, b"one"), (2, b"two")]), lambda _: None)
    monkeypatch.setattr(mqueue, "_received", lambda *_: iter(lambda: (0, b"more"), None))
    try:
        assert 2 == len(mqueue.take(name).messages)
    finally:
        mqueue.unlink([name])
