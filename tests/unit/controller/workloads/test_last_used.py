"""When the time of use is written."""

import pytest

from contract.api.times import format_time
from controller.workloads.last_used import EVERY, last_use
from tests.support.builders.opted_in import NOW, ago, deleting, pod, ready


def used(seconds):
    return ready(status={"lastUsedAt": ago(seconds)})


def ended():
    found = pod("restore-shaped")
    found["status"]["phase"] = "Succeeded"
    return found


@pytest.mark.parametrize(
    ("expected", "checkpoint", "users"),
    [
        pytest.param((format_time(NOW), EVERY), ready(), [pod()], id="first use"),
        pytest.param((format_time(NOW), EVERY), used(EVERY), [pod()], id="an hour later"),
        pytest.param((None, EVERY - 60), used(60), [pod()], id="a minute later"),
        pytest.param((None, None), used(10**6), [], id="nobody"),
        pytest.param((None, None), used(10**6), [ended()], id="only one that ended"),
        pytest.param((None, None), deleting(ready()), [pod()], id="being deleted"),
        pytest.param((format_time(NOW), EVERY), ready(status={"lastUsedAt": "soon"}), [pod()], id="unreadable"),
    ],
)
def test_last_use(expected, checkpoint, users):
    assert expected == last_use(checkpoint, users, NOW)
