"""The pipeline: nothing lost, one order for any number of processes, exact resuming amid a pack."""

import io
import json
import time
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from jitune.data import pipeline
from jitune.data.show import show
from jitune.types import DataStats, UserError
from tests.data import toy

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "sft"
SIZES = {"seq_len": 32, "batch_size": 4}


def config(**given):
    defaults = {
        "train": "", "eval": "", "weights": "", "format": "auto", "fields": "", "chat_template": "chatml",
        "train_on": "assistant", "split_turns": False, "overlong": "truncate",
    }  # fmt: skip
    return ConfigDict({**defaults, **given})


@pytest.fixture(scope="module")
def tokenizer():
    return toy.make_tokenizer()


def documents(lengths, first=1):
    """Documents whose tokens are all their own number."""
    tokens = np.concatenate([np.full(n, first + i, np.int32) for i, n in enumerate(lengths)])
    offsets = np.cumsum([0, *lengths])
    return pipeline.Documents(tokens, np.ones(len(tokens), np.float32), offsets)


def prepared(counts=(50,), weights=None, seed=0, longest=20):
    rng, sources, first = np.random.default_rng(seed), [], 1
    for count in counts:
        sources.append(documents(rng.integers(2, longest, count), first))
        first += count
    return pipeline.Prepared(tuple(sources), weights, DataStats())


def drain(stream):
    iterator = iter(stream)
    found = list(iterator)
    iterator.close()
    return found


def order(batches):
    """The documents' numbers in the order in which they come."""
    found = []
    for batch in batches:
        for tokens, segments in zip(batch["tokens"], batch["segment_ids"], strict=True):
            found += [int(tokens[segments == s][0]) for s in range(1, segments.max(initial=0) + 1)]
    return found


