"""Objectives of preference against TRL's own losses, on the same log-probabilities and through a whole model."""

import json
from collections import defaultdict
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="the reference implementations need torch")
trl = pytest.importorskip("trl", reason="the reference for preferences is TRL")

import datasets
import jax
import numpy as np

import jitune
from jitune import config as configs
from jitune.data import pipeline
from jitune.data.pairs import prepare_pairs
from jitune.hub.weights import export_tensors
from jitune.objectives.preference import dpo, kto, orpo, simpo
from jitune.objectives.sequences import token_logprobs
from jitune.types import MISMATCHED
from tests.data import toy
from tests.objectives.stub import MODEL, documents, draw
from tests.parity.test_sft import RAW, TEMPLATE, load_torch, words
from tests.references import GRADIENT, LOSS, make_weights, relative, write_checkpoint

torch.set_num_threads(1)
PARITY = 1e-6  # of losses and of gradients of log-probabilities, relative
PAIRS = [(5, 3), (2, 4), (1, 6), (7, 2)]
BETA, SEQ_LEN = 0.3, 160


class Given(torch.nn.Module):
    """Stands where TRL has its model: gives each token of a batch the log-probability that it was made with."""

    is_gradient_checkpointing = False

    def __init__(self, values):
        super().__init__()
        self.values = values

    def forward(self, input_ids, labels, **_):
        values = self.values[input_ids[:, 1:]]
        found = torch.where(labels[:, 1:] != -100, values, 0.0)
        zeros = torch.zeros_like(found)
        return SimpleNamespace(log_probs=found, entropy=zeros, mean_logits=zeros, is_top1=zeros > 0)


def trainer(policy, reference, **options):
    """What TRL's loss functions look at of their trainer."""
    same = SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x, device="cpu",
                           unwrap_model=lambda model: model)  # fmt: skip
    defaults = dict(
        model=policy, ref_model=reference, accelerator=same, beta=BETA, args=SimpleNamespace(
            gradient_checkpointing_kwargs=None), aux_loss_enabled=False, ld_alpha=None, precompute_ref_logps=False,
        f_divergence_type="reverse_kl", use_weighting=False, label_smoothing=0.0, loss_weights=[1.0], calculate_KL=True,
        _metrics=defaultdict(lambda: defaultdict(list)), _total_train_tokens=0, _tp_size=1, num_loss=0,
    )  # fmt: skip
    return SimpleNamespace(**{**defaults, **options})


def as_numbers(answers):
    """Answers as padded batches of TRL whose token i stands for the log-probability i: (inputs, all values)."""
    longest = max(len(values) for values in answers) + 1
    ids, mask = np.zeros((len(answers), longest), np.int64), np.zeros((len(answers), longest), np.int64)
    every = [0.0]
    for row, values in enumerate(answers):
        mask[row, 1 : len(values) + 1] = 1
        ids[row, 1 : len(values) + 1] = np.arange(len(every), len(every) + len(values))
        every += list(values)
    return torch.tensor(ids), torch.tensor(mask), np.array(every)


def both_sides(values, batch, order):
    """(inputs, policy, reference) for TRL of the documents of these sides, in order."""
    ours, theirs = list(documents(values, batch)), list(documents(batch["reference_logprobs"], batch))
    ours = [v for side in order for s, v in ours if s == side]
    theirs = [v for side in order for s, v in theirs if s == side]
    ids, mask, values = as_numbers(ours)
    policy = torch.tensor(values, requires_grad=True)
    return (ids, mask), policy, torch.tensor(as_numbers(theirs)[2])


def in_place(grads, batch, order):
    """Gradients of the tokens of TRL's answers, as [rows, seq] slots."""
    found, left = np.zeros(batch["sides"].shape), iter(grads[1:].tolist())
    for side in order:
        trained = (batch["sides"] == side) & (batch["loss_weights"] > 0)
        for place in zip(*np.nonzero(trained), strict=True):
            found[place] = next(left)
    return found


def agree(objective, values, batch, loss, grads):
    """Our mean loss and the gradients of its log-probabilities are theirs."""
    def mean(values):
        total, weight, _ = objective(MODEL, values, batch, None)
        return total / weight

    ours, ours_grads = jax.value_and_grad(mean)(values)
    np.testing.assert_allclose(ours, loss, rtol=PARITY)
    np.testing.assert_allclose(ours_grads, grads, rtol=PARITY, atol=PARITY)


