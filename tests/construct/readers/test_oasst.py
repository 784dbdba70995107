"""OpenAssistant's trees: figures of the real files, what is cut off bad ones, and formulas on random ones."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitune.construct.readers.oasst import is_flat, is_tree, read_flat, read_tree
from jitune.construct.readers.trees import Message, grow
from jitune.construct.reading import read_records
from jitune.data.record import Record
from jitune.types import UserError

NESTED, FLAT = "data/annotation/oasst_en_100_tree.jsonl", "data/annotation/oasst_realistic_seed_data.json"


def records_of(path, options=""):
    reading = read_records([str(path)], options=options, bad="give")
    items = list(reading)
    return [item for item in items if isinstance(item, Record)], reading.notes


def node(name, role="prompter", replies=(), **more):
    return {"message_id": name, "text": f"text of {name}", "role": role, "replies": list(replies), **more}


def small_tree():
    """q -> a0 (rank 1) -> f -> b; q -> a1 (rank 0) -> g, which nobody answered; q -> a2, without a rank."""
    b = node("b", "assistant")
    a0 = node("a0", "assistant", [node("f", replies=[b])], rank=1)
    a1 = node("a1", "assistant", [node("g")], rank=0)
    return {"message_tree_id": "q", "prompt": node("q", replies=[a0, a1, node("a2", "assistant")])}


def flattened(tree):
    """The rows of a nested tree as flat files have them."""
    rows, stack = [], [(tree["prompt"], None)]
    while stack:
        message, parent = stack.pop(0)
        rows.append({**{k: v for k, v in message.items() if k != "replies"}, "parent_id": parent,
                     "message_tree_id": tree["message_tree_id"]})
        stack += [(reply, message["message_id"]) for reply in message["replies"]]
    return rows


def harvest(tree, **options):
    notes = Counter()
    found = list(read_tree(tree, ("t.jsonl", 3), notes, {}, **options))
    return [x for x in found if isinstance(x, Record)], [x for x in found if not isinstance(x, Record)], notes


def harvest_flat(rows, **options):
    notes = Counter()
    found = list(read_flat([(row, ("f.jsonl", n)) for n, row in enumerate(rows, 1)], notes, {}, **options))
    return [x for x in found if isinstance(x, Record)], [x for x in found if not isinstance(x, Record)], notes


# Counted by a recursion over the JSON that shares nothing with the readers.
@pytest.mark.parametrize("options, count", [
    ("", 100), ("threads=all", 546), ("make=pairs", 754), ("make=pairs,pairs=adjacent", 429),
    ("make=pairs,pairs=best", 429), ("make=candidates", 214), ("synthetic=drop,threads=all", 529)])
def test_counts_of_the_nested_file(shared, options, count):
    records, notes = records_of(shared / NESTED, options)
    assert len(records) == count == len({record.id for record in records})
    assert notes["messages"] == 1167
    if "synthetic" in options:  # five trees begin with one, and each of the 17 others stands below those
        assert (notes["trees"], notes["synthetic"], notes["below_dropped"]) == (95, 5, 17)
    else:
        assert notes["trees"] == 100
    if "pairs" in options:
        assert notes["unranked"] == 6


def test_each_answer_is_trained_once_where_repeats_are_masked(shared):
    stack, answers = [json.loads(line)["prompt"] for line in (shared / NESTED).read_text().splitlines()], 0
    while stack:
        message = stack.pop()
        answers += message["role"] == "assistant"
        stack += message["replies"]
    records, _ = records_of(shared / NESTED, "threads=all,repeated=mask")
    plain, _ = records_of(shared / NESTED, "threads=all")

    def trained(record):
        weights = record.message_weights or [None] * len(record.messages)
        return sum(m["role"] == "assistant" and w is None for m, w in zip(record.messages, weights, strict=True))

    assert [record.messages for record in records] == [record.messages for record in plain]
    assert sum(map(trained, records)) == answers < sum(map(trained, plain)) and all(map(trained, records))


def test_synthetic_messages_are_named_with_their_model(shared):
    rows = [json.loads(line) for line in (shared / NESTED).read_text().splitlines()]
    stack, synthetic = [row["prompt"] for row in rows], set()
    while stack:
        message = stack.pop()
        synthetic |= {message["message_id"]} if message["synthetic"] else set()
        stack += message["replies"]
    assert len(synthetic) == 22
    records, _ = records_of(shared / NESTED, "threads=all")
    assert {r.id for r in records if r.provenance.model == "chip20b"} == {r.id for r in records if r.id in synthetic}


def test_threads_of_the_real_files_end_with_the_assistant_and_take_turns(shared):
    for file in (NESTED, FLAT):
        for record in records_of(shared / file, "threads=all")[0]:
            roles = [message["role"] for message in record.messages]
            assert roles == ["user", "assistant"] * (len(roles) // 2)


def test_counts_of_the_flat_file(shared):
    records, notes = records_of(shared / FLAT)
    assert len(records) == 74
    # Two assistants answer assistants, and 8 messages stand below those.
    assert notes == {"messages": 444, "trees": 74, "wrong_role": 2, "below_dropped": 8}
    assert len(records_of(shared / FLAT, "threads=all")[0]) == 156
    with pytest.raises(UserError, match=r"seed_data.json:159: message iwe88z5h: the assistant speaks after itself"):
        list(read_records([str(shared / FLAT)]))


def test_a_pair_of_the_real_file_by_hand(shared):
    records, _ = records_of(shared / NESTED, "make=pairs,pairs=best")
    tree = json.loads((shared / NESTED).read_text().splitlines()[0])["prompt"]
    best, second, third = tree["replies"]
    assert [best["rank"], second["rank"], third["rank"]] == [0, 1, 2]
    first = records[0]
    assert first.id == f"{best['message_id']}:{second['message_id']}"
    assert first.messages == ({"role": "user", "content": tree["text"]},)
    assert (first.chosen[0]["content"], first.rejected[0]["content"]) == (best["text"], second["text"])
    assert first.provenance.source.endswith("oasst_en_100_tree.jsonl:1")


def test_best_thread_follows_ranks_and_leaves_unanswered_questions():
    [record], drops, notes = harvest(small_tree())
    assert [m["content"] for m in record.messages] == ["text of q", "text of a1"]  # g has no answer
    assert not drops and notes["unanswered"] == 1
    assert record.id == "a1" and record.meta["message_ids"] == ["q", "a1"]


def test_all_threads_pairs_and_lists_of_a_small_tree():
    records, _, _ = harvest(small_tree(), threads="all")
    assert [record.id for record in records] == ["b", "a1", "a2"]
    [pair], _, notes = harvest(small_tree(), make="pairs")
    assert (pair.id, notes["unranked"]) == ("a1:a0", 1)
    [answers], _, _ = harvest(small_tree(), make="candidates")
    assert [(c.id, c.rank) for c in answers.candidates] == [("a0", 1), ("a1", 0), ("a2", None)]


def test_nested_and_flat_give_the_same_records():
    for options in ({}, {"threads": "all"}, {"make": "pairs"}, {"make": "candidates"}):
        nested, flat = harvest(small_tree(), **options)[0], harvest_flat(flattened(small_tree()), **options)[0]
        assert {r.id: (r.messages, r.chosen, r.rejected, r.candidates) for r in nested} == {
            r.id: (r.messages, r.chosen, r.rejected, r.candidates) for r in flat}


def test_ties_make_no_pair():
    tree = small_tree()
    for reply in tree["prompt"]["replies"]:
        reply["rank"] = 0
    records, _, notes = harvest(tree, make="pairs")
    assert records == [] and notes["tied"] == 3


@pytest.mark.parametrize("change, options, reasons", [
    ({"deleted": True}, {}, {"deleted": 1, "below_dropped": 2}),
    ({"deleted": True}, {"deleted": "keep"}, {}),
    ({"review_result": False}, {}, {"refused_in_review": 1, "below_dropped": 2}),
    ({"review_result": None}, {}, {}),
    ({"synthetic": True}, {}, {}),
    ({"synthetic": True}, {"synthetic": "drop"}, {"synthetic": 1, "below_dropped": 2}),
    ({"role": "prompter"}, {}, {"wrong_role": 1, "below_dropped": 2}),
    ({"role": "narrator"}, {}, {"malformed": 1, "below_dropped": 2}),
    ({"text": None}, {}, {"malformed": 1, "below_dropped": 2}),
    ({"rank": "first"}, {}, {"malformed": 1, "below_dropped": 2}),
    ({"rank": 0.5}, {}, {"malformed": 1, "below_dropped": 2}),
    ({"parent_id": "other"}, {}, {"malformed": 1, "below_dropped": 2}),
    ({"message_id": "q"}, {}, {"duplicate_id": 1, "below_dropped": 2}),
])
def test_what_is_cut_off_with_what_stands_below_it(change, options, reasons):
    tree = small_tree()
    tree["prompt"]["replies"][0].update(change)  # a0, above f and b
    records, drops, _ = harvest(tree, threads="all", **options)
    assert Counter(drop.reason for drop in drops) == reasons
    assert [record.id for record in records] == (["b", "a1", "a2"] if not reasons else ["a1", "a2"])
    assert all(drop.origin == ("t.jsonl", 3) for drop in drops)


def test_faults_of_flat_files_with_their_rows():
    rows = flattened(small_tree())  # q a0 a1 a2 f g b
    loop = [{"message_id": "x", "parent_id": "y", "role": "assistant", "text": "?", "message_tree_id": "q"},
            {"message_id": "y", "parent_id": "x", "role": "prompter", "text": "!", "message_tree_id": "q"},
            {"message_id": "z", "parent_id": "y", "role": "assistant", "text": ".", "message_tree_id": "q"}]
    lost = {"message_id": "l", "parent_id": "nowhere", "role": "prompter", "text": "?", "message_tree_id": "q"}
    again = {"message_id": "a0", "parent_id": "q", "role": "assistant", "text": "?", "message_tree_id": "q"}
    second = {"message_id": "r", "parent_id": None, "role": "prompter", "text": "?", "message_tree_id": "q"}
    below = {"message_id": "s", "parent_id": "r", "role": "assistant", "text": "?", "message_tree_id": "q"}
    records, drops, notes = harvest_flat([*rows, *loop, lost, again, second, below], threads="all")
    assert {(d.origin[1], d.reason) for d in drops} == {
        (8, "cycle"), (9, "cycle"), (10, "cycle"), (11, "missing_parent"), (12, "duplicate_id"), (13, "two_roots"),
        (14, "below_dropped")}
    assert [record.id for record in records] == ["b", "a1", "a2"] and notes["messages"] == 14
    assert all(drop.fault for drop in drops)


def test_a_message_that_is_its_own_parent():
    _, drops, _ = harvest_flat([{"message_id": "x", "parent_id": "x", "role": "prompter", "text": "?"}])
    assert [drop.reason for drop in drops] == ["cycle"]


def test_an_assistant_at_the_root():
    _, drops, _ = harvest_flat([{"message_id": "x", "parent_id": None, "role": "assistant", "text": "?"}])
    assert [(drop.reason, "speaks first" in drop.detail) for drop in drops] == [("wrong_role", True)]


def test_flat_rows_out_of_order_need_the_whole_file(tmp_path):
    one, two = small_tree(), {"message_tree_id": "k", "prompt": node("k", replies=[node("j", "assistant")])}
    rows = flattened(one)
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows[:3], *flattened(two), *rows[3:]]))
    with pytest.raises(UserError, match=r"mixed.jsonl:6: message a2: its parent q is not there.*order=any"):
        list(read_records([str(path)]))
    assert [r.id for r in read_records([str(path)], options="order=any")] == ["a1", "j"]


def test_deep_chats_do_not_run_out_of_stack():
    message = node("m0", "assistant")
    for depth in range(1, 4000):
        message = node(f"m{depth}", "assistant" if depth % 2 == 0 else "prompter", [message])
    [record], drops, _ = harvest({"message_tree_id": message["message_id"], "prompt": message})
    assert len(record.messages) == 4000 and not drops


def test_labels_become_scores():
    flat = {"message_id": "a", "parent_id": "q", "role": "assistant", "text": "x",
            "labels": {"name": ["quality", "spam"], "value": [0.75, 0], "count": [3, 3]}}
    [record], _, _ = harvest_flat([{"message_id": "q", "parent_id": None, "role": "prompter", "text": "?"}, flat])
    assert record.scores == {"quality": 0.75, "spam": 0.0}
    flat["labels"] = {"quality": {"value": 0.5, "count": 3}}
    [record], _, _ = harvest_flat([{"message_id": "q", "parent_id": None, "role": "prompter", "text": "?"}, flat])
    assert record.scores == {"quality": 0.5}


def test_other_states_are_left_out_when_one_is_named():
    tree = {**small_tree(), "tree_state": "growing"}
    assert harvest(tree, tree_state="growing")[0]
    records, drops, _ = harvest(tree, tree_state="ready_for_export")
    assert not records and Counter(d.reason for d in drops) == {"of_other_state": 1, "below_dropped": 6}


def test_a_prefix_is_trained_with_the_first_of_its_threads():
    tree = {"message_tree_id": "q", "prompt": node("q", replies=[node("a", "assistant", [
        node("f", replies=[node("b", "assistant"), node("c", "assistant")])])])}
    first, second = harvest(tree, threads="all", repeated="mask")[0]
    assert (first.id, first.message_weights) == ("b", None)
    assert (second.id, second.message_weights) == ("c", (None, 0.0, None, None))


def test_unknown_words_of_options():
    with pytest.raises(UserError, match="threads='worst': is none of best, all"):
        harvest(small_tree(), threads="worst")


def test_rows_that_are_no_trees():
    assert not is_tree({"prompt": "Hi", "completion": "Hello"}) and not is_tree({"prompt": [{"role": "user"}]})
    assert not is_flat({"text": "Hi", "role": "user"})


@st.composite
def trees(draw):
    """Random trees in turns, as flat messages in random order, with ranks of their own among siblings."""
    count = draw(st.integers(1, 25))
    parents = [None] + [draw(st.integers(0, n - 1)) for n in range(1, count)]
    depth, ranks = [0], {}
    for n in range(1, count):
        depth.append(depth[parents[n]] + 1)
    for n in range(count):
        below = draw(st.permutations([m for m in range(count) if parents[m] == n]))
        ranks.update({m: place for place, m in enumerate(below)})
    messages = [Message(str(n), None if parents[n] is None else str(parents[n]), ("user", "assistant")[depth[n] % 2],
                        "x", str(n), ranks.get(n)) for n in range(count)]
    return draw(st.permutations(messages))


@settings(max_examples=60, deadline=None)
@given(trees())
def test_random_trees_by_formula(messages):
    rows = [{"message_id": m.id, "parent_id": m.parent, "role": m.role, "text": "x", "rank": m.rank} for m in messages]
    below = Counter(m.parent for m in messages if m.role == "assistant")
    answers = {m.id for m in messages if m.role == "assistant"}
    followed = {m.id for m in messages if m.role == "assistant"
                and any(n.parent == m.id and below[n.id] for n in messages)}
    threads, drops, notes = harvest_flat(rows, threads="all")
    assert {r.id for r in threads} == answers - followed and not drops
    assert len(harvest_flat(rows)[0]) == bool(answers)
    assert len(harvest_flat(rows, make="pairs")[0]) == sum(k * (k - 1) // 2 for k in below.values())
    assert len(harvest_flat(rows, make="pairs", pairs="best")[0]) == sum(k - 1 for k in below.values())
    assert len(harvest_flat(rows, make="candidates")[0]) == sum(k > 1 for k in below.values())
    assert notes["unanswered"] == sum(m.role == "user" and not below[m.id] for m in messages)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.none() | st.integers(0, 8), st.sampled_from(["user", "assistant"])),
                max_size=12), st.booleans())
def test_every_message_is_kept_once_or_dropped_once(parts, one_root):
    messages = [Message(str(key), None if parent is None else str(parent), role, "x", str(key), origin=("f", n))
                for n, (key, parent, role) in enumerate(parts)]
    forest, drops = grow(messages, one_root=one_root)
    kept = [path[-1].origin[1] for path in forest.paths()]
    assert sorted(kept + [drop.origin[1] for drop in drops]) == list(range(len(messages)))
    for path in forest.paths():
        assert [m.role for m in path] == (["user", "assistant"] * len(path))[: len(path)]
