"""Scores of curation against transformers and torch, one text at a time, as the authors' scripts go about it."""

import json

import pytest

torch = pytest.importorskip("torch", reason="the reference implementations need torch")

import numpy as np
import transformers

import jitune
from jitune.construct.curate.scores import deita, ifd, perplexity
from jitune.construct.curate.scores.embed import embed_texts
from jitune.data.formats import to_example
from jitune.data.record import from_example
from jitune.evals.engine.engine import open_engine
from jitune.hub import weights
from jitune.types import Pretrained
from tests.data import toy
from tests.generation import scripted as toys

torch.set_num_threads(1)
LOSS = 1e-4
INTRO = "Below is an instruction that describes a task"
ASK = "Write a response that appropriately completes the request.\n\n### Instruction:\n"
ROWS = [
    ("Name the colour of the house.", "", "The house is red."),
    ("Name the colour of the boat.", "The boat number 7 is blue.", "The boat is blue. It was blue before."),
    ("two plus two?", "", "4"),
    ("Say it in {input} braces {}.", "écoute 你好 🙂 {instruction}", " four, and  a space in front\n"),
    ("tell a story " * 6, "", "the quick brown fox " * 40),  # the answer is cut
    ("tell a story " * 30, "about a fox", "the quick brown fox " * 3),
]


@pytest.fixture(scope="module", params=["toy", "bos"])
def pair(request, tmp_path_factory, toy_model):
    """(engine, the same model in torch, its tokenizer), without and with a BOS."""
    path = toy_model
    if request.param == "bos":
        path = tmp_path_factory.mktemp("scores") / "llama"
        corpus = [text for text in toy.CORPUS if "1" not in text]  # else " 1" becomes one token
        tokenizer = toy.make_tokenizer(bos="<bos>", add_bos=True, corpus=corpus)
        model, params, config = toys.tiny("llama", vocab_size=len(tokenizer))
        weights.save(path, Pretrained(model, params, tokenizer, config))
    reference = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    engine = open_engine(jitune.load(path, dtype="float32"))
    assert (tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id) == (request.param == "bos")
    return engine, reference, tokenizer


def token_losses(reference, ids):
    """The loss of every token but the first."""
    with torch.no_grad():
        logits = reference(torch.tensor([ids])).logits[0]
    return torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="none").double().numpy()


def part_loss(reference, tokenizer, front, answer, most):
    """Mean loss of what comes after as many tokens as `front` has; None where nothing does."""
    ids = tokenizer.encode(front + answer)[: max(most, 0)]
    start = max(len(tokenizer.encode(front)), 1)
    return token_losses(reference, ids)[start - 1 :].mean() if len(ids) > start else None


def cherry(reference, tokenizer, row, most):
    instruction, more, answer = row
    front = f"{INTRO}, paired with an input that provides further context. {ASK}" if more else f"{INTRO}. {ASK}"
    front += instruction + (f"\n\n### Input:\n{more}" if more else "") + "\n\n### Response:"
    left = most - min(len(tokenizer.encode(front)), most) - 2
    alone = part_loss(reference, tokenizer, "### Response:", answer, left) if left > 4 else None
    return part_loss(reference, tokenizer, front, answer, most), alone


def superfiltering(reference, tokenizer, row, most):
    instruction, more, answer = row
    front = f"{instruction}\n{more}\n" if more else f"{instruction}\n"
    left = most - min(len(tokenizer.encode(front)), most) + 1
    return part_loss(reference, tokenizer, front, answer, most), part_loss(reference, tokenizer, "", answer, left)


@pytest.mark.parametrize("variant, reference_of, most", [
    ("ifd", cherry, 512), ("ifd", cherry, 250), ("ifd_ppl", superfiltering, 1024), ("ifd_ppl", superfiltering, 90),
])  # fmt: skip
def test_ifd_is_that_of_the_authors(pair, variant, reference_of, most):
    engine, reference, tokenizer = pair
    prompt = ifd.VARIANTS[variant][0]
    measured = ifd.measure_parts(engine, ROWS, prompt=prompt, max_length=most)
    found = ifd.scores(measured, variant)
    scored = 0
    for row, value, columns in zip(ROWS, found, measured, strict=True):
        after, alone = reference_of(reference, tokenizer, row, most)
        if after is None or alone is None:
            assert np.isnan(value) and columns[5]
            continue
        np.testing.assert_allclose(columns[:2], [after, alone], rtol=LOSS)
        expected = after / alone if variant == "ifd" else np.exp(after) / np.exp(alone)
        np.testing.assert_allclose(value, expected, rtol=LOSS)
        scored += 1
    cut = (measured[:, 4] > 0) & (measured[:, 5] == 0)
    assert scored >= 3 and (most > 500 or cut.any()), "some are scored, and some of them are cut"


