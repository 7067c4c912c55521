"""The server's life: an address to listen at, uvicorn, and an orderly end."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from unisync.errors import OptionError
from unisync.options import ServeOptions
from unisync.server.app import make_app
from unisync.server.desk import Desk
from unisync.server.guard import is_loopback

TOKEN = "UNISYNC_TOKEN"
"""The environment's name for the token."""
KEEP_ALIVE_SECONDS, LAST_SECONDS, CONNECTIONS = 15, 5, 512


class _Server(uvicorn.Server):
    """Tells streams of events that they end, for which it would wait otherwise."""

    def __init__(self, config: uvicorn.Config, desk: Desk) -> None:
        super().__init__(config)
        self.desk = desk

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.desk.stopping = True
        super().handle_exit(sig, frame)


def serve(options: ServeOptions, tell: Callable[[str], None]) -> None:
    """Serve until a signal ends it. tell: is called with the address once it is open.

    Raises OptionError for an address that others reach without a token, and for one that cannot be opened.
    """
    token = options.token or os.environ.get(TOKEN) or None
    if token is None and not is_loopback(options.host):
        raise OptionError(
            f"{options.host} can be reached from elsewhere: choose a token ({TOKEN}), or --host 127.0.0.1"
        )
    app = make_app(options, token)
    config = uvicorn.Config(
        app,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=LAST_SECONDS,
        limit_concurrency=CONNECTIONS,
    )
    with _listening(options.host, options.port) as listening:
        host, port = listening.getsockname()[:2]
        tell(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        _Server(config, app.state.desk).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise OptionError(f"{host}:{port} cannot be listened at ({error.strerror}); choose another port") from error
