"""jitune data curate: instruction data in, what is worth training on out, with a reason for all that is not."""

from __future__ import annotations

import signal
import sys

from jitune import recipes
from jitune.types import UserError


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

    config, asked = configs.from_words(a.config, a.rest), []

    def stop(number, frame):
        asked.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        folder = curate(config, shown=True)
    except (KeyboardInterrupt, UserError) as error:
        if isinstance(error, UserError) and not asked:  # a worker that the same signal ends is no error
            raise
        what = "stopped" if asked else "interrupted"
        print(f"jitune: {what}; the same command goes on from here", file=sys.stderr)
        return 143 if asked else 130
    print(summary(folder))
    return 0
