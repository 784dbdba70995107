"""jitune generate: answers to one prompt, to a file of prompts, or in a chat."""

from __future__ import annotations

from jitune.types import MESH_SIZES, UserError


def add(commands) -> None:
    """jitune generate"""
    p = commands.add_parser("generate", help="answer a prompt, a file of prompts, or chat")
    p.add_argument("--model", required=True, metavar="DIR", help="a model, or an adapter that names its base")
    p.add_argument("--adapter", action="append", default=[], metavar="[NAME=]DIR",
                   help="an adapter in PEFT's layout; may be repeated")  # fmt: skip
    p.add_argument("--prompts", metavar="FILE.jsonl", help='rows {"prompt": ...} or {"messages": [...]}, with several '
                   'adapters {"adapter": NAME, ...}; without it the first one, null: the base')  # fmt: skip
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
    p.add_argument("--allow_longer_context", "--allow-longer-context", action="store_true",
                   help="texts may be longer than the model was made for")
    p.add_argument("--chat_template", "--chat-template", default="", help="a jinja file, or chatml | alpaca")
    for axis, size in MESH_SIZES.items():
        p.add_argument(f"--mesh.{axis}", dest=f"mesh_{axis}", type=int, default=size)
    p.set_defaults(run=run)


def run(a) -> None:
    """Generates for a file of prompts, for one prompt, or in a chat."""
    from jitune import sharding
    from jitune.data.chat import load_template
    from jitune.generation.sampling import Sampling

    if a.prompts and not a.out:
        raise UserError("--prompts needs --out")
    sampling = Sampling(temperature=a.temperature, top_k=a.top_k, top_p=a.top_p, min_p=a.min_p,
                        repetition_penalty=a.repetition_penalty, seed=a.seed)
    try:
        stop_ids = [int(i) for i in a.stop_ids.split(",") if i.strip()]
    except ValueError:
        raise UserError(f"--stop_ids {a.stop_ids}: token ids joined by commas are needed") from None
    mesh = sharding.mesh_of_options(a)
    pretrained, adapters = load_models(a, mesh)
    for model in (*adapters.values(), *(() if adapters else (pretrained,))):
        if model.tokenizer is None:
            raise UserError(f"{a.model}: has no tokenizer")
        if a.chat_template:
            model.tokenizer.chat_template = load_template(a.chat_template, tokenizer=model.tokenizer)
    options = {"max_new_tokens": a.max_new_tokens, "sampling": sampling, "stop_ids": stop_ids,
               "stop_strings": tuple(a.stop)}
    if a.prompts:
        from jitune.generation.generate import generate_file

        answers = generate_file(pretrained, a.prompts, a.out, batch_size=a.batch_size, adapters=adapters, **options)
        print(f"{len(answers)} answers in {a.out}")
        return
    pretrained = next(iter(adapters.values()), pretrained)
    if a.prompt is not None:
        answer_one(pretrained, a, options)
    else:
        from jitune.interactive import chat

        chat(pretrained, system=a.system or "", raw=a.raw, **options)


def load_models(a, mesh):
    """(the base, {name: the base with an adapter}) of --model and --adapter."""
    from jitune.hub import peft, weights

    base, given = peft.find_base(a.model)
    paths = {}
    for word in (*filter(None, [given]), *a.adapter):
        name, equals, path = word.partition("=")
        if not equals or "/" in name:  # a path may hold the sign too
            name, path = word.rstrip("/").rpartition("/")[2], word
        if name in paths:
            raise UserError(f"--adapter {word}: there is an adapter {name!r} already; name them, as in NAME={path}")
        paths[name] = path
    if len(paths) > 1 and not a.prompts:
        raise UserError(f"--prompt and chat take one adapter; given are {', '.join(paths)}")
    pretrained = weights.load(base, dtype=a.dtype, mesh=mesh, allow_longer_context=a.allow_longer_context)
    return pretrained, peft.open_adapters(pretrained, paths, base=base)


def answer_one(pretrained, a, options) -> None:
    """Prints the answer to --prompt as it comes: the user's message, or with --raw the text to continue."""
    from jitune import limits
    from jitune.generation.generate import stream
    from jitune.generation.prompts import check_prompt, default_stop_ids, encode_prompt

    model, params, tokenizer, config = pretrained
    system = [{"role": "system", "content": a.system}] if a.system else []
    raw = a.raw or not tokenizer.chat_template
    row = {"prompt": a.prompt} if raw else {"messages": [*system, {"role": "user", "content": a.prompt}]}
    tokens = encode_prompt(tokenizer, row, where="--prompt")
    check_prompt(tokens, "--prompt", max_positions=config.max_positions, vocab_size=config.vocab_size,
                 more=limits.hint(config))
    options["stop_ids"] = (*default_stop_ids(tokenizer, config), *options["stop_ids"])
    for piece in stream(model, params, tokenizer, tokens, max_positions=config.max_positions, **options):
        print(piece, end="", flush=True)
    print()
