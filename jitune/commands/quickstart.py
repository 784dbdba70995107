"""jitune quickstart: a tiny model, tuned and measured in minutes."""

from __future__ import annotations

import os
import sys

from jitune import cpu_threads


def add(commands) -> None:
    """jitune quickstart"""
    p = commands.add_parser("quickstart", help="make, tune and measure a tiny model on two CPU cores, offline")
    p.add_argument("--out", default="runs/quickstart", metavar="DIR", help="(default runs/quickstart)")
    p.add_argument("--overwrite", action="store_true", help="replace an earlier quickstart in DIR")
    p.add_argument("--seed", type=int, default=0, help="of the data, the weights and the order (default 0)")
    p.add_argument("--steps", type=int, default=None, help="of tuning; fewer are faster and learn less")
    p.add_argument("--questions", type=int, default=None, help="of the test for each task; more narrow the intervals")
    p.set_defaults(run=run)


def run(a) -> int:
    """Runs it."""
    use_cpu()
    from jitune import host_memory
    from jitune.quickstart import run as quickstart
    from jitune.stopping import Interrupted, NonFiniteError

    host_memory.keep_pages()
    options = {name: given for name in ("steps", "questions") if (given := getattr(a, name)) is not None}
    try:
        quickstart.quickstart(a.out, seed=a.seed, overwrite=a.overwrite, say=print_at_once, **options)
    except NonFiniteError as error:
        print(f"jitune: {error}", file=sys.stderr)
        return 1
    except (Interrupted, KeyboardInterrupt):
        print("jitune: interrupted; the same command with --overwrite starts anew", file=sys.stderr)
        return 130
    return 0


def print_at_once(line: str) -> None:
    """Prints a line so that it stands before what training then says on standard error."""
    print(line, flush=True)


def use_cpu() -> None:
    """Two virtual devices on the CPU, unless the environment says otherwise: the same bits with any number of cores."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    flags = os.environ.get("XLA_FLAGS", "")
    if "host_platform_device_count" not in flags:
        # On a busy machine one device may reach a collective long after the other.
        patience = "--xla_cpu_collective_call_terminate_timeout_seconds=600 --xla_cpu_collective_timeout_seconds=600"
        os.environ["XLA_FLAGS"] = f"{flags} {patience} --xla_force_host_platform_device_count=2".strip()
        cpu_threads.make_enough()
