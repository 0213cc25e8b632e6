"""Keys, certificates and tokens of one cluster: made at its start, thrown away at its end."""

from __future__ import annotations

import datetime as dt
import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = dt.timedelta(days=30)
"""Longer than any test cluster lives."""

SKEW = dt.timedelta(hours=1)
"""Certificates begin this much earlier: the clock may be set back while the cluster runs."""

MASTERS = "system:masters"


@dataclass(frozen=True)
class User:
    """A user of the API and the token that proves it."""

    name: str
    group: str = ""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)


@dataclass(frozen=True)
class Authority:
    """The certificate authority and its key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def mint(cls, now: dt.datetime) -> Authority:
        """Create an authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("embedded-cluster-ca")
        builder = _certificate(name, name, key.public_key(), now)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return cls(key, builder.sign(key, hashes.SHA256()))

    def issue(self, name: x509.Name, names: Sequence[str], now: dt.datetime) -> tuple[bytes, bytes]:
        """Return (certificate, key) in PEM, for a server with *names* or, without any, for a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = _certificate(name, self.certificate.subject, key.public_key(), now)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_alternative(n) for n in names]), critical=False
            )
        return _pem(builder.sign(self.key, hashes.SHA256())), _key_pem(key)


def write(folder: Path, server_names: Sequence[str], users: Sequence[User], now: dt.datetime) -> None:
    """Fill *folder* with everything the API server and the controllers read."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = Authority.mint(now)
    server, server_key = authority.issue(_name("kube-apiserver"), server_names, now)
    signer = ec.generate_private_key(ec.SECP256R1())
    client, client_key = authority.issue(_name("kube-apiserver-kubelet-client", MASTERS), (), now)
    files = {
        "ca.crt": _pem(authority.certificate),
        "ca.key": _key_pem(authority.key),
        "apiserver.crt": server,
        "apiserver.key": server_key,
        "kubelet-client.crt": client,
        "kubelet-client.key": client_key,
        "service-accounts.key": _key_pem(signer),
        # The API server takes no public key out of a PKCS #8 file.
        "service-accounts.pub": _public_pem(signer.public_key()),
        "tokens.csv": token_file(users).encode(),
    }
    for name, data in files.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_bytes(data)


def token_file(users: Sequence[User]) -> str:
    """Return the API server's static token file: token, name, uid, groups. Pure."""
    return "".join(",".join(filter(None, (u.token, u.name, u.name, u.group))) + "\n" for u in users)


def _name(common: str, organization: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organization:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: dt.datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - SKEW).not_valid_after(now + LIFETIME)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=signs_certificates, crl_sign=signs_certificates, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
