"""Connections that go from one process of the server to another, with what was read of them already.

Which process a request is for is told by its first bytes. They are looked at and left where they are, so that whoever
gets the connection reads the request from its beginning.
"""

from __future__ import annotations

import array
import re
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

#: So much of a request is looked at; and so much may have been read of it before it crosses.
_LOOK_BYTES = 32
_MOST_BYTES = 65_536
_FOR_GATEWAY = re.compile(rb"[A-Z]{1,20} /v1/")

#: What processes say to each other. READY comes with the process's own id behind it; with the last two comes a
#: connection: one of a client, with what was read of it behind it, and one by which a process itself asks another.
READY, ENDING, STOP, CONNECTION, QUESTION = b"r", b"e", b"s", b"c", b"q"


class Message(NamedTuple):
    """What came from another process; ``client`` is the connection that came along, if there was room for it."""

    kind: bytes
    rest: bytes
    client: socket.socket | None


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a way between two processes: messages arrive whole, and the end of either process is seen."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def is_for_gateway(begin: bytes) -> bool:
    """Whether a request that begins so is one to the gateway. Where that cannot be told yet, it is none."""
    return _FOR_GATEWAY.match(begin) is not None


def begin_of(conn: Any) -> bytes | None:
    """How the next request of one of gunicorn's connections begins; None if nothing has come yet."""
    begin = rest_of(conn)
    if len(begin) < _LOOK_BYTES:
        try:
            begin += conn.sock.recv(_LOOK_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return begin or None
        except OSError:
            pass
    return begin


def rest_of(conn: Any) -> bytes:
    """What was read beyond the last request of a connection."""
    return bytes(conn.parser.unreader.buf.getvalue()) if conn.parser else b""


def can_cross(rest: bytes) -> bool:
    """Whether a connection can go to another process at all when so much was read of it."""
    return len(rest) < _MOST_BYTES


def send(way: socket.socket, kind: bytes, *, client: int | None = None, rest: bytes = b"") -> bool:
    """Say something to another process without waiting; whether it can hear it, which it cannot while it has no room.

    Arguments:
        client: the file descriptor of a connection that it shall have.
    """
    if not can_cross(rest):
        return False
    along: Sequence[Any] = ()
    if client is not None:
        along = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [client]))]
    try:
        way.sendmsg([kind + rest], along, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError:
        return False
    return True


def receive(way: socket.socket, *, flags: int = socket.MSG_DONTWAIT) -> Message | None:
    """The next message; None when the other process has ended. Raises BlockingIOError if there is none now."""
    room = socket.CMSG_LEN(array.array("i").itemsize)
    try:
        data, along, *_ = way.recvmsg(_MOST_BYTES, room, flags | socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return None
    if not data:
        return None
    descriptors = array.array("i")
    for level, kind, content in along:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content)
    client = socket.socket(fileno=descriptors[0]) if descriptors else None
    return Message(data[:1], data[1:], client)
