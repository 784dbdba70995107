"""Optimizers and schedules against torch and transformers, on the same random gradients, weight by weight."""

import pytest

torch = pytest.importorskip("torch", reason="the reference implementations need torch")

import jax
import jax.numpy as jnp
import numpy as np
import optax
import transformers

import jitune
from jitune import config as configs
from jitune import tree
from jitune.hub import stored, weights
from jitune.hub.weights import abstract_params
from jitune.models.config import ModelConfig
from jitune.models.names import names
from jitune.optimizers import decay_mask, make_optimizer, make_schedule
from tests.references import CONFIGS, make_weights, relative, write_checkpoint

torch.set_num_threads(1)
UPDATE = 2e-5
RATE = 1e-6  # of the highest learning rate
# Biases, norms for heads, an untied head.
SMALL = CONFIGS["qwen3_sliding"] | {"num_hidden_layers": 2}
# Every matrix is large enough for optax to factor its second moments.
LARGE = CONFIGS["llama2"] | {"hidden_size": 128, "intermediate_size": 144}


def options(name="adamw", **changes):
    found = configs.defaults().optimizer
    found.update({"name": name, "learning_rate": 1e-3, "warmup_steps": 10, "weight_decay": 0.1, **changes})
    return found


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """`load(raw) -> params` with the random weights of a config."""

    def make(raw):
        directory = write_checkpoint(tmp_path_factory.mktemp("model"), raw, make_weights(raw))
        return jitune.load(directory, dtype="float32").params

    return make


def export_tensors(params):
    """The tensors of a Llama: the names of all models here."""
    return weights.export_tensors(params, ModelConfig.from_hf(CONFIGS["llama2"]))


def gradients(params, steps):
    """Trees of normal noise; each step and each layer has a scale of its own, so that clipping comes and goes."""
    rng = np.random.default_rng(0)
    for _ in range(steps):
        scale = 10 ** rng.uniform(-5, 1)

        def draw(path, x, scale=scale):
            layers = 10 ** rng.uniform(-1, 1, (x.shape[0],) + (1,) * (x.ndim - 1)) if "layers" in path else 1.0
            return jnp.asarray(rng.standard_normal(x.shape) * layers * scale, jnp.float32)

        yield tree.map_with_path(draw, params)


def run(params, opts, steps, stream):
    """The parameters by HF name after each step."""
    optimizer, _ = make_optimizer(opts, steps)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for grads in stream:
        params, state = step(params, state, grads)
        yield dict(export_tensors(params))


def run_torch(params, opts, steps, stream, make, choose=None):
    """The same in torch: `make(groups)` gives the optimizer of two groups, decayed or not."""
    weights = {name: p for name, p in to_torch(params).items() if choose is None or choose(name)}
    decayed = decayed_by_transformers(weights)
    groups = [
        {"params": [p for name, p in weights.items() if (name in decayed) == decay],
         "weight_decay": opts.weight_decay * decay}
        for decay in (True, False)
    ]  # fmt: skip
    optimizer = make([group for group in groups if group["params"]])
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, opts.warmup_steps, steps)
    for grads in stream:
        grads = dict(export_tensors(grads))
        for name, parameter in weights.items():
            parameter.grad = torch.tensor(np.array(grads[name]))
        if opts.clip_norm:
            torch.nn.utils.clip_grad_norm_(weights.values(), opts.clip_norm)
        optimizer.step()
        schedule.step()
        yield {name: x.detach().numpy().copy() for name, x in weights.items()}


def to_torch(params):
    """Torch parameters by HF name."""
    return {name: torch.nn.Parameter(torch.tensor(np.array(x))) for name, x in export_tensors(params)}


def decayed_by_transformers(weights):
    """The names that transformers' Trainer would decay, of a module with these parameters."""
    module = torch.nn.Module()
    for name, parameter in weights.items():
        node = module
        *parents, last = name.split(".")
        for part in parents:
            if part not in node._modules:
                node.add_module(part, torch.nn.Module())
            node = node._modules[part]
        node.register_parameter(last, parameter)
    return set(transformers.Trainer.get_decay_parameter_names(None, module))


def check_close(ours, theirs):
    """Every weight after every step."""
    steps = 0
    for steps, (found, wanted) in enumerate(zip(ours, theirs, strict=True), 1):
        for name, x in wanted.items():
            np.testing.assert_allclose(found[name], x, 0, UPDATE, err_msg=f"{name} after {steps} steps")
    assert steps


def is_muon(name):
    return "layers" in name and name.endswith("proj.weight")


