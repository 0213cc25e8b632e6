"""Where packages come from, and what a host must have."""

from pathlib import Path

import pytest

from cluster import preflight
from cluster.builder import packages
from cluster.errors import BuildError

TOOLS = {"ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux"}


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        pytest.param("http://m/debian/|bookworm|main|/k.gpg\n", ("http://m/debian/", "/k.gpg"), id="keyring"),
        pytest.param("http://m/debian/|trixie|main|$(SIGNED_BY)\n", ("http://m/debian/", ""), id="no-keyring"),
        pytest.param(
            "http://x/|nodistro|main|\nhttp://m/security|bookworm-security|main|\nhttp://m/debian|bookworm|main|\n",
            ("http://m/debian", ""),
            id="among-others",
        ),
    ],
)
def test_the_hosts_own_mirror_is_used(targets, expected):
    assert expected == packages.mirror(targets)


@pytest.mark.parametrize("targets", ["", "http://u/ubuntu|noble|main|\n", "http://m/debian|bookworm|contrib|\n"])
def test_a_host_without_a_debian_archive_is_told_so(targets):
    with pytest.raises(BuildError, match="no Debian archive"):
        packages.mirror(targets)


def test_the_keyring_is_named_in_the_source():
    assert "deb [signed-by=/k.gpg] http://m/ trixie main\n" == packages.source_line("http://m/", "/k.gpg")
    assert "deb http://m/ trixie main\n" == packages.source_line("http://m/", "")


def test_everything_missing_is_named_at_once():
    said = preflight.complaint(["ip", "unshare", "nsenter"], TOOLS, root=False)

    assert said is not None
    assert "ip, unshare, nsenter" in said
    assert "apt-get install iproute2 util-linux" in said
    assert "needs root" in said


def test_nothing_missing_is_no_complaint():
    assert None is preflight.complaint([], TOOLS, root=True)


MOUNTS = """\
1 0 0:1 / / rw - overlay overlay rw
2 1 0:2 / /root/.cache rw - ext4 /dev/vda rw
3 1 0:3 / /with\\040space rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("/root/.cache/dynamo", "ext4", id="below-a-mount"),
        pytest.param("/root", "overlay", id="root"),
        pytest.param("/with space/x", "tmpfs", id="space"),
        pytest.param("/root/.cachex", "overlay", id="same-prefix"),
    ],
)
def test_the_file_system_below_a_path(path, expected):
    assert expected == preflight.file_system(Path(path), MOUNTS)
