"""Runs whose objective needs more than the model that is tuned: teachers, stores, references, own answers."""

import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from jitune import companions, compiling, feed, finish, flops, references, sharding, tree
from jitune import state as states
from jitune.config import check, defaults, flatten, read
from jitune.data import token_store
from jitune.hub import fresh, weights
from jitune.hub.vocabulary import vocabulary_digest
from jitune.objectives import loss, on_policy
from jitune.options import USED_BY
from jitune.planning import tables
from jitune.planning.dry_run import dry_run
from jitune.planning.study import study
from jitune.train import train
from jitune.types import UserError
from tests.conftest import COLOURS, ROOT, THINGS, once
from tests.test_train import copy_config, losses_of, rows_of


def pair_rows(count: int = 40) -> list[dict]:
    """The right colour, said at different lengths, against a wrong one."""
    rows = []
    for i in range(count):
        colour, thing, other = COLOURS[i % 10], THINGS[i // 10 % 10], COLOURS[(i + 3) % 10]
        rows.append({"prompt": f"The {thing} number {i} is {colour}. Its colour?", "rejected": f"It is {other}.",
                     "chosen": colour + "!" * (i % 3)})  # fmt: skip
    return rows


@pytest.fixture(scope="session")
def pair_data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in pair_rows()))
    return path


@pytest.fixture(scope="session")
def teacher(tmp_path_factory, toy_model) -> Path:
    """A Llama of the toy model's vocabulary."""
    return once(tmp_path_factory, "teacher", lambda folder: fresh.create(
        folder, family="llama", preset="tiny", tokenizer_from=str(toy_model), seed=5))


@pytest.fixture
def paired(toy_config, pair_data):
    """Three steps of DPO."""
    toy_config.update_from_flattened_dict({
        "objective.name": "dpo", "data.train": str(pair_data), "steps": 3, "optimizer.learning_rate": 1e-2,
        "transform.name": "lora", "transform.rank": 4,
    })
    return toy_config


@pytest.fixture
def distilled(toy_config, teacher):
    """Three steps of distillation from a teacher beside."""
    toy_config.update_from_flattened_dict({
        "objective.name": "distill", "objective.teacher": str(teacher), "steps": 3, "transform.name": "lora",
        "transform.rank": 4, "optimizer.learning_rate": 1e-2,
    })
    return toy_config


# References.


def test_with_a_stored_reference_training_begins_at_no_preference(paired, tmp_path):
    """Everything is trained, so the reference is what was stored before the first step."""
    config = copy_config(paired, **{"transform.name": "full", "data.eval": paired.data.train, "eval_every": 2,
                                    "sample_every": 3, "samples": 1, "sample_tokens": 4})
    directory = train(config)
    first, *_, last = rows_of(directory)
    assert abs(first["loss"] - np.log(2)) < 1e-6
    assert {first[name] for name in ("margin", "chosen_reward", "rejected_reward")} == {0.0}
    assert last["loss"] < 0.65 and last["margin"] > 0.1 and last["accuracy"] > 0.7
    assert last["chosen_logprob"] > first["chosen_logprob"]
    assert last["eval_loss"] < np.log(2) and last["eval_margin"] > 0.1
    stored = np.load(directory / "reference.npy", mmap_mode="r")
    record = json.loads((directory / "reference.json").read_text())
    assert (stored != 0).sum() > 100 and (stored <= 0).all() and record["data"].keys() == {"train", "eval"}
    assert not list(directory.glob("*.partial"))
    # A run that is continued reads what is there, and computes again what is not.
    written = (directory / "reference.npy").stat().st_mtime_ns
    parts = copy_config(config, output_dir=str(tmp_path / "parts"), steps=2)
    train(parts)
    parts.steps = 3
    (tmp_path / "parts" / "reference.json").unlink()  # as a kill before the end would leave it
    (tmp_path / "parts" / "reference.npy").write_bytes(b"half")
    assert losses_of(train(parts, resume=True)) == losses_of(directory)
    train(config, resume=True)
    assert (directory / "reference.npy").stat().st_mtime_ns == written


