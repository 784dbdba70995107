"""Experts against transformers and PEFT: the load-balancing loss with its gradients, adapters of experts both ways."""

import functools

import pytest

torch = pytest.importorskip("torch", reason="the reference implementations need torch")

import jax
import numpy as np
import transformers

import jitune
from jitune.hub import peft as adapters
from jitune.hub.weights import export_tensors
from jitune.objectives.sft import sft
from jitune.transforms import lora
from tests.references import (
    ATOL,
    CONFIGS,
    EXPERT_CASES,
    GRADIENT,
    LOSS,
    RTOL,
    gradients,
    make_tokens,
    make_weights,
    plain_batch,
    relative,
    write_checkpoint,
)  # fmt: skip

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return functools.cache(
        lambda case: write_checkpoint(tmp_path_factory.mktemp(case), CONFIGS[case], make_weights(CONFIGS[case]))
    )


def load_torch(directory):
    return transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager"
    )


@pytest.mark.parametrize("case", EXPERT_CASES)
def test_the_loss_with_its_balance_and_all_gradients(case, checkpoint):
    """Padding on the left does not count; the coefficient is that of the checkpoint."""
    tokens = make_tokens(CONFIGS[case])
    segments = np.ones_like(tokens)
    segments[1, :9] = 0
    theirs = load_torch(checkpoint(case))
    ids, mask = torch.tensor(tokens, dtype=torch.long), torch.tensor(segments)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    labels = torch.where(mask > 0, ids, -100)
    labels[1, 9] = -100  # what the last pad would predict
    out = theirs(ids, attention_mask=mask, position_ids=positions, labels=labels, output_router_logits=True,
                 use_cache=False)  # fmt: skip
    out.loss.backward()

    loaded, batch = jitune.load(checkpoint(case), dtype="float32"), plain_batch(tokens, segments)
    assert loaded.config.router_coef == CONFIGS[case]["router_aux_loss_coef"]

    def loss(params):
        total, weight, metrics = sft(chunk=64)(loaded.model, params, batch, jax.random.key(0))
        return total / weight, (metrics["router_balance"] / weight, metrics["router_peak"] / weight)

    (value, (balance, peak)), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(loaded.params)
    assert abs(float(value) - out.loss.item()) < LOSS and abs(float(balance) - out.aux_loss.item()) < LOSS
    plain = sft(chunk=64)(loaded.model, loaded.params, batch, None)  # evaluation leaves the balance out
    assert abs(float(plain[0] / plain[1] + loaded.config.router_coef * balance - value)) < LOSS
    real = mask.flatten() > 0
    busiest = max(
        torch.topk(logits.view(mask.numel(), -1)[real], loaded.config.experts_per_token).indices.flatten().bincount().max()
        for logits in out.router_logits
    )
    assert float(peak) == pytest.approx(float(busiest) / (real.sum().item() * loaded.config.experts_per_token))
    wanted, found = gradients(theirs), dict(export_tensors(grads, loaded.config))
    assert found.keys() == wanted.keys()
    off = {name: relative(found[name], grad) for name, grad in wanted.items()}
    assert max(off.values()) < GRADIENT, {name: x for name, x in off.items() if x >= GRADIENT}


@pytest.mark.parametrize("case", EXPERT_CASES)
def test_adapters_of_experts_load_in_peft_and_come_back(case, checkpoint, tmp_path):
    peft = pytest.importorskip("peft")
    loaded, tokens = jitune.load(checkpoint(case), dtype="float32"), make_tokens(CONFIGS[case])
    transform = lora(2, 3)
    frozen, trainable = transform.init(jax.random.key(0), loaded.params)
    assert sum("experts" in p for p in jitune.tree.flatten(trainable)) == 6
    trainable = jax.tree.map(
        lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), trainable
    )
    adapters.save(tmp_path, loaded, transform, trainable, frozen=frozen, base=str(checkpoint(case)))

    @jax.jit
    def run(frozen, trainable):
        model = transform.apply(loaded.model)
        return model.unembed((frozen, trainable), model.hidden((frozen, trainable), {"tokens": tokens})[0])

    found = run(frozen, trainable)
    with torch.no_grad():
        wanted = peft.PeftModel.from_pretrained(load_torch(checkpoint(case)), tmp_path)(
            torch.tensor(tokens, dtype=torch.long)
        ).logits.numpy()
    np.testing.assert_allclose(found, wanted, RTOL, ATOL)
    assert np.abs(found - np.asarray(jitune.logits(loaded.model, loaded.params, tokens))).max() > 0.1
    _, _, again = adapters.load(tmp_path, loaded)
    jax.tree.map(np.testing.assert_array_equal, again, trainable)
