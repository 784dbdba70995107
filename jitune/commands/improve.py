"""jitune improve: a model learns from its own answers, round by round."""

from __future__ import annotations

import signal
import sys

from jitune import recipes


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

    config, asked = configs.from_words(a.config, a.rest), []
    configs.check(config)
    import json

    import jax

    from jitune import compile_cache, host_memory, stopping
    from jitune.construct.improve.run import improve
    from jitune.construct.improve.summary import table

    def stop(number, frame):
        asked.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    if config.train.keep_pages and jax.default_backend() == "cpu":
        host_memory.keep_pages()
    if warning := compile_cache.use_cache():
        print(f"jitune: {warning}", file=sys.stderr)
    try:
        folder = improve(config, say=lambda text: print(text, flush=True))
    except stopping.NonFiniteError as error:
        print(f"jitune: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, stopping.Interrupted) as error:  # within training, that takes signals itself
        stopped = asked or isinstance(error, stopping.Interrupted)
        print(f"jitune: {'stopped' if stopped else 'interrupted'}; the same command goes on from here", file=sys.stderr)
        return 143 if stopped else 130
    for line in table(json.loads((folder / "summary.json").read_text(encoding="utf-8"))):
        print(line)
    print(f"{folder / 'report.html'}; the model is {folder / 'final'}")
    return 0
