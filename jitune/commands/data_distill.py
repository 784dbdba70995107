"""jitune data distill: prompts, seeds or documents in, what a larger model makes of them out, with its provenance."""

from __future__ import annotations

from jitune import recipes
from jitune.commands import going_on


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
    """Distils; the exit code is 1 where the run has to go on: its budget is spent, or its endpoint fails."""
    from jitune.construct.distill import config as configs
    from jitune.construct.distill.run import distill, goes_on, summary

    config = configs.from_words(a.config, a.rest)
    folder, code = going_on.run(lambda: distill(config, shown=True))
    if folder:
        print(summary(folder))
        code = int(goes_on(folder))
    return code
