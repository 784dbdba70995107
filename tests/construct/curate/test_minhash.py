"""MinHash: signatures equal to datasketch's, finds as many pairs as theory says, on real texts."""

import json

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st

from jitune.construct.curate import minhash
from jitune.construct.curate.minhash import PRESETS, Shape, build, jaccard, permutations, s_curve, shingles, signature
from jitune.data.record import Record
from jitune.types import UserError


def record(text, id="a"):
    return Record(id, ({"role": "user", "content": text},))


def texts_of(shared, *files):
    return [f"{row['instruction']}\n\n{row['output']}" for file in files
            for row in json.loads((shared / "data/sft" / file).read_text())]  # fmt: skip


def test_shingles_by_hand():
    three = Shape("words", 3, 1, 1)
    assert len(shingles("one two three four", three)) == 2
    assert jaccard(shingles("one two three four", three), shingles("zero ONE two, three", three)) == 1 / 3
    assert len(shingles("one two", three)) == 1 and len(shingles("", three)) == 0
    assert jaccard(shingles("one two", three), shingles("One  two!", three)) == 1
    assert len(shingles("北京是首都", three)) == 3
    assert len(shingles("abcd  ef", Shape("characters", 3, 1, 1))) == 5  # "abc" to " ef", one space


def test_characters_are_those_of_the_text():
    four = Shape("characters", 4, 1, 1)
    left, right = "the quick brown fox", "the quick brown cat"
    sets = [{text[i : i + 4] for i in range(len(text) - 3)} for text in (left, right)]
    assert jaccard(shingles(left, four), shingles(right, four)) == len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.parametrize("count", [1, 7, minhash.CHUNK + 3])
def test_signatures_are_those_of_datasketch(count):
    found = np.random.default_rng(0).integers(0, 2**64, count, np.uint64)
    reference = MinHash(112, seed=5, hashfunc=int, scheme="affine32")
    reference.update_batch((found >> np.uint64(32)).tolist())
    assert (signature(found, permutations(112, 5)) == reference.hashvalues).all()


def test_bands_find_what_datasketch_finds():
    shape, rng = Shape("words", 5, 4, 2), np.random.default_rng(0)
    lsh = MinHashLSH(num_perm=8, params=(4, 2))
    memory = minhash.Signatures(shape, 1.0)  # nothing but equal signatures is turned away
    drawn = permutations(8, 1)
    for number in range(300):
        values = rng.integers(0, 3, 8).astype(np.uint32)
        reference = MinHash(hashvalues=values, permutations=drawn, scheme="affine32")
        key = values.astype("<u4").tobytes()
        assert memory._met(memory._hashes(key)) == set(lsh.query(reference))
        lsh.insert(number, reference)
        memory.restore(key, str(number))


def test_the_table_of_the_presets():
    rows = {name: [round(float(s_curve(s, shape)), 2) for s in (0.5, 0.6, 0.7, 0.8, 0.9)]
            for name, shape in PRESETS.items()}
    for name, values in rows.items():
        cells = next(line for line in minhash.__doc__.splitlines() if line.startswith(f"| `{name}`")).split("|")[4:9]
        assert [float(cell) for cell in cells] == values


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_the_order_of_shingles_makes_no_difference(values, random):
    drawn = permutations(32, 1)
    turned = values + [random.choice(values)]
    random.shuffle(turned)
    first, second = (signature(np.array(v, np.uint64), drawn) for v in (values, turned))
    assert (first == second).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["ab", "cd", "ef"]), min_size=1, max_size=6).map(" ".join), max_size=14),
       st.sampled_from([0.0, 0.5, 1.0]))
def test_restored_is_gone_through(texts, threshold):
    sieve = build(threshold=threshold, length=2, bands=3, rows=2)
    through, restored, verdicts = sieve.memory(), sieve.memory(), []
    for i, text in enumerate(texts):
        key = sieve.key(record(text))
        verdicts.append(through.admit(key, str(i)))
        if verdicts[-1] is None:
            restored.restore(key, str(i))
    for text in texts:
        key = sieve.key(record(text))
        assert through.admit(key, "z") == restored.admit(key, "z")
    assert all(v is None or v.reason == "near_duplicate" for v in verdicts)


def test_keys_and_details():
    sieve = build()
    memory = sieve.memory()
    text = "Explain in a few sentences why the sky is blue on a clear day, and red in the evening."
    assert len(sieve.key(record(text))) == 4 * 14 * 8
    assert sieve.key(record("?!")) is None
    assert memory.admit(sieve.key(record(text)), "first") is None
    reject = memory.admit(sieve.key(record(text.upper() + "!")), "second")
    assert (reject.reason, reject.detail) == ("near_duplicate", "1.00 like first")