def test_the_variants_differ(pair):
    measured = ifd.measure_parts(pair[0], ROWS[:2], prompt="alpaca")
    assert np.abs(ifd.scores(measured, "ifd") - ifd.scores(measured, "ifd_ppl")).min() > 1e-4


def test_perplexity(pair):
    engine, reference, tokenizer = pair
    records = [from_example(to_example({"instruction": a, "output": c}, ("a.json", i)))
               for i, (a, _, c) in enumerate(ROWS, 1)]  # fmt: skip
    found = perplexity.scores(perplexity.measure(engine, records, of="answer", prompt="plain", max_length=100))
    whole = perplexity.scores(perplexity.measure(engine, records, of="text", max_length=100))
    for (instruction, _, answer), value, text in zip(ROWS, found, whole, strict=True):
        expected = part_loss(reference, tokenizer, instruction + "\n", answer, 100)
        if expected is None:
            assert np.isnan(value)
        else:
            np.testing.assert_allclose(value, np.exp(expected), rtol=LOSS)
        expected = token_losses(reference, tokenizer.encode(f"{instruction}\n\n{answer}")[:100]).mean()
        np.testing.assert_allclose(text, np.exp(expected), rtol=LOSS)


def deita_score(reference, tokenizer, text, single):
    """The expected label of a prompt: from one position's logits, or from whole continuations."""
    if single:
        with torch.no_grad():
            logits = reference(torch.tensor([tokenizer.encode(text)])).logits[0, -1]
        picked = logits[tokenizer.convert_tokens_to_ids(list("123456"))].double()
    else:
        kept, picked = tokenizer.encode(text.rstrip()), []
        for label in "123456":
            ids = tokenizer.encode(text + label)
            picked.append(-token_losses(reference, ids)[len(kept) - 1 :].sum())
        picked = torch.tensor(picked)
    return float((picked.softmax(0) * torch.arange(1, 7)).sum())


def test_deita(pair, request):
    engine, reference, tokenizer = pair
    joined, _ = deita.label_tokens(engine.pretrained.tokenizer, deita.COMPLEXITY)
    assert joined == ("toy" in request.node.name), "one tokenizer has each label as a token there, the other has not"
    rows = [ROWS[0], ROWS[2], ROWS[3][:2] + ("four",)]
    messages = [{"role": role, "content": text} for a, _, c in rows for role, text in (("user", a), ("assistant", c))]
    records = [from_example(to_example({"messages": m}, ("a.json", 1))) for m in (messages[:2], messages)]
    measured = deita.measure(engine, records)
    parts = []
    for instruction, _, answer in rows:
        complexity = ("You are a helpful assistant. Please identify the complexity score of the following user query. "
                      f"\n##Query: {instruction}  \n##Complexity: ")
        quality = ("You are a helpful assistant. Please identify the quality score of the Response corresponding to "
                   f"the Question. \n #Question#:\n{instruction}\n#Response#:\n{answer} \n##Quality: ")
        parts.append([deita_score(reference, tokenizer, text, not joined) for text in (complexity, quality)])
    parts = np.asarray(parts)
    expected = [[*parts[0], parts[0].prod(), 1, 0, 0], [*parts.mean(axis=0), parts.prod(axis=1).sum(), 3, 0, 0]]
    np.testing.assert_allclose(measured, expected, rtol=LOSS)
    assert np.ptp(parts) > 1e-3


def test_embeddings(pair):
    engine, reference, tokenizer = pair
    some = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    tokenizer.padding_side = "right"
    given = tokenizer(some, padding=True, return_tensors="pt")
    inputs = {key: given[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        hidden = reference(**inputs, output_hidden_states=True).hidden_states[-1]
    mask = inputs["attention_mask"][..., None].float()
    mean = (hidden * mask).sum(1) / mask.sum(1)
    expected = torch.nn.functional.normalize(mean, dim=1).numpy()
    np.testing.assert_allclose(embed_texts(engine, some), expected, atol=1e-5)
    ends = hidden[torch.arange(len(some)), inputs["attention_mask"].sum(1) - 1]
    expected = torch.nn.functional.normalize(ends, dim=1).numpy()
    np.testing.assert_allclose(embed_texts(engine, some, pool="last"), expected, atol=1e-5)
