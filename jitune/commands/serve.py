"""jitune serve: a model and its adapters behind OpenAI's protocol."""

from __future__ import annotations

import os

from jitune.types import MESH_SIZES, UserError

PORT, ROWS, QUEUE, CONTEXT = 8000, 8, 64, 4096
EXAMPLES = """\
  jitune serve models/base
  jitune serve models/base --adapter poems=runs/poems/adapter
  JITUNE_API_KEY=... jitune serve models/base --host 0.0.0.0 \\
    --api_key_env JITUNE_API_KEY
"""


def add(commands) -> None:
    """jitune serve"""
    import argparse

    p = commands.add_parser("serve", help="answer over HTTP as OpenAI's API does", epilog=EXAMPLES,
                            formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", metavar="MODEL", help="a model, or an adapter that names its base")
    p.add_argument("--adapter", action="append", default=[], metavar="[NAME=]DIR",
                   help="an adapter in PEFT's layout, served under its name; may be repeated")  # fmt: skip
    p.add_argument("--name", default="", help="of the model for clients (the last part of MODEL)")
    p.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1: this machine alone)")
    p.add_argument("--port", type=int, default=PORT, metavar="N", help=f"({PORT}); 0: one that is free")
    p.add_argument("--api_key_env", "--api-key-env", default="", metavar="NAME",
                   help="the environment variable with the key that clients must give")  # fmt: skip
    p.add_argument("--api_key_file", "--api-key-file", default="", metavar="FILE", help="a file with that key")
    p.add_argument("--no_key", "--no-key", action="store_true",
                   help="serve beyond this machine to whoever reaches it")  # fmt: skip
    p.add_argument("--rows", type=int, default=ROWS, metavar="N",
                   help=f"answers at a time, of each model ({ROWS}); rounded up to the mesh's batch shards")
    p.add_argument("--queue", type=int, default=QUEUE, metavar="N",
                   help=f"answers that may wait ({QUEUE}); beyond them clients get 429")  # fmt: skip
    p.add_argument("--context", type=int, default=0, metavar="N",
                   help=f"tokens of a prompt with its answer; 0: the model's, at most {CONTEXT}")  # fmt: skip
    p.add_argument("--allow_longer_context", "--allow-longer-context", action="store_true",
                   help="texts may be longer than the model was made for")  # fmt: skip
    p.add_argument("--kv_cache", "--kv-cache", default="", metavar="KIND",
                   help="int8: keys and values in 8 bits; by default as the model computes")  # fmt: skip
    p.add_argument("--timeout", type=float, default=600.0, metavar="S", help="seconds of a request (600)")
    p.add_argument("--grace", type=float, default=30.0, metavar="S",
                   help="seconds that running requests have after SIGTERM or Ctrl-C (30)")  # fmt: skip
    p.add_argument("--dtype", default="float32", help="float32 | bfloat16")
    p.add_argument("--chat_template", "--chat-template", default="", help="a jinja file, or chatml | alpaca")
    for axis, size in MESH_SIZES.items():
        p.add_argument(f"--mesh.{axis}", dest=f"mesh_{axis}", type=int, default=size)
    p.set_defaults(run=run)


def run(a) -> int:
    """Loads, compiles, and serves until it is told to stop."""
    check(a)
    key = read_key(a)
    check_open(a, key)
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(f"serve needs the library {error.name}: pip install 'jitune[serve]'") from None
    from jitune import compile_cache
    from jitune.serve.app import Options
    from jitune.serve.engine import Engine
    from jitune.serve.models import offer
    from jitune.serve.run import bind, serve

    with bind(a.host, a.port) as listener:
        if warning := compile_cache.use_cache():
            log(warning)
        models, fingerprints = load(a)
        engine = Engine(models, rows=whole_rows(a, models), limit=context(a, models), queue=a.queue,
                        kv_cache=a.kv_cache, log=log)  # fmt: skip
        for line in introduce(a, models, engine):
            print(line, flush=True)
        seconds = engine.start()
        served = offer(models, engine, fingerprints=fingerprints)
        options = Options(timeout=a.timeout, key=key, host=a.host, log=log)
        port = listener.getsockname()[1]
        shown = f"http://{f'[{a.host}]' if ':' in a.host else a.host}:{port}/v1"

        def opened() -> None:
            print(f"compiled in {seconds:.1f} s")
            if a.no_key:
                print("no API key is asked for: whoever reaches this address can use it")
            print(f"serving at {shown}; Ctrl-C ends it", flush=True)

        serve(engine, served, options, listener, grace=a.grace, opened=opened)
    return 0


def log(text: str) -> None:
    """Tracebacks and the like, on stderr."""
    import sys

    print(text.rstrip(), file=sys.stderr, flush=True)


def check(a) -> None:
    """Raises UserError for options out of range."""
    from jitune.models.cache import check_kind

    for name, ok, allowed in (
        ("port", 0 <= a.port < 65536, "0 to 65535"), ("rows", 1 <= a.rows <= 1024, "1 to 1024"),
        ("queue", 0 <= a.queue <= 100_000, "0 to 100000"), ("context", a.context >= 0, "0 or more"),
        ("timeout", 0 < a.timeout <= 86_400, "above 0 and at most 86400"),
        ("grace", 0 <= a.grace <= 86_400, "0 to 86400"),
    ):  # fmt: skip
        if not ok:
            raise UserError(f"--{name} {getattr(a, name)}: must be {allowed}")
    check_kind(a.kv_cache, "--kv_cache")


