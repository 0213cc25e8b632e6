"""standby has the contract's words and times in C: two copies that meet at run time must say the same."""

import re
from pathlib import Path

import pytest

from contract.api import control_files

STANDBY = Path(__file__).parents[3] / "native" / "standby"
SOURCE = "".join(each.read_text() for each in (*STANDBY.glob("*.c"), STANDBY / "standby.h"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("CLAIM_WINDOW", control_files.CLAIM_WINDOW * 1000, id="milliseconds for a claim"),
        pytest.param("LOST_CLAIM_WINDOW", control_files.LOST_CLAIM_WINDOW * 1000, id="milliseconds for another claim"),
        pytest.param("IMAGE_WINDOW", control_files.IMAGE_WINDOW * 1000, id="milliseconds for an image's own command"),
        pytest.param("EXIT_RESTART_ME", control_files.EXIT_RESTART_ME, id="exit code restart me"),
        pytest.param("EXIT_REQUIRED", control_files.EXIT_REQUIRED, id="exit code required"),
        pytest.param("FIRST_WORKER_PID", control_files.FIRST_WORKER_PID, id="first pid of a worker"),
    ],
)
def test_numbers_agree(name: str, expected: float):
    found = re.search(rf"\b{name} = (\d+)", SOURCE)

    assert found
    assert expected == int(found[1])


@pytest.mark.parametrize("word", [pytest.param(each, id=each) for each in control_files.STALE_AT_START])
def test_standby_knows_every_control_file(word: str):
    assert f'"{word}"' in SOURCE
