"""Serving an application until a signal ends it."""

from __future__ import annotations

import errno
import socket
from typing import Any

_LAST_PORT = 65535
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def listening_socket(host: str, port: int) -> socket.socket:
    """Takes a port, before minutes are spent on loading what is served there.

    Args:
        host: Name or address of this machine's network card.
        port: The port; 0: any that is free.

    Raises:
        ValueError: It is taken, may not be used, or there is no such host.
    """
    if port > _LAST_PORT:
        raise ValueError(f"--port {port}: ports end at {_LAST_PORT}")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ValueError(f"--host {host}: {error.strerror}") from None
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a page that has just ended
    try:
        found.bind(address)
        found.listen()
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRINUSE:
            raise ValueError(
                f"--port {port} is taken on {host}; name another, or 0 for any that is free"
            ) from None
        raise ValueError(f"--host {host} --port {port}: {error.strerror}") from None
    return found


def address_of(listening: socket.socket) -> str:
    """What to type into a browser on this machine."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def expected_hosts(host: str) -> tuple[str, ...]:
    """Names that requests may give the page; none: any, as it is open to other machines."""
    return _LOOPBACK if host in _LOOPBACK else ()


def make_server(app: Any) -> Any:
    """A server of an ASGI application, silent, that waits a second for open requests at its end.

    Returns:
        uvicorn's ``Server``: ``run(sockets=[...])`` serves until ``should_exit`` is set or a signal
        comes, which it then passes on.
    """
    import uvicorn

    config = uvicorn.Config(
        app, log_config=None, log_level="critical", ws="none", timeout_graceful_shutdown=1
    )
    return uvicorn.Server(config)