@pytest.mark.parametrize("changes", [
    {"transform.name": "lora", "transform.quantize": "nf4", "transform.train": r"norm/scale$"},
    {"transform.name": "prefix", "transform.num_tokens": 4},
    {"transform.name": "dora", "data.add_tokens": "<a>,<b>"},
], ids=lambda c: c["transform.name"])  # fmt: skip
def test_an_adapter_switched_off_says_what_was_stored(changes, paired):
    """Also when it has been trained: whatever was added or moved, the base says the same."""
    config = copy_config(paired, **changes)
    mesh = sharding.make_mesh(**config.mesh)
    base = weights.resolve(config.model.path)
    base_config = weights.read_config(base).replace(**compiling.model_options(config))
    tokenizer = feed.take_tokenizer(base, config, base_config)
    tuning = states.make_tuning(config, base_config, tokenizer)
    prepared = feed.prepare(config, tokenizer)
    with jax.set_mesh(mesh):
        frozen, trainable = states.init_weights(tuning, base, mesh, 0, stored=False)
        step = references.make_step(companions.base_model(config, tuning), 128, mesh)
        stored = references.compute(step, (frozen, trainable), prepared, config, mesh, say=print, name="train")
        trained = jax.tree.map(lambda x: x + 0.05, trainable)
        found = {}
        for way in ("adapter", "stored"):
            company = companions.gather(copy_config(config, **{"objective.reference": way}), tuning)
            extras = {"reference_logprobs": stored} if way == "stored" else {}
            batch = sharding.put_batch(next(feed.make_batches(config, mesh, prepared, extras)), mesh, 8)
            judge = jax.jit(lambda params, batch, c=company: c.objective(tuning.model, params, batch, None))
            total, count, metrics = judge((frozen, trained), batch)
            found[way] = {"loss": total, "count": count, **metrics}
    assert abs(float(found["adapter"]["margin"])) > 1e-3
    for name, value in found["adapter"].items():
        np.testing.assert_allclose(found["stored"][name], value, rtol=1e-5, atol=1e-4, err_msg=name)


# Every objective.


@pytest.mark.parametrize("changes", [
    {"objective.name": "simpo", "objective.beta": 2.0, "objective.nll_weight": 0.1},
    {"objective.name": "orpo", "transform.name": "prefix", "transform.num_tokens": 2},
    {"objective.name": "kto", "microbatches": 1},
], ids=lambda c: c["objective.name"])  # fmt: skip
def test_other_objectives_of_preference(changes, paired):
    config = copy_config(paired, **{"optimizer.learning_rate": 3e-2, "steps": 6, **changes})
    rows = rows_of(train(config))
    assert rows[-1]["margin"] > rows[0]["margin"] + 0.005 and rows[-1]["loss"] < rows[0]["loss"]
    assert {"chosen_logprob", "rejected_logprob", "accuracy"} <= rows[0].keys()


@pytest.mark.parametrize("which", ["paired", "distilled"])
def test_every_mesh_and_cut_gives_the_same_losses(which, request, tmp_path):
    config = request.getfixturevalue(which)
    whole = train(config)
    other = copy_config(config, **{"output_dir": str(tmp_path / "other"), "mesh.context": 2, "mesh.fsdp": 2,
                                   "mesh.tensor": 2, "microbatches": 2})
    np.testing.assert_allclose(losses_of(train(other)), losses_of(whole), rtol=1e-5)


@pytest.mark.parametrize("changes", [
    {"objective.name": "dpo", "transform.name": "select", "transform.select": r"norm/scale$"},
    {"objective.name": "kto", "transform.name": "dora", "transform.quantize": "int8"},
    {"objective.name": "distill", "transform.name": "prompt", "transform.num_tokens": 2, "transform.quantize": "nf4"},
    {"objective.name": "distill", "transform.name": "lora", "transform.dropout": 0.1, "data.packing": False},
], ids=lambda c: f"{c['objective.name']}-{c['transform.name']}")  # fmt: skip
def test_objectives_train_what_a_transform_trains(changes, paired, teacher, monkeypatch):
    """A step moves every trained array, leaves the frozen ones, and is finite."""
    config = copy_config(paired, **{"steps": 1, "seq_len": 64, "optimizer.schedule": "constant",
                                    "optimizer.warmup_ratio": 0.0, **changes})  # fmt: skip
    if config.objective.name == "distill":
        config.objective.teacher = str(teacher)
        config.data.train = distilled_data = config.data.train.replace("pairs.jsonl", "answers.jsonl")
        Path(distilled_data).write_text("".join(
            json.dumps({"prompt": row["prompt"], "completion": row["chosen"]}) + "\n" for row in pair_rows()))
    seen = {}

    def look(run, trainable):
        frozen = jax.tree.map(np.asarray, run.frozen)
        mesh, tuning = run.mesh, run.tuning
        first = states.init_weights(tuning, weights.resolve(config.model.path), mesh, 0, stored=False)
        same = jax.tree.map(lambda a, b: np.array_equal(a, np.asarray(b)), frozen, first[0])
        moved = jax.tree.map(lambda a, b: not np.array_equal(np.asarray(a), np.asarray(b)), trainable, first[1])
        seen.update(same=jax.tree.leaves(same), moved=tree.flatten(moved))

    monkeypatch.setattr(finish, "save_final", look)
    (row,) = rows_of(train(config))
    assert np.isfinite(row["loss"]) and row["grad_norm"] > 0
    assert all(seen["same"]) and len(seen["moved"])
    # A factor that begins at zero keeps the other one's gradient at zero in the first step.
    assert all(moved for path, moved in seen["moved"].items() if not path.endswith("lora_a"))


