"""Addresses that clash with nothing."""

import json
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import StateError
from cluster.nodes import network


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        pytest.param([], "10.99.0.0/27", id="first"),
        pytest.param(["10.99.0.0/27"], "10.99.0.32/27", id="next"),
        pytest.param(["10.99.0.40/30"], "10.99.0.0/27", id="later-one-used"),
        pytest.param(["10.99.0.1/32", "10.99.0.64/26"], "10.99.0.32/27", id="gap"),
        pytest.param(["192.168.0.0/16"], "10.99.0.0/27", id="elsewhere"),
    ],
)
def test_the_first_free_subnet(used, expected):
    assert IPv4Network(expected) == network.free_subnet(IPv4Network(text) for text in used)


def test_a_full_pool_is_an_error_that_says_what_to_do():
    with pytest.raises(StateError, match=r"stop a cluster: python -m cluster status"):
        network.free_subnet([IPv4Network("10.0.0.0/8")])


@given(st.lists(st.integers(0, 2**16 - 1), max_size=60))
def test_a_free_subnet_never_overlaps_one_in_use(offsets):
    used = [IPv4Network((int(network.POOL.network_address) + offset, 32)) for offset in offsets]

    assert not any(network.free_subnet(used).overlaps(other) for other in used)


def test_all_ends_of_a_subnet_differ():
    subnet = IPv4Network("10.99.0.32/27")
    nodes = [str(network.node_address(subnet, index)) for index in (1, 2)]

    assert ["10.99.0.33", "10.99.0.34"] == nodes
    assert "10.99.0.62" == str(network.host_address(subnet))


def test_the_hosts_own_networks_are_seen():
    addresses = json.dumps([{"addr_info": [{"local": "10.99.0.30", "prefixlen": 27}]}, {"addr_info": []}, {}])
    routes = json.dumps([{"dst": "default"}, {"dst": "10.99.64.0/18"}, {"dst": "10.1.2.3", "type": "local"}])

    found = {str(entry) for entry in network.networks_in_use(addresses, routes)}

    assert {"10.99.0.0/27", "10.99.64.0/18", "10.1.2.3/32"} == found


def test_nothing_said_is_nothing_in_use():
    assert [] == network.networks_in_use("", "")


@given(st.text(max_size=300))
def test_link_names_fit_the_kernel(folder):
    assert 15 >= len(network.link_name(network.identity(folder)))


def test_pod_networks_of_nodes_differ():
    assert "10.244.1.0/24" == str(network.pod_subnet(1))
    assert "10.244.2.0/24" == str(network.pod_subnet(2))
