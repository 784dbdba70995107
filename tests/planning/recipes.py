"""Plans recipes, all of them in one process, and prints one line each: name, verdict, GiB of a device.

    python -m tests.planning.recipes NAME:PRESET:HARDWARE ...
"""

import sys

from jitune import config as configs
from jitune import hardware, sharding
from jitune.planning import plan, tables
from jitune.planning.study import study


def main(words: list[str]) -> None:
    plan.start_devices(64)
    for word in words:
        name, preset, machine = word.split(":")
        config = configs.read(f"configs/{name}.py")
        devices = plan.start_devices(config.mesh.data * config.mesh.fsdp * config.mesh.tensor)
        mesh = sharding.make_mesh(**config.mesh, devices=devices)
        made = study(config, plan.read_model(config, "llama", preset), mesh, elsewhere=True)
        peak = made.memory.peak
        print(name, tables.verdict(peak, hardware.find(machine)), f"{peak / tables.GIB:.1f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
