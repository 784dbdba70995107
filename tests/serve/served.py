"""A server in this process for the tests: tiny models behind a port of its own, and a client."""

import asyncio
import contextlib
import json
import socket
import threading
import time

import jax
import jax.numpy as jnp
import openai

from jitune.serve.app import Options, make_app
from jitune.serve.engine import Engine
from jitune.serve.models import offer
from jitune.serve.run import bind, web_server
from jitune.transforms.lora import lora
from tests.evals import twin

LIMIT = 256
BROKEN_TOKEN = 9  # of the model "broken": its embedding is no number


def models():
    """The base, an adapter that changes it much, and the base with one token that is broken."""
    base = twin.pretrained()
    transform = lora(4, alpha=8, select="layers/attn/")
    frozen, trainable = transform.init(jax.random.key(3), base.params)
    noise = iter(jax.random.split(jax.random.key(4), len(jax.tree.leaves(trainable))))
    trainable = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(next(noise), x.shape, x.dtype), trainable)
    adapted = base._replace(model=transform.apply(base.model), params=(frozen, trainable))
    embedding = base.params["embed"]["embedding"]
    params = {**base.params, "embed": {**base.params["embed"], "embedding": embedding.at[BROKEN_TOKEN].set(jnp.nan)}}
    return {"base": base, "poems": adapted, "broken": base._replace(params=params)}


class Server:
    """url: up to /v1. engine, app: what is behind it."""

    def __init__(self, given, *, rows=4, queue=64, limit=LIMIT, **options):
        self.logged = []
        self.engine = Engine(given, rows=rows, limit=limit, queue=queue, log=self.logged.append)
        self.engine.start()
        fingerprints = {name: f"fp_{name}" for name in given}
        self.app = make_app(self.engine, offer(given, self.engine, fingerprints=fingerprints),
                            Options(log=self.logged.append, **options))  # fmt: skip
        self.listener = bind("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.server = web_server(self.app, places=rows + queue)
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve(sockets=[self.listener])))
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def client(self, **options):
        return openai.OpenAI(base_url=self.url, **{"api_key": "none", "max_retries": 0, "timeout": 60, **options})

    def stop(self):
        self.server.should_exit = True
        self.thread.join()
        self.engine.close()

    @contextlib.contextmanager
    def held(self, turns=0):
        """No turn begins in here but as many as are let through: these at first, and more by `release(more)`."""
        originals, gate = {name: lane.turn for name, lane in self.engine.lanes.items()}, threading.Semaphore(turns)
        opened = threading.Event()

        def waits(turn):
            def late(shared):
                while not opened.is_set() and not gate.acquire(timeout=0.01):
                    pass
                return turn(shared)
            return late

        for name, lane in self.engine.lanes.items():
            lane.turn = waits(originals[name])
        try:
            yield gate.release
        finally:
            opened.set()
            for name, lane in self.engine.lanes.items():
                lane.turn = originals[name]

    def rows(self):
        """What the engine answers now."""
        lanes = self.engine.lanes.values()
        return [entry.answer for lane in lanes for entry in (*lane.taken, *lane.rows.live.values())]

    def post(self, body):
        """A connection on which a completion is asked for; to close it is to hang up."""
        raw, head = json.dumps(body).encode(), b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
        connection = socket.create_connection(self.listener.getsockname())
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(raw) + raw)
        return connection

    def wait(self, reached, seconds=20):
        """Until `reached(engine)`."""
        end = time.monotonic() + seconds
        while not reached(self.engine):
            assert time.monotonic() < end, (self.engine.running, self.engine.waiting)
            time.sleep(0.005)


@contextlib.contextmanager
def served(given, **options):
    """A server for the time of a with."""
    server = Server(given, **options)
    try:
        yield server
    finally:
        server.stop()
