"""Adapters in PEFT's layout, both ways: adapter_config.json and adapter_model.safetensors.

    transform, frozen, trainable = load("adapter", pretrained)         # a directory or a hub name
    hidden, _ = transform.apply(pretrained.model).hidden((frozen, trainable), batch)
    save("out", pretrained, transform, trainable, frozen=frozen, base="org/base")

LoRA with its variants (rsLoRA, DoRA, ranks by pattern, embeddings and head, saved modules, rows of tokens), prefixes
and prompts. Only safetensors are read, never pickles. A file besides, jitune_adapter.json, says which base it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from jitune import limits, tree
from jitune.generation.decode_loop import slots_in_front
from jitune.hub import adapter, files, peft_config, peft_read, resize, weights
from jitune.hub.adapter import Parts
from jitune.hub.peft_config import HEAD, TYING
from jitune.hub.peft_read import PREFIX, WEIGHTS
from jitune.hub.tokenizer import load_tokenizer
from jitune.models import decoder
from jitune.structured import is_leaf
from jitune.transforms.weights import dense, flatten
from jitune.types import Pretrained, Transform, UserError

RECORD = "jitune_adapter.json"
PATTERNS = (*weights.PATTERNS, "README.md")
CARD = """---
base_model: {base}
library_name: peft
pipeline_tag: text-generation
tags:
- base_model:adapter:{base}
- {tag}
- transformers
---

# {title} for {base}

Trained with jitune.

