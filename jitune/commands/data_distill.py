"""jitune data distill: prompts, seeds or documents in, what a larger model makes of them out, with its provenance."""

from __future__ import annotations

import signal
import sys

from jitune import recipes
from jitune.types import UserError


def add(commands) -> None:
    """jitune data distill"""
    p = commands.add_parser("distill", help="have a model answer prompts, or write instruction data from seeds",
                            epilog="any option of the config: --config.NAME=VALUE, such as --config.teacher.model=... "
                                   "or --config.respond.n=4 for the method `respond`; a run that was killed goes on "
                                   "with the same command, and nothing is paid for twice")
    p.add_argument("--config", metavar="FILE", help="a Python file with get_config(), or one that comes with jitune: "
                   f"{', '.join(recipes.names('data distill'))}")
    p.set_defaults(run=run, takes_config=True)


def run(a) -> int:
    """Distils."""
    from jitune.construct.distill import config as configs
    from jitune.construct.distill.run import distill, summary

    config, asked = configs.from_words(a.config, a.rest), []

    def stop(number, frame):
        asked.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        folder = distill(config, shown=True)
    except (KeyboardInterrupt, UserError) as error:
        if isinstance(error, UserError) and not asked:  # what the same signal ends is no error
            raise
        what = "stopped" if asked else "interrupted"
        print(f"jitune: {what}; the same command goes on from here", file=sys.stderr)
        return 143 if asked else 130
    print(summary(folder))
    return 0
