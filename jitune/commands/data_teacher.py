"""jitune data teacher: what a teacher says of the training data, stored for distillation without the teacher."""

from __future__ import annotations

import sys

from jitune.commands import going_on


def add(commands) -> None:
    """jitune data teacher"""
    p = commands.add_parser("teacher", help="store a teacher's likeliest tokens at every place of the training data",
                            epilog="any option of the training run's config: --config.NAME=VALUE; a run that was "
                                   "killed goes on with the same command; train with --config.objective.store=OUT")
    p.add_argument("--config", metavar="FILE", help="of the training run: a Python file with get_config(), or a recipe")
    p.add_argument("--out", required=True, metavar="DIR", help="where the store goes; that of the evaluation data is "
                   "its folder eval")
    p.add_argument("--k", type=int, default=64, help="tokens at each place (default 64)")
    p.add_argument("--logprobs", default="float32", help="float32 | float16, half of the disk space")
    p.add_argument("--batch_size", "--batch-size", type=int, default=0,
                   help="rows of config.seq_len at a time (default: config.batch_size)")
    p.set_defaults(run=run, takes_config=True)


def run(a) -> int:
    """Stores."""
    from jitune import compile_cache
    from jitune import config as configs
    from jitune.construct.distill.teacher import write_stores

    config = configs.from_words(a.config, a.rest)
    if warning := compile_cache.use_cache():
        print(f"jitune: {warning}", file=sys.stderr)
    folders, code = going_on.run(lambda: write_stores(config, a.out, k=a.k, batch_size=a.batch_size,
                                                      logprobs=a.logprobs, shown=True))
    if folders:
        print(f"stored in {' and '.join(map(str, folders))}; train with --config.objective.name=distill "
              f"--config.objective.store={a.out}")
    return code