@pytest.mark.parametrize(("loss_type", "label_smoothing", "ours"), [
    ("sigmoid", 0.0, {}), ("hinge", 0.0, {"loss": "hinge"}), ("ipo", 0.0, {"loss": "ipo"}),
    ("robust", 0.15, {"loss": "robust", "label_smoothing": 0.15}), ("sigmoid_norm", 0.0, {"length_normalized": True}),
])  # fmt: skip
def test_dpo(loss_type, label_smoothing, ours):
    values, batch = draw(np.random.default_rng(0), PAIRS, seq=32)
    (ids, mask), policy, reference = both_sides(values, batch, (1, -1))
    model, ref = Given(policy), Given(reference)
    fake = trainer(model, ref, loss_types=[loss_type], label_smoothing=label_smoothing)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "completion_mask": mask}
    if loss_type in ("ipo", "sigmoid_norm"):
        assert mask.sum(1).tolist() == [len(v) for side in (1, -1) for s, v in documents(values, batch) if s == side]
    loss = trl.DPOTrainer._compute_loss(fake, model, inputs, False)
    loss.backward()
    objective = dpo(beta=BETA, **ours)
    agree(objective, values, batch, loss.item(), in_place(policy.grad, batch, (1, -1)))
    metrics = objective(MODEL, values, batch, None)[2]
    if not loss_type.endswith(("ipo", "norm")):
        theirs = fake._metrics["train"]
        for name, key in (("chosen_reward", "rewards/chosen"), ("rejected_reward", "rewards/rejected"), ("margin",
                          "rewards/margins"), ("accuracy", "rewards/accuracies"), ("chosen_logprob", "logps/chosen"),
                          ("rejected_logprob", "logps/rejected")):  # fmt: skip
            np.testing.assert_allclose(metrics[name] / len(PAIRS), theirs[key], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("scale", [0.5, 2.0])  # where the reference point is above 0, and where it is 0
def test_kto(scale):
    sides = [(1, MISMATCHED), (-1, MISMATCHED), (1, MISMATCHED), (-1, MISMATCHED)]
    values, batch = draw(np.random.default_rng(1), PAIRS, sides=sides, seq=32)
    values = values * np.float32(scale)
    (ids, mask), policy, reference = both_sides(values, batch, (1, -1))
    (kl_ids, kl_mask), kl_policy, kl_reference = both_sides(values, batch, (MISMATCHED,))
    # The mismatched answers' tokens are numbered after those of the others.
    kl_ids = torch.where(kl_mask > 0, kl_ids + len(policy) - 1, 0)
    model = Given(torch.cat([policy, kl_policy[1:]]))
    ref = Given(torch.cat([reference, kl_reference[1:]]))
    label = torch.tensor([side == 1 for wanted in (1, -1) for side, _ in documents(values, batch) if side == wanted])
    inputs = {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "completion_mask": mask, "label": label,
        "KL_input_ids": kl_ids, "KL_attention_mask": torch.ones_like(kl_ids), "KL_completion_mask": kl_mask,
    }  # fmt: skip
    fake = trainer(model, ref, loss_type="kto", desirable_weight=1.3, undesirable_weight=0.8)
    fake._compute_kl_logps = lambda model, batch: trl.KTOTrainer._compute_kl_logps(fake, model, batch)
    loss = trl.KTOTrainer._compute_loss(fake, model, inputs, False)
    loss.backward()
    objective = kto(beta=BETA, wanted_weight=1.3, unwanted_weight=0.8)
    point = objective(MODEL, values, batch, None)[2]["reference_point"] / len(PAIRS) / BETA
    np.testing.assert_allclose(point, fake._metrics["train"]["kl"], rtol=1e-6)
    assert (point > 0) == (scale < 1)
    agree(objective, values, batch, loss.item(), in_place(policy.grad, batch, (1, -1)))


def averages(values, batch):
    """Log-probabilities a token of the wanted and of the unwanted answers, for torch."""
    found = list(documents(values, batch))
    return [torch.tensor([v.mean() for s, v in found if s == side], requires_grad=True) for side in (1, -1)]


def spread(grads, batch):
    """Gradients of means, as those of their tokens."""
    found = np.zeros(batch["sides"].shape)
    for side, values in zip((1, -1), grads, strict=True):
        left = iter(values.tolist())
        for row, ids in enumerate(batch["segment_ids"]):
            for segment in range(1, ids.max() + 1):
                inside = (ids == segment) & (batch["sides"][row] == side)
                trained = inside & (batch["loss_weights"][row] > 0)
                if inside.any():
                    found[row][trained] = next(left) / trained.sum()
    return found


def experimental(name):
    """A trainer that TRL keeps apart, with a warning."""
    import importlib
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(importlib.import_module(f"trl.experimental.{name}"), f"{name.upper()}Trainer")


@pytest.mark.parametrize(("loss_type", "label_smoothing"), [("simpo", 0.0), ("sigmoid", 0.2)])
def test_simpo_and_conservative_dpo(loss_type, label_smoothing):
    values, batch = draw(np.random.default_rng(2), PAIRS, seq=32)
    wanted, unwanted = averages(values, batch)
    fake = trainer(None, None, loss_type=loss_type, alpha=0.0, simpo_gamma=0.4 * BETA, label_smoothing=label_smoothing)
    loss = experimental("cpo").cpo_loss(fake, wanted, unwanted)[0].mean()
    loss.backward()
    objective = simpo(beta=BETA, gamma=0.4)
    if loss_type == "sigmoid":  # of averages, without a reference
        batch["reference_logprobs"] = np.zeros_like(values)
        objective = dpo(beta=BETA, label_smoothing=label_smoothing, length_normalized=True)
    agree(objective, values, batch, loss.item(), spread([wanted.grad, unwanted.grad], batch))


def test_orpo():
    values, batch = draw(np.random.default_rng(3), PAIRS, seq=32)
    wanted, unwanted = averages(values, batch)
    fake = trainer(None, None)
    loss = (-wanted - experimental("orpo").odds_ratio_loss(fake, wanted, unwanted)[0]).mean()
    loss.backward()
    agree(orpo(beta=BETA), values, batch, loss.item(), spread([wanted.grad, unwanted.grad], batch))


# Through the whole trainer.


@pytest.fixture(scope="module")
def tokenizer():
    return toy.make_tokenizer(chat_template=TEMPLATE, bos="<|begin_of_text|>", eos="<|eot_id|>")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """The policy and the reference."""
    folder = tmp_path_factory.mktemp("models")
    return [write_checkpoint(folder / str(seed), RAW, make_weights(RAW, seed)) for seed in (0, 1)]


@pytest.fixture
def make_trainer(checkpoints, tokenizer, tmp_path):
    def make(rows, **options):
        policy, reference = map(load_torch, checkpoints)
        quiet = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True, "bf16": False}
        args = trl.DPOConfig(str(tmp_path / "trl"), beta=BETA, max_length=SEQ_LEN, **quiet, **options,
                             per_device_train_batch_size=len(rows))  # fmt: skip
        return trl.DPOTrainer(policy, ref_model=reference, args=args, train_dataset=datasets.Dataset.from_list(rows),
                              processing_class=tokenizer)  # fmt: skip

    return make


