"""Threads of XLA's CPU client, where one machine stands for several devices."""

from __future__ import annotations

import os
import re

EACH = 4  # threads of a device


def make_enough(devices: int = 0) -> None:
    """Asks for several threads for each virtual CPU device; to be called before the devices start.

    Collectives of one program that do not depend on each other run at the same time, and each holds a thread of every
    device until all are there. XLA has as many threads as devices or cores: some devices may then wait in one
    collective and the others in another, for ever. devices: where it is known; else the environment is read. What the
    environment says of threads (`PJRT_NPROC`, `NPROC`) is left as it is.
    """
    flag = re.search(r"--xla_force_host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", ""))
    named = os.environ.get("JAX_NUM_CPU_DEVICES", "")
    devices = max(devices, int(flag[1]) if flag else 1, int(named) if named.isdecimal() else 1)
    if devices > 1 and not {"PJRT_NPROC", "NPROC"} & os.environ.keys():
        os.environ["PJRT_NPROC"] = str(max(EACH * devices, os.cpu_count() or 1))
