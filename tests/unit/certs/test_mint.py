from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.mint import NO_PAIR, Pair, issue_leaf, mint_authority

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
DAY = timedelta(days=1)
NAMES = ("snap-webhook.ns.svc", "snap-webhook.ns")


def read(pair):
    return x509.load_pem_x509_certificate(pair.certificate.encode())


def test_an_authority_may_sign_certificates_and_nothing_else():
    found = read(mint_authority("snap", NOW, 10 * DAY))
    constraints = found.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = found.extensions.get_extension_for_class(x509.KeyUsage).value

    assert (True, True, 0) == (constraints.critical, constraints.value.ca, constraints.value.path_length)
    assert (True, False) == (usage.key_cert_sign, usage.digital_signature)
    assert isinstance(found.public_key(), ec.EllipticCurvePublicKey)
    assert NOW + 10 * DAY == found.not_valid_after_utc
    assert NOW - timedelta(hours=1) == found.not_valid_before_utc


def test_two_authorities_of_one_name_have_different_subjects():
    """Clients look up the issuer by subject: equal ones would make them try the wrong key."""
    one, two = (read(mint_authority("snap", NOW, DAY)) for _ in range(2))

    assert one.subject != two.subject


def test_a_leaf_is_signed_by_its_authority_for_the_given_names_and_for_servers_only():
    authority = mint_authority("snap", NOW, 10 * DAY)
    leaf = read(issue_leaf(authority, NAMES, NOW, 3 * DAY))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value

    leaf.verify_directly_issued_by(read(authority))
    assert list(NAMES) == names.get_values_for_type(x509.DNSName)
    assert [ExtendedKeyUsageOID.SERVER_AUTH] == list(usages)
    assert NOW + 3 * DAY == leaf.not_valid_after_utc


def test_a_leaf_never_outlives_its_authority():
    authority = mint_authority("snap", NOW, 2 * DAY)

    assert NOW + 2 * DAY == read(issue_leaf(authority, NAMES, NOW, 90 * DAY)).not_valid_after_utc


def test_long_names_fit_into_the_subject():
    long = f"{'a' * 63}-webhook.{'b' * 63}.svc"
    authority = mint_authority(long, NOW, DAY)
    leaf = read(issue_leaf(authority, (long,), NOW, DAY))

    assert long in leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    )


def test_an_authority_without_key_signs_nothing():
    certificate_only = Pair(mint_authority("snap", NOW, DAY).certificate)

    with pytest.raises(ValueError, match="PEM"):
        issue_leaf(certificate_only, NAMES, NOW, DAY)


def test_keys_do_not_show_in_a_repr():
    authority = mint_authority("snap", NOW, DAY)

    assert authority.key not in repr(authority)
    assert not NO_PAIR.key
