"""Models of one's own that answer: alone and on a mesh, with adapters, by seeds; what is kept when a run is stopped."""

import shutil

import pytest

from jitune.evals.task import Generated
from jitune.generators.cached import Cached
from jitune.generators.call import Call, Lost, Reply
from jitune.generators.local import Local, open_local
from jitune.generators.open import open_generator
from jitune.generators.purse import Purse
from jitune.types import Pretrained, UserError
from tests.generators.stub import Engine, Tokenizer

CHAT = (("system", "Be brief."), ("user", "Name the colour of the house."))
HOT = [Call(CHAT, 6, 0.9, seed=seed) for seed in range(4)] + [Call("The house is", 6, 0.9, top_p=0.8, seed=2**40)]
COLD = [Call("The boat is", 7), Call((("user", "Name the river."),), 5, stop=("e",))]
PENALIZED = [Call("The boat is", 7, presence_penalty=3.0, frequency_penalty=1.0), Call("The boat is", 7, 0.9,
                                                                                    presence_penalty=3.0,
                                                                                    frequency_penalty=1.0)]
CALLS = [*HOT, *COLD, *PENALIZED]


@pytest.fixture(scope="module")
def on_mesh(toy_model):
    """On eight devices."""
    return open_generator({"model": str(toy_model), "batch_size": 5, "max_length": 256})


@pytest.fixture(scope="module")
def answers(on_mesh):
    return on_mesh.answer(CALLS)


@pytest.fixture(scope="module")
def pretrained(toy_model):
    """On one device."""
    from jitune.hub import weights

    return weights.load(toy_model, dtype="float32")


def texts(replies):
    return [(r.text, r.finish_reason, r.output_tokens) for r in replies]


def test_answers_depend_on_call_and_seed_alone(on_mesh, answers, pretrained):
    assert len({r.text for r in answers[:4]}) == 4 and all(isinstance(r, Reply) for r in answers)
    one = open_generator({"batch_size": 3, "max_length": 256}, pretrained=pretrained, digest="abc")
    assert one.identity["digest"] == "abc" and one.raw
    assert texts(one.answer(CALLS[:4:-1])) == texts(answers[:4:-1]), "in another batch, on another mesh"
    assert texts(one.answer(CALLS[1:4])) == texts(answers[1:4])
    assert answers[7].text != answers[5].text, "penalties change what is greedy"
    account = on_mesh.account
    assert account["output_tokens"] == sum(r.output_tokens for r in answers) and account["tokens_per_second"] > 0
    assert account["input_tokens"] == sum(r.input_tokens for r in answers)


def test_equal_calls_are_computed_once(on_mesh, answers):
    before = on_mesh.source.engine.stats["generated_tokens"]
    assert on_mesh.answer([*HOT, *HOT[::-1]]) == answers[:5] + answers[4::-1]
    assert on_mesh.source.engine.stats["generated_tokens"] == before


def test_nothing_is_computed_again_where_the_model_is_the_same(toy_model, pretrained, tmp_path):
    cache = tmp_path / "c.jsonl"
    shutil.copytree(toy_model, tmp_path / "moved")
    first = open_local(str(toy_model), max_length=256)
    calls = [Call("The boat is", 4), Call("The boat is", 4, 0.5, seed=3)]
    with_file = Cached(first, cache=cache)
    found = with_file.answer(calls)
    with_file.close()
    moved = Cached(open_local(str(tmp_path / "moved"), max_length=256), cache=cache)
    assert moved.answer(calls) == found and moved.account["calls"] == 0
    moved.close()
    other = open_generator({"max_length": 256}, pretrained=pretrained, digest="after a step of training", cache=cache)
    other.answer(calls)
    assert other.account["calls"] == 2
    other.close()
    with pytest.raises(UserError, match="needs a digest"):
        open_generator({}, pretrained=pretrained)


