"""The command `jitune`: init, data show, train, generate, export.

Errors in what was given are one line on standard error and exit code 2; a run that diverged exits with 1, one
that was asked to stop with 143.
"""

from __future__ import annotations

import argparse
import sys

from jitune import __version__
from jitune.types import UserError


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    parser = make_parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and arguments.run is not run_train:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    arguments.rest = rest
    # Formats given as module:function may lie in the working directory; last, so that they hide no package.
    sys.path += [""] if "" not in sys.path else []
    try:
        return arguments.run(arguments) or 0
    except UserError as error:
        print(f"jitune: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:
            raise
        print(f"jitune: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("jitune: interrupted", file=sys.stderr)
        return 130


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="jitune", description="Instruction tuning in JAX, from data to report.")
    parser.add_argument("--version", action="version", version=f"jitune {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_init(commands)
    add_data(commands)
    add_train(commands)
    add_generate(commands)
    add_export(commands)
    return parser


def add_init(commands) -> None:
    """jitune init"""
    p = commands.add_parser("init", help="make a fresh, randomly initialized model with a tokenizer")
    p.add_argument("--family", required=True, help="llama | mistral | qwen2 | qwen3")
    p.add_argument("--preset", default="tiny", help="a size of the family: tiny, small, ...")
    p.add_argument("--tokenizer-from", required=True, metavar="FILE",
                   help="data to train a byte-level BPE tokenizer on, or a directory that has a tokenizer")
    p.add_argument("--vocab-size", type=int, default=4096, help="of the new tokenizer (default 4096)")
    p.add_argument("--dtype", default="float32", help="of the weights: float32 | bfloat16")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", required=True, metavar="DIR")
    p.set_defaults(run=run_init)


def run_init(a) -> None:
    """Makes a model directory."""
    from jitune.hub import fresh

    made = fresh.create(a.out, family=a.family, preset=a.preset, tokenizer_from=a.tokenizer_from,
                        vocab_size=a.vocab_size, seed=a.seed, dtype=a.dtype)
    print(f"{fresh.describe(made)}\nsaved {a.out}")


def add_data(commands) -> None:
    """jitune data show"""
    data = commands.add_parser("data", help="look at data").add_subparsers(required=True, metavar="COMMAND")
    p = data.add_parser("show", help="print examples as the model sees them, what is trained in colour")
    p.add_argument("source", metavar="FILE", help="files, directories or hub names, joined by commas")
    p.add_argument("--model", required=True, metavar="DIR", help="whose tokenizer and chat template to use")
    p.add_argument("--count", type=int, default=3)
    p.add_argument("--start", type=int, default=0, help="the first example, counted from 0")
    p.add_argument("--format", default="auto")
    p.add_argument("--fields", default="", help="instruction=question,output=answer")
    p.add_argument("--chat-template", default="", help="a jinja file, or chatml | alpaca")
    p.add_argument("--train-on", default="assistant", choices=("assistant", "last", "all"))
    p.add_argument("--split-turns", action="store_true")
    p.add_argument("--seq-len", type=int, default=None)
    p.add_argument("--overlong", default="truncate", choices=("truncate", "drop", "split"))
    p.set_defaults(run=run_show)


def run_show(a) -> None:
    """Prints examples."""
    from jitune.data.show import show
    from jitune.hub.tokenizer import load_tokenizer
    from jitune.hub.weights import resolve

    tokenizer = load_tokenizer(resolve(a.model))
    if tokenizer is None:
        raise UserError(f"{a.model}: has no tokenizer")
    show(a.source, tokenizer, count=a.count, start=a.start, format=a.format, fields=a.fields,
         chat_template=a.chat_template, train_on=a.train_on, split_turns=a.split_turns, seq_len=a.seq_len,
         overlong=a.overlong)


def add_train(commands) -> None:
    """jitune train"""
    p = commands.add_parser("train", help="tune a model", epilog="any option of the config: --config.NAME=VALUE")
    p.add_argument("--config", metavar="FILE", help="a Python file with get_config()")
    p.add_argument("--resume", action="store_true", help="continue the run in output_dir, if there is one")
    p.add_argument("--distributed", action="store_true",
                   help="one of several processes: found on TPU, SLURM and MPI; elsewhere by "
                        "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID")
    p.set_defaults(run=run_train)


def read_config(path: str | None, overrides: list[str]):
    """The config file with `--config.NAME=VALUE` and `--config.NAME VALUE` applied."""
    from jitune import config as configs

    config = configs.read(path) if path else configs.defaults()
    words = iter(overrides)
    for word in words:
        if not word.startswith("--config."):
            raise UserError(f"{word}: unknown argument; options are given as --config.NAME=VALUE")
        name, equals, value = word.removeprefix("--config.").partition("=")
        if not equals:
            value = next(words, None)
            if value is None:
                raise UserError(f"{word}: a value is needed")
        configs.override(config, name, value)
    return config


def run_train(a) -> int:
    """Trains."""
    config = read_config(a.config, a.rest)
    from jitune import config as configs

    configs.check(config)
    if a.distributed:
        start_distributed()
    from jitune import stopping, train

    try:
        train.train(config, resume=a.resume)
    except stopping.NonFiniteError as error:
        print(f"jitune: {error}", file=sys.stderr)
        return 1
    except stopping.Interrupted as error:
        print(f"jitune: {error}", file=sys.stderr)
        return 143
    return 0


def start_distributed() -> None:
    """Joins the other processes of the run, as the environment describes them."""
    import os

    import jax

    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    given = [os.environ.get(name) for name in names]
    if all(given):
        jax.distributed.initialize(given[0], int(given[1]), int(given[2]))
    else:
        jax.distributed.initialize()


def add_generate(commands) -> None:
    """jitune generate"""
    p = commands.add_parser("generate", help="answer a prompt, a file of prompts, or chat")
    p.add_argument("--model", required=True, metavar="DIR")
    p.add_argument("--prompts", metavar="FILE.jsonl", help='rows {"prompt": ...} or {"messages": [...]}')
    p.add_argument("--prompt", help="one prompt, as the user's message where the model has a chat template")
    p.add_argument("--out", metavar="OUT.jsonl", help="where the answers to --prompts go")
    p.add_argument("--system", help="a system message, for --prompt and chat")
    p.add_argument("--raw", action="store_true", help="no chat template: continue the text")
    p.add_argument("--max_new_tokens", "--max-new-tokens", type=int, default=256)
    p.add_argument("--temperature", type=float, default=0.0, help="0: greedy (the default)")
    p.add_argument("--top_k", "--top-k", type=int, default=0)
    p.add_argument("--top_p", "--top-p", type=float, default=1.0)
    p.add_argument("--min_p", "--min-p", type=float, default=0.0)
    p.add_argument("--repetition_penalty", "--repetition-penalty", type=float, default=1.0)
    p.add_argument("--stop", action="append", default=[], help="a string that ends the answer; may be repeated")
    p.add_argument("--stop_ids", "--stop-ids", default="", help="token ids that end it, besides the model's own")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--batch_size", "--batch-size", type=int, default=8)
    p.add_argument("--dtype", default="float32", help="float32 | bfloat16")
    p.add_argument("--chat_template", "--chat-template", default="", help="a jinja file, or chatml | alpaca")
    for axis, size in (("data", 1), ("fsdp", -1), ("tensor", 1)):
        p.add_argument(f"--mesh.{axis}", dest=f"mesh_{axis}", type=int, default=size)
    p.set_defaults(run=run_generate)


def add_export(commands) -> None:
    """jitune export"""
    p = commands.add_parser("export", help="write a run's weights in another layout")
    p.add_argument("--run", dest="directory", required=True, metavar="DIR")
    p.add_argument("--to", required=True, choices=("hf",))
    p.add_argument("--out", required=True, metavar="DIR")
    p.add_argument("--step", default="last", help="last | best | a step that has a checkpoint")
    p.add_argument("--dtype", default="float32", help="float32 | bfloat16")
    p.set_defaults(run=run_export)


def run_generate(a) -> None:
    """Generates for a file of prompts, for one prompt, or in a chat."""
    from jitune import sharding
    from jitune.data.chat import load_template
    from jitune.generation.sampling import Sampling
    from jitune.hub import weights

    if a.prompts and not a.out:
        raise UserError("--prompts needs --out")
    sampling = Sampling(temperature=a.temperature, top_k=a.top_k, top_p=a.top_p, min_p=a.min_p,
                        repetition_penalty=a.repetition_penalty, seed=a.seed)
    try:
        stop_ids = [int(i) for i in a.stop_ids.split(",") if i.strip()]
    except ValueError:
        raise UserError(f"--stop_ids {a.stop_ids}: token ids joined by commas are needed") from None
    mesh = sharding.make_mesh(a.mesh_data, a.mesh_fsdp, a.mesh_tensor)
    pretrained = weights.load(a.model, dtype=a.dtype, mesh=mesh)
    if pretrained.tokenizer is None:
        raise UserError(f"{a.model}: has no tokenizer")
    if a.chat_template:
        pretrained.tokenizer.chat_template = load_template(a.chat_template, tokenizer=pretrained.tokenizer)
    options = {"max_new_tokens": a.max_new_tokens, "sampling": sampling, "stop_ids": stop_ids,
               "stop_strings": tuple(a.stop)}
    if a.prompts:
        from jitune.generation.generate import generate_file

        answers = generate_file(pretrained, a.prompts, a.out, batch_size=a.batch_size, **options)
        print(f"{len(answers)} answers in {a.out}")
    elif a.prompt is not None:
        answer_one(pretrained, a, options)
    else:
        from jitune.interactive import chat

        chat(pretrained, system=a.system or "", raw=a.raw, **options)


def answer_one(pretrained, a, options) -> None:
    """Prints the answer to --prompt as it comes: the user's message, or with --raw the text to continue."""
    from jitune.generation.generate import stream
    from jitune.generation.prompts import check_prompt, default_stop_ids, encode_prompt

    model, params, tokenizer, config = pretrained
    system = [{"role": "system", "content": a.system}] if a.system else []
    raw = a.raw or not tokenizer.chat_template
    row = {"prompt": a.prompt} if raw else {"messages": [*system, {"role": "user", "content": a.prompt}]}
    tokens = encode_prompt(tokenizer, row, where="--prompt")
    check_prompt(tokens, "--prompt", max_positions=config.max_positions, vocab_size=config.vocab_size)
    options["stop_ids"] = (*default_stop_ids(tokenizer, config), *options["stop_ids"])
    for piece in stream(model, params, tokenizer, tokens, max_positions=config.max_positions, **options):
        print(piece, end="", flush=True)
    print()


def run_export(a) -> None:
    """Writes a run's weights."""
    from jitune.export import export

    export(a.directory, a.out, step=a.step, dtype=a.dtype)
    print(f"saved {a.out}")
