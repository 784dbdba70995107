"""From models to a server that answers until it is told to stop.

    with bind("127.0.0.1", 8000) as listener:                  # UserError where the port is taken
        serve(engine, models, options, listener, grace=30, opened=print)

The first SIGTERM or Ctrl-C: nothing more is taken, what runs is answered within `grace` seconds, and the rest is told
that the server ends. The second one ends the process at once. Connections that stand still are cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

from jitune.serve.app import Options, make_app
from jitune.serve.engine import Engine
from jitune.serve.models import Served
from jitune.types import UserError

BACKLOG = 512
# uvicorn's own 5 s are also what clients keep connections for: both would hang up on each other.
KEEP_ALIVE = 45  # seconds that a connection may be idle between two requests
STALLED = 60.0  # seconds after which one is cut that sends no whole head of a request, or takes no end of a reply
CONNECTIONS = 1000  # beyond those that the engine has rows and places for
LAST_WORDS = 1.0  # seconds that clients have to take what they are told at the end


def bind(host: str, port: int) -> socket.socket:
    """A socket at an address of this machine; port 0 picks one that is free. It does not listen yet."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM,
                                                         flags=socket.AI_PASSIVE)[0]  # fmt: skip
        listener = socket.socket(family, kind)
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        return listener
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"--port {port}: is in use; another server may be running, or give --port 0 for a free "
                            "one") from None
        raise UserError(f"--host {host} --port {port}: cannot be served: {error.strerror or error}") from None


def serve(engine: Engine, models: Mapping[str, Served], options: Options, listener: socket.socket, *, grace: float,
          opened: Callable[[], None] = lambda: None) -> None:  # fmt: skip
    """Serves until it is told to stop, and ends the engine, which has been started. opened: called when it listens."""
    try:
        asyncio.run(_serve(engine, models, options, listener, grace, opened))
    finally:
        engine.close()


def web_server(app: Any, *, places: int, grace: float = 0.0) -> Any:
    """The `uvicorn.Server` of an application. places: rows and places of the engine's queue."""
    import uvicorn

    # Websockets and lifespan are not used; its log would say what `opened` does, and each request.
    config = uvicorn.Config(app, http=_patience(), log_level="error", access_log=False, lifespan="off", ws="none",
                            backlog=BACKLOG, server_header=False, timeout_keep_alive=KEEP_ALIVE,
                            limit_concurrency=CONNECTIONS + places,
                            timeout_graceful_shutdown=int(grace + LAST_WORDS) + 3)  # fmt: skip
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # it would end the process by the signal, not with 0
    return server


def _patience() -> type:
    """uvicorn's protocol, which waits for ever for the end of a request's head, and for a client to take its reply."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Patience(H11Protocol):
        def connection_made(self, transport) -> None:
            super().connection_made(transport)
            self._seen, self._next = ("idle", None), self.loop.call_later(STALLED, self._look)

        def connection_lost(self, exc) -> None:
            self._next.cancel()
            super().connection_lost(exc)

        def _look(self) -> None:
            """Cuts the connection if it stands where it stood the last time, and no answer is on its way."""
            idle = self.cycle is None or self.cycle.response_complete
            now = "ending" if self.transport.is_closing() else "idle" if idle else "busy", self.cycle
            if now == self._seen and now[0] != "busy":
                self.transport.abort()
                return
            self._seen, self._next = now, self.loop.call_later(STALLED, self._look)

    return Patience


async def _serve(engine, models, options, listener, grace: float, opened: Callable) -> None:
    app = make_app(engine, models, options)
    server = web_server(app, places=engine.rows * len(models) + engine.queue, grace=grace)
    loop = asyncio.get_running_loop()

    def cut() -> None:
        for connection in list(server.server_state.connections):
            connection.transport.abort()  # who reads nothing is not waited for

    def stop(number: int) -> None:
        if app.state.stopping:
            os._exit(128 + number)
        app.state.stopping = server.should_exit = True
        loop.call_later(grace, engine.stop)
        loop.call_later(grace + LAST_WORDS, cut)

    # Also where they are ignored, as Ctrl-C is in a shell's background.
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, RuntimeError):  # Windows; a thread that is not the main one
            loop.add_signal_handler(number, stop, number)
    work = asyncio.ensure_future(server.serve(sockets=[listener]))
    while not (server.started or work.done()):
        await asyncio.sleep(0.01)
    opened()
    await work
