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
    p.add_argument("--max_new_tokens", "--max-new-tokens", type=int, default=256, metavar="N",
                   help="the most tokens of an answer (256)")
    p.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0: greedy (the default)")
    p.add_argument("--top_k", "--top-k", type=int, default=0, metavar="K", help="of the K likeliest tokens; 0: of all")
    p.add_argument("--top_p", "--top-p", type=float, default=1.0, metavar="P",
                   help="of the fewest tokens with this probability together")
    p.add_argument("--min_p", "--min-p", type=float, default=0.0, metavar="P",
                   help="of tokens with this part of the likeliest one's probability")
    p.add_argument("--repetition_penalty", "--repetition-penalty", type=float, default=1.0, metavar="X",
                   help="of tokens that stand in prompt or answer; 1: none")
    p.add_argument("--stop", action="append", default=[], metavar="TEXT",
                   help="a string that ends the answer; may be repeated")
    p.add_argument("--stop_ids", "--stop-ids", default="", metavar="IDS",
                   help="token ids that end it, joined by commas, besides the model's own")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="of what is drawn (0)")
    p.add_argument("--batch_size", "--batch-size", type=int, default=8, metavar="N",
                   help="answers at a time (8)")
    p.add_argument("--n", type=int, default=1, metavar="N", help="answers to every prompt; in OUT.jsonl each "
                   "has a line of its own, with its number as sample")  # fmt: skip
    p.add_argument("--top_logprobs", "--top-logprobs", type=int, default=0, metavar="K",
                   help="for each token of OUT.jsonl the K likeliest at its place, as [id, logprob]")
    p.add_argument("--draft", metavar="DIR", help="a smaller model with the same vocabulary, which proposes tokens: "
                   "the answers come faster, and are distributed as without it")  # fmt: skip
    p.add_argument("--draft_tokens", "--draft-tokens", type=int, default=4, metavar="N",
                   help="proposals of the draft at a time (4)")
    p.add_argument("--kv_cache", "--kv-cache", default="", metavar="KIND",
                   help="int8: keys and values in 8 bits; by default as the model computes")
    p.add_argument("--dtype", default="float32", help="float32 | bfloat16")
    p.add_argument("--allow_longer_context", "--allow-longer-context", action="store_true",
                   help="texts may be longer than the model was made for")
    p.add_argument("--chat_template", "--chat-template", default="", metavar="FILE",
                   help="a jinja file, or chatml | alpaca")
    for axis, size in MESH_SIZES.items():
        p.add_argument(f"--mesh.{axis}", dest=f"mesh_{axis}", type=int, default=size, metavar="N",
                       help=f"devices along this axis of the mesh ({size})")
    p.set_defaults(run=run)


def run(a) -> None:
    """Generates for a file of prompts, for one prompt, or in a chat."""
    import sys

    from jitune import compile_cache, sharding
    from jitune.data.chat import load_template
    from jitune.generation.sampling import Sampling

    check(a)
    sampling = Sampling(temperature=a.temperature, top_k=a.top_k, top_p=a.top_p, min_p=a.min_p,
                        repetition_penalty=a.repetition_penalty, seed=a.seed)
    try:
        stop_ids = [int(i) for i in a.stop_ids.split(",") if i.strip()]
    except ValueError:
        raise UserError(f"--stop_ids {a.stop_ids}: token ids joined by commas are needed") from None
    if warning := compile_cache.use_cache():
        print(f"jitune: {warning}", file=sys.stderr)
    mesh = sharding.mesh_of_options(a)
    pretrained, adapters = load_models(a, mesh)
    for model in (*adapters.values(), *(() if adapters else (pretrained,))):
        if model.tokenizer is None:
            raise UserError(f"{a.model}: has no tokenizer")
        if a.chat_template:
            model.tokenizer.chat_template = load_template(a.chat_template, tokenizer=model.tokenizer)
    drafted = open_draft(a, pretrained, mesh) if a.draft else None
    options = {"max_new_tokens": a.max_new_tokens, "sampling": sampling, "stop_ids": stop_ids,
               "stop_strings": tuple(a.stop), "kv_cache": a.kv_cache}
    if a.prompts:
        from jitune.generation.generate import generate_file

        answers = generate_file(pretrained, a.prompts, a.out, batch_size=a.batch_size, adapters=adapters, n=a.n,
                                top_logprobs=a.top_logprobs, answer=choose(a, drafted), **options)
        print(f"{len(answers)} answers in {a.out}")
        tell(drafted)
        return
    pretrained = next(iter(adapters.values()), pretrained)
    if a.prompt is not None:
        answer_one(pretrained, a, options, drafted)
        tell(drafted)
    else:
        from jitune.interactive import chat

        more = {"flow": drafted[0].stream} if drafted else {}
        chat(pretrained, system=a.system or "", raw=a.raw, **more, **options)
        tell(drafted)


