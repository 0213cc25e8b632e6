"""A node's root file system, unpacked from Debian packages without installing anything on the host."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from cluster.builder import cache
from cluster.builder.cache import Cache
from cluster.errors import BuildError, CommandError
from cluster.processes import run
from cluster.progress import Progress

SUITE = "trixie"
"""Pinned: its packages keep to the merged /usr, so unpacking alone gives a root that works."""

PACKAGES = (
    "bash", "busybox-static", "coreutils", "dash", "findutils", "grep", "iproute2", "iptables", "mount", "procps",
    "python3", "runc", "sed", "util-linux",
)  # fmt: skip

LINKS = {
    # Made by the packages' install scripts, which never run here.
    "usr/sbin/iptables": "xtables-nft-multi",
    "usr/sbin/iptables-save": "xtables-nft-multi",
    "usr/sbin/iptables-restore": "xtables-nft-multi",
    "usr/sbin/ip6tables": "xtables-nft-multi",
    "usr/sbin/ip6tables-save": "xtables-nft-multi",
    "usr/sbin/ip6tables-restore": "xtables-nft-multi",
    "usr/bin/awk": "mawk",
    "var/run": "/run",
}

FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    # A node has no way out, so there is no server to ask: pods with dnsPolicy Default get an empty list.
    "etc/resolv.conf": "options timeout:1 attempts:1\n",
}

KEYRINGS = ("/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg")
"""Of the package debian-archive-keyring, newer and older: apt does not say what a source file's Signed-By names."""

KNOWN_SUITES = ("bookworm", "trixie", "forky", "sid", "stable", "testing", "unstable")


def node_root(home: Cache, progress: Progress) -> Path:
    """Return the unpacked root, from the cache or fetched now."""
    described = repr(
        (SUITE, PACKAGES, sorted(LINKS.items()), sorted(FILES.items()), run(["dpkg", "--print-architecture"]))
    )
    target = home.part("node-root", hashlib.sha256(described.encode()).hexdigest()[:16])
    if not cache.is_whole(target):
        with progress.step(f"fetching the node's root file system (Debian {SUITE})"):
            cache.publish(target, _fill)
    return target


def mirror(targets: str) -> tuple[str, str]:
    """Return (URI, keyring or "") of the host's own Debian archive, from what ``apt-get indextargets`` printed.

    Each line is ``repo-uri|release|component|keyring``. Pure.
    """
    for line in targets.splitlines():
        uri, release, component, keyring = line.split("|")[:4]
        if component == "main" and release in KNOWN_SUITES:
            return uri, "" if keyring.startswith("$(") else keyring
    raise BuildError(
        "the host's apt knows no Debian archive (no 'main' of a Debian suite among its sources); "
        "add one to /etc/apt/sources.list, for example that of debian.org, and run apt-get update"
    )


def source_line(uri: str, keyring: str) -> str:
    """Return the one line of the private sources file. Pure."""
    options = f"[signed-by={keyring}] " if keyring else ""
    return f"deb {options}{uri} {SUITE} main\n"


def _fill(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="cluster-apt-") as scratch:
        archives = _download(Path(scratch))
        for archive in archives:
            run(["dpkg-deb", "--extract", archive, folder])
    for name, target in LINKS.items():
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(target)
    for name, text in FILES.items():
        (folder / name).write_text(text)


def _download(scratch: Path) -> list[Path]:
    """Fetch the packages and all they depend on, as if nothing were installed; apt checks the signatures."""
    for name in ("lists/partial", "cache/archives/partial", "parts"):
        (scratch / name).mkdir(parents=True)
    (scratch / "status").touch()
    uri, keyring = mirror(_index_targets())
    (scratch / "sources.list").write_text(source_line(uri, _keyring(keyring)))
    apt = ["apt-get", "-q", "-y", *_private_options(scratch)]
    try:
        run([*apt, "update"])
        run([*apt, "install", "--download-only", "--no-install-recommends", *PACKAGES])
    except CommandError as error:
        raise BuildError(f"the node's packages cannot be fetched: {error}") from error
    return sorted((scratch / "cache/archives").glob("*.deb"))


def _index_targets() -> str:
    # Without release info it also names archives that were never downloaded: on a fresh machine, all of them.
    # SIGNED_BY stays literal if the source names no keyring.
    form = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)"
    return run(["apt-get", "indextargets", "--no-release-info", "--format", form, "Created-By: Packages"])


def _keyring(named: str) -> str:
    """Return the source's own keyring, else that of Debian's package, else apt's default ("")."""
    return named or next((path for path in KEYRINGS if Path(path).exists()), "")


def _private_options(scratch: Path) -> list[str]:
    options = {
        "Dir::Etc::SourceList": scratch / "sources.list",
        "Dir::Etc::SourceParts": scratch / "parts",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": scratch / "parts",
        "Dir::State::Lists": scratch / "lists",
        "Dir::State::status": scratch / "status",
        "Dir::Cache": scratch / "cache",
        # The unprivileged download user may not enter a private folder.
        "APT::Sandbox::User": "root",
    }
    return [f"-o{key}={value}" for key, value in options.items()]
