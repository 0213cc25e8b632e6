"""A throw-away authority and one server certificate, the same for all arms."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from cluster.credentials import Authority

SERVER = "127.0.0.1"


@dataclass(frozen=True)
class Files:
    """Where the PEM files are."""

    authority: Path
    certificate: Path
    key: Path


def write(folder: Path) -> Files:
    """Mint and write them."""
    now = dt.datetime.now(dt.UTC)
    authority = Authority.mint(now)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "benchmark")])
    certificate, key = authority.issue(name, [SERVER], now)
    files = Files(folder / "ca.crt", folder / "tls.crt", folder / "tls.key")
    files.certificate.write_bytes(certificate)
    files.key.write_bytes(key)
    files.authority.write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
    return files