# Plans.


def test_a_plan_counts_the_teacher(distilled, teacher, toy_model):
    made, alone = [], copy_config(distilled, **{"objective.name": "sft", "objective.teacher": ""})
    for config in (distilled, alone):
        mesh = sharding.make_mesh(**config.mesh)
        made.append(study(config, weights.read_config(Path(config.model.path)), mesh))
    beside, plain = made
    shapes = weights.abstract_params(weights.read_config(teacher))
    assert beside.memory.beside * 8 >= tree.count_bytes(shapes) > beside.memory.beside * 4
    assert plain.memory.beside == 0 and beside.memory.weights == plain.memory.weights
    # The teacher's forward pass: a multiplication and an addition for each weight and token, and attention.
    tokens, other = 8 * 64, weights.read_config(teacher)
    pairs = flops.count_all_pairs(other, [64] * 8)
    forward = 2 * flops.matmul_params(other) * tokens + 4 * other.num_heads * other.head_dim * pairs
    assert tables.count_model_flops(beside) - tables.count_model_flops(plain) == forward
    assert forward <= beside.products - plain.products < 1.2 * forward
    assert f"forward divergence from {teacher}" in tables.head(beside) and "objective" not in tables.head(plain)


def test_a_dry_run_shows_pairs(paired, capsys):
    dry_run(paired, rows=1)
    out = capsys.readouterr().out
    assert "objective dpo, against the adapter switched off" in out
    assert re.search(r"document 1: \d+ tokens, \d+ trained, wanted\n", out)
    assert re.search(r"document 2: \d+ tokens, \d+ trained, not wanted\n", out)
    assert not Path(paired.output_dir).exists()


# Teachers.


def test_a_teacher_teaches_and_a_store_of_all_it_says_is_the_same(distilled, teacher, toy_model, tmp_path, capfd):
    """A store of as many tokens as there are holds the whole distribution, so that the losses are those of a teacher
    beside."""
    config = copy_config(distilled, **{"data.eval": distilled.data.train, "eval_batches": 2,
                                       "objective.sft_weight": 0.25, "objective.divergence": "jsd"})
    beside = train(config)
    said = capfd.readouterr().err
    assert f"jsd divergence from {teacher}: 164,160 parameters beside, frozen, 0.6 MiB" in said
    rows = rows_of(beside)
    assert rows[-1]["divergence"] < rows[0]["divergence"] and rows[-1]["eval_divergence"] > 0
    kept = json.loads((beside / "checkpoints" / "3" / "trainable" / "_METADATA").read_text())["tree_metadata"]
    assert {re.findall(r"\w+", name)[-1] for name in kept} == {"lora_a", "lora_b"}  # nothing of the teacher
    store = write_store(tmp_path / "store", config, teacher)
    stored = copy_config(config, **{"objective.teacher": "", "objective.store": str(store),
                                    "output_dir": str(tmp_path / "stored")})
    directory = train(stored)
    assert "evaluation is plain cross-entropy" in capfd.readouterr().err
    np.testing.assert_allclose(losses_of(directory), losses_of(beside), rtol=2e-5)
    # Plain cross-entropy, as that of the run beside.
    np.testing.assert_allclose(rows_of(directory)[-1]["eval_loss"], rows[-1]["eval_nll"], rtol=2e-5)
    stored.objective.store = str(tmp_path)
    with pytest.raises(UserError, match="config.objective.store=.*is no store of a teacher"):
        train(stored, resume=True)


