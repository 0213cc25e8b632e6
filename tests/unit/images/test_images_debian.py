"""The Debian mirror is the host's own, in whatever form its apt names it."""

from pathlib import Path

import pytest

from images.debian import Mirror, host_mirror, package_name
from images.errors import MirrorError

DEB822 = """\
Types: deb
URIs: http://mirror.test/debian http://other.test/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /keys/debian.gpg

Types: deb
URIs: http://mirror.test/debian-security
Suites: bookworm-security
Components: main
"""
INLINE_KEY = """\
# a comment
Types: deb deb-src
URIs: http://mirror.test/debian
Suites: trixie
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
"""
FOREIGN = "Types: deb\nURIs: http://foreign.test/x\nSuites: nodistro\n"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        pytest.param("debian.sources", DEB822, Mirror("http://mirror.test/debian", "/keys/debian.gpg"), id="deb822"),
        pytest.param(
            "debian.sources",
            INLINE_KEY,
            Mirror("http://mirror.test/debian", "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc"),
            id="inline-key",
        ),
        pytest.param(
            "debian.list",
            "deb-src http://m.test/s trixie main\ndeb [arch=amd64 signed-by=/k.gpg] http://m.test/d trixie main\n",
            Mirror("http://m.test/d", "/k.gpg"),
            id="one-line",
        ),
    ],
)
def test_the_hosts_mirror_is_found(tmp_path: Path, name: str, text: str, expected: Mirror) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "a-foreign.sources").write_text(FOREIGN)
    (tmp_path / "sources.list.d" / name).write_text(text)

    assert expected == host_mirror(tmp_path, {})


def test_no_mirror_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(
        "deb http://ubuntu.test/ubuntu noble main\n# deb http://x.test/d trixie main\n"
    )

    with pytest.raises(MirrorError, match="DYNAMO_SNAPSHOT_DEBIAN_MIRROR"):
        host_mirror(tmp_path, {})


def test_the_variable_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("images.debian._KEYRINGS", (str(tmp_path),))

    assert Mirror("http://mine.test", str(tmp_path)) == host_mirror(
        tmp_path, {"DYNAMO_SNAPSHOT_DEBIAN_MIRROR": "http://mine.test"}
    )


def test_package_names_come_from_file_names() -> None:
    assert "libssl3t64" == package_name(Path("/x/libssl3t64_3.5.7-1%3a1_amd64.deb"))
