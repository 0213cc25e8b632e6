"""Debian packages through an apt of our own: own lists, own status, own cache, and the host's mirror and proxies.

Nothing of the host's package state is read or changed, and no maintainer script ever runs.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from images.errors import MirrorError, call

PYTHON_SUITE: Final = "trixie"
CRIU_SUITE: Final = "forky"
"""The first suite with criu 4.2: older ones cannot dump an inet socket on kernels >= 6.16."""

EXPERIMENTAL: Final = "experimental"
"""Has the criu after that one; tests are run with it by SNAPSHOT_TEST_CRIU_SUITE."""

ENV_MIRROR: Final = "DYNAMO_SNAPSHOT_DEBIAN_MIRROR"
_SUITES: Final = frozenset(
    ("bullseye", "bookworm", "trixie", "forky", "duke", "sid", "oldstable", "stable", "testing", "unstable")
)
_KEYRINGS: Final = (
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/usr/share/keyrings/debian-archive-keyring.gpg",
)
# Settings of the host's apt that reach a mirror; its hooks and paths stay behind.
_KEEP: Final = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::ForceIP", "Acquire::Retries")


@dataclass(frozen=True)
class Mirror:
    """A Debian mirror as the host's apt names it; ``signed_by`` is a keyring's path or a key block."""

    uri: str
    signed_by: str


def host_mirror(etc: Path = Path("/etc/apt"), env: Mapping[str, str] = os.environ) -> Mirror:
    """Return the Debian mirror that this machine uses, or the one that ``$DYNAMO_SNAPSHOT_DEBIAN_MIRROR`` names.

    Raises:
        MirrorError: If neither is there.
    """
    if uri := env.get(ENV_MIRROR):
        return Mirror(uri, _keyring())
    for file in sorted((*etc.glob("sources.list"), *etc.glob("sources.list.d/*"))):
        for uri, suites, signed_by in _entries(file):
            if _SUITES & set(suites):
                return Mirror(uri, signed_by or _keyring())
    raise MirrorError(f"no Debian mirror in {etc}; set {ENV_MIRROR} to a Debian mirror's address")


def _entries(file: Path) -> list[tuple[str, list[str], str]]:
    text = file.read_text(errors="replace")
    if file.suffix == ".sources":
        return [found for block in text.split("\n\n") if (found := _deb822(block))]
    if file.suffix == ".list":
        return [found for line in text.splitlines() if (found := _one_line(line))]
    return []


def _deb822(block: str) -> tuple[str, list[str], str] | None:
    fields: dict[str, str] = {}
    name = ""
    for line in block.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace():
            fields[name] = fields.get(name, "") + "\n" + line
        else:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    if "deb" not in fields.get("types", "").split() or not fields.get("uris"):
        return None
    return fields["uris"].split()[0], fields.get("suites", "").split(), fields.get("signed-by", "")


def _one_line(line: str) -> tuple[str, list[str], str] | None:
    kind, _, rest = line.strip().partition(" ")
    if kind != "deb":
        return None
    signed_by = ""
    if rest.lstrip().startswith("["):
        options, _, rest = rest.lstrip()[1:].partition("]")
        signed_by = dict(option.partition("=")[::2] for option in options.split()).get("signed-by", "")
    words = rest.split()
    return (words[0], words[1:2], signed_by) if len(words) > 1 else None


def _keyring() -> str:
    for path in _KEYRINGS:
        if Path(path).exists():
            return path
    raise MirrorError("no Debian keyring: install the package debian-archive-keyring")


class Apt:
    """One suite of a mirror, with its state in a folder of its own."""

    def __init__(self, state: Path, mirror: Mirror, suite: str) -> None:
        self._archives = state / "archives"
        self._env = {**os.environ, "APT_CONFIG": str(state / "apt.conf"), "LC_ALL": "C"}
        for folder in ("lists/partial", "archives/partial", "parts"):
            (state / folder).mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        # Experimental is no suite of its own: what its packages depend on is in sid.
        self._target = ["-t", suite] if suite == EXPERIMENTAL else []
        (state / "debian.sources").write_text(_sources(mirror, f"sid {suite}" if self._target else suite))
        (state / "apt.conf").write_text(_settings(state))

    def download(self, packages: Sequence[str]) -> list[Path]:
        """Fetch packages with everything they depend on, as onto an empty machine; returns the .deb files, sorted."""
        call(["apt-get", "-qq", "update"], env=self._env, needs="apt, on Debian and Ubuntu")
        options = ["-qq", "-y", "--no-install-recommends", "--download-only", *self._target]
        argv = ["apt-get", *options, "install", *packages]
        call(argv, env=self._env, needs="apt, on Debian and Ubuntu")
        return sorted(self._archives.glob("*.deb"))


def unpack(debs: Iterable[Path], root: Path, *, without: frozenset[str] = frozenset()) -> None:
    """Unpack packages into a folder; ``without`` names packages that are left out."""
    for deb in debs:
        if package_name(deb) not in without:
            call(["dpkg-deb", "-x", deb, root], needs="dpkg, on Debian and Ubuntu")


def package_name(deb: Path) -> str:
    """Return the package's name, from its file's."""
    return deb.name.partition("_")[0]


def _sources(mirror: Mirror, suite: str) -> str:
    return f"Types: deb\nURIs: {mirror.uri}\nSuites: {suite}\nComponents: main\nSigned-By: {mirror.signed_by}\n"


def _settings(state: Path) -> str:
    dump = call(["apt-config", "dump"], needs="apt, on Debian and Ubuntu").splitlines()
    kept = [line for line in dump if line.startswith(_KEEP)]
    ours = {
        "Dir::State": state,
        "Dir::State::Lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state,
        "Dir::Cache::archives": state / "archives",
        "Dir::Etc::parts": state / "parts",
        "Dir::Etc::sourcelist": state / "debian.sources",
        "Dir::Etc::sourceparts": state / "parts",
        "Dir::Etc::preferencesparts": state / "parts",
        "Acquire::Languages": "none",
        "APT::Architecture": "amd64",
        "APT::Sandbox::User": "",  # the state folder may be one that the user _apt cannot enter
    }
    return "\n".join([*kept, *(f'{name} "{value}";' for name, value in ours.items())]) + "\n"
