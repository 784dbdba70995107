"""Supervised fine-tuning against TRL: tokens, masks, losses, gradients, accumulation and a training curve."""

import json
from itertools import islice

import pytest

torch = pytest.importorskip("torch", reason="the reference implementations need torch")
trl = pytest.importorskip("trl", reason="the reference for supervised fine-tuning is TRL")

import datasets
import jax
import jax.numpy as jnp
import numpy as np
import transformers

import jitune
from jitune import config as configs
from jitune.data import chat, pipeline
from jitune.objectives.sft import sft
from jitune.optimizers import make_optimizer
from jitune.step import make_train_step
from jitune.transforms.full import full
from jitune.types import Example, TrainState
from tests.data import toy
from tests.references import (
    CONFIGS,
    GRADIENT,
    LOSS,
    evaluate,
    make_weights,
    relative,
    write_checkpoint,
)  # fmt: skip

torch.set_num_threads(1)
CURVE = 1e-4
SEQ_LEN = 160
RAW = CONFIGS["qwen3"] | {"vocab_size": 416}
# As in Llama 3 nothing stands after the end of turn, so that TRL's completion masks, too, end with it.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|eot_id|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|eot_id|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n' }}{% endif %}"
)


def words(rng, low, high):
    return " ".join(rng.choice(" ".join(toy.CORPUS).split(), rng.integers(low, high)))


def conversations(count=8):
    """Chats of one to three turns and very different lengths, some with a system prompt."""
    rng, rows = np.random.default_rng(0), []
    for i in range(count):
        messages = [{"role": "system", "content": words(rng, 2, 5)}] if i % 3 == 0 else []
        for _ in range(1 + i % 3):
            messages += [{"role": "user", "content": words(rng, 1, 6)},
                         {"role": "assistant", "content": words(rng, 1, 12)}]  # fmt: skip
        rows.append({"messages": messages})
    return rows


def prompt_completions(count=8):
    rng = np.random.default_rng(1)
    return [{"prompt": words(rng, 1, 9), "completion": " " + words(rng, 1, 9)} for _ in range(count)]


def texts(count=8):
    """Texts that are trained as a whole, where a document's first token must not be a target of the one before it."""
    rng = np.random.default_rng(2)
    return [{"text": words(rng, 1, 16)} for _ in range(count)]


@pytest.fixture(scope="module")
def tokenizer():
    return toy.make_tokenizer(chat_template=TEMPLATE, bos="<|begin_of_text|>", eos="<|eot_id|>")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tokenizer):
    assert len(tokenizer) <= RAW["vocab_size"]
    return write_checkpoint(tmp_path_factory.mktemp("model"), RAW, make_weights(RAW))


@pytest.fixture(scope="module")
def pretrained(checkpoint):
    return jitune.load(checkpoint, dtype="float32")


def load_torch(checkpoint):
    return transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager"
    )


@pytest.fixture
def make_trainer(checkpoint, tokenizer, tmp_path):
    """`make_trainer(rows, **options)`: an SFTTrainer that does nothing but train, on the CPU."""

    def make(rows, **options):
        quiet = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "logging_steps": 1}
        return trl.SFTTrainer(
            load_torch(checkpoint),
            args=trl.SFTConfig(str(tmp_path / "trl"), use_cpu=True, bf16=False, max_length=SEQ_LEN, **quiet, **options),
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tokenizer,
        )  # fmt: skip

    return make