```python
from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained("PATH_OF_THIS_DIRECTORY")
```
{more}
```sh
jitune generate --model {base} --adapter PATH_OF_THIS_DIRECTORY
```
"""
RESIZE = """
Tokens were added: the base needs `resize_token_embeddings({size}, mean_resizing=False)` before the adapter is loaded.
"""
# PEFT 0.21 joins the factors of single experts, as transformers 5 has their weights, for some families only.
APART = """
The experts have factors of their own: PEFT applies them with transformers 4, and leaves them out with transformers 5.
"""


def is_adapter(path: str | Path) -> bool:
    """Whether a local directory holds an adapter and no model."""
    path = Path(path).expanduser()
    return (path / peft_config.FILE).exists() and not (path / "config.json").exists()


def base_of(path: str | Path) -> str:
    """The base that an adapter names. Raises UserError where it names none."""
    directory = weights.resolve(path, PATTERNS)
    name = peft_config.read(directory).get("base_model_name_or_path")
    if not name:
        raise UserError(f"{directory}/{peft_config.FILE}: names no base; give it, as in --model BASE --adapter {path}")
    return name


def find_base(path: str | Path) -> tuple[Path, str]:
    """(the directory of the base, the adapter or "") of a model, or of an adapter that names its base.

    Raises UserError where the base of an adapter is not there.
    """
    found = weights.resolve(path)
    if not is_adapter(found):
        return found, ""
    try:
        return weights.resolve(base_of(found)), str(path)
    except UserError as error:
        raise UserError(f"{path}: is an adapter, and its base is not there; give it, as in --model BASE "
                        f"--adapter {path} ({error})") from None  # fmt: skip


def load(path: str | Path, pretrained: Pretrained, *, base: str | Path | None = None) -> tuple[Transform, dict, dict]:
    """Loads an adapter for a model: (transform, frozen, trainable), laid out as the model is, factors in float32.

    base: the directory that the model was loaded from; with it, the record of a jitune adapter's base is compared.

    Raises UserError for an adapter of another base (by the record, or by shapes), a kind or an option that is not
    supported, tensors that are missing or left over, and names that match no module.
    """
    directory = weights.resolve(path, PATTERNS)
    config = peft_config.read(directory)
    record = _read_record(directory)
    local = Path(base).expanduser() if base else None
    if record.get("base_digest") and local and (local / "config.json").exists():
        if files.digest(local) != record["base_digest"]:
            raise UserError(f"{directory}: was made for another base, {record.get('base')}; the weights of {base} are "
                            f"others (without {RECORD} only shapes are compared)")  # fmt: skip
    if (size := record.get("vocab_size", 0)) > pretrained.config.vocab_size:
        raise UserError(f"{directory}: was trained with {size} tokens, and this base has "
                        f"{pretrained.config.vocab_size}; peft.fit(path, pretrained) makes it larger")  # fmt: skip
    parts = peft_read.read(directory, config, pretrained)
    idle = record.get("not_trained", [])
    return adapter.build(parts._replace(saved={n: x for n, x in parts.saved.items() if n not in idle}), pretrained)


def fit(path: str | Path, pretrained: Pretrained) -> Pretrained:
    """The model with as many tokens as an adapter was trained with, which may have added some; else as it is."""
    record = _read_record(weights.resolve(path, PATTERNS))
    if (size := record.get("vocab_size", 0)) <= pretrained.config.vocab_size:
        return pretrained
    config = resize.resize_config(pretrained.config, size)
    params = {p: x if is_leaf(x) else resize.grow(p, x, size) for p, x in flatten(pretrained.params).items()}
    return Pretrained(decoder.build(config), tree.unflatten(params), pretrained.tokenizer, config)


def _read_record(directory: Path) -> dict:
    return files.read_json(directory / RECORD) if (directory / RECORD).exists() else {}


def save(path: str | Path, pretrained: Pretrained, transform: Transform, trainable, *, frozen=None, base: str = "",
         base_digest: str | None = None, rslora: bool | None = None) -> None:  # fmt: skip
    """Saves what a transform trained in the layout that PEFT loads, with tokenizer and a short model card.

    frozen: the transform's; None: of a fresh init. base: the base's directory or hub name. base_digest: its
    `files.digest`, taken from the directory by default. rslora: how the scale is written, see `peft_config.write_lora`.
    All processes call this; the first one writes. What stands at `path` must be an adapter. Raises UserError where PEFT
    has no form for it: everything trained, or a prefix or prompt beside something else.
    """
    if frozen is None:
        frozen, _ = transform.init(jax.random.key(0), pretrained.params)
    parts = adapter.take(frozen, trainable, pretrained.config)
    write(path, parts, pretrained, base=base, base_digest=base_digest, rslora=rslora)


def write(path: str | Path, parts: Parts, pretrained: Pretrained, *, base: str = "", base_digest: str | None = None,
          rslora: bool | None = None) -> None:  # fmt: skip
    """Writes parts as `save` does."""
    _check(parts, pretrained.config)
    local = Path(base).expanduser() if base else None
    known = local is not None and (local / "config.json").exists()
    base, digest = (str(local.resolve()), files.digest(local)) if known else (base, base_digest)
    parts, idle = _with_siblings(parts, pretrained)
    tensors, config = _export(parts, pretrained.config, base, rslora)
    size, own = pretrained.config.vocab_size, weights.read_config(local).vocab_size if known else None
    record = {"base": base, "base_digest": digest, "vocab_size": size, "not_trained": idle}
    larger = RESIZE.format(size=size) if known and size > own else ""
    apart = pretrained.config.family == "qwen2_moe" and any(".experts." in module for module in parts.factors)

    def fill(draft: Path) -> None:
        from safetensors.numpy import save_file

        save_file({n: np.ascontiguousarray(x, np.float32) for n, x in tensors.items()}, draft / WEIGHTS,
                  metadata={"format": "pt"})  # fmt: skip
        files.write_json(draft / peft_config.FILE, dict(sorted(config.items())))
        files.write_json(draft / RECORD, record)
        kind = config["peft_type"].lower().replace("_", "-")
        title = {"lora": "DoRA" if config.get("use_dora") else "LoRA"}.get(kind, kind.replace("-", " ").capitalize())
        card = CARD.format(base=base or "its base", tag=kind, title=f"{title} adapter", more=larger + APART * apart)
        (draft / "README.md").write_text(card, encoding="utf-8")
        if pretrained.tokenizer is not None:
            pretrained.tokenizer.save_pretrained(str(draft))

    weights.put_directory(Path(path), fill, mark=peft_config.FILE, holds="adapter")


def _check(parts: Parts, model) -> None:
    """Raises UserError for what PEFT cannot hold."""
    kinds = [name for name, part in (("low-rank factors", parts.factors), ("saved modules", parts.saved),
                                     ("token rows", parts.rows)) if part]  # fmt: skip
    alone = [name for name, part in (("a prefix", parts.prefix), ("a prompt", parts.prompt)) if part is not None]
    if len(kinds + alone) == 0:
        raise UserError("nothing was trained, so there is no adapter")
    if alone and len(kinds + alone) > 1:
        raise UserError(f"PEFT has no adapter with {' and '.join(alone + kinds)} in one; one of them alone has a form")
    saved = {n.rpartition(".")[0] for n in parts.saved}
    for name, modules in (("low-rank factors", parts.factors), ("token rows", parts.rows)):
        if both := sorted(saved & modules.keys()):
            raise UserError(f"PEFT has no adapter with {name} and another part of {both[0]} trained as it is; leave "
                            "one of the two out")  # fmt: skip
    if both := sorted(parts.factors.keys() & parts.rows.keys()):
        raise UserError(f"PEFT has no adapter with low-rank factors and token rows of {both[0]}; leave one of them out")
    with_norm = [m for m, f in parts.factors.items() if f.magnitude is not None]
    if with_norm and len(with_norm) < len(parts.factors):
        raise UserError("PEFT has no adapter with LoRA and DoRA in one; use one of them for all weights")
    if model.tied and adapter.embedding(model) in with_norm:
        raise UserError("PEFT has no DoRA of an embedding that is the head too; leave it out of select, or use lora")


def _with_siblings(parts: Parts, pretrained: Pretrained) -> tuple[Parts, list[str]]:
    """Saved modules as wholes, with those of their tensors that were not trained, and the names of these."""
    saved = {n.rpartition(".")[0] for n in parts.saved}
    places = adapter.places(pretrained.config)
    idle = [n for n in places if n.rpartition(".")[0] in saved and n not in parts.saved]
    base = flatten(pretrained.params) if idle else {}
    more = {}
    for name in idle:
        place = places[name]
        array = np.concatenate([weights.to_host(dense(base[path])[place.at]) for path in place.paths], axis=-1)
        more[name] = array.T if place.turned else array
    return parts._replace(saved={**parts.saved, **more}), idle


def _export(parts: Parts, model, base: str, rslora: bool | None) -> tuple[dict[str, np.ndarray], dict]:
    """(tensors by name, config)."""
    if parts.prompt is not None:
        count, width = parts.prompt.shape
        config = peft_config.write_prompt(base, "PROMPT_TUNING", count, model.num_layers, model.num_heads, width)
        return {"prompt_embeddings": parts.prompt}, config
    if parts.prefix is not None:
        count, layers, _, heads, size = parts.prefix.shape
        config = peft_config.write_prompt(base, "PREFIX_TUNING", count, layers, heads, heads * size)
        return {"prompt_embeddings": parts.prefix.reshape(count, -1)}, config
    factors, saved = dict(parts.factors), dict(parts.saved)
    embedding = adapter.embedding(model)
    tied = model.tied and (embedding in factors or f"{embedding}.weight" in saved)
    if tied and embedding in factors:
        f = factors[embedding]
        factors[HEAD] = f._replace(a=f.b.T, b=f.a.T)
    kinds, found, places = adapter.modules(model), {}, adapter.places(model)
    linear = [places[f"{m}.weight"] for m in factors if kinds[m] == "linear" and f"{m}.weight" in places]
    for module, f in factors.items():
        a, b = ("lora_embedding_A", "lora_embedding_B") if kinds[module] == "embedding" else (
            "lora_A.weight", "lora_B.weight")  # fmt: skip
        found |= {f"{module}.{a}": f.a.T, f"{module}.{b}": f.b.T}
        if f.magnitude is not None:
            found[f"{module}.lora_magnitude_vector"] = f.magnitude
    if tied and f"{embedding}.weight" in saved:
        saved[f"{HEAD}.weight"] = saved[f"{embedding}.weight"]
    mirrored = tied and embedding.rpartition(".")[2] in TYING  # PEFT adds the head itself
    told = [m for m in (n.rpartition(".")[0] for n in saved) if not (mirrored and m == HEAD)]
    config = peft_config.write_lora(
        base, {m: f.a.shape[1] for m, f in factors.items()}, {m: f.scale for m, f in factors.items()}, kinds,
        dora=any(f.magnitude is not None for f in factors.values()), saved=told,
        rows={m: ids for m, (ids, _) in parts.rows.items()}, tied=tied, rslora=rslora,
        fan_in_fan_out=not all(place.turned for place in linear),
    )  # fmt: skip
    found |= saved
    found |= {f"{m}.token_adapter.trainable_tokens_delta": rows for m, (_, rows) in parts.rows.items()}
    return {PREFIX + name: array for name, array in found.items()}, config


def open_adapters(pretrained: Pretrained, paths: Mapping[str, str | Path], *, base=None) -> dict[str, Pretrained]:
    """Models with adapters, {name: Pretrained} for {name: adapter}, over one copy of the base.

    Their params are pairs (frozen, trainable). An adapter's own tokenizer, where it has one, comes with it. Raises
    UserError as `load` does.
    """
    found, made = {}, {}
    for name, path in paths.items():
        own = fit(path, pretrained)
        transform, frozen, trainable = load(path, own, base=base)
        model = transform.apply(own.model)
        config = limits.under_prompt(own.config) if "prompt" in trainable else own.config
        # Transforms of the same form are one function of their arrays, which is compiled once.
        form = jax.tree.structure((frozen, trainable)), slots_in_front(model), config
        tokenizer = load_tokenizer(weights.resolve(path, PATTERNS)) or own.tokenizer
        if tokenizer is not None and len(tokenizer) > own.config.vocab_size:
            raise UserError(f"{path}: its tokenizer has {len(tokenizer)} tokens, the base {own.config.vocab_size}")
        found[name] = Pretrained(made.setdefault(form, model), (frozen, trainable), tokenizer, config)
    return found
