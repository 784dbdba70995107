"""jitune train: one training run."""

from __future__ import annotations

import sys

from jitune import recipes


def add(commands) -> None:
    """jitune train"""
    p = commands.add_parser("train", help="tune a model", epilog="any option of the config: --config.NAME=VALUE")
    p.add_argument("--config", metavar="FILE",
                   help=f"a Python file with get_config(), or one that comes with jitune: {', '.join(recipes.names())}")
    p.add_argument("--resume", action="store_true", help="continue the run in output_dir, if there is one")
    p.add_argument("--profile", metavar="STEPS", default="",
                   help="trace steps for TensorBoard's profiler into OUT/profile: 10-12, or how many, such as 3, "
                        "after the first two")
    p.add_argument("--dry_run", action="store_true",
                   help="print what a step costs and a batch with its mask, write nothing, and stop")
    p.add_argument("--distributed", action="store_true",
                   help="one of several processes: found on TPU, SLURM and MPI; elsewhere by "
                        "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID")
    p.set_defaults(run=run, takes_config=True)


def run(a) -> int:
    """Trains."""
    from jitune import config as configs

    config = configs.from_words(a.config, a.rest)
    configs.check(config)
    if a.distributed:
        from jitune.sharding import join_processes

        join_processes()
    if a.dry_run:
        from jitune.planning.dry_run import dry_run

        dry_run(config, resume=a.resume)
        return 0
    import jax

    from jitune import compile_cache, host_memory, meter, profiling, stopping, train

    profile = profiling.parse_steps(a.profile)
    if config.keep_pages and jax.default_backend() == "cpu":
        host_memory.keep_pages()
    if warning := compile_cache.use_cache():
        print(f"jitune: {warning}", file=sys.stderr)
    try:
        train.train(config, resume=a.resume, profile=profile, began=meter.process_start())
    except stopping.NonFiniteError as error:
        print(f"jitune: {error}", file=sys.stderr)
        return 1
    except stopping.Interrupted as error:
        print(f"jitune: {error}", file=sys.stderr)
        return 143
    return 0
