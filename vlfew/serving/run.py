"""A server from start to end."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from vlfew.core.errors import ConfigError, DataError
from vlfew.gallery.gallery import Gallery
from vlfew.serving.app import make_app
from vlfew.serving.keys import list_keys
from vlfew.serving.logs import log_event, log_to
from vlfew.serving.options import ServeOptions, is_loopback, served_hosts

STOP_SECONDS = 60
"""How long requests in flight have when the server is to stop."""


def serve(
    gallery: Gallery,
    host: str,
    port: int,
    options: ServeOptions,
    *,
    allow_hosts: tuple[str, ...] = (),
    certificate: Path | None = None,
    certificate_key: Path | None = None,
    ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serves a gallery until SIGTERM or Ctrl-C; what was acknowledged by then is in the gallery.

    Args:
        gallery: open.
        host: address to listen at.
        port: 0 takes a free one.
        options: what is allowed; keys are required beyond this machine, whatever they say.
        allow_hosts: further names that requests may call the server by.
        certificate, certificate_key: PEM files, for TLS.
        ready: called with the server's address when it listens.

    Raises:
        ConfigError: no key where one is needed, or a certificate that cannot be read.
        DataError: the address cannot be had.
    """
    import uvicorn

    options = replace(
        options,
        key_required=options.key_required or not is_loopback(host),
        hosts=served_hosts(host, allow_hosts),
        secure=certificate is not None,
    )
    check_keys(gallery, host, options)
    listener = _listen(host, port)
    config = uvicorn.Config(
        make_app(gallery, options),
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
        timeout_keep_alive=30,
        ssl_certfile=certificate,
        ssl_keyfile=certificate_key,
        ws="none",
        lifespan="on",
        backlog=2048,
    )
    try:
        config.load()
    except OSError as error:  # of ssl too
        raise ConfigError(f"the certificate {certificate} cannot be used: {error}") from None
    log_to()
    scheme = "https" if options.secure else "http"
    shown = f"[{host}]" if ":" in host else host
    address = f"{scheme}://{shown}:{listener.getsockname()[1]}"

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready(address)
                log_event("listening", pid=os.getpid())

    server = Server(config)
    with listener, _ended_by_signals():
        server.run(sockets=[listener])
    log_event("stopped")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Keeps the signals that end uvicorn from ending the process before the gallery is closed: uvicorn raises them
    again when it has stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(name, lambda *_: None) for name in names]
    try:
        yield
    finally:
        for name, handler in zip(names, before, strict=True):
            signal.signal(name, handler)


def check_keys(gallery: Gallery, host: str, options: ServeOptions) -> None:
    """
    Raises:
        ConfigError: a key is needed, and the gallery has none.
    """
    if options.key_required and not list_keys(gallery):
        raise ConfigError(
            f"a server at {host} needs a key, and {gallery.name} has none; make one: vlfew gallery key add "
            f"{gallery.name} NAME --scope read --scope write (none is needed at 127.0.0.1)"
        )


def _listen(host: str, port: int) -> socket.socket:
    """
    Raises:
        DataError: another program listens there, or this machine has no such address.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f"cannot listen at {host}, port {port}: {reason}; choose another --port or --host"
        ) from None
    return listener