def test_threshold_turns_back_what_only_met_in_a_band():
    key = np.zeros(112, "<u4")
    other = key.copy()
    other[8:] = 1  # one band of 14 is the same
    for threshold, expected in ((0.0, "0.07 like a"), (0.5, None)):
        memory = build(threshold=threshold).memory()
        memory.admit(key.tobytes(), "a")
        found = memory.admit(other.tobytes(), "b")
        assert (found and found.detail) == expected


def test_a_text_of_a_megabyte():
    assert len(build(preset="nemo").key(record("word " * 200_000))) == 4 * 260


@pytest.mark.parametrize("options, message", [
    ({"preset": "best"}, "preset = 'best' is not known; there are datatrove, nemo"),
    ({"unit": "tokens"}, "unit = 'tokens' is not known"),
    ({"threshold": 1.5}, "threshold = 1.5: a number from 0 to 1 is needed"),
    ({"bands": -1}, "bands = -1: a whole number from 1 to 1000 is needed"),
])  # fmt: skip
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        build(**options)


def perturbed(texts, rng):
    """Pairs of a real text and itself with a share of its words replaced by words of another."""
    for i, text in enumerate(texts):
        own, other = text.split(), texts[(i + 1) % len(texts)].split()
        share = rng.choice([0.005, 0.01, 0.02, 0.04, 0.08])
        yield text, " ".join(other[k % len(other)] if swap else word
                             for k, (word, swap) in enumerate(zip(own, rng.random(len(own)) < share, strict=True)))


@pytest.mark.parametrize("preset", PRESETS)
def test_as_many_real_pairs_are_found_as_theory_says(shared, preset):
    """Per band of similarity: a sum of independent trials of chance s_curve(s), within 4.5 standard deviations."""
    shape = PRESETS[preset]
    texts = [t for t in texts_of(shared, "alpaca_en_demo.json", "code_alpaca_2k.json") if len(t) > 300][:800]
    drawn = permutations(shape.bands * shape.rows, 1)
    similar, met, estimated = [], [], []
    for left, right in perturbed(texts, np.random.default_rng(0)):
        a, b = shingles(left, shape), shingles(right, shape)
        same = signature(a, drawn) == signature(b, drawn)
        similar.append(jaccard(a, b))
        met.append(same.reshape(shape.bands, shape.rows).all(axis=1).any())
        estimated.append(same.mean())
    similar, met, estimated = np.array(similar), np.array(met), np.array(estimated)
    chance = s_curve(similar, shape)
    edges = np.array([0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.01])
    for low, high in zip(edges, edges[1:], strict=False):
        those = (similar >= low) & (similar < high)
        spread = np.sqrt((chance * (1 - chance))[those].sum())
        assert those.sum() > 20
        assert abs(met[those].sum() - chance[those].sum()) < 4.5 * spread + 0.5
    # The estimate: its error, in its own standard deviations, has mean 0 and variance 1.
    inside = (similar > 0.1) & (similar < 0.9)
    error = (estimated - similar)[inside] / np.sqrt((similar * (1 - similar))[inside] / drawn.shape[1])
    assert abs(error.mean()) < 4.5 / np.sqrt(inside.sum()) and abs(error.std() - 1) < 4.5 / np.sqrt(2 * inside.sum())


def test_all_real_near_duplicates_are_found_and_no_others(shared):
    """Among 4,000 real prompts, by exact Jaccard of all pairs: MinHash with a threshold finds those above it."""
    import scipy.sparse

    shape = PRESETS["datatrove"]
    rows = [row for file in ("cherry_alpaca_5_percent.json", "alpaca_en_demo.json")
            for row in json.loads((shared / "data/sft" / file).read_text())]
    sets = [np.unique(shingles(row["instruction"] + "\n\n" + row.get("input", ""), shape)) for row in rows]
    ends = np.cumsum([0, *map(len, sets)])
    names, columns = np.unique(np.concatenate(sets), return_inverse=True)
    holds = scipy.sparse.csr_matrix((np.ones(ends[-1], int), columns, ends), (len(sets), len(names)))
    shared_by = scipy.sparse.triu(holds @ holds.T, 1).tocoo()
    sizes = np.diff(ends)
    exact = shared_by.data / (sizes[shared_by.row] + sizes[shared_by.col] - shared_by.data)
    above = set(shared_by.col[exact >= 0.75].tolist())
    near = (exact > 0.6) & (exact < 0.9)
    assert len(above) > 50 and near.sum() < 5  # real pairs are equal but for case and spaces, or far apart

    sieve = build(threshold=0.75)
    memory = sieve.memory()
    found = set()
    for i, row in enumerate(rows):
        text = row["instruction"] + "\n\n" + row.get("input", "")
        if memory.admit(sieve.key(record(text)), str(i)) is not None:
            found.add(i)
    assert found == above