def test_adamw(load):
    params, opts = load(SMALL), options(clip_norm=1.0)
    norms = [float(optax.tree.norm(g)) for g in gradients(params, 100)]
    assert 20 < sum(norm > 1 for norm in norms) < 80
    check_close(
        run(params, opts, 100, gradients(params, 100)),
        run_torch(params, opts, 100, gradients(params, 100),
                  lambda groups: torch.optim.AdamW(groups, opts.learning_rate, (opts.b1, opts.b2), opts.eps)),
    )  # fmt: skip


def test_clipping_is_that_of_torch(load):
    params = load(SMALL)
    clip = optax.clip_by_global_norm(options().clip_norm)
    for grads in gradients(params, 10):
        found = dict(export_tensors(clip.update(grads, clip.init(params))[0]))
        weights = {n: torch.nn.Parameter(torch.zeros(x.shape)) for n, x in found.items()}
        for name, x in export_tensors(grads):
            weights[name].grad = torch.tensor(np.array(x))
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        assert max(relative(found[n], p.grad.numpy()) for n, p in weights.items()) < UPDATE


@pytest.mark.parametrize("case", CONFIGS)
def test_decay_spares_what_transformers_spares(case):
    raw, config = CONFIGS[case], ModelConfig.from_hf(CONFIGS[case])
    leaves = tree.flatten(abstract_params(config))
    mask = tree.flatten(decay_mask(abstract_params(config)))
    held = stored.holders(names(config), {path: leaf.shape for path, leaf in leaves.items()})
    ours = {name for name, one in held.items() if all(mask[path] for path in one.paths)}
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**raw))
    wanted = set(transformers.Trainer.get_decay_parameter_names(None, model))
    wanted &= {name for name, _ in model.named_parameters()}  # without a tied head
    assert short(ours) == short(wanted)


def short(names):
    """Names without the numbers and modules of experts, which transformers stacks: all decay, or none."""
    names = {name.replace(".block_sparse_moe.", ".mlp.") for name in names}
    return {name.partition(".experts.")[0] for name in names}


@pytest.mark.parametrize("name", ["adamw", "adafactor", "lion", "muon"])
def test_every_optimizer_decays_alike(name, load):
    """Without a gradient a step takes learning_rate * weight_decay of a weight, and nothing of norms and biases."""
    params, opts = load(SMALL), options(name, schedule="constant", warmup_steps=0, warmup_ratio=0.0)
    zeros = jax.tree.map(jnp.zeros_like, params)
    (found,) = run(params, opts, 1, [zeros])
    before = dict(export_tensors(params))
    decayed = decayed_by_transformers(to_torch(params))
    assert 0 < len(decayed) < len(before)
    for path, x in before.items():
        kept = 1 - opts.learning_rate * opts.weight_decay * (path in decayed)
        np.testing.assert_allclose(found[path], x * kept, 1e-6, err_msg=path)


@pytest.mark.parametrize("layers", [1, 2])
def test_adafactor(layers, load):
    """Layers that are stacked in one array are clipped each by its own size, as they are alone."""
    params = load(LARGE | {"num_hidden_layers": layers})
    opts = options("adafactor", clip_norm=0.0, weight_decay=0.0)
    check_close(
        run(params, opts, 30, gradients(params, 30)),
        run_torch(params, opts, 30, gradients(params, 30),
                  lambda groups: transformers.Adafactor(groups, opts.learning_rate, relative_step=False,
                                                        scale_parameter=False)),
    )  # fmt: skip


def test_lion(load):
    """Chen et al. 2023 (arXiv 2302.06675), algorithm 2."""
    params, opts = load(SMALL), options("lion", clip_norm=0.0)
    weights = {name: np.array(x) for name, x in export_tensors(params)}
    decayed = decayed_by_transformers(to_torch(params))
    momentum = {name: np.zeros_like(x) for name, x in weights.items()}
    rates = make_schedule(opts, 30)
    b1, b2 = np.float32(opts.b1), np.float32(opts.b2)
    stream = gradients(params, 30)
    for i, found in enumerate(run(params, opts, 30, gradients(params, 30))):
        for name, g in export_tensors(next(stream)):
            update = np.sign(b1 * momentum[name] + (1 - b1) * g) + opts.weight_decay * (name in decayed) * weights[name]
            weights[name] = weights[name] - np.float32(rates(i)) * update
            momentum[name] = b2 * momentum[name] + (1 - b2) * g
            # A sign turns over where the two terms cancel to the last bit; nowhere else may they differ.
            assert np.mean(np.abs(found[name] - weights[name]) > UPDATE) < 1e-3, (name, i)


def orthogonalize(x):
    """Five Newton-Schulz steps of Jordan's quintic, in float32."""
    x = x / np.linalg.norm(x)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