def same(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


# Batches.


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_holds_every_document_once(packing, shuffle):
    data = prepared((30, 23))
    batches = drain(pipeline.batches(data, **SIZES, epochs=1, packing=packing, shuffle=shuffle, num_bins=4))
    assert sorted(order(batches)) == list(range(1, 54))
    assert sum(int((batch["segment_ids"] > 0).sum()) for batch in batches) == sum(
        len(source.tokens) for source in data.sources
    )
    for batch in batches:
        assert all(value.shape == (4, 32) for value in batch.values())
        inside = batch["targets"] > 0
        np.testing.assert_array_equal(batch["targets"][inside], batch["tokens"][inside])
        np.testing.assert_array_equal(batch["loss_weights"] > 0, inside)
    if not shuffle and not packing:
        assert order(batches) == list(range(1, 54))


def test_epochs_are_shuffled_differently_and_by_seed():
    def epochs(seed, count=3):
        found = order(drain(pipeline.batches(prepared(), **SIZES, seed=seed, epochs=count, packing=False)))
        return [found[i : i + 50] for i in range(0, 50 * count, 50)]

    first, second, third = epochs(0)
    assert sorted(first) == sorted(second) == sorted(third) == list(range(1, 51))
    assert first != second != third != first
    assert epochs(0) == [first, second, third]
    other = epochs(1)
    assert first not in other and second not in other


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("epochs", [1, 3, 0.5])
@pytest.mark.parametrize(("counts", "weights"), [((50,), None), ((20, 31), None), ((20, 31), (0.7, 0.3))])
def test_count_steps_is_exact(packing, epochs, counts, weights):
    options = {**SIZES, "seed": 3, "epochs": epochs, "packing": packing, "num_bins": 5}
    data = prepared(counts, weights)
    assert pipeline.count_steps(data, **options) == len(drain(pipeline.batches(data, **options)))


def test_endless_streams_go_on():
    iterator = iter(pipeline.batches(prepared((5,)), **SIZES))
    batches = [next(iterator) for _ in range(40)]
    assert set(order(batches)) == {1, 2, 3, 4, 5}


def test_weights_mix_sources():
    data = prepared((100, 20), (0.75, 0.25))
    found = order(drain(pipeline.batches(data, **SIZES, epochs=2, packing=False)))
    assert len(found) == 240
    assert sum(number > 100 for number in found) == 60
    assert len(set(found)) == 120
    head = found[:40]
    assert 8 <= sum(number > 100 for number in head) <= 12


@pytest.mark.parametrize("packing", [True, False])
def test_processes_take_their_rows_of_the_same_batches(packing):
    data = prepared((47,))
    options = {**SIZES, "epochs": 2, "packing": packing, "num_bins": 3}
    whole = drain(pipeline.batches(data, **options))
    parts = [drain(pipeline.batches(data, **options, process_index=i, process_count=2)) for i in range(2)]
    same([{key: np.concatenate([a[key], b[key]]) for key in a} for a, b in zip(*parts, strict=True)], whole)
    with pytest.raises(UserError, match="batch_size=4 does not divide among 3 processes"):
        pipeline.batches(data, **SIZES, process_count=3)


@pytest.mark.parametrize(
    ("packing", "prefetch", "weights"),
    [(True, 0, None), (True, 3, None), (True, 3, (0.6, 0.4)), (False, 0, (0.6, 0.4)), (False, 3, None)],
)
def test_a_restored_state_gives_the_remaining_batches(packing, prefetch, weights):
    data = prepared((40, 33), weights)
    options = {**SIZES, "seed": 5, "epochs": 2, "packing": packing, "num_bins": 7}
    whole = drain(pipeline.batches(data, **options))
    assert len(whole) > 10
    running = iter(pipeline.batches(data, **options, prefetch=prefetch))
    rows_into_the_window = set()
    for taken in range(len(whole) + 1):
        if prefetch and taken == 2:
            time.sleep(0.05)  # let the thread run ahead
        if taken in (0, 2, 5, 8, len(whole) - 1, len(whole)):
            state = json.loads(json.dumps(running.get_state()))
            rows_into_the_window.add(state.get("next_row"))
            # Another number of processes and another prefetch, as after a restart on other machines.
            parts = []
            for index in range(2):
                fresh = iter(
                    pipeline.batches(data, **options, prefetch=1, process_index=index, process_count=2)
                )
                fresh.set_state(state)
                parts.append(list(fresh))
                fresh.close()
            rest = [{key: np.concatenate([a[key], b[key]]) for key in a} for a, b in zip(*parts, strict=True)]
            same(rest, whole[taken:])
        if taken < len(whole):
            same([next(running)], [whole[taken]])
    running.close()
    assert not packing or len(rows_into_the_window) > 2


def test_eval_batches_are_in_order_and_padded():
    data = prepared((10, 5), (0.5, 0.5))._replace(weights=None)
    batches = drain(pipeline.eval_batches(data, seq_len=32, batch_size=4, packing=False))
    assert order(batches) == list(range(1, 16))
    assert len(batches) == 4 and not batches[-1]["segment_ids"][3].any()
    packed = drain(pipeline.eval_batches(data, seq_len=32, batch_size=4))
    assert sorted(order(packed)) == list(range(1, 16))
    same(packed, drain(pipeline.eval_batches(data, seq_len=32, batch_size=4)))


# Preparing.


def write(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def alpaca(count, answer="four", **more):
    return [{"instruction": f"what is {i}?", "input": "", "output": answer, **more} for i in range(count)]


def test_prepare_counts_and_keeps_everything(tokenizer, tmp_path):
    files = [write(tmp_path / "a.jsonl", alpaca(1100)), write(tmp_path / "b.jsonl", alpaca(3, "five " * 40))]
    data = pipeline.prepare(config(train=",".join(files)), tokenizer, 64)
    assert [len(source) for source in data.sources] == [1100, 3]
    assert data.weights is None
    assert data.stats.examples == 1103 and data.stats.truncated_examples == 3
    assert data.stats.tokens == sum(len(source.tokens) for source in data.sources)
    supervised = sum(np.count_nonzero(source[i]["loss_weights"][1:]) for source in data.sources
                     for i in range(len(source)))  # fmt: skip
    assert data.stats.supervised_tokens == supervised
    text = tokenizer.decode(data.sources[0][1099]["tokens"])
    assert text == "<|im_start|>user\nwhat is 1099?<|im_end|>\n<|im_start|>assistant\nfour<|im_end|>\n"
    report = pipeline.summary(data.stats, name="train")
    assert report.startswith("train: 1,103 examples, ") and "\n  truncated: 3 examples, " in report


def test_prepare_reads_eval_without_weights(tokenizer, tmp_path):
    one = write(tmp_path / "a.jsonl", alpaca(5))
    data = pipeline.prepare(config(train=one, eval=one, weights="0.5"), tokenizer, 64, eval=True)
    assert data.weights is None and len(data.sources[0]) == 5
    assert pipeline.prepare(config(train=one, weights="2"), tokenizer, 64).weights == (2.0,)


def test_prepare_splits_turns_and_renames_columns(tokenizer, tmp_path):
    turns = [{"role": role, "content": "the fox"} for role in ("user", "assistant") * 3]
    one = write(tmp_path / "a.jsonl", [{"messages": turns}] * 2)
    data = pipeline.prepare(config(train=one, split_turns=True), tokenizer, 256)
    assert len(data.sources[0]) == data.stats.examples == 6
    two = write(tmp_path / "b.jsonl", [{"q": "what?", "a": "four"}])
    fields = "instruction=q, output=a"
    data = pipeline.prepare(config(train=two, format="alpaca", fields=fields), tokenizer, 64)
    assert "what?" in tokenizer.decode(data.sources[0][0]["tokens"])


@pytest.mark.parametrize("policy", ["drop", "split"])
def test_prepare_with_other_policies(tokenizer, tmp_path, policy):
    rows = alpaca(4) + alpaca(1, "five " * 60)
    data = pipeline.prepare(config(train=write(tmp_path / "a.jsonl", rows), overlong=policy), tokenizer, 48)
    stats = data.stats
    assert (stats.dropped_examples, stats.split_examples) == ((1, 0) if policy == "drop" else (0, 1))
    assert f"{'dropped' if policy == 'drop' else 'split'}: 1 example" in pipeline.summary(stats)
    assert max(np.diff(data.sources[0].offsets)) <= 48


def test_what_cannot_be_prepared_is_an_error(tokenizer, tmp_path):
    good = write(tmp_path / "good.jsonl", alpaca(3))
    bad = write(tmp_path / "bad.jsonl", [*alpaca(1), {"messages": [{"role": "user", "content": "hi"}]}])
    (tmp_path / "empty.jsonl").write_text("")
    cases = [
        (config(), "--config.data.train names no data"),
        (config(train=good + ",", eval=""), None),
        (config(train=f"{good},{bad}"), "bad.jsonl:2: no token"),
        (config(train=str(tmp_path / "empty.jsonl")), "empty.jsonl"),
        (config(train=good, overlong="cut"), "overlong='cut'"),
        (config(train=good, weights="1,2"), "must be 1 positive numbers"),
        (config(train=good, weights="-1"), "must be 1 positive numbers"),
        (config(train=good, weights="a"), "must be 1 positive numbers"),
        (config(train=good, fields="instruction"), "is not a list such as"),
        (config(train=good, chat_template=""), "no chat template"),
    ]
    for settings, message in cases:
        if message is None:
            pipeline.prepare(settings, tokenizer, 64)
            continue
        with pytest.raises(UserError, match=message):
            pipeline.prepare(settings, tokenizer, 64)
    with pytest.raises(UserError, match="leaves nothing to train on. train: 3 examples, 0 tokens"):
        pipeline.prepare(config(train=good, overlong="drop"), tokenizer, 8)


# Showing.


def test_show(tokenizer, tmp_path):
    from rich.console import Console

    rows = [
        {"messages": [{"role": "user", "content": "hello [bold]world"},
                      {"role": "assistant", "content": "I am fine", "loss_weight": 0.5},
                      {"role": "user", "content": "and you?"},
                      {"role": "assistant", "content": "the fox " * 30}]}
    ] * 3  # fmt: skip
    spec, options = write(tmp_path / "a.jsonl", rows), {"count": 2, "start": 1, "chat_template": "chatml"}

    def printed(**given):
        out = io.StringIO()
        show(spec, tokenizer, console=Console(file=out, width=80, **given), **options)
        return out.getvalue()

    plain = printed()
    assert f"-- {spec}:2: " in plain and f"-- {spec}:3: " in plain and f"{spec}:1:" not in plain
    assert "hello [bold]world" in plain and "[[0.5:I am fine<|im_end|>]]" in plain
    assert "shown: 2 examples" in plain and "\x1b" not in plain
    assert max(len(line) for line in plain.splitlines() if not line.startswith("--")) <= 80
    coloured = printed(force_terminal=True, color_system="standard")
    assert "\x1b[4;32m" in coloured and "\x1b[4;33mI am fine<|im_end|>" in coloured and "[[" not in coloured
    options.update(seq_len=40)
    assert "truncated: 2 examples" in printed()
    options.update(start=3)
    with pytest.raises(UserError, match="has no example 4"):
        printed()


# Real files.


@pytest.mark.parametrize("name", [
    "alpaca_en_demo.json", "alpaca_zh_demo.json", "code_alpaca_2k.json", "glaive_toolcall_en_demo.json",
    "identity.json", "llms_from_scratch_instruction_data.json", "openai_messages_v1_sft_demo.jsonl",
    "reason_tool_use_demo_50.jsonl", "sharegpt_dummy_conversation.json",
])  # fmt: skip
def test_real_files(tokenizer, name):
    if not (SHARED / name).exists():
        pytest.skip(f"no {SHARED / name}")
    data = pipeline.prepare(config(train=str(SHARED / name), overlong="split"), tokenizer, 1024)
    rows = len(list(pipeline.load_examples(str(SHARED / name))))
    assert data.stats.examples == rows and data.stats.dropped_examples == 0
    options = {"seq_len": 1024, "batch_size": 8, "epochs": 1}
    batches = drain(pipeline.batches(data, **options))
    assert len(batches) == pipeline.count_steps(data, **options)
    assert sum(np.count_nonzero(batch["loss_weights"]) for batch in batches) == data.stats.supervised_tokens
    assert sum(int((batch["segment_ids"] > 0).sum()) for batch in batches) == data.stats.tokens


def test_alpaca_is_prepared_in_seconds(tokenizer):
    path = SHARED / "cherry_alpaca_5_percent.json"
    if not path.exists():
        pytest.skip(f"no {path}")
    start = time.perf_counter()
    data = pipeline.prepare(config(train=str(path)), tokenizer, 2048)
    seconds = time.perf_counter() - start
    assert len(data.sources[0]) == 3111
    assert seconds < 20  # 2 s on two idle cores
