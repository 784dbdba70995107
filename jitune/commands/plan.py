"""jitune plan: what a step would cost on hardware that is not here."""

from __future__ import annotations


def add(commands) -> None:
    """jitune plan"""
    from jitune.models.families import FAMILIES

    p = commands.add_parser(
        "plan", help="say what a training step would need on hardware that is not here",
        epilog="any option of the config: --config.NAME=VALUE",
    )
    p.add_argument("--hardware", required=True, metavar="NAME", help="h100-sxm, h200, tpu-v5e, ...")
    p.add_argument("--config", metavar="FILE", help="a Python file with get_config(), or the name of a recipe")
    p.add_argument("--family", metavar="NAME",
                   help=f"in the place of config.model.path, with --preset: {', '.join(FAMILIES)}")
    p.add_argument("--preset", help="a size of the family: tiny, 1b, 8b, ...")
    p.add_argument("--mesh", metavar="AXES", help="fsdp=16 or data=2,fsdp=8,tensor=4, in the place of config.mesh")
    p.add_argument("--devices", type=int, help="how many there are, where an axis of the mesh is -1")
    p.add_argument("--rows", default="1,2,4", help="rows a device to compare (default 1,2,4)")
    p.add_argument("--no-compare", action="store_true", help="this configuration only")
    p.set_defaults(run=run, takes_config=True)


def run(a) -> None:
    """Plans."""
    from jitune.planning.plan import plan

    plan(a.config, a.rest, hardware=a.hardware, family=a.family, preset=a.preset, mesh=a.mesh, devices=a.devices,
         rows=a.rows, only=a.no_compare)
