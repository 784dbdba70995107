"""lm-evaluation-harness: its Hugging Face backend (torch) gives what ours gives, on what harnesses get wrong."""

import json
import random

import pytest

pytest.importorskip("torch")
pytest.importorskip("lm_eval")

from lm_eval.api.instance import Instance

from jitune.evals import harness
from jitune.evals.engine.engine import open_engine
from jitune.evals.progress import Bars
from jitune.evals.store import Store
from jitune.hub import fresh, weights
from jitune.types import UserError

MAX_LENGTH = 96
WORDS = "The house boat apple river is red green blue It was yellow before number Name the colour of 12 7".split()
LENGTHS = (1, 5, 20, 60, 90, 94, 95, 96, 97, 120, 300)


def add_bos(path) -> None:
    """Lets the tokenizer of a checkpoint begin every text with a BOS, and its chat template too."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.add_special_tokens({"bos_token": tokenizer.bos_token or "<|endoftext|>"})
    bos = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, tokenizer.bos_token_id)])
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    tokenizer.save_pretrained(path)
    again = AutoTokenizer.from_pretrained(path)
    assert again("x").input_ids[0] == again.bos_token_id != again.eos_token_id


@pytest.fixture(scope="module", params=["qwen3", "llama-bos"])
def models(request, tmp_path_factory, toy_data):
    """(the harness's model, ours) over one checkpoint; with llama-bos the tokenizer begins every text with a BOS."""
    from lm_eval.models.huggingface import HFLM

    path = tmp_path_factory.mktemp("lm_eval") / request.param
    fresh.create(path, family=request.param.partition("-")[0], preset="tiny", tokenizer_from=str(toy_data),
                 vocab_size=512, seed=5)
    if request.param.endswith("bos"):
        add_bos(path)
    theirs = HFLM(pretrained=str(path), device="cpu", dtype="float32", max_length=MAX_LENGTH, batch_size=4)
    ours = open_engine(weights.load(path, dtype="float32"), max_length=MAX_LENGTH, batch_size=4)
    with Bars(shown=False) as bars:
        yield theirs, harness.make_model(ours, None, bars)


def instances(kind: str, arguments: list[tuple]) -> list[Instance]:
    return [Instance(kind, {}, a, i) for i, a in enumerate(arguments)]


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count))


def pairs(bos: str) -> list[tuple[str, str]]:
    """Contexts and continuations: trailing spaces, over-long ones, empty ones, those that begin with the BOS."""
    rng = random.Random(3)
    found = [(words(rng, n), " " + words(rng, m)) for n in LENGTHS for m in (1, 2, 7)]
    found += [("The colour of the house ", "is red"), ("The colour  ", " is"), ("Answer:\n", "A"), ("red ", "blue ")]
    found += [("", "The house is red."), ("", words(rng, 50)), ("The house", "s are red")]
    found += [(f"The {thing} is", f" {colour}") for thing in ("house", "boat") for colour in ("red", "green", "blue")]
    return found + [(bos + "The house is", " red"), (bos, "red"), ("", bos + "red")] if bos else found


def test_log_likelihoods_and_greedy_flags(models):
    theirs, ours = models
    requests = instances("loglikelihood", pairs(theirs.tokenizer.bos_token or ""))
    expected, found = (m.loglikelihood(requests, disable_tqdm=True) for m in models)
    for request, (ll, greedy), (our_ll, our_greedy) in zip(requests, expected, found, strict=True):
        assert our_ll == pytest.approx(ll, abs=1e-4), request.args
        assert our_greedy == greedy, request.args


def test_a_continuation_longer_than_the_context_is_refused(models):
    """By an assertion there, by a message here."""
    (request,) = instances("loglikelihood", [("The", words(random.Random(1), 150))])
    with pytest.raises(AssertionError):
        models[0].loglikelihood([request], disable_tqdm=True)
    with pytest.raises(UserError, match="the continuation has .* tokens, and a window 96"):
        models[1].loglikelihood([request])


def test_a_greedy_continuation_is_told(models):
    """Flags that are never set would agree as well."""
    theirs, ours = models
    prompts = [words(random.Random(i), 6) for i in range(6)]
    texts = theirs.generate_until(instances("generate_until", [(p, {"until": [], "max_gen_toks": 3}) for p in prompts]),
                                  disable_tqdm=True)
    requests = instances("loglikelihood", [(p, t) for p, t in zip(prompts, texts, strict=True) if t])
    expected, found = ([g for _, g in m.loglikelihood(requests, disable_tqdm=True)] for m in models)
    assert expected == found and any(found)


