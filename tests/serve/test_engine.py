"""The engine without a web server: models that are out of the ordinary, each held against `generate`."""

import queue
import threading

import jax
import numpy as np
import pytest

from jitune import sharding
from jitune.generation.generate import generate
from jitune.generation.sampling import GREEDY, Sampling
from jitune.models import decoder
from jitune.models.config import Rope
from jitune.serve.engine import Engine
from jitune.serve.row import Ask
from tests.evals import twin
from tests.generation import scripted as toys

LIMIT, NEW = 64, 26


def answers(engine, asks):
    """The tokens of each, all asked at once."""
    told = queue.Queue()
    rows = [engine.row("m", ask, told.put) for ask in asks]
    engine.submit("m", rows)
    while not all(row.done for row in rows):
        told.get(timeout=60)
    assert [row.failed for row in rows] == [""] * len(rows)
    return [row.tokens for row in rows]


def check(pretrained, *, rows, sampling=GREEDY, **options):
    """Rows with controls of their own, more than there are rows, are those of `generate`."""
    engine = Engine({"m": pretrained}, rows=rows, limit=LIMIT, queue=64, log=pytest.fail, **options)
    engine.start()
    prompts = toys.prompts_of((3, 20, 24, 25, 30, 9))
    try:
        found = answers(engine, [Ask(tuple(p), NEW, sampling, i) for i, p in enumerate(prompts)])
    finally:
        engine.close()
    stops = engine.lanes["m"].stop_ids
    expected = generate(pretrained.model, pretrained.params, pretrained.tokenizer, prompts, max_new_tokens=NEW,
                        sampling=sampling, batch_size=8, stop_ids=stops, max_positions=LIMIT, **options)
    assert found == [g.tokens for g in expected]


def test_rows_that_cross_the_length_where_a_longrope_turns():
    base = twin.pretrained()
    half = base.config.head_dim // 2
    rope = Rope("longrope", 10_000.0, short=(1.0,) * half, long=tuple(1.5 + 0.5 * i for i in range(half)),
                original_max_position=24, attention_factor=1.2)  # fmt: skip
    model = decoder.build(base.config.replace(ropes=(rope,), rope_of_layer=(0,) * base.config.num_layers))
    warm = Sampling(temperature=1.2, presence_penalty=1.5, repetition_penalty=1.3, seed=4)
    check(base._replace(model=model), rows=4, sampling=warm)


def test_rows_of_eight_devices_with_keys_and_values_in_8_bits():
    base = twin.pretrained()
    mesh = sharding.make_mesh()
    params = jax.device_put(base.params, sharding.shardings(base.params, mesh))
    assert {d for leaf in jax.tree.leaves(params) for d in leaf.devices()} == set(np.ravel(mesh.devices))
    check(base._replace(params=params), rows=8, kv_cache="int8")


def test_a_row_counts_once_from_its_place_in_the_queue_to_its_last_token():
    """Also while it is told of its first token, when it has a row and is on its way still."""
    engine, counts, done = Engine({"m": twin.pretrained()}, rows=4, limit=LIMIT, queue=4), [], threading.Event()
    engine.start()

    def tell(row):
        counts.append((engine.running, engine.free("m"), engine.waiting))
        done.set() if row.done else None

    try:
        engine.submit("m", [engine.row("m", Ask((3, 4, 5), 20, GREEDY, stream=True, bias={0: -100.0}), tell)])
        assert done.wait(60)
    finally:
        engine.close()
    assert counts == [(1, 3, 0)] * (len(counts) - 1) + [(0, 4, 0)] and len(counts) > 2