def write_store(folder: Path, config, teacher: Path) -> Path:
    """What a teacher says of the training data, all of it."""
    loaded = weights.load(teacher, dtype="float32")
    prepared = feed.prepare(config, loaded.tokenizer)
    size = loaded.config.vocab_size
    header = token_store.make_header(prepared, k=size, vocab=size, teacher={},
                                     vocabulary=vocabulary_digest(loaded.tokenizer))  # fmt: skip
    folder.mkdir()
    (source,) = prepared.sources
    said = np.zeros((len(source.tokens), size), np.float32)
    for start, end in zip(source.offsets[:-1], source.offsets[1:], strict=True):
        length = end - start
        tokens, inside = np.zeros((1, config.seq_len), np.int32), np.arange(config.seq_len)[None] < length
        tokens[0, :length] = source.tokens[start:end]
        logits = loss.logits(loaded.model, loaded.params, tokens, segment_ids=inside)
        said[start:end] = jax.nn.log_softmax(logits[0, :length])
    ids = np.argsort(-said, axis=1)
    ids.astype(header["arrays"]["teacher_ids"]["dtype"]).tofile(folder / token_store.file_of("teacher_ids"))
    np.take_along_axis(said, ids, 1).tofile(folder / token_store.file_of("teacher_logprobs"))
    token_store.finish(folder, header)
    return folder


def test_a_student_that_is_its_teacher_has_nothing_to_learn(distilled, toy_model):
    """In the forward pass; Adam makes much of gradients of 1e-9, so that it is asked of the first step alone."""
    config = copy_config(distilled, **{"objective.teacher": str(toy_model), "steps": 1})
    (row,) = rows_of(train(config))
    assert abs(row["loss"]) < 1e-6 and row["grad_norm"] < 1e-5


def test_own_answers_are_the_same_in_a_resumed_run(distilled, tmp_path):
    config = copy_config(distilled, **{"objective.on_policy": 0.5, "objective.max_new_tokens": 12, "steps": 6})
    whole = train(config)
    parts = copy_config(config, output_dir=str(tmp_path / "parts"), steps=3)
    train(parts)
    parts.steps = 6
    resumed = train(parts, resume=True)
    assert losses_of(resumed) == losses_of(whole)
    rows = rows_of(whole)
    assert [row["on_policy"] for row in rows] == [float(on_policy.coin(0, step, 0.5)) for step in range(1, 7)]
    assert 0 < sum(row["on_policy"] for row in rows) < 6
    own = [row for row in rows if row["on_policy"]]
    assert all(row["generated_per_second"] > 0 and row["weight_sum"] <= 12 * 20 for row in own)
    # The other steps are on the data: without own answers the first of them, if it comes first, is the same.
    plain = rows_of(train(copy_config(distilled, **{"output_dir": str(tmp_path / "plain"), "steps": 1})))
    first = rows[0]
    assert (plain[0]["loss"] == first["loss"]) == (first["on_policy"] == 0)


# What is refused.


REFUSED = [
    ({"objective.beta": 0.2}, "config.objective.beta=0.2 is of config.objective.name=dpo or simpo or orpo or kto"),
    ({"objective.name": "dpo", "objective.beta": 0.0}, "config.objective.beta=0.0 must be above 0"),
    ({"objective.name": "dpo", "objective.label_smoothing": 0.5}, "label_smoothing=0.5 must be at least 0 and below"),
    ({"objective.name": "dpo", "objective.label_smoothing": 0.1, "objective.loss": "ipo"}, "not of config.objective"),
    ({"objective.name": "dpo", "objective.gamma": 1.0}, "config.objective.gamma=1.0 is of config.objective.name=simpo"),
    ({"objective.name": "dpo", "objective.reference": "adapter"}, "config.objective.reference='adapter' needs an"),
    ({"objective.name": "dpo", "objective.loss": "logistic"}, "config.objective.loss='logistic' is not known"),
    ({"objective.name": "dpo", "data.overlong": "split"}, "config.data.overlong='split' does not go with"),
    ({"objective.name": "kto", "data.split_turns": True}, "config.data.split_turns=True does not go with"),
    ({"objective.name": "simpo", "neftune_alpha": 5.0}, "config.neftune_alpha=5.0 is of config.objective.name=sft"),
    ({"objective.name": "simpo", "objective.nll_weight": -1.0}, "config.objective.nll_weight=-1.0 must be at least 0"),
    ({"objective.name": "distill"}, "none is set"),
    ({"objective.name": "distill", "objective.teacher": "a", "objective.store": "b"}, "both are set"),
    ({"objective.name": "distill", "objective.store": "b", "objective.on_policy": 0.5}, "on_policy=0.5 needs"),
    ({"objective.name": "distill", "objective.teacher": "a", "objective.temperature": 0.0}, "temperature=0.0 must be"),
    ({"objective.name": "distill", "objective.teacher": "a", "objective.jsd_beta": 0.1}, "jsd_beta=0.1 is of"),
    ({"objective.name": "distill", "objective.teacher": "a", "objective.divergence": "jsd", "objective.jsd_beta": 1.5},
     "config.objective.jsd_beta=1.5 must be from 0 to 1"),
    ({"objective.name": "distill", "objective.teacher": "a", "data.add_tokens": "<x>"}, "config.data.add_tokens"),
    ({"objective.name": "distill", "objective.teacher": "a", "objective.max_new_tokens": 9}, "on_policy is 0"),
    ({"objective.name": "distill", "objective.teacher": "a", "objective.on_policy": 1.0, "seq_len": 128},
     "max_new_tokens=128 leaves no room"),
]