def test_an_adapter_answers_by_itself_and_beside_its_base(toy_model, pretrained, tmp_path):
    import jax
    import numpy as np

    from jitune.hub import peft
    from jitune.transforms.lora import lora

    transform = lora(2, 16, select="kernel")
    frozen, trainable = jax.jit(transform.init)(jax.random.key(0), pretrained.params)
    rng = np.random.default_rng(0)
    changed = jax.tree.map(lambda x: rng.normal(0, 1, x.shape).astype(np.float32), trainable)
    peft.save(tmp_path / "adapter", pretrained, transform, changed, frozen=frozen, base=str(toy_model))
    call = Call("The house is", 6)
    ways = {"model": str(toy_model), "adapter": str(tmp_path / "adapter")}, {"model": str(tmp_path / "adapter")}
    found = [open_generator({**section, "max_length": 256}) for section in ways]
    replies = [g.answer([call])[0] for g in found]
    assert replies[0] == replies[1] and found[0].identity["digest"] == found[1].identity["digest"]
    base = open_generator({"max_length": 256}, pretrained=pretrained, digest="x")
    assert base.answer([call])[0].text != replies[0].text
    with pytest.raises(UserError, match="is an adapter itself"):
        open_generator({"model": str(tmp_path / "adapter"), "adapter": str(tmp_path / "adapter")})


def test_a_text_that_does_not_fit_is_lost_and_a_tight_one_has_less_room(on_mesh):
    limit = on_mesh.source.engine.limit
    tokens = len(on_mesh.source.tokenizer("The boat")["input_ids"])
    tight = "The boat" * ((limit - 20) // tokens)
    long, short = on_mesh.answer([Call("The boat" * (limit // tokens + 1), 20), Call(tight, 5000)])
    assert long.reason == "too_long" and "tokens too many" in long.detail
    assert short.output_tokens + short.input_tokens <= limit and short.input_tokens >= limit - 20 - tokens


def stub(answer, tmp_path=None, *, identity=(), **purse):
    engine = Engine(answer)
    source = Local(Pretrained(None, None, Tokenizer(), None), {"kind": "local", "digest": "d", **dict(identity)},
                   chat_template="none", engine=engine)
    return engine, Cached(source, cache=tmp_path and tmp_path / "c.jsonl", purse=Purse(**purse))


def test_control_tokens_are_broken_up_in_conversations_and_kept_in_texts():
    engine, generator = stub(lambda text: Generated("x", "stop", 1))
    generator.answer([Call((("user", "a</s>b"), ("assistant", "[INST]"), ("user", "c")), 5), Call("a</s>b", 5)])
    assert engine.prompts == ["a< /s>b\n\n[ INST]\n\nc\n", "a</s>b"]


def test_a_run_that_is_stopped_loses_at_most_a_batch(tmp_path):
    class Stopped(Engine):
        def _give(self, found, on_done):
            on_done([(i, found[i]) for i in range(4)])
            raise KeyboardInterrupt

    _, generator = stub(lambda text: Generated(text, "stop", 1), tmp_path)
    generator.source.engine = Stopped(lambda text: Generated(text, "stop", 1))
    calls = [Call(f"prompt {i}", 5) for i in range(9)]
    with pytest.raises(KeyboardInterrupt):
        generator.answer(calls)
    generator.close()
    engine, again = stub(lambda text: Generated(text, "stop", 1), tmp_path)
    assert [r.text for r in again.answer(calls)] == [c.prompt for c in calls]
    assert engine.prompts == [c.prompt for c in calls[4:]] and again.account["cached"] == 4


def test_tokens_are_capped_and_what_is_left_over_is_used():
    engine, generator = stub(lambda text: Generated("x", "stop", 10), tokens=200)
    found = generator.answer([Call(f"{i:010}", 80) for i in range(12)])
    # Ten in, ten out where eighty might be: two fit at first, then one at a time until no ninety are left.
    assert len(engine.prompts) == 6 and found.count(Lost("budget")) == 6
    assert generator.account["input_tokens"] + generator.account["output_tokens"] == 120


def test_a_conversation_that_the_template_refuses_is_lost_alone(toy_model, pretrained):
    template = ("{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
                "{{ messages[0].content }}")
    source = Local(pretrained, {"kind": "local", "digest": "d"}, chat_template=template, max_length=256)
    generator = Cached(source)
    fine, lost = generator.answer([Call((("user", "The boat is"),), 4), Call(CHAT, 4)])
    assert isinstance(fine, Reply) and lost.reason == "failed" and "no system" in lost.detail
    assert generator.answer([Call(CHAT, 4)]) == [lost]
    again = Cached(source)
    with pytest.raises(UserError, match="no system"):
        again.answer([Call(CHAT, 4)])
    again.kept |= generator.kept  # as of a run that goes on
    assert again.answer([Call((("user", "The boat is"),), 4), Call(CHAT, 4)]) == [fine, lost]
