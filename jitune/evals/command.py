"""What `jitune eval` does with its arguments: the model, the tasks and the assessors opened, the run, the page.

    run(arguments)        # see `commands.eval`
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

import jax

from jitune import compile_cache, limits, sharding, tree
from jitune.data import chat
from jitune.evals import choose, harness, sandbox, screen, task
from jitune.evals.engine.engine import open_engine
from jitune.evals.judge import options
from jitune.evals.judge.classifier import open_classifier
from jitune.evals.pages.evaluation import write_page
from jitune.evals.run import NEEDS, evaluate
from jitune.generators.local import identify
from jitune.hub import peft, peft_config, weights
from jitune.hub.tokenizer import tokenizer_digest
from jitune.types import MESH_AXES, Pretrained, UserError


def run(a: Any) -> dict:
    """Evaluates, writes the directory `a.out` and prints a table; returns the results."""
    names, native = split_names(a.tasks)
    languages = [word.strip() for word in a.languages.split(",") if word.strip()]
    check_places(a)
    if a.distributed:
        sharding.join_processes()
    given = zip(NEEDS.values(), (a.judge, a.classifier, a.allow_code), strict=True)
    available = {need for need, asked in given if asked}
    assessors = open_assessors(a) if jax.process_index() == 0 else {}
    chosen, skipped = [], {}
    if native or a.suite or not names:
        folders = [f for word in a.data for f in ([word] if Path(word).exists() else word.split(","))]
        chosen, skipped = choose.choose(suite=a.suite, tasks=native, data=folders, available=available)
        chosen, others = choose.read(chosen, a.limit, seed=a.seed, languages=languages)
        skipped |= others
    opened = harness.open_tasks(names, a.include_path) if names else None
    if warning := compile_cache.use_cache():
        print(f"jitune: {warning}", file=sys.stderr)
    mesh = sharding.mesh_of_options(a)
    pretrained, model = open_model(a, mesh)
    plain = a.chat_template == "none" or not pretrained.tokenizer.chat_template
    if plain and a.chat_template != "none":
        print(f"jitune: {a.model} has no chat template: conversations are written plainly (--chat_template)",
              file=sys.stderr)
    engine = open_engine(pretrained, batch_size=a.batch_size, max_length=a.max_length,
                         chat_template="none" if plain else None, longer=limits.IN_COMMANDS)
    run_more = functools.partial(
        harness.run_harness, engine, names, limit=a.limit, num_fewshot=a.num_fewshot, seed=a.seed,
        chat=not plain, opened=opened,
    )  # fmt: skip
    results = evaluate(
        engine, chosen, a.out, model=model, assessors=assessors, skipped=skipped, limit=a.limit, seed=a.seed,
        languages=languages, settings=describe_settings(a, engine),
        more=(lambda store, bars: run_more(store=store, bars=bars)) if names else None,
    )  # fmt: skip
    if jax.process_index() == 0:
        path = write_page(a.out)
        for line in screen.table(results):
            print(line)
        print(f"{path}")
    return results


def check_places(a: Any) -> None:
    """Refuses what cannot be written to, and an adapter that is none, before anything is loaded."""
    out = Path(a.out).expanduser()
    there = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not there.is_dir():
        raise UserError(f"--out {a.out}: {'is' if there == out else f'{there} is'} a file; a folder is needed")
    if not os.access(there, os.W_OK):
        raise UserError(f"--out {a.out}: {'it' if there == out else there} may not be written to")
    if a.adapter and not (weights.resolve(a.adapter, peft.PATTERNS) / peft_config.FILE).exists():
        raise UserError(f"--adapter {a.adapter}: is no adapter: it has no {peft_config.FILE}")


def split_names(words: str) -> tuple[list[str], list[str]]:
    """Names joined by commas -> (those of lm_eval, the others); names after `lm_eval:` belong to it as well.

    split_names("gsm8k,lm_eval:hellaswag,arc_easy") == (["hellaswag", "arc_easy"], ["gsm8k"])
    """
    from jitune.evals.catalogue import NAMES

    harness, native = [], []
    for word in filter(None, (w.strip() for w in words.split(","))):
        name = word.removeprefix("lm_eval:")
        if not name:
            raise UserError("--tasks lm_eval: names no task of the harness, as in lm_eval:hellaswag")
        ours = name == word and (not harness or word.partition(":")[0] in NAMES or ":" in word)
        (native if ours else harness).append(name)
    return harness, native


def describe_settings(a: Any, engine: Any) -> dict:
    """What else the numbers depend on, for the record."""
    tokenizer = engine.pretrained.tokenizer
    return {
        "chat_template": engine.chat_template or task.digest(tokenizer.chat_template),
        "tokenizer": tokenizer_digest(tokenizer), "max_length": engine.limit, "dtype": a.dtype,
        "num_fewshot": a.num_fewshot, "allow_code": a.allow_code, "data": list(map(str, a.data)),
        "devices": jax.device_count(), "mesh": [getattr(a, f"mesh_{axis}") for axis in MESH_AXES],
    }


def open_assessors(a: Any) -> dict:
    """The judge, the classifier and the sandbox, where they are asked for."""
    found = {}
    if judge := options.from_arguments(a, a.out):
        found["judge"] = judge
    if a.classifier:
        found["classifier"] = open_classifier(a.classifier, cache=Path(a.out) / "classifier.jsonl",
                                              model=a.classifier_model)
    if a.allow_code:
        found["execution"] = sandbox.Sandbox()
    return found


def open_model(a: Any, mesh) -> tuple[Pretrained, dict]:
    """(the model with its adapter applied, what identifies it)."""
    base, adapter = peft.find_base(a.model)
    if adapter and a.adapter:
        raise UserError(f"--model {a.model}: is an adapter itself; give its base with --adapter {a.adapter}")
    adapter = adapter or a.adapter
    pretrained = weights.load(base, dtype=a.dtype, mesh=mesh, allow_longer_context=a.allow_longer_context)
    if pretrained.tokenizer is None:
        raise UserError(f"{a.model}: has no tokenizer")
    parameters = tree.count_params(pretrained.params)
    if adapter:
        pretrained = peft.open_adapters(pretrained, {"adapter": adapter}, base=base)["adapter"]
    if a.chat_template not in ("", "none"):
        pretrained.tokenizer.chat_template = chat.load_template(a.chat_template, tokenizer=pretrained.tokenizer)
    return pretrained, {
        "path": str(a.model), "adapter": str(adapter) if adapter else "", "dtype": a.dtype,
        "digest": identify(base, Path(adapter) if adapter else None),
        "family": pretrained.config.family, "parameters": parameters,
    }
