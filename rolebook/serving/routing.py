"""A worker among several, each of which answers some requests: the others go on to where they are answered."""

from __future__ import annotations

import socket
from typing import Any

from gunicorn import http  # type: ignore[import-untyped]
from gunicorn.workers import gthread  # type: ignore[import-untyped]

from rolebook.serving import crossing
from rolebook.serving.worker import Worker


class RoutingWorker(Worker):
    """Looks at how each request begins, in the loop, before a thread is taken for it."""

    def is_for_others(self, begin: bytes) -> bool:
        """Whether another process is to answer a request that begins so."""
        raise NotImplementedError

    def hand_over(self, conn: Any) -> bool:
        """Give a connection away, and let go of it at once or soon; False: it is answered here all the same."""
        raise NotImplementedError

    def let_go(self, conn: Any) -> None:
        """Close a connection here, where it has been given away or nobody can take it."""
        self.nr_conns -= 1
        conn.sock.close()

    def take(self, message: crossing.Message) -> None:
        """Go on with a connection that comes from another process."""
        assert message.client is not None
        self.nr_conns += 1
        conn = _connection(self.cfg, message.client)
        if message.rest:
            conn.parser = http.get_parser(self.cfg, conn.sock, conn.client)
            conn.parser.unreader.unread(message.rest)
            conn.data_ready = True
        self.enqueue_req(conn)

    def enqueue_req(self, conn: Any) -> None:
        begin = crossing.begin_of(conn)
        if begin is None and not conn.initialized:
            # It waits in the poller, as one does that a thread has found silent.
            self.finish(conn, gthread._DEFER)
        elif not (begin and self._is_foreign(conn, begin) and self.hand_over(conn)):
            super().enqueue_req(conn)

    def is_for_us(self, conn: Any) -> bool:
        begin = crossing.begin_of(conn)
        # That nothing more will come, need nobody else be told.
        return begin is not None and not (begin and self._is_foreign(conn, begin))

    def _is_foreign(self, conn: Any, begin: bytes) -> bool:
        # What comes from one of the processes themselves is for this one.
        return conn.sock.family != socket.AF_UNIX and self.is_for_others(begin)


def _connection(cfg: Any, client: socket.socket) -> Any:
    """A connection as gunicorn has it."""
    if client.family == socket.AF_UNIX:
        return gthread.TConn(cfg, client, ("127.0.0.1", 0), ("127.0.0.1", 0))
    try:
        peer = client.getpeername()
    except OSError:
        # It has gone already, which is found as soon as it is read.
        peer = ("", 0)
    return gthread.TConn(cfg, client, peer, client.getsockname())
