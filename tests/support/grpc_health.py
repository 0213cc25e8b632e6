"""A gRPC health service on h2, as a worker has one. It imports nothing of ours: containers get it as a file."""

import socket
import struct
from collections.abc import Mapping

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

CHECK = "/grpc.health.v1.Health/Check"
UNIMPLEMENTED, NOT_FOUND = "12", "5"
SERVICE_AT = 7
"""Five bytes before the message, two before the only field of it."""


def serve(listener: socket.socket, statuses: Mapping[str, int]) -> None:
    """Answer health checks, one connection after another, until the listener is closed.

    Args:
        listener: listens.
        statuses: service -> its status in ``grpc.health.v1``; others are not found.
    """
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            _serve(connection, statuses)


def _serve(connection: socket.socket, statuses: Mapping[str, int]) -> None:
    speaker = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    speaker.initiate_connection()
    paths, bodies = {}, {}
    connection.sendall(speaker.data_to_send())
    while data := connection.recv(65536):
        for event in speaker.receive_data(data):
            match event:
                case RequestReceived(stream_id=stream, headers=headers):
                    paths[stream], bodies[stream] = dict(headers)[":path"], b""
                case DataReceived(stream_id=stream, data=part):
                    bodies[stream] += part
                case StreamEnded(stream_id=stream):
                    _answer(speaker, stream, paths.pop(stream), bodies.pop(stream), statuses)
        connection.sendall(speaker.data_to_send())


def _answer(speaker: H2Connection, stream: int, path: str, body: bytes, statuses: Mapping[str, int]) -> None:
    service = body[SERVICE_AT:].decode()
    headers = [(":status", "200"), ("content-type", "application/grpc")]
    if path != CHECK or service not in statuses:
        code = NOT_FOUND if path == CHECK else UNIMPLEMENTED
        words = [("grpc-status", code), ("grpc-message", "no%20such%20service")]
        speaker.send_headers(stream, headers + words, end_stream=True)
        return
    message = b"\x08" + bytes([statuses[service]]) if statuses[service] else b""
    speaker.send_headers(stream, headers)
    speaker.send_data(stream, struct.pack("!BL", 0, len(message)) + message)
    speaker.send_headers(stream, [("grpc-status", "0")], end_stream=True)