def check_open(a, key: str) -> None:
    """Raises UserError where others would be let in without anybody having said so."""
    from jitune.construct.annotate.server import is_loopback

    if key and a.no_key:
        raise UserError("--no_key: a key is given too; one of them holds")
    if not (key or a.no_key or is_loopback(a.host)):
        raise UserError(f"--host {a.host}: other machines may reach it; give a key (--api_key_env, --api_key_file), or "
                        "let in whoever comes (--no_key)")  # fmt: skip


def read_key(a) -> str:
    """The key that clients must give, or "". Raises UserError, without the key, where it cannot be one."""
    if a.api_key_env and a.api_key_file:
        raise UserError("--api_key_env and --api_key_file: one of them says which key it is")
    if not (a.api_key_env or a.api_key_file):
        return ""
    if a.api_key_env:
        where, key = f"--api_key_env {a.api_key_env}", os.environ.get(a.api_key_env, "")
        if not a.api_key_env.isidentifier():
            raise UserError("--api_key_env: the variable's name is needed (--api_key_env NAME), not the key")
    else:
        where = f"--api_key_file {a.api_key_file}"
        try:
            with open(os.path.expanduser(a.api_key_file), encoding="utf-8") as file:
                key = file.read(10_000)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{where}: cannot be read: {getattr(error, 'strerror', None) or 'no text'}") from None
    key = key.strip()
    if not key or not all("!" <= c <= "~" for c in key):
        raise UserError(f"{where}: holds no key: one line of printable characters without spaces is needed")
    return key


def load(a):
    """({name: model}, {name: fingerprint}) of MODEL and its adapters."""
    from jitune import sharding
    from jitune.data.chat import load_template
    from jitune.hub import peft, weights

    base, given = peft.find_base(a.model)
    paths = {}
    for word in (*filter(None, [given]), *a.adapter):
        name, equals, path = word.partition("=")
        if not equals or "/" in name:  # a path may hold the sign too
            name, path = os.path.basename(word.rstrip("/")), word
        if name in paths:
            raise UserError(f"--adapter {word}: there is an adapter {name!r} already; name them, as in NAME={path}")
        paths[name] = path
    own = a.name or os.path.basename(str(base if given else a.model).rstrip("/"))
    if own in paths:
        raise UserError(f"--adapter {own}={paths[own]}: the base is served as {own!r}; give one of them another name "
                        "(--name)")  # fmt: skip
    pretrained = weights.load(base, dtype=a.dtype, mesh=sharding.mesh_of_options(a),
                              allow_longer_context=a.allow_longer_context)  # fmt: skip
    models = {own: pretrained, **peft.open_adapters(pretrained, paths, base=base)}
    for name, model in models.items():
        if model.tokenizer is None:
            raise UserError(f"{paths.get(name, a.model)}: has no tokenizer")
        if a.chat_template:
            model.tokenizer.chat_template = load_template(a.chat_template, tokenizer=model.tokenizer)
    setting = [a.dtype, a.kv_cache, str(pretrained.tokenizer.chat_template)]
    return models, fingerprint(base, own, paths, setting)


def fingerprint(base, own: str, paths: dict, setting: list[str]) -> dict[str, str]:
    """Tells of each model whether it is still the same, as it is set: OpenAI's `system_fingerprint`."""
    import hashlib
    from pathlib import Path

    from jitune import __version__
    from jitune.hub import files, weights

    digest = files.digest(Path(base))
    found = {own: [digest]}
    for name, path in paths.items():
        parts = sorted(Path(weights.resolve(path)).glob("adapter_model*"))
        found[name] = [digest, *(hashlib.sha256(part.read_bytes()).hexdigest() for part in parts)]
    return {name: "fp_" + hashlib.sha256("".join([__version__, *setting, *parts]).encode()).hexdigest()[:12]
            for name, parts in found.items()}  # fmt: skip


def context(a, models) -> int:
    """Tokens of a prompt with its answer. Raises UserError beyond the model's own."""
    from jitune import limits

    config = next(iter(models.values())).config  # adapters have their base's
    limits.check_length(a.context, config, f"--context {a.context}", option=limits.IN_COMMANDS)
    most = config.max_positions
    return a.context or min(most or CONTEXT, CONTEXT)


def whole_rows(a, models) -> int:
    """--rows, rounded up to what the mesh's devices can share evenly."""
    from jitune import sharding
    from jitune.generation.batches import round_up

    mesh = sharding.mesh_of(next(iter(models.values())).params)
    return round_up(a.rows, sharding.batch_shards(mesh) if mesh else 1)


def introduce(a, models, engine):
    """What is served, in lines of at most 80 characters where names allow it."""
    first, *others = models
    config = models[first].config
    yield f"model    {first} ({config.family}, {a.dtype})"
    for name in others:
        yield f"adapter  {name}"
    limits = sorted({lane.limit for lane in engine.lanes.values()})
    yield f"rows     {engine.rows} of each model, {a.queue} may wait; context {' to '.join(map(str, limits))} tokens"
