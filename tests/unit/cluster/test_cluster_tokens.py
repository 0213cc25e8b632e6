"""Certificates and tokens."""

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from cluster.credentials import Authority, User, token_file

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def issued(*names):
    authority = Authority.mint(NOW)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    certificate = x509.load_pem_x509_certificate(authority.issue(subject, names, NOW)[0])
    return authority, certificate


def test_a_server_certificate_is_signed_and_named():
    authority, certificate = issued("localhost", "10.96.0.1")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    certificate.verify_directly_issued_by(authority.certificate)

    assert ["localhost"] == names.get_values_for_type(x509.DNSName)
    assert ["10.96.0.1"] == [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)


def test_a_certificate_without_names_is_a_clients():
    _, certificate = issued()
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value

    assert [ExtendedKeyUsageOID.CLIENT_AUTH] == list(usage)


def test_token_lines_have_a_group_only_where_there_is_one():
    users = [User("admin", "system:masters", token="t1"), User("system:kube-proxy", token="t2")]

    assert "t1,admin,admin,system:masters\nt2,system:kube-proxy,system:kube-proxy\n" == token_file(users)


def test_tokens_stay_out_of_logs():
    assert "t1" not in repr(User("admin", token="t1"))
