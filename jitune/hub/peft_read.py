"""The files of a PEFT adapter, read against the base that it is for: `read(directory, config, pretrained) -> Parts`.

What the config asks for is worked out tensor by tensor, with shapes, and compared with what the file holds; nothing may
be missing, left over or of another shape.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jitune import tree
from jitune.hub import adapter, files, peft_config, weights
from jitune.hub.adapter import Factors, Parts, Place
from jitune.hub.peft_config import HEAD, TYING
from jitune.transforms.weights import dense, flatten
from jitune.types import Pretrained, UserError

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."  # what PEFT writes before the names of modules


class _Wanted(NamedTuple):
    """Tensors by name with their shapes, and what is made of them: factors {module: {a, b, magnitude: name}}."""

    shapes: dict[str, tuple[int, ...]]
    factors: dict[str, dict[str, str]]
    saved: list[str]
    rows: dict[str, tuple[list[int], str]]


def read(directory: Path, config: dict, pretrained: Pretrained) -> Parts:
    """The parts of an adapter, float32.

    Raises UserError, naming the tensor, for what does not fit the base, and for pickled weights.
    """
    tensors = _read_tensors(directory)
    if config["peft_type"] in ("PREFIX_TUNING", "PROMPT_TUNING"):
        return _read_prompt(config, tensors, pretrained.config, directory)
    model, where = pretrained.config, directory / peft_config.FILE
    embedding = adapter.embedding(model)
    kinds = adapter.modules(model)
    targets = peft_config.target_modules(config, kinds, where) if config["peft_type"] == "LORA" else []
    if targets is None:
        targets = [m for m in kinds if any(n.startswith(f"{m}.lora_") for n in tensors)]
    saved = peft_config.saved_modules(config, kinds, where)
    mirrored = model.tied and bool(config.get("ensure_weight_tying")) and (
        embedding.rpartition(".")[2] in TYING or HEAD in (*targets, *saved)
        or any(n.startswith(f"{HEAD}.") for n in tensors))  # fmt: skip
    if mirrored:  # a change of one of the two is one of both, though the file may hold only the embedding's
        targets, saved = (_with_both(found, tensors, embedding) for found in (targets, saved))
    rows = peft_config.token_rows(config, (embedding, HEAD), where)
    wanted = _wanted(config, targets, saved, rows, model)
    if model.tied:
        _tie_rows(wanted, tensors, embedding, directory)
    tensors = _drop_base_layers(tensors, wanted, pretrained, directory)
    _compare(wanted.shapes, tensors, directory)
    factors = {}
    for module, names in wanted.factors.items():
        a, b, magnitude = (tensors.get(names.get(part)) for part in ("a", "b", "magnitude"))
        scale = peft_config.scale_of(config, module)
        factors[module] = Factors(np.ascontiguousarray(a.T), np.ascontiguousarray(b.T), scale, magnitude)
    parts = Parts(factors, {n: tensors[n] for n in wanted.saved},
                  {m: (ids, tensors[name]) for m, (ids, name) in wanted.rows.items()})  # fmt: skip
    return _tie(parts, mirrored, embedding, directory) if model.tied else parts


def _read_tensors(directory: Path) -> dict[str, np.ndarray]:
    """{name without PEFT's prefix: array}."""
    if not (directory / WEIGHTS).exists():
        pickled = next(directory.glob("adapter_model*.bin"), None)
        raise UserError(f"{directory}: has only pickled weights ({pickled.name}), and pickles are never loaded; save "
                        "the adapter as safetensors" if pickled else f"{directory}: has no {WEIGHTS}")  # fmt: skip
    found = {}
    with files.open_file(directory / WEIGHTS) as handle:
        for name in handle.keys():
            if (dtype := handle.get_slice(name).get_dtype()) not in files.FLOAT_DTYPES:
                raise UserError(f"{directory / WEIGHTS}: {name} has dtype {dtype}, only floats are loaded")
            found[name.removeprefix(PREFIX)] = np.array(handle.get_tensor(name)).astype(np.float32)
    return found


def _read_prompt(config: dict, tensors: dict, model, directory: Path) -> Parts:
    """A prefix or a prompt; both are one tensor, prompt_embeddings."""
    where = directory / peft_config.FILE
    count = config.get("num_virtual_tokens")
    if not isinstance(count, int) or count < 1:
        raise UserError(f"{where}: num_virtual_tokens={count!r} must be a positive integer")
    if config.get("num_transformer_submodules") not in (None, 1) or config.get("modules_to_save"):
        raise UserError(f"{where}: num_transformer_submodules and modules_to_save are not supported for a "
                        f"{config['peft_type']} adapter")  # fmt: skip
    prefix = config["peft_type"] == "PREFIX_TUNING"
    width = model.num_kv_heads * model.head_dim if prefix else model.dim
    asked = {"num_layers": model.num_layers, "token_dim": width}
    for key, value in (asked | ({"num_attention_heads": model.num_kv_heads} if prefix else {})).items():
        if config.get(key) not in (None, value):
            raise UserError(f"{where}: {key}={config[key]}, this base asks for {value}")
    _compare({"prompt_embeddings": (count, model.num_layers * 2 * width if prefix else width)}, tensors, directory)
    array = tensors["prompt_embeddings"]
    if not prefix:
        return Parts({}, {}, {}, prompt=array)
    shape = (count, model.num_layers, 2, model.num_kv_heads, model.head_dim)
    return Parts({}, {}, {}, prefix=array.reshape(shape))


def _wanted(config, targets, saved, rows, model) -> _Wanted:
    """The tensors that the config asks for, by PEFT's names."""
    found, places, kinds = _Wanted({}, {}, [], {}), adapter.places(model), adapter.modules(model)
    table = places[f"{adapter.embedding(model)}.weight"].shape
    places = {f"{HEAD}.weight": Place(("lm_head/kernel",), (), table[::-1], True, (table[0],)), **places}
    for module in targets:
        rank, (size_in, size_out) = peft_config.rank_of(config, module), places[f"{module}.weight"].shape
        ends = ("lora_embedding_A", "lora_embedding_B") if kinds[module] == "embedding" else (
            "lora_A.weight", "lora_B.weight")  # fmt: skip
        a, b = (f"{module}.{end}" for end in ends)
        found.factors[module] = {"a": a, "b": b}
        found.shapes.update({a: (rank, size_in), b: (size_out, rank)})
        if config.get("use_dora"):
            found.factors[module]["magnitude"] = f"{module}.lora_magnitude_vector"
            found.shapes[f"{module}.lora_magnitude_vector"] = (size_out,)
    for module in saved:
        for name in (n for n in places if n.rpartition(".")[0] == module):
            found.shapes[name] = places[name].stored_shape
            found.saved.append(name)
    middle = "" if config["peft_type"] == "TRAINABLE_TOKENS" else "token_adapter."
    for module, ids in rows.items():
        if max(ids) >= table[0]:
            raise UserError(f"trainable_token_indices: id {max(ids)} is not among the {table[0]} tokens of this base")
        found.rows[module] = ids, f"{module}.{middle}trainable_tokens_delta"
        found.shapes[found.rows[module][1]] = (len(ids), table[1])
    return found


def _drop_base_layers(tensors: dict, wanted: _Wanted, pretrained: Pretrained, directory: Path) -> dict:
    """Without the copies of the base's embeddings that PEFT adds where those are changed.

    Raises UserError for copies that are not the base's own: then the vocabulary was changed, or the base is another.
    """
    left, base, tables = {}, flatten(pretrained.params), (adapter.embedding(pretrained.config), HEAD)
    for name, array in tensors.items():
        module, _, last = name.rpartition(".base_layer.")
        if module not in tables or last != "weight" or module not in wanted.factors:
            left[name] = array
            continue
        head = module == HEAD and "lm_head/kernel" in base
        own = weights.to_host(dense(base["lm_head/kernel" if head else "embed/embedding"])).astype(np.float32)
        own = own.T if head else own
        # The copy may have been rounded to bfloat16.
        if own.shape != array.shape or not np.allclose(own, array, rtol=2**-7, atol=1e-6):
            raise UserError(f"{directory}: {name} {array.shape} is not the base's own {own.shape}; the adapter was "
                            "made for another base, or for a changed vocabulary")  # fmt: skip
    return left


def _compare(shapes: dict, tensors: dict, directory: Path) -> None:
    """Raises UserError for missing, additional and wrongly shaped tensors."""
    for name, array in tensors.items():
        if name in shapes and shapes[name] != array.shape:
            raise UserError(f"{directory}: {name} has shape {array.shape}; {peft_config.FILE} and this base ask for "
                            f"{shapes[name]}")  # fmt: skip
    missing, extra = ([n for n in one if n not in other] for one, other in ((shapes, tensors), (tensors, shapes)))
    for kind, names, others in (("missing", missing, extra or tensors), ("left over", extra, missing or shapes)):
        if names:
            near = tree.nearest(names[0], others, 1)
            more = f", and {len(names) - 3} more" if len(names) > 3 else ""
            hint = f"; the nearest {'in the file' if kind == 'missing' else 'asked for'} is {near[0]}" if near else ""
            raise UserError(f"{directory}: {kind} tensors: {', '.join(names[:3])}{more}{hint}")


# A head that is the embedding: PEFT has two modules there, this model one weight.


def _different(embedding: str, directory: Path) -> UserError:
    return UserError(f"{directory}: changes one of {embedding.rpartition('.')[2]} and {HEAD}, or both differently; in "
                     "this base they are one weight (PEFT's ensure_weight_tying keeps them so)")  # fmt: skip


def _with_both(found: list[str], tensors: dict, embedding: str) -> list[str]:
    """Modules, with the embedding for the head, and the head where the file has it."""
    rest = [m for m in found if m not in (embedding, HEAD)]
    if len(rest) == len(found):
        return found
    return [*rest, embedding, *([HEAD] if any(n.startswith(f"{HEAD}.") for n in tensors) else [])]


def _tie_rows(wanted: _Wanted, tensors: dict, embedding: str, directory: Path) -> None:
    """Takes the head's rows out of what is wanted, and of the file where it has them."""
    head, own = wanted.rows.pop(HEAD, None), wanted.rows.get(embedding)
    if head:
        wanted.shapes.pop(head[1])
    if not own:
        if head:
            raise _different(embedding, directory)
        return
    copy = tensors.pop(own[1].replace(embedding, HEAD, 1), None)
    if (head and head[0] != own[0]) or (copy is not None and not np.array_equal(copy, tensors.get(own[1]))):
        raise _different(embedding, directory)


def _tie(parts: Parts, mirrored: bool, embedding: str, directory: Path) -> Parts:
    """The parts without the head's factors and weight. Raises UserError where they are not the embedding's."""
    e, h = parts.factors.pop(embedding, None), parts.factors.pop(HEAD, None)
    if h is None and e and mirrored:
        h = Factors(e.b.T, e.a.T, e.scale)
    if e or h:
        if not (e and h) or e.scale != h.scale or e.magnitude is not None or not (
                np.array_equal(e.a, h.b.T) and np.array_equal(e.b, h.a.T)):  # fmt: skip
            raise _different(embedding, directory)
        parts.factors[embedding] = e
    copy = parts.saved.pop(f"{HEAD}.weight", None)
    own = parts.saved.get(f"{embedding}.weight")
    copy = own if copy is None and mirrored else copy
    if (own is None) != (copy is None) or (own is not None and not np.array_equal(own, copy)):
        raise _different(embedding, directory)
    return parts
