"""The file of an artifact with POSIX message queues."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from artifact.queues import MOST_MESSAGES, MOST_QUEUE_BYTES, PosixQueues, QueuedMessage

ONE = {"name": "jobs", "mode": 0o600, "uid": 7, "gid": 8, "most": 10, "size": 8192, "messages": []}
TWO = ONE | {"name": "others"}
SMALL = [{"priority": 0, "text": b""}] * (MOST_MESSAGES // 2 + 1)
LARGE = {"priority": 0, "text": bytes(MOST_QUEUE_BYTES // 2 + 1)}


def queues(*found, opened=()):
    return PosixQueues.model_validate({"queues": list(found), "opened": list(opened)})


@given(st.lists(st.tuples(st.integers(0, 32_767), st.binary(max_size=99)), max_size=9))
def test_what_is_written_is_read_back(messages):
    listed = [QueuedMessage(priority=priority, text=text) for priority, text in messages]
    one = queues(ONE | {"messages": listed}, opened=[{"number": 7, "name": "jobs", "flags": 2}])
    assert one == PosixQueues.model_validate_json(one.model_dump_json(by_alias=True))


@pytest.mark.parametrize(
    ("found", "opened", "words"),
    [
        pytest.param([ONE | {"name": "../x"}], [], "name", id="a-path"),
        pytest.param([ONE, ONE], [], "queues are not what is open", id="twice"),
        pytest.param([], [{"number": 7, "name": "jobs", "flags": 2}], "queues are not what is open", id="of-none"),
        pytest.param([ONE | {"most": 0}], [], "most", id="no-room"),
        pytest.param([ONE | {"size": 1 << 40}], [], "size", id="size"),
        pytest.param([ONE | {"messages": [LARGE, LARGE]}], [], "messages have more than", id="messages"),
        pytest.param([ONE | {"messages": SMALL}, TWO | {"messages": SMALL}], [], "there are more", id="small-messages"),
        pytest.param([ONE | {"mode": 0o17777}], [], "mode", id="mode"),
    ],
)
def test_what_no_capture_writes_is_refused(found, opened, words):
    with pytest.raises(ValidationError, match=words):
        queues(*found, opened=opened)
