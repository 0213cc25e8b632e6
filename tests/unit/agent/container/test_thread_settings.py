"""What of a thread's settings a new container may have; tests/node/engine/state/test_kinds_of_state.py has them set."""

import os

import pytest

from agent.container.thread_settings import own_settings, within
from artifact.parts.process import ThreadSettings

BEST_EFFORT, IDLE, REAL_TIME = 2 << 13 | 7, 3 << 13, 1 << 13 | 4


def wanted(**fields) -> ThreadSettings:
    return ThreadSettings(process=7, id=8, **fields)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"cpus": [0, 3]}, {"cpus": [0, 3]}, id="has-all"),
        pytest.param({"cpus": [3, 4]}, {}, id="lacks-one"),
        pytest.param({"io_priority": BEST_EFFORT}, {"io_priority": BEST_EFFORT}, id="best-effort"),
        pytest.param({"io_priority": IDLE}, {"io_priority": IDLE}, id="idle"),
        pytest.param({"io_priority": REAL_TIME}, {}, id="real-time"),
        pytest.param({"io_priority": 0}, {}, id="none"),
        pytest.param({"io_priority": (1 << 16) - 1}, {}, id="unknown-class"),
        pytest.param(
            {"cpus": [9], "io_priority": IDLE, "timer_slack": 5}, {"io_priority": IDLE, "timer_slack": 5}, id="the-rest"
        ),
    ],
)
def test_no_more_than_the_container_has(fields, expected):
    assert wanted(**expected) == within(wanted(**fields), {0, 1, 2, 3})


def test_a_node_that_does_not_show_them_is_no_failure(tmp_path):
    assert [] == own_settings([7], os.getpid(), tmp_path)
