"""A queue in few rows: each answer is that of its prompt alone, whatever went before it in its row."""

import jax
import numpy as np
import pytest

from jitune import sharding
from jitune.evals.engine.answers import shape_of
from jitune.evals.engine.engine import open_engine
from jitune.generation import decode_loop, slots
from jitune.generation.batches import Answer
from jitune.generation.decode_loop import slots_in_front
from jitune.generation.generate import generate
from jitune.generation.sampling import Sampling
from jitune.transforms.prefix import prefix
from jitune.types import EVERYONE
from tests.evals import twin

LIMIT = 192  # so that the queue below outgrows the cache several times
LENGTHS = (3, 90, 1, 64, 65, 17, 150, 2, 33, 5, 128, 8, 70, 21, 4, 100, 1, 9)
NEW = (60, 5, 33, 1, 40, 100, 20, 90, 2, 64, 30, 7, 1, 50, 120, 3, 66, 12)


def jobs_of(given, *, temperature=0.0):
    rng = np.random.default_rng(2)
    prompts = [rng.integers(1, given.config.vocab_size, n).tolist() for n in LENGTHS]
    return prompts, [slots.Waiting(Answer(given.tokenizer, prompt, frozenset(), ()), 40 + i, new, temperature)
                     for i, (prompt, new) in enumerate(zip(prompts, NEW, strict=True))]  # fmt: skip


def serve(given, waiting, *, rows, sampling, limit=LIMIT):
    mesh, shape = sharding.mesh_of(given.params), shape_of(max(LENGTHS), limit)
    done = list(slots.serve(given.model, given.params, mesh, waiting, sampling=sampling, stop_ids=(), rows=rows,
                            limit=limit, shape=shape))  # fmt: skip
    flat = [i for batch in done for i in batch]
    assert sorted(flat) == list(range(len(waiting)))
    return done


def alone(given, prompts, sampling, row_ids):
    """Tokens of each, each in a batch of its own."""
    return [generate(given.model, given.params, given.tokenizer, [prompt], max_new_tokens=new, sampling=sampling,
                     batch_size=1, row_ids=[row])[0].tokens
            for prompt, new, row in zip(prompts, NEW, row_ids, strict=True)]  # fmt: skip


@pytest.fixture(scope="module")
def moves():
    """Counts how often rows are moved, and put in."""
    found, originals = {"align": 0, "insert": 0}, (slots.align, slots.insert)

    def counted(name, function):
        def call(*args, **options):
            found[name] += 1
            return function(*args, **options)

        return call

    slots.align, slots.insert = counted("align", originals[0]), counted("insert", originals[1])
    yield found
    slots.align, slots.insert = originals


@pytest.mark.parametrize("family", ["llama", "mistral"])  # the latter sees a window of its last slots only
def test_answers_are_those_of_each_prompt_alone(family, moves):
    given, sampling = twin.pretrained(family), Sampling(temperature=0.8, seed=3)
    prompts, waiting = jobs_of(given, temperature=0.8)
    done = serve(given, waiting, rows=3, sampling=sampling)
    expected = alone(given, prompts, sampling, [w.row_id for w in waiting])
    assert [w.answer.tokens for w in waiting] == expected
    assert len(done) > 6 and moves["align"] >= 1 and moves["insert"] >= 6


def test_behind_a_prefix():
    base = twin.pretrained()
    transform = prefix(7, model=base.model)
    params = jax.jit(transform.init)(jax.random.key(5), base.params)
    given = base._replace(model=transform.apply(base.model), params=params)
    assert slots_in_front(given.model) == 7
    prompts, waiting = jobs_of(given)
    serve(given, waiting, rows=4, sampling=Sampling())
    assert [w.answer.tokens for w in waiting] == alone(given, prompts, Sampling(), range(len(prompts)))


def test_on_a_mesh():
    given = twin.pretrained()
    prompts, waiting = jobs_of(given)
    serve(given, waiting, rows=4, sampling=Sampling())
    mesh = sharding.make_mesh(1, 4, 2)
    there = given._replace(params=jax.device_put(given.params, sharding.shardings(given.params, mesh)))
    _, again = jobs_of(there)
    serve(there, again, rows=4, sampling=Sampling())
    assert [w.answer.tokens for w in again] == [w.answer.tokens for w in waiting]


def test_a_row_that_is_free_takes_the_next_prompt_at_once():
    """Ten short answers go through the other row while one long answer is written."""
    given = twin.pretrained()
    waiting = [slots.Waiting(Answer(given.tokenizer, [5, 6], frozenset(), ()), i, new, 1.0)
               for i, new in enumerate((150, *[10] * 10))]  # fmt: skip
    order = [i for done in serve(given, waiting, rows=2, sampling=Sampling()) for i in done]
    assert order.index(0) >= 4 and sorted(order) == list(range(11))
    assert [len(w.answer.tokens) for w in waiting] == [150, *[10] * 10]


def test_what_is_moved_keeps_its_place_behind_those_in_front():
    given = twin.pretrained()
    cache = given.model.init_cache(1, 8)._replace(front=2)
    segments = np.asarray([[EVERYONE, EVERYONE, 0, 0, 1, 1, 1, 9]], np.int32)
    k = jax.numpy.broadcast_to(jax.numpy.arange(8.0)[None, :, None, None], cache.layers[0].k.shape)

    def state():
        layers = tuple(layer._replace(k=k + 0, v=k + 0) for layer in cache.layers)
        held = cache._replace(layers=layers, length=jax.numpy.int32(7), segment_ids=jax.numpy.asarray(segments))
        return decode_loop.State(held, *(jax.numpy.zeros(1, jax.numpy.int32) for _ in range(4)), None, None)

    left = slots.align(state(), 3, front=2).cache
    assert left.segment_ids.tolist() == [[EVERYONE, EVERYONE, 1, 1, 1, 0, 0, 0]] and left.length == 5
    assert left.layers[0].k[0, :5, 0, 0].tolist() == [0, 1, 4, 5, 6]
    right = slots.align(state(), 6, front=2).cache
    assert right.segment_ids.tolist() == [[EVERYONE, EVERYONE, 0, 0, 0, 1, 1, 1]] and right.length == 8
    assert right.layers[-1].v[0, [0, 1, 5, 6, 7], 0, 0].tolist() == [0, 1, 4, 5, 6]


def test_an_engine_counts_what_it_generates():
    given = twin.pretrained()
    engine = open_engine(given, batch_size=2, max_length=LIMIT)
    seen = []
    found = engine.generate_tokens([[3, 4, 5]] * 1 + [[7]] * 1 + [[9, 9]], max_new_tokens=[90, 3, 4],
                                   on_done=lambda batch: seen.append([i for i, _ in batch]))  # fmt: skip
    assert sorted(i for batch in seen for i in batch) == [0, 1, 2] and seen[-1] == [0]
    assert engine.stats["generated_tokens"] == sum(g.tokens for g in found)
