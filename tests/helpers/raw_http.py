"""HTTP over plain sockets: requests that no client library would send."""

import socket
import struct
from typing import NamedTuple

WAIT_S = 30.0
"""A server that says nothing for longer has failed."""
JSON = b"Content-Type: application/json\r\n"


class Reply(NamedTuple):
    """An answer, or what came of one."""

    status: int
    """0 if nothing came."""
    head: str
    body: bytes


def open_socket(address: str) -> socket.socket:
    """Return a connection to host:port."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), WAIT_S)


def make_post(
    body: bytes = b'{"seed":1}',
    *,
    path: str = "/v1/images",
    headers: bytes = JSON,
    length: bytes | None = None,
    close: bool = True,
) -> bytes:
    """Return a request. Args: length: header lines in place of the right Content-Length."""
    lines = b"Content-Length: %d\r\n" % len(body) if length is None else length
    end = b"Connection: close\r\n" if close else b""
    return b"POST %b HTTP/1.1\r\nHost: localhost\r\n%b%b%b\r\n%b" % (path.encode(), headers, lines, end, body)


def make_get(target: bytes = b"/v1/models", headers: bytes = b"Host: localhost\r\nConnection: close\r\n") -> bytes:
    return b"GET %b HTTP/1.1\r\n%b\r\n" % (target, headers)


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes the connection, or resets it."""
    received = b""
    try:
        while chunk := connection.recv(2**16):
            received += chunk
    except ConnectionError:
        pass
    return received


def read_reply(connection: socket.socket) -> Reply:
    """Read one answer that has a Content-Length; the connection stays open."""
    received = b""
    while b"\r\n\r\n" not in received and (chunk := connection.recv(2**16)):
        received += chunk
    reply = parse_reply(received)
    length = next(line for line in reply.head.lower().split("\r\n") if line.startswith("content-length:"))
    body = reply.body
    while len(body) < int(length.partition(":")[2]) and (chunk := connection.recv(2**16)):
        body += chunk
    return reply._replace(body=body)


def parse_reply(received: bytes) -> Reply:
    """Return the first answer in what was received, with everything behind its head as its body."""
    head, _, body = received.partition(b"\r\n\r\n")
    words = head.split(maxsplit=2)
    return Reply(int(words[1]) if len(words) > 1 else 0, head.decode("latin-1"), body)


def exchange(address: str, *parts: bytes) -> Reply:
    """Send a request in parts, and read what comes until the server closes the connection."""
    with open_socket(address) as connection:
        try:
            for part in parts:
                connection.sendall(part)
        except ConnectionError:
            pass  # the server has answered, and closed the connection
        return parse_reply(read_all(connection))


def reset(connection: socket.socket) -> None:
    """Close a connection as a process that dies does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