def prepare(rows, tokenizer, tmp_path):
    """The rows through jitune's own pipeline, from a file."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = configs.defaults()
    config.data.train = str(path)
    return pipeline.prepare(config.data, tokenizer, SEQ_LEN)


def batches(prepared, batch_size, **options):
    return pipeline.batches(prepared, seq_len=SEQ_LEN, batch_size=batch_size, **{"epochs": 1} | options)


# Tokens and masks.


@pytest.mark.parametrize("kind", ["messages", "conversational completion", "plain completion"])
def test_tokens_and_labels_of_the_trainer(kind, tokenizer, make_trainer):
    if kind == "messages":
        rows = conversations()
        examples = [Example(tuple(row["messages"])) for row in rows]
        theirs = make_trainer(rows, assistant_only_loss=True)
    elif kind == "conversational completion":
        rows = [{"prompt": r["messages"][:-1], "completion": r["messages"][-1:]} for r in conversations()]
        examples = [Example((*row["prompt"], *row["completion"])) for row in rows]
        theirs = make_trainer(rows, completion_only_loss=True)
    else:
        rows = prompt_completions()
        examples = [Example(text=((row["prompt"], 0.0), (row["completion"], 1.0))) for row in rows]
        theirs = make_trainer(rows)
    train_on = "last" if kind == "conversational completion" else "assistant"
    for ours, row in zip(chat.render_all(tokenizer, examples, train_on=train_on), theirs.train_dataset, strict=True):
        assert ours.tokens.tolist() == row["input_ids"]
        assert np.where(ours.loss_weights > 0, ours.tokens, -100).tolist() == row["labels"]


# Losses and gradients.


@pytest.mark.parametrize("rows", [conversations(), prompt_completions(), texts()], ids=["chat", "completion", "text"])
@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_loss_and_gradients_of_the_trainer(layout, rows, tokenizer, make_trainer, pretrained, tmp_path):
    only = {"assistant_only_loss": True} if "messages" in rows[0] else {}
    trainer = make_trainer(rows, per_device_train_batch_size=len(rows), packing=layout == "packed", **only)
    inputs = next(iter(trainer.get_train_dataloader()))
    assert ("position_ids" in inputs) == (layout == "packed")
    trained = int((inputs["labels"][:, 1:] != -100).sum())
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    prepared = prepare(rows, tokenizer, tmp_path)
    (batch,) = batches(prepared, len(rows), packing=layout == "packed")
    assert batch["loss_weights"].sum() == trained
    # 25 of 160 tokens a row at a time: the last chunk is a part of one.
    _, found, grads = evaluate(pretrained.model, pretrained.params, batch, pretrained.config, chunk=200)
    assert abs(found - loss.item()) < LOSS
    wanted = {name: p.grad.numpy() for name, p in trainer.model.named_parameters()}
    assert max(relative(grads[name], grad) for name, grad in wanted.items()) < GRADIENT


@pytest.fixture(scope="module")
def run_steps(pretrained):
    """`run_steps(batches, options, microbatches) -> metrics of every step`."""
    transform = full()
    model = transform.apply(pretrained.model)

    def run(stream, options, microbatches=1):
        stream = list(stream)
        optimizer, schedule = make_optimizer(options, len(stream))
        frozen, trainable = transform.init(jax.random.key(0), pretrained.params)
        state = TrainState(jnp.zeros((), jnp.int32), trainable, optimizer.init(trainable))
        step = jax.jit(make_train_step(model, sft(chunk=200), optimizer, microbatches))
        metrics = []
        for i, batch in enumerate(stream):
            state, found = step(state, frozen, batch, jax.random.key(0))
            metrics.append({**{k: float(v) for k, v in found.items()}, "learning_rate": float(schedule(i))})
        return metrics

    return run


def adamw_options(**changes):
    options = configs.defaults().optimizer
    options.update({"learning_rate": 3e-3, "weight_decay": 0.1, "clip_norm": 1.0, "warmup_steps": 2, **changes})
    return options


def test_accumulation_of_the_trainer(tokenizer, make_trainer, run_steps, tmp_path):
    """Unequal microbatches weigh by their trained tokens; each step sees all rows, so their order is free."""
    rows, steps = conversations(), 3
    trainer = make_trainer(
        rows, assistant_only_loss=True, per_device_train_batch_size=2, gradient_accumulation_steps=4,
        max_steps=steps, learning_rate=3e-3, weight_decay=0.1, warmup_steps=2, lr_scheduler_type="cosine",
    )  # fmt: skip
    trainer.train()
    theirs = [line for line in trainer.state.log_history if "grad_norm" in line]
    prepared = prepare(rows, tokenizer, tmp_path)
    stream = list(batches(prepared, len(rows), packing=False)) * steps
    whole, parts = (run_steps(stream, adamw_options(), count) for count in (1, 4))
    assert len(theirs) == len(parts) == steps
    for i, (line, one, four) in enumerate(zip(theirs, whole, parts, strict=True)):
        bound = LOSS if i == 0 else CURVE
        assert abs(one["loss"] - four["loss"]) < bound
        assert abs(float(line["loss"]) - four["loss"]) < bound
        assert float(line["grad_norm"]) == pytest.approx(four["grad_norm"], rel=CURVE)
        assert float(line["learning_rate"]) == pytest.approx(four["learning_rate"], rel=1e-6)
        assert float(line["mean_token_accuracy"]) == pytest.approx(four["accuracy"], abs=0.05)


def torch_curve(checkpoint, stream, options):
    """Loss and gradient norm of every step of a plain loop in torch."""
    model = load_torch(checkpoint)
    decayed = set(transformers.Trainer.get_decay_parameter_names(None, model))
    groups = [
        {"params": [p for name, p in model.named_parameters() if (name in decayed) == decay],
         "weight_decay": options.weight_decay * decay}
        for decay in (True, False)
    ]  # fmt: skip
    betas = (options.b1, options.b2)
    optimizer = torch.optim.AdamW(groups, options.learning_rate, betas, options.eps)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, options.warmup_steps, len(stream))
    for batch in stream:
        tokens, positions, targets = (
            torch.tensor(batch[k], dtype=torch.long) for k in ("tokens", "positions", "targets")
        )
        # Without a mask and a cache transformers takes position 0 for the start of another document.
        logits = model(tokens, position_ids=positions, use_cache=False).logits
        losses = torch.nn.functional.cross_entropy(logits.mT, targets, reduction="none")
        weights = torch.tensor(batch["loss_weights"])
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        yield loss.item(), norm.item()


def test_training_curve(checkpoint, tokenizer, run_steps, tmp_path):
    """Twenty steps on packed batches against torch: AdamW, decay groups, clipping, cosine with warmup."""
    prepared, options = prepare(conversations(24), tokenizer, tmp_path), adamw_options()
    stream = list(islice(batches(prepared, 2, epochs=None, seed=5), 20))
    assert max(batch["segment_ids"].max() for batch in stream) > 2
    found, wanted = run_steps(stream, options), list(torch_curve(checkpoint, stream, options))
    assert wanted[-1][0] < wanted[0][0] - 1
    np.testing.assert_allclose([f["loss"] for f in found], [loss for loss, _ in wanted], 0, CURVE)
    np.testing.assert_allclose([f["grad_norm"] for f in found], [norm for _, norm in wanted], 1e-3)