def preferences(kind, count=5):
    """Chats that end with two answers, of different lengths; in the first two an assistant spoke before."""
    rng, rows = np.random.default_rng(7), []
    for i in range(count):
        before = [{"role": "user", "content": words(rng, 1, 6)}]
        if i < 2:
            before += [{"role": role, "content": words(rng, 1, 4)} for role in ("assistant", "user")]
        both = {name: [{"role": "assistant", "content": words(rng, 1, 12)}] for name in ("chosen", "rejected")}
        rows.append({"prompt": before, **both} if kind == "explicit" else
                    {name: before + answer for name, answer in both.items()})  # fmt: skip
    return rows


def prepare(rows, tokenizer, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = configs.defaults()
    config.data.train = str(path)
    return prepare_pairs(config.data, tokenizer, SEQ_LEN)


@pytest.mark.parametrize("kind", ["explicit", "implicit"])
def test_tokens_of_the_trainer(kind, make_trainer, tokenizer, tmp_path):
    rows = preferences(kind)
    [source], theirs = prepare(rows, tokenizer, tmp_path).sources, make_trainer(rows).train_dataset
    for i, row in enumerate(theirs):
        unit = source[i]
        for side, key in ((1, "chosen_ids"), (-1, "rejected_ids")):
            inside = unit["sides"] == side
            assert unit["tokens"][inside].tolist() == row["prompt_ids"] + row[key]
            assert unit["loss_weights"][inside].tolist() == [0] * len(row["prompt_ids"]) + [1] * len(row[key])


def test_a_step_of_the_trainer(make_trainer, checkpoints, tokenizer, tmp_path):
    """Loss and gradients of every weight, of rows with several pairs each and the reference's values stored."""
    rows = preferences("explicit")
    trainer = make_trainer(rows)
    loss = trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))
    loss.backward()
    grads = {name: p.grad.numpy() for name, p in trainer.model.named_parameters()}

    policy, reference = (jitune.load(path, dtype="float32") for path in checkpoints)
    prepared = prepare(rows, tokenizer, tmp_path)
    sizes = {"seq_len": SEQ_LEN, "batch_size": len(rows)}
    extras = stored(reference, prepared, sizes)
    [packed] = pipeline.eval_batches(prepared, **sizes, extras=extras)
    [alone] = pipeline.eval_batches(prepared, **sizes, packing=False, extras=extras)
    assert packed["segment_ids"].max() > 2 and alone["segment_ids"].max() == 2
    run = jax.jit(jax.value_and_grad(lambda p, batch: mean(dpo(beta=BETA, chunk=200), policy.model, p, batch)))
    for batch in (packed, alone):
        value, found = run(policy.params, batch)
        assert abs(value - loss.item()) < LOSS  # two forward passes of float32; the loss itself is held to PARITY above
        found = dict(export_tensors(found, policy.config))
        assert max(relative(found[name], grad) for name, grad in grads.items()) < GRADIENT
    np.testing.assert_allclose(run(policy.params, alone)[0], run(policy.params, packed)[0], rtol=PARITY)


def mean(objective, model, params, batch):
    total, weight, _ = objective(model, params, batch, None)
    return total / weight


def stored(reference, prepared, sizes):
    """The reference's log-probabilities of all tokens, as they are computed before the first step."""
    count = len(prepared.sources[0].tokens)
    found = np.zeros(count, np.float32)
    score = jax.jit(lambda params, batch: token_logprobs(reference.model, params, batch, 200))
    for batch in pipeline.eval_batches(prepared, **sizes, extras={"number": np.arange(1, count + 1)}):
        numbers = batch.pop("number")
        found[numbers[numbers > 0] - 1] = np.asarray(score(reference.params, batch))[numbers > 0]
    return {"reference_logprobs": found}