@pytest.mark.core
@pytest.mark.parametrize("changes, message", REFUSED, ids=range(len(REFUSED)))
def test_options_that_cannot_work_are_refused_by_name(changes, message):
    config = defaults()
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError) as error:
        check(config, needed=())
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.core
@pytest.mark.parametrize("name", ["distill_logits", "gkd", "dpo", "simpo", "orpo", "kto"])
def test_recipes_of_objectives_hold(name):
    config = read(name)
    if config.objective.name == "distill":
        with pytest.raises(UserError, match="none is set"):
            check(config, needed=())
        config.objective.teacher = "DIR"
    check(config, needed=())
    assert 20 <= len((ROOT / "configs" / f"{name}.py").read_text().splitlines()) <= 35


@pytest.mark.core
def test_every_option_of_the_objective_has_its_users():
    named = {name.removeprefix("objective.") for name in flatten(defaults()) if name.startswith("objective.")}
    assert named - {"name"} == USED_BY.keys()


def test_a_teacher_of_other_tokens_is_refused_before_anything_is_made(distilled, tmp_path, toy_data):
    fresh.create(tmp_path / "other", family="llama", preset="tiny", tokenizer_from=str(toy_data), vocab_size=300)
    config = copy_config(distilled, **{"objective.teacher": str(tmp_path / "other")})
    with pytest.raises(UserError, match="config.objective.teacher=.*the first difference is id"):
        train(config)
    config.objective.teacher = str(tmp_path / "nowhere")
    with pytest.raises(UserError, match="config.objective.teacher=.*no such"):
        train(config)
    assert not Path(config.output_dir).exists()


def test_own_answers_as_long_as_the_context_are_refused(distilled, toy_model, tmp_path):
    """Else every prompt would lose all but its last token."""
    student = shutil.copytree(toy_model, tmp_path / "student")
    sizes = json.loads((student / "config.json").read_text())
    (student / "config.json").write_text(json.dumps({**sizes, "max_position_embeddings": 32}))
    config = copy_config(distilled, **{"model.path": str(student), "objective.on_policy": 1.0,
                                       "objective.max_new_tokens": 32})
    for seq_len, line in ((64, "seq_len=64 is more than the model's context of 32"),
                          (32, "max_new_tokens=32 leaves no room for a prompt in config.seq_len=32")):
        config.seq_len = seq_len
        with pytest.raises(UserError, match=line):
            train(config)
    assert not Path(config.output_dir).exists()


def test_a_teacher_that_ends_otherwise_is_told_of(distilled, tmp_path, capsys):
    dry_run(distilled)
    assert "the teacher ends a text" not in capsys.readouterr().out
    other = shutil.copytree(distilled.objective.teacher, tmp_path / "other")
    path = other / "tokenizer_config.json"
    named = json.loads(path.read_text())
    path.write_text(json.dumps({**named, "eos_token": "a"}))
    dry_run(copy_config(distilled, **{"objective.teacher": str(other)}))
    assert "note: the teacher ends a text with 'a'" in capsys.readouterr().out


def test_a_run_goes_on_with_its_own_teacher_alone(distilled, toy_model):
    config = copy_config(distilled, steps=1)
    train(config)
    config.update_from_flattened_dict({"steps": 2, "objective.teacher": str(toy_model)})
    with pytest.raises(UserError, match="--resume: the teacher is not the one"):
        train(config, resume=True)
    config.update_from_flattened_dict({"objective.teacher": distilled.objective.teacher, "objective.temperature": 2.0})
    with pytest.raises(UserError, match="--resume: config.objective.temperature is 2.0"):
        train(config, resume=True)
