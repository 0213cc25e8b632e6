"""Certificates from nothing: a self-signed authority, and a serving certificate signed by one.

Pure but for the keys' randomness: names, time and lifetimes come in, PEM text comes out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BACKDATE: Final = timedelta(hours=1)
"""Certificates begin this much in the past, so that a client whose clock is behind accepts them at once."""
COMMON_NAME_LIMIT: Final = 64
"""X.520's upper bound of a common name; the names that count are in the subject alternative name."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, PEM."""

    certificate: str
    key: str = field(default="", repr=False)
    """Empty if only the certificate is known: it can be trusted, but signs nothing more."""


NO_PAIR: Final = Pair("")
"""The pair of no certificate."""


def mint_authority(name: str, now: datetime, lifetime: timedelta) -> Pair:
    """Mint a self-signed authority that may sign serving certificates only.

    Args:
        name: whose authority it is; shown in its subject, beside a part that is unique for each one, because
            clients choose among trusted authorities by subject.
        now: the present, timezone-aware.
        lifetime: from *now* to its end.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    subject = _name(f"{name[: COMMON_NAME_LIMIT - 12]} CA {serial % 16**8:08x}")
    builder = (
        _builder(subject, subject, key, serial, now, now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    return _sign(builder, key, key)


def issue_leaf(authority: Pair, dns_names: Sequence[str], now: datetime, lifetime: timedelta) -> Pair:
    """Mint a serving certificate for *dns_names*, signed by *authority* and never outliving it.

    Raises:
        ValueError: *authority* has no readable certificate or key.
    """
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    issuer_key = _private_key(authority.key)
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(now + lifetime, issuer.not_valid_after_utc)
    subject = _name(dns_names[0][:COMMON_NAME_LIMIT])
    builder = (
        _builder(subject, issuer.subject, key, x509.random_serial_number(), now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in dns_names]), critical=False)
        .add_extension(_authority_key_id(issuer), critical=False)
    )
    return _sign(builder, key, issuer_key)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    serial: int,
    now: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(now - BACKDATE)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key_id(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _private_key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"the authority's key is a {type(key).__name__}, not an elliptic curve key")
    return key


def _sign(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, issuer_key: ec.EllipticCurvePrivateKey
) -> Pair:
    certificate = builder.sign(issuer_key, hashes.SHA256())
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM).decode(), encoded.decode())
