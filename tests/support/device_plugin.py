"""A device plugin: it offers devices to a node's kubelet, and answers an allocation with what a test arranges.

It runs in the test's own process; the node sees its socket, because the kubelet's folder is one of the machine's. The
messages are those of kubelet's ``deviceplugin/v1beta1``, written field by field.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

# What a test starts is no copy of this process that goes on to use gRPC.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc

from agent.protobuf import embedded, parse
from cluster.nodes.node import Node

FOLDER = "device-plugins"
VERSION = "v1beta1"
REGISTER = f"/{VERSION}.Registration/Register"


@dataclass
class Allocation:
    """What a container gets with each device, whichever it is: ``{device}`` is its id."""

    cdi: Sequence[str] = ()
    """Names in CDI's terms: ``nvidia.com/gpu={device}``."""
    mounts: Mapping[str, str] = field(default_factory=dict)
    """Path in the container -> path of the node."""
    devices: Sequence[str] = ()
    """Device nodes of the node, which the runtime makes in the container."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """For the runtime: ``cdi.k8s.io/...`` is the older way to name devices of CDI."""


@dataclass
class DevicePlugin(grpc.GenericRpcHandler):
    """Serves kubelet."""

    resource: str
    devices: Sequence[str]
    allocation: Allocation = field(default_factory=Allocation)
    """May be replaced at any time."""
    ended: Event = field(default_factory=Event)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Return what answers a method."""
        match handler_call_details.method.removeprefix(f"/{VERSION}.DevicePlugin/"):
            case "Allocate":
                return grpc.unary_unary_rpc_method_handler(self._allocate)
            case "ListAndWatch":
                return grpc.unary_stream_rpc_method_handler(self._list_and_watch)
            case "GetDevicePluginOptions":
                return grpc.unary_unary_rpc_method_handler(lambda _, __: b"")
        return None

    def _list_and_watch(self, _: bytes, __: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"".join(_message(1, _text(1, name) + _text(2, "Healthy")) for name in self.devices)
        self.ended.wait()

    def _allocate(self, request: bytes, _: grpc.ServicerContext) -> bytes:
        containers = embedded(parse(request), 1)
        wanted = [[name.decode() for name in embedded(parse(each), 1)] for each in containers]
        return b"".join(_message(1, _response(self.allocation, devices)) for devices in wanted)


@contextmanager
def offered(machine: Node, plugin: DevicePlugin) -> Iterator[DevicePlugin]:
    """Register a plugin with a node's kubelet, and serve it."""
    with tempfile.TemporaryDirectory() as short:
        # A socket's path has 107 characters at most.
        folder = Path(short) / "plugins"
        folder.symlink_to(machine.folder / "kubelet" / FOLDER)
        name = f"{plugin.resource.replace('/', '-')}.sock"
        server = grpc.server(ThreadPoolExecutor(8), handlers=[plugin])
        server.add_insecure_port(f"unix:{folder}/{name}")
        server.start()
        try:
            with grpc.insecure_channel(f"unix:{folder}/kubelet.sock") as kubelet:
                request = _text(1, VERSION) + _text(2, name) + _text(3, plugin.resource)
                kubelet.unary_unary(REGISTER)(request, timeout=30)
            yield plugin
        finally:
            plugin.ended.set()
            server.stop(0).wait()
            (folder / name).unlink(missing_ok=True)


def _response(allocation: Allocation, devices: Sequence[str]) -> bytes:
    """Encode a ContainerAllocateResponse."""
    parts = []
    for device in devices:
        for name, value in allocation.annotations.items():
            parts.append(_message(4, _text(1, name) + _text(2, value.format(device=device))))
        for inside, outside in allocation.mounts.items():
            paths = (inside.format(device=device), outside.format(device=device))
            parts.append(_message(2, _text(1, paths[0]) + _text(2, paths[1])))
        nodes = [each.format(device=device) for each in allocation.devices]
        parts += [_message(3, _text(1, name) + _text(2, name) + _text(3, "rw")) for name in nodes]
        parts += [_message(5, _text(1, name.format(device=device))) for name in allocation.cdi]
    return b"".join(dict.fromkeys(parts))


def _text(number: int, value: str) -> bytes:
    return _message(number, value.encode())


def _message(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    low, high = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(high) if high else bytes([low])