def test_muon(load):
    """Jordan 2024 with the scale of Liu et al. 2025 (arXiv 2502.16982), layer by layer.

    optax corrects the bias of both terms of the Nesterov momentum, which torch does not: their directions
    agree in the first step and again when 0.95^step is small.
    """
    params, opts = load(SMALL), options("muon", clip_norm=0.0)
    weights = {n: np.array(x) for n, x in export_tensors(params) if is_muon(n)}
    momentum = {name: np.zeros_like(x) for name, x in weights.items()}
    rates, stream = make_schedule(opts, 20), gradients(params, 20)
    for i, found in enumerate(run(params, opts, 20, gradients(params, 20)), 1):
        grads = dict(export_tensors(next(stream)))
        for name, g in grads.items():
            if name in weights:
                momentum[name] = 0.95 * momentum[name] + 0.05 * g
                mixed = 0.95 * momentum[name] / (1 - 0.95 ** (i + 1)) + 0.05 * g / (1 - 0.95**i)
                update = 0.2 * max(g.shape) ** 0.5 * orthogonalize(mixed) + opts.weight_decay * weights[name]
                weights[name] = weights[name] - np.float32(rates(i - 1)) * update
                np.testing.assert_allclose(found[name], weights[name], 0, UPDATE, err_msg=f"{name} after {i} steps")


def test_first_step_of_muon_is_that_of_torch(load, monkeypatch):
    # torch computes the Newton-Schulz steps in bfloat16.
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda x: x.clone())
    params, opts = load(SMALL), options("muon", warmup_steps=0, warmup_ratio=0.0, clip_norm=0.0)
    check_close(
        run(params, opts, 1, gradients(params, 1)),
        run_torch(params, opts, 1, gradients(params, 1), choose=is_muon, make=lambda groups: torch.optim.Muon(
            groups, opts.learning_rate, adjust_lr_fn="match_rms_adamw")),
    )  # fmt: skip


def test_muon_leaves_the_rest_to_adamw(load):
    params, opts = load(SMALL), options("muon", clip_norm=0.0)
    check_close(
        run(params, opts, 20, gradients(params, 20)),
        run_torch(params, opts, 20, gradients(params, 20), choose=lambda name: not is_muon(name),
                  make=lambda groups: torch.optim.AdamW(groups, opts.learning_rate, (opts.b1, opts.b2), opts.eps)),
    )  # fmt: skip


# Schedules.


def theirs(name, steps, warmup, **arguments):
    """transformers' learning rate of each step, and of the one after the last."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 3e-4)
    schedule = transformers.get_scheduler(name, optimizer, warmup, steps, arguments)
    rates = []
    for _ in range(steps + 1):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return np.array(rates)


@pytest.mark.parametrize("warmup", [0, 1, 7])
@pytest.mark.parametrize("final", [0.0, 0.1])
@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant", "wsd"])
def test_schedules(schedule, final, warmup):
    steps = 50
    opts = options(schedule=schedule, final_ratio=final, learning_rate=3e-4, warmup_steps=warmup, warmup_ratio=0.0,
                   decay_ratio=0.25)  # fmt: skip
    name, arguments = {
        "cosine": ("cosine_with_min_lr", {"min_lr_rate": final}),
        "linear": ("polynomial", {"lr_end": final * 3e-4, "power": 1.0}),
        "constant": ("constant_with_warmup", {}),
        "wsd": ("warmup_stable_decay", {"num_decay_steps": 13, "decay_type": "linear", "min_lr_ratio": final}),
    }[schedule]
    found = np.array([float(make_schedule(opts, steps)(i)) for i in range(steps + 1)])
    wanted = theirs(name, steps, warmup, **arguments)
    if schedule == "wsd":  # transformers warms up from the final rate, jitune always from 0
        wanted[:warmup] = 3e-4 * np.arange(warmup) / max(1, warmup)
    np.testing.assert_allclose(found, wanted, 0, RATE * 3e-4)


@pytest.mark.parametrize("steps", [10, 37, 100, 1000])
@pytest.mark.parametrize("ratio", [0.0, 0.03, 0.1])
def test_warmup_ratio(steps, ratio, tmp_path):
    warmup = transformers.TrainingArguments(tmp_path, warmup_steps=ratio, use_cpu=True).get_warmup_steps(steps)
    opts = options(schedule="cosine", learning_rate=3e-4, warmup_steps=0, warmup_ratio=ratio)
    rate = make_schedule(opts, steps)
    found = [float(rate(i)) for i in range(0, steps + 1, max(1, steps // 50))]
    np.testing.assert_allclose(found, theirs("cosine", steps, warmup)[:: max(1, steps // 50)], 0, RATE * 3e-4)
