"""Messages between the trainer and its workers: a length of four bytes, then the bytes. Nothing is ever unpickled."""

from __future__ import annotations

import socket
import struct

LARGEST = 1 << 30


def send(sock: socket.socket, message: bytes) -> None:
    sock.sendall(struct.pack(">I", len(message)) + message)


def receive(sock: socket.socket) -> bytes | None:
    """The next message; None when the other side is gone.

    Raises:
        OSError: the connection broke, or what came is no message.
    """
    header = _exactly(sock, 4)
    if header is None:
        return None
    (length,) = struct.unpack(">I", header)
    if length > LARGEST:
        raise OSError(f"a message of {length} bytes")
    return _exactly(sock, length)


def _exactly(sock: socket.socket, length: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < length:
        part = sock.recv(min(length - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)
