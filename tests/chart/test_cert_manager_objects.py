"""What the chart asks of cert-manager, once it is told to."""

import pytest

from certs.reconcile import Targets

TARGETS = Targets(namespace="ns", fullname="snapshot")


def test_cert_manager_takes_the_controllers_place(helm, pick):
    objects = helm.render("--set", "webhook.certManager.enabled=true")
    configuration = pick(objects, "MutatingWebhookConfiguration")
    certificate = pick(objects, "Certificate", "snapshot-webhook")

    assert "ns/snapshot-webhook" == configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
    assert TARGETS.serving_secret != certificate["spec"]["secretName"]
    assert {certificate["spec"]["secretName"]} == mounted_secrets(objects)
    assert set(TARGETS.dns_names) == set(certificate["spec"]["dnsNames"])
    assert not [o for o in objects if o["kind"] == "Secret"]


def mounted_secrets(objects):
    pods = [o["spec"]["template"]["spec"] for o in objects if o["kind"] in ("Deployment", "DaemonSet")]
    volumes = [volume for pod in pods for volume in pod.get("volumes", [])]
    return {volume["secret"]["secretName"] for volume in volumes if "secret" in volume}


def test_cert_managers_issuer_signs_with_an_authority_that_keeps_its_key(helm, pick):
    """A self-signed certificate would be its own bundle, and each renewal a time of failing calls."""
    objects = helm.render("--set", "webhook.certManager.enabled=true")
    certificate = pick(objects, "Certificate", "snapshot-webhook")
    issuer = pick(objects, "Issuer", certificate["spec"]["issuerRef"]["name"])
    authority = pick(objects, "Certificate", "snapshot-webhook-authority")

    assert authority["spec"]["secretName"] == issuer["spec"]["ca"]["secretName"]
    assert (True, "Never") == (authority["spec"]["isCA"], authority["spec"]["privateKey"]["rotationPolicy"])
    assert {"selfSigned": {}} == pick(objects, "Issuer", authority["spec"]["issuerRef"]["name"])["spec"]
    assert TARGETS.authority_secret != authority["spec"]["secretName"]


def test_an_issuer_of_the_users_signs_by_itself(helm, pick):
    name = "webhook.certManager.issuerRef"
    flags = ("--set", f"webhook.certManager.enabled=true,{name}.name=corp,{name}.kind=ClusterIssuer")
    objects = helm.render(*flags)

    assert {"name": "corp", "kind": "ClusterIssuer"} == pick(objects, "Certificate")["spec"]["issuerRef"]
    assert [] == [o for o in objects if o["kind"] == "Issuer"]


@pytest.mark.parametrize(
    ("expected", "release", "namespace"),
    [
        pytest.param("snapshot-webhook.ns", "snapshot", "ns", id="short"),
        pytest.param(64, "r" * 40, "n" * 60, id="cut-to-what-a-common-name-holds"),
    ],
)
def test_the_authoritys_name(helm, pick, expected, release, namespace):
    objects = helm.render("--set", "webhook.certManager.enabled=true", release=release, namespace=namespace)
    (name,) = [o["spec"]["commonName"] for o in objects if o["kind"] == "Certificate" and o["spec"].get("isCA")]

    assert expected in (name, len(name))
