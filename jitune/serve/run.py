"""From models to a server that answers until it is told to stop.

    with bind("127.0.0.1", 8000) as listener:                  # UserError where the port is taken
        serve(engine, models, options, listener, grace=30, opened=print)

The first SIGTERM or Ctrl-C: nothing more is taken, what runs is answered within `grace` seconds, and the rest is told
that the server ends. The second one ends the process at once.
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

from jitune.serve.app import Options, make_app
from jitune.serve.engine import Engine
from jitune.serve.models import Served
from jitune.types import UserError

BACKLOG = 512


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


async def _serve(engine, models, options, listener, grace: float, opened: Callable) -> None:
    import uvicorn

    app = make_app(engine, models, options)
    # Websockets and lifespan are not used; its log would say what `opened` does, and each request.
    config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", ws="none", backlog=BACKLOG,
                            server_header=False, timeout_graceful_shutdown=max(1, int(grace) + 2))  # fmt: skip
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # it would end the process by the signal, not with 0
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        if app.state.stopping:
            os._exit(128 + number)
        app.state.stopping = server.should_exit = True
        loop.call_later(grace, engine.stop)

    # Also where they are ignored, as Ctrl-C is in a shell's background.
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, RuntimeError):  # Windows; a thread that is not the main one
            loop.add_signal_handler(number, stop, number)
    work = asyncio.ensure_future(server.serve(sockets=[listener]))
    while not (server.started or work.done()):
        await asyncio.sleep(0.01)
    opened()
    await work
