"""Mounts that a container's processes made and not those that were there at its start."""

import pytest

from agent.container.files.volumes import made_since
from linux.proc import parse_mountinfo

ROOT = "23 1 0:45 / / rw - overlay overlay rw"
PROPAGATED = "24 23 0:46 / /data/new rw master:7 - ext4 /dev/sdb rw"
MADE = "24 23 0:46 / /mnt/x rw - tmpfs none rw"


@pytest.mark.parametrize(
    ("expected", "said", "now"),
    [
        pytest.param([], b"23:0:45\n", ROOT, id="none"),
        pytest.param(["/mnt/x"], b"23:0:45\n", f"{ROOT}\n{MADE}", id="made"),
        pytest.param(["/mnt/x"], b"23:0:45\n24:0:44\n", f"{ROOT}\n{MADE}", id="number-of-one-that-is-not-there-now"),
        pytest.param([], b"23:0:45\n", f"{ROOT}\n{PROPAGATED}", id="of-the-node"),
        pytest.param([], None, f"{ROOT}\n{MADE}", id="not-known"),
    ],
)
def test_what_was_made(expected, said, now):
    assert expected == [mount.point for mount in made_since(said, parse_mountinfo(now))]
