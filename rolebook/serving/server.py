"""Start the server, and end it well."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable

from flask import Flask

from rolebook.core.patience import set_patience
from rolebook.serving.gateways import Gateways, PagesWorker
from rolebook.serving.worker import Service, Worker, make_worker

PATIENCE = 10
"""Seconds without a byte from a client, or without room for one, before its thread is taken back."""


def serve(
    app: Flask,
    *,
    address: tuple[str, int],
    threads: int = 256,
    gateways: Gateways | None = None,
    service: Service,
    on_ready: Callable[[str, int], None],
) -> None:
    """Serve `app` until SIGTERM, ctrl-C or the end of its terminal, then end this process with status 0.

    `on_ready` gets the address that was bound (port 0 takes a free one). `service` is told to stop when the server is
    asked to, so that live streams end. Whatever lives `GRACE` seconds later is cut. After that it is closed; a second
    signal goes without it. Requests for ``/v1`` go to the processes of `gateways`, if there are any, which end with
    this one. Raises OSError when the address cannot be bound.
    """
    listener = _listen(*address)
    bound_host, bound_port = listener.getsockname()[:2]

    def stop() -> None:
        service.stop()
        if gateways:
            gateways.stop()

    worker = make_worker(
        PagesWorker if gateways else Worker,
        app,
        [listener],
        threads=threads,
        on_ready=lambda: on_ready(bound_host, bound_port),
        on_look=service.tidy,
        on_stop=stop,
    )
    if gateways:
        worker.gateways = gateways
    worker.init_process()
    if gateways:
        gateways.wait()
    service.close()
    sys.stdout.flush()
    sys.stderr.flush()
    # Pool threads that outlived the grace would be joined at a normal exit, without a deadline.
    os._exit(0)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted connections inherit these.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    set_patience(listener, socket.SO_RCVTIMEO, PATIENCE)
    set_patience(listener, socket.SO_SNDTIMEO, PATIENCE)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener
