"""A cluster's addresses, and the links that carry them.

    host ── <link> ⇄ uplink ┐
                            ├ nodes0, a bridge in the first node's network namespace
    further nodes  ⇄ port2… ┘

All share one small subnet: node N has its N-th address, the host the last.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network

from cluster.errors import CommandError, StateError
from cluster.processes import run

POOL = IPv4Network("10.99.0.0/16")
PREFIX = 27
"""30 addresses: the host's and those of up to 29 nodes."""

POD_NETWORK = IPv4Network("10.244.0.0/16")
SERVICE_NETWORK = IPv4Network("10.96.0.0/16")
"""Both exist only inside the nodes' namespaces, so clusters may share them."""

BRIDGE = "nodes0"
UPLINK = "uplink"


def free_subnet(used: Iterable[IPv4Network]) -> IPv4Network:
    """Return the first subnet of the pool that overlaps none in use. Pure."""
    taken = [network for network in used if network.overlaps(POOL)]
    for candidate in POOL.subnets(new_prefix=PREFIX):
        if not any(candidate.overlaps(network) for network in taken):
            return candidate
    raise StateError(f"no free subnet is left in {POOL}; stop a cluster: python -m cluster status")


def node_address(subnet: IPv4Network, index: int) -> IPv4Address:
    """Return the address of the *index*-th node, counted from 1. Pure."""
    return subnet[index]


def host_address(subnet: IPv4Network) -> IPv4Address:
    """Return the host's own end. Pure."""
    return subnet[-2]


def pod_subnet(index: int) -> IPv4Network:
    """Return the pods of the *index*-th node. Pure."""
    return list(POD_NETWORK.subnets(new_prefix=24))[index]


def link_name(identity: str) -> str:
    """Return the host end's name: found again from the identity alone, 15 characters at most. Pure."""
    return f"ds-{identity}"


def identity(state_folder: str) -> str:
    """Return the short name of a cluster, which differs between caches even if the clusters' names do not. Pure."""
    return hashlib.sha256(state_folder.encode()).hexdigest()[:10]


def networks_in_use(addresses: str, routes: str) -> list[IPv4Network]:
    """Parse the subnets that ``ip -j -4 addr`` and ``ip -j -4 route show table all`` name. Pure."""
    local = [
        IPv4Network(f"{entry['local']}/{entry['prefixlen']}", strict=False)
        for link in json.loads(addresses or "[]")
        for entry in link.get("addr_info", [])
    ]
    routed = [route["dst"] for route in json.loads(routes or "[]") if route.get("dst", "default") != "default"]
    found = [*local, *(IPv4Network(text, strict=False) for text in routed)]
    return [network for network in found if network.prefixlen > 0]


@contextlib.contextmanager
def choosing() -> Iterator[None]:
    """Hold while a subnet is chosen and taken, machine-wide: two caches must not choose the same.

    The lock is on an existing folder, so nothing is left on the host.
    """
    handle = os.open("/run", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def connect_host(link: str, pid: int) -> IPv4Network:
    """Join the host and the first node (whose first process is *pid*) in a free subnet, which is returned."""
    with choosing():
        used = networks_in_use(
            run(["ip", "-j", "-4", "addr"]), run(["ip", "-j", "-4", "route", "show", "table", "all"])
        )
        subnet = free_subnet(used)
        run(["ip", "link", "add", link, "type", "veth", "peer", "name", UPLINK, "netns", str(pid)])
        run(["ip", "addr", "add", f"{host_address(subnet)}/{PREFIX}", "dev", link])
    run(["ip", "link", "set", link, "up"])
    _inside(pid, "link", "add", BRIDGE, "address", "02:00:00:00:00:01", "type", "bridge")
    _inside(pid, "link", "set", UPLINK, "master", BRIDGE, "up")
    _address(pid, BRIDGE, subnet, 1)
    return subnet


def connect_node(first: int, pid: int, subnet: IPv4Network, index: int) -> None:
    """Join the *index*-th node to the bridge in the first."""
    port = f"port{index}"
    _inside(first, "link", "add", port, "type", "veth", "peer", "name", UPLINK, "netns", str(pid))
    _inside(first, "link", "set", port, "master", BRIDGE, "up")
    _address(pid, UPLINK, subnet, index)


def route_pods(pid: int, subnet: IPv4Network, own: int, count: int) -> None:
    """Set the routes of the *own*-th of *count* nodes to the other nodes' pods."""
    for other in range(1, count + 1):
        if other != own:
            _inside(pid, "route", "add", str(pod_subnet(other)), "via", str(node_address(subnet, other)))


def link_exists(link: str) -> bool:
    """Say whether the host end is there."""
    return any(entry["ifname"] == link for entry in json.loads(run(["ip", "-j", "link"])))


def disconnect(link: str) -> None:
    """Remove the host end, and with it the node's."""
    if not link_exists(link):
        return
    try:
        run(["ip", "link", "del", link])
    except CommandError:
        # The kernel removes it too, some time after the node's last process has ended.
        if link_exists(link):
            raise


def _address(pid: int, device: str, subnet: IPv4Network, index: int) -> None:
    _inside(pid, "link", "set", "lo", "up")
    _inside(pid, "addr", "add", f"{node_address(subnet, index)}/{PREFIX}", "dev", device)
    _inside(pid, "link", "set", device, "up")
    _inside(pid, "route", "add", "default", "via", str(host_address(subnet)))


def _inside(pid: int, *words: str) -> None:
    run(["nsenter", "--target", str(pid), "--net", "ip", *words])