def check(a) -> None:
    """Raises UserError for options that do not go together."""
    from jitune.models.cache import check_kind

    check_kind(a.kv_cache, "--kv_cache")
    if a.prompts and not a.out:
        raise UserError("--prompts needs --out")
    for option, given in (("--prompt", a.prompt is not None), ("--system", a.system), ("--raw", a.raw)):
        if a.prompts and given:
            raise UserError(f"{option} does not go with --prompts, whose rows say what is asked")
    if a.out and not a.prompts:
        raise UserError("--out is for the answers to --prompts; --prompt and chat print theirs")
    if a.n < 1:
        raise UserError(f"--n {a.n}: at least 1 is needed")
    if a.n > 1 and a.temperature == 0:
        raise UserError(f"--n {a.n} needs a --temperature above 0: greedy answers are all the same")
    if a.n > 1 and not a.prompts and a.prompt is None:
        raise UserError(f"--n {a.n}: a chat has one answer; give --prompts or --prompt")
    if a.top_logprobs and not a.prompts:
        raise UserError("--top_logprobs needs --prompts and --out")


def open_draft(a, target, mesh):
    """(the `Drafted` of --draft, [the figures of what it has done so far])."""
    from jitune.generation.speculative import Drafted, check_draft
    from jitune.hub import peft, weights

    base, own = peft.find_base(a.draft)
    draft, told = weights.load(base, dtype=a.dtype, mesh=mesh, allow_longer_context=a.allow_longer_context), []
    if own:
        draft = peft.open_adapters(draft, {"draft": own}, base=base)["draft"]
    check_draft(target, draft, names=(a.model, a.draft))
    return Drafted(draft, target.config, a.draft_tokens, told.append), told


def choose(a, drafted):
    """What answers a file's prompts; see `generate_file`."""
    from jitune.generation.generate import generate
    from jitune.generation.several import generate_several

    if drafted:
        return drafted[0].generate
    return generate if a.n == 1 else generate_several


def tell(drafted) -> None:
    """Prints on stderr how many proposals of the draft were accepted."""
    import sys

    from jitune.generation.speculative import Speculation

    if drafted:
        told = sum(drafted[1], Speculation())
        print(f"draft: {told.acceptance:.0%} of {told.drafted} proposed tokens accepted, "
              f"{told.tokens_per_forward:.2f} tokens a forward", file=sys.stderr)


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


def answer_one(pretrained, a, options, drafted) -> None:
    """Prints the answer to --prompt as it comes: the user's message, or with --raw the text to continue.

    Several answers come whole, each under a line with its number.
    """
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
    options["max_positions"] = config.max_positions
    if a.n > 1:
        (answers,) = choose(a, drafted)(model, params, tokenizer, [tokens], n=a.n, batch_size=a.batch_size, **options)
        for i, answer in enumerate(answers, 1):
            print(f"--- {i} of {a.n}", answer.text, sep="\n")
        return
    flow = drafted[0].stream if drafted else stream
    for piece in flow(model, params, tokenizer, tokens, **options):
        print(piece, end="", flush=True)
    print()
