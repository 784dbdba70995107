"""jitune improve: a model learns from its own answers, round by round."""

from __future__ import annotations

import sys

from jitune import recipes
from jitune.commands import going_on


def add(commands) -> None:
    """jitune improve"""
    p = commands.add_parser("improve", help="rounds of generating, checking, training and measuring",
                            epilog="any option of the config: --config.NAME=VALUE, such as --config.method=star; a run "
                                   "that was killed goes on with the same command")
    p.add_argument("--config", metavar="FILE", help="a Python file with get_config(), or one that comes with jitune: "
                   f"{', '.join(recipes.names('improve'))}")
    p.set_defaults(run=run, takes_config=True)


def run(a) -> int:
    """Improves."""
    from jitune.construct.improve import config as configs

    config = configs.from_words(a.config, a.rest)
    configs.check(config)
    import json

    import jax

    from jitune import compile_cache, host_memory, stopping
    from jitune.construct.improve.run import improve
    from jitune.construct.improve.summary import table

    if config.train.keep_pages and jax.default_backend() == "cpu":
        host_memory.keep_pages()
    if warning := compile_cache.use_cache():
        print(f"jitune: {warning}", file=sys.stderr)
    try:
        folder, code = going_on.run(lambda: improve(config, say=lambda text: print(text, flush=True)),
                                    stops=(stopping.Interrupted,))
    except stopping.NonFiniteError as error:
        print(f"jitune: {error}", file=sys.stderr)
        return 1
    if folder is None:
        return code
    for line in table(json.loads((folder / "summary.json").read_text(encoding="utf-8"))):
        print(line)
    print(f"{folder / 'report.html'}; the model is {folder / 'final'}")
    return 0
