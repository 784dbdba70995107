"""jitune data curate: instruction data in, what is worth training on out, with a reason for all that is not."""

from __future__ import annotations

from jitune import recipes
from jitune.commands import going_on


def add(commands) -> None:
    """jitune data curate"""
    p = commands.add_parser("curate", help="filter, deduplicate, decontaminate, score and mix instruction data",
                            epilog="any option of the config: --config.NAME=VALUE, such as --config.length.preset=... "
                                   "for the stage `length`; a run that was killed goes on with the same command")
    p.add_argument("--config", metavar="FILE", help="a Python file with get_config(), or one that comes with jitune: "
                   f"{', '.join(recipes.names('data curate'))}")
    p.set_defaults(run=run, takes_config=True)


def run(a) -> int:
    """Curates."""
    from jitune.construct.curate import config as configs
    from jitune.construct.curate.run import curate, summary

    config = configs.from_words(a.config, a.rest)
    folder, code = going_on.run(lambda: curate(config, shown=True))
    if folder:
        print(summary(folder))
    return code
