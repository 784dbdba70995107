"""A server under many clients: tokens/s and time to the first token, beside one client at a time.

    python scripts/bench/serve.py --workload small --clients 50 --rows 8

One JSON line. sequential, concurrent: tokens/s of all answers, by one client after another and by all at once, which
take turns. first_token: seconds until a streaming client has its first text, in the median and at most; first_alone:
where nobody else asks. compile: seconds of the start.
"""

import argparse
import asyncio
import statistics
import threading
import time

from common import WORKLOADS, emit


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--workload", choices=WORKLOADS, default="small")
    p.add_argument("--clients", type=int, default=50)
    p.add_argument("--rows", type=int, default=8)
    p.add_argument("--length", type=int, default=32, help="tokens of a prompt")
    p.add_argument("--new", type=int, default=32, help="tokens of an answer")
    p.add_argument("--rounds", type=int, default=2)
    return p.parse_args()


def serve(a):
    """(server, its URL, seconds of the start); the model is random."""
    import jax

    from jitune.models import decoder
    from jitune.models.config import ModelConfig
    from jitune.serve.app import Options, make_app
    from jitune.serve.engine import Engine
    from jitune.serve.models import offer
    from jitune.serve.run import bind, web_server
    from jitune.types import Pretrained
    from tests.data import toy

    shapes, _, _ = WORKLOADS[a.workload]
    config = ModelConfig.from_hf({"model_type": "llama", "max_position_embeddings": 1024, **shapes})
    model = decoder.build(config)
    models = {"m": Pretrained(model, jax.jit(model.init)(jax.random.key(0)), toy.make_tokenizer(), config)}
    engine = Engine(models, rows=a.rows, limit=512, queue=a.clients)
    seconds = engine.start()
    listener = bind("127.0.0.1", 0)
    app = make_app(engine, offer(models, engine, fingerprints={}), Options())
    server = web_server(app, places=a.rows + a.clients)
    threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return server, f"http://127.0.0.1:{listener.getsockname()[1]}/v1", seconds


async def ask(client, a, number, firsts):
    """One stream; notes its time to the first event."""
    began = time.perf_counter()
    prompt = [3 + (number * 7 + i) % 300 for i in range(a.length)]
    # Ids that end answers are ruled out: all are equally long.
    stream = await client.completions.create(model="m", prompt=prompt, max_tokens=a.new, temperature=0, stream=True,
                                             logit_bias={"0": -100})
    first = None
    async for _ in stream:
        first = first or time.perf_counter() - began
    firsts.append(first)


async def rate(a, url, together):
    """(tokens/s, times to the first token)."""
    import openai

    firsts = []
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=600) as client:
        began = time.perf_counter()
        if together:
            await asyncio.gather(*(ask(client, a, i, firsts) for i in range(a.clients)))
        else:
            for i in range(a.clients):
                await ask(client, a, i, firsts)
        return a.clients * a.new / (time.perf_counter() - began), firsts


def main():
    a = parse()
    server, url, seconds = serve(a)
    found = {True: [], False: []}
    for turn in range(a.rounds + 1):
        for together in (False, True):
            one = asyncio.run(rate(a, url, together))
            if turn:  # the first warms up
                found[together].append(one)
    speeds = {together: statistics.median(speed for speed, _ in runs) for together, runs in found.items()}
    firsts = {together: [x for _, times in runs for x in times] for together, runs in found.items()}
    emit(workload=a.workload, clients=a.clients, rows=a.rows, sequential=round(speeds[False], 1),
         concurrent=round(speeds[True], 1), ratio=round(speeds[True] / speeds[False], 2), compile=round(seconds, 1),
         first_alone=round(statistics.median(firsts[False]), 4), first_token=round(statistics.median(firsts[True]), 3),
         first_most=round(max(firsts[True]), 3), n=a.rounds)
    server.should_exit = True


if __name__ == "__main__":
    main()
