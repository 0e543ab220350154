"""How long a socket waits, kept by the system."""

from __future__ import annotations

import socket
import struct


def set_patience(sock: socket.socket, direction: int, seconds: float | None) -> None:
    """Let a blocking socket give up after a while, with BlockingIOError.

    A timeout of Python's own costs two system calls more for each piece, and with each of them Python changes threads:
    with hundreds of streams under way that is most of what a piece costs.

    Arguments:
        direction: SO_RCVTIMEO or SO_SNDTIMEO (socket(7)).
        seconds: None: for ever. No time at all counts as the shortest that there is; to the system it means for ever.
    """
    whole, rest = 0, 0
    if seconds is not None:
        whole, rest = divmod(max(1, round(seconds * 1_000_000)), 1_000_000)
    sock.setsockopt(socket.SOL_SOCKET, direction, struct.pack("ll", whole, rest))
