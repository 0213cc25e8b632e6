"""The files and command lines that are given to the programs."""

import base64
import json
import tomllib
from ipaddress import IPv4Network

import pytest

from cluster import components, config
from cluster.components import Layout, Ports
from cluster.embedded import ready_nodes, server_names

AT = Layout({"kubernetes": "/k", "etcd": "/e", "containerd": "/c"}, "/pki", "/conf", "/logs", "/data")


def test_containerd_config_is_toml_that_pins_the_pause_image():
    parsed = tomllib.loads(config.containerd("localhost/pause:9"))

    assert "localhost/pause:9" == parsed["plugins"]["io.containerd.cri.v1.images"]["pinned_images"]["sandbox"]
    assert 3 == parsed["version"]


def test_kubeconfig_carries_all_it_needs():
    made = config.kubeconfig("https://10.99.0.1:6443", b"CA", "secret", "dev")

    assert "dev" == made["current-context"]
    assert b"CA" == base64.b64decode(made["clusters"][0]["cluster"]["certificate-authority-data"])
    assert {"token": "secret"} == made["users"][0]["user"]


def test_images_are_never_collected():
    assert 100 == config.kubelet("/ca")["imageGCHighThresholdPercent"]


def test_pods_have_the_nodes_own_range():
    bridge = config.cni("10.244.7.0/24")["plugins"][0]

    assert [[{"subnet": "10.244.7.0/24"}]] == bridge["ipam"]["ranges"]


def test_the_api_server_waits_for_its_store():
    made = components.apiserver(AT, Ports(etcd=1234, apiserver=5678), ["--extra=1"])

    assert ["tcp:127.0.0.1:1234"] == made["wait_for"]
    assert {"--etcd-servers=http://127.0.0.1:1234", "--secure-port=5678", "--extra=1"} <= set(made["argv"])
    assert "/logs/kube-apiserver.log" == made["log"]


@pytest.mark.parametrize(
    ("controllers", "expected"),
    [pytest.param(True, False, id="with"), pytest.param(False, True, id="without")],
)
def test_service_accounts_are_only_required_where_somebody_makes_them(controllers, expected):
    flags = components.loopback_apiserver_flags(controllers=controllers)

    assert expected == ("--disable-admission-plugins=ServiceAccount" in flags)


def test_specs_are_json():
    parts = [components.etcd(AT, Ports()), components.kubelet(AT, "n", "10.99.0.1"), components.containerd(AT)]

    assert parts == json.loads(json.dumps(parts))


def test_the_server_is_known_by_every_name_it_is_called():
    names = server_names(IPv4Network("10.99.0.32/27"))

    assert {"10.99.0.33", "10.96.0.1", "127.0.0.1", "kubernetes.default.svc"} <= set(names)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        pytest.param([{"type": "Ready", "status": "True"}], {"n"}, id="ready"),
        pytest.param([{"type": "Ready", "status": "False"}], set(), id="not-ready"),
        pytest.param([{"type": "DiskPressure", "status": "True"}], set(), id="other-condition"),
        pytest.param([], set(), id="new"),
    ],
)
def test_ready_nodes(conditions, expected):
    assert expected == ready_nodes([{"metadata": {"name": "n"}, "status": {"conditions": conditions}}])
