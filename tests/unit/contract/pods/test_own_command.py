"""What a container runs when standby is taken out."""

import pytest

from contract.api.keys import STANDBY
from contract.pods.common import own_command


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        pytest.param([], [], id="none"),
        pytest.param(["python3", "--", "x"], ["python3", "--", "x"], id="not-mutated"),
        pytest.param([STANDBY, "--", "python3", "-m", "worker"], ["python3", "-m", "worker"], id="restore"),
        pytest.param([STANDBY, "--capture", "--", "sh", "-c", "--", "x"], ["sh", "-c", "--", "x"], id="capture"),
        pytest.param([STANDBY, "--image-entrypoint", "--"], [], id="of-the-image"),
        pytest.param([STANDBY, "--image-entrypoint", "--", "x"], [], id="of-the-image-with-arguments"),
        pytest.param([STANDBY, "--", "x", "--image-entrypoint"], ["x", "--image-entrypoint"], id="a-word-of-its-own"),
        pytest.param([STANDBY], [], id="nothing-behind-standby"),
    ],
)
def test_the_command_without_standby(command, expected):
    assert expected == own_command(command)
