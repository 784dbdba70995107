"""A model of one's own as the judge, by an engine that is scripted and by the real one."""

import json

import pytest

from jitune.evals.judge import prompts
from jitune.evals.judge.judge import Judge, open_judge
from jitune.evals.task import Ask, Generated, LogLikelihood, Verdict
from jitune.generators.local import Local
from jitune.types import Pretrained
from tests.conftest import make_toy_model
from tests.generators.stub import Engine, Tokenizer


def opened(answer, **options):
    engine = Engine(answer)
    source = Local(Pretrained(None, None, Tokenizer(), None), {"kind": "local", "model": "m"}, chat_template="none",
                   engine=engine)
    return engine, Judge(source, lambda call: {"max_tokens": call.max_tokens}, **options)


def asks(*texts):
    return [Ask((("system", "Judge."), ("user", text)), 50) for text in texts]


def test_answers_come_in_order_and_are_kept(tmp_path):
    engine, judge = opened(lambda text: Generated(text.split()[-1].upper(), "stop", 3), cache=tmp_path / "c.jsonl")
    seen = []
    assert [v.value for v in judge.answer(asks("a", "b", "c"), seen.extend)] == ["A", "B", "C"]
    assert engine.asked == [(50, 0.0)] * 3
    assert [i for i, _ in seen] == [1, 2, 0] and judge.account["output_tokens"] == 9
    judge.answer(asks("a", "b", "c"))
    assert len(engine.prompts) == 3


def test_what_does_not_fit_or_is_cut_off_is_no_verdict():
    _, judge = opened(lambda text: Generated("[[A]]", "length" if "long" in text else "stop", 50))
    wide = "w" * (300 - 16 - len("Judge.\n\n\n"))  # leaves 16 tokens to answer in, but for the seven more
    found = judge.answer(asks("good", "long", wide + "w" * 7))
    assert found == [Verdict("[[A]]"), Verdict(None, "judge: the answer was cut off at 50 tokens"),
                     Verdict(None, "judge: the question does not fit its context (7 tokens too many)")]


def test_no_control_token_of_the_judge_is_left_in_what_it_reads():
    engine, judge = opened(lambda text: Generated("x", "stop", 1))
    judge.answer(asks("a</s>b [INST] <s><|im_end|>\n<<s>s>"))
    text = engine.prompts[0]
    assert not any(t in text for t in ("</s>", "<s>", "[INST]", "<|im_end|>")) and "\n" in text


def test_first_tokens_by_scores():
    _, judge = opened(lambda option: LogLikelihood({"A": -1.0, "B": -2.0}[option], False, 1))
    assert judge.prefer([prompts.letter("Q", "x", "y")])[0].value == pytest.approx(1 / (1 + 2.718281828 ** -1))


def test_a_real_model_judges_and_is_told_apart(toy_model, toy_data, tmp_path):
    pytest.importorskip("jitune.evals.engine.engine")
    other = make_toy_model(tmp_path / "other", "llama", toy_data)
    cache = tmp_path / "c.jsonl"
    short = [Ask((("user", f"Is {i} right?"),), 4) for i in range(3)]
    judge = open_judge(str(toy_model), cache=cache, local={"batch_size": 2})
    found = judge.answer(short)
    judge.close()
    assert all(v.value is not None or "cut off" in v.failure for v in found)
    assert judge.account["calls"] == 3 and judge.account["cost"] is None
    again = open_judge(str(toy_model), cache=cache)
    assert again.answer(short) == found and again.account["calls"] == 0
    again.close()
    third = open_judge(str(other), cache=cache)
    third.answer(short)
    third.close()
    assert third.account["calls"] == 3
    assert len(cache.read_text().splitlines()) == 7 and json.loads(cache.read_text().splitlines()[0])


def test_an_adapter_judges_with_the_base_that_it_names(toy_model, tmp_path):
    pytest.importorskip("jitune.evals.engine.engine")
    import jax
    import numpy as np

    import jitune
    from jitune.hub import peft
    from jitune.transforms.lora import lora

    base, transform = jitune.load(toy_model, dtype="float32"), lora(2, 16, select="q_proj/kernel")
    frozen, trainable = jax.jit(transform.init)(jax.random.key(0), base.params)
    seen = {"base": open_judge(str(toy_model)).identity}
    for name, size in (("small", 0.0), ("large", 1.0)):
        changed = jax.tree.map(lambda x, size=size: np.full(x.shape, size, np.float32), trainable)
        peft.save(tmp_path / name, base, transform, changed, frozen=frozen, base=str(toy_model))
        judge = open_judge(str(tmp_path / name))
        seen[name] = judge.identity
        assert 0 <= judge.prefer([prompts.letter("Q", "x", "y")])[0].value <= 1
    assert len({i["digest"] for i in seen.values()}) == 3
