"""Log lines are JSON, one a record, whatever is logged."""

import io
import json
import logging

import pytest

from daemon import logs


@pytest.fixture
def logged():
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    for handler in before:
        root.removeHandler(handler)
    logs.configure("info", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = before
    root.setLevel(level)


def test_a_record_is_one_line_with_its_extras(logged):
    logging.getLogger("room").info("handled %s", "it", extra={"checkpoint": "qwen", "odd": {1}})
    (line,) = logged()

    assert ("info", "room", "handled it", "qwen", "{1}") == tuple(
        line[field] for field in ("level", "logger", "message", "checkpoint", "odd")
    )
    assert line["time"].endswith("Z")


def test_line_breaks_and_traces_stay_in_one_line(logged):
    logging.getLogger("room").error("failed\nbadly", exc_info=ValueError("two\nlines"))
    (line,) = logged()

    assert "failed\nbadly" == line["message"]
    assert "ValueError: two\nlines" in line["error"]


def test_levels_below_are_not_logged(logged):
    logging.getLogger("room").debug("quiet")

    assert [] == logged()


def test_long_messages_are_bounded(logged):
    logging.getLogger("room").info("x" * 100_000)

    assert logs.MAX_TEXT == len(logged()[0]["message"])
