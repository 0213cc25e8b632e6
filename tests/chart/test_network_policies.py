"""What the rendered NetworkPolicies say; that they are enforced is up to the cluster's network plugin."""

import json

import pytest

MONITORING = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
DNS = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
ON = ("--set", "networkPolicy.enabled=true")


def ports(*numbers):
    return {"ports": [{"port": port, "protocol": "TCP"} for port in numbers]}


def of(objects):
    return {o["metadata"]["name"]: o["spec"] for o in objects if o["kind"] == "NetworkPolicy"}


def test_there_is_none_by_default(helm):
    assert {} == of(helm.render())


@pytest.mark.parametrize(
    ("flags", "servers", "metrics"),
    [
        pytest.param((), ports(443, 6443), ports("health"), id="defaults"),
        pytest.param(
            (
                *("--set", "networkPolicy.apiServerPorts={8443}"),
                *("--set-json", "networkPolicy.metricsFrom=" + json.dumps(MONITORING)),
            ),
            ports(8443),
            ports("health") | {"from": MONITORING},
            id="chosen",
        ),
    ],
)
def test_who_reaches_whom(helm, flags, servers, metrics):
    """Everybody may ask the webhook, for the API server is no peer that could be named; nobody the agent."""
    found = of(helm.render(*ON, *flags))

    assert {"snapshot-webhook", "snapshot-controller", "snapshot-agent"} == set(found)
    assert [ports("https"), metrics] == found["snapshot-webhook"]["ingress"]
    assert [metrics] == found["snapshot-controller"]["ingress"]
    assert [] == found["snapshot-agent"]["ingress"]
    selector = found["snapshot-webhook"]["podSelector"]
    own = {"snapshot-webhook": [ports("https") | {"to": [{"podSelector": selector}]}]}
    for name, policy in found.items():
        assert ["Ingress", "Egress"] == policy["policyTypes"]
        assert [DNS, servers, *own.get(name, [])] == policy["egress"]


def test_each_policy_selects_the_pods_of_its_workload(helm, pick):
    objects = helm.render(*ON)
    for kind, name in (("Deployment", "webhook"), ("Deployment", "controller"), ("DaemonSet", "agent")):
        workload = pick(objects, kind, f"snapshot-{name}")
        policy = pick(objects, "NetworkPolicy", f"snapshot-{name}")

        assert workload["spec"]["selector"] == policy["spec"]["podSelector"]


def test_the_named_ports_exist(helm, pick):
    """A policy that names a port which no container has would close it."""
    objects = helm.render(*ON)
    for name, expected in (("webhook", {"https", "health"}), ("controller", {"health"})):
        pod = pick(objects, "Deployment", f"snapshot-{name}")["spec"]["template"]["spec"]
        assert expected == {port["name"] for port in pod["containers"][0]["ports"]}


def test_beside_a_platform_only_the_agent_has_one(helm):
    assert {"snapshot-agent"} == set(of(helm.render(*ON, "--set", "coexist=agentOnly")))