def test_rolling_log_likelihoods(models):
    rng = random.Random(4)
    texts = [words(rng, n) for n in (1, 40, 94, 95, 96, 97, 191, 192, 400)]
    requests = instances("loglikelihood_rolling", [(text,) for text in texts])
    expected, found = (m.loglikelihood_rolling(requests, disable_tqdm=True) for m in models)
    assert found == pytest.approx(expected, abs=1e-4 * 5)


def test_generations(models):
    """Stop strings, limits, and prompts that leave no room: cut on the left."""
    rng = random.Random(6)
    options = [{"until": ["."], "max_gen_toks": 24}, {"until": ["\n", "red"], "max_gen_toks": 40}, {"until": []}]
    options[2] |= {"max_gen_toks": 16, "do_sample": False}
    arguments = [(words(rng, n), options[n % 3]) for n in (1, 2, 3, 10, 40, 63, 64, 65, 80, 81, 120, 300)]
    arguments.append(("The colour of the house ", options[0]))
    requests = instances("generate_until", arguments)
    expected, found = (m.generate_until(requests, disable_tqdm=True) for m in models)
    assert found == expected


def test_chat_templates(models):
    """The rendered conversation begins with the BOS where the template writes one, and gets no second."""
    theirs, ours = models
    chats = [[{"role": "system", "content": "Be short."}, {"role": "user", "content": f"Name a colour of {n} things."}]
             for n in range(4)]
    rendered = [[m.apply_chat_template(c) for c in chats] for m in models]
    assert rendered[0] == rendered[1]
    unfinished = [*chats[0], {"role": "assistant", "content": "Red"}]
    assert theirs.apply_chat_template(unfinished, False) == ours.apply_chat_template(unfinished, False)
    requests = instances("loglikelihood", [(text, "Red and blue.") for text in rendered[0]])
    expected, found = (m.loglikelihood(requests, disable_tqdm=True) for m in models)
    assert [x for x, _ in found] == pytest.approx([x for x, _ in expected], abs=1e-4)
    requests = instances("generate_until", [(text, {"until": ["."], "max_gen_toks": 12}) for text in rendered[0]])
    assert ours.generate_until(requests) == theirs.generate_until(requests, disable_tqdm=True)


def test_a_whole_task_gives_the_same_numbers(models, tmp_path):
    """Multiple choice, an exact match after generation, and a perplexity, from task files over local data."""
    import yaml
    from lm_eval import evaluator, tasks

    rng = random.Random(8)
    rows = [{"question": words(rng, 8), "choices": [words(rng, n) for n in (1, 2, 4)], "answer": i % 3,
             "text": words(rng, 30)} for i in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    shared = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
              "test_split": "test", "metadata": {"version": 1}}
    kinds = {
        "toy_choice": {"output_type": "multiple_choice", "doc_to_text": "{{question}}", "doc_to_choice": "choices",
                       "doc_to_target": "answer", "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]},
        "toy_answer": {"output_type": "generate_until", "doc_to_text": "{{question}}", "doc_to_target": "{{text}}",
                       "generation_kwargs": {"until": ["."], "max_gen_toks": 8},
                       "metric_list": [{"metric": "exact_match"}]},
        "toy_text": {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}",
                     "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}]},
    }
    for name, kind in kinds.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **shared, **kind}))
    theirs, ours = models
    manager = tasks.TaskManager(include_path=str(tmp_path), include_defaults=False)
    expected = evaluator.simple_evaluate(theirs, tasks=list(kinds), task_manager=manager, bootstrap_iters=0)
    with Bars(shown=False) as bars:
        works = harness.run_harness(ours.engine, list(kinds), store=None, bars=bars, chat=False,
                                    include_path=str(tmp_path))
    assert [task.name for task, *_ in works] == [f"lm_eval.{name}" for name in kinds]
    for task, documents, _, outcomes in works:
        for metric in task.metrics:
            name = task.name.removeprefix("lm_eval.")
            if metric.corpus:
                value = metric.corpus(documents, outcomes)
            else:
                value = sum(o.scores[metric.name] for o in outcomes) / len(outcomes)
            given = expected["results"][name][f"{metric.name},none"]
            assert value == pytest.approx(given, rel=1e-4), (name, metric.name)



def test_a_rerun_asks_for_nothing(models, tmp_path):
    """Texts in windows are kept as everything else is."""
    engine = models[1].engine
    texts = instances("loglikelihood_rolling", [(words(random.Random(i), 120),) for i in range(3)])
    with Bars(shown=False) as bars, Store(tmp_path / "responses.jsonl", {}) as store:
        first = harness.make_model(engine, store, bars).loglikelihood_rolling(texts)
        asked = engine.stats["requests"]
        assert harness.make_model(engine, store, bars).loglikelihood_rolling(texts) == first
        assert engine.stats["requests"] == asked and len(store.values) == 3
