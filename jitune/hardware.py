"""What accelerators can do at most, by their vendors' data sheets, and what this machine's CPU does.

    find("h100-sxm").peak_flops["bfloat16"]   # 989.5e12
    of_device(jax.devices()[0])               # the entry of a device, None where it is not known
    measure_peak("float32")                   # FLOP/s of a large product on this machine

Sources. GPUs: NVIDIA's data sheets of each board, dense figures (half of those "with sparsity"), bfloat16 and
float16 accumulated in float32, float32 outside of the tensor cores, since float32 here means all its bits. The RTX
4090: the Ada architecture white paper. TPUs: docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e,tpu7x}. A TPU
multiplies bfloat16 only; XLA makes an exact float32 product of six of them, hence a sixth of the peak.
"""

from __future__ import annotations

import functools
import time
from typing import NamedTuple

from jitune.types import UserError

GIB = 2**30


class Hardware(NamedTuple):
    """One device as jax sees it.

    memory_bytes: of the board; drivers and runtimes keep some per cent of it. peak_flops: FLOP/s of dense products
    by dtype; a dtype that the device has no fast product for is missing. bandwidth_bytes: memory bandwidth, B/s.
    link_bytes: B/s to the other devices, both directions together: NVLink, a TPU's interconnect, else PCIe.
    """

    name: str
    memory_bytes: int
    peak_flops: dict[str, float]
    bandwidth_bytes: float
    link_bytes: float

    @property
    def platform(self) -> str:
        """As jax calls it."""
        return "tpu" if self.name.startswith("tpu") else "gpu"


def _gpu(name, gib, half, single, bandwidth, link, *, bfloat16=True) -> Hardware:
    """Arguments: GiB of memory, TFLOP/s in 16 and 32 bits, GB/s of memory, GB/s of links."""
    peaks = {"bfloat16": half * 1e12} if bfloat16 else {}
    return Hardware(name, gib * GIB, {**peaks, "float16": half * 1e12, "float32": single * 1e12}, bandwidth * 1e9,
                    link * 1e9)


def _tpu(name, gib, half, bandwidth, link) -> Hardware:
    """Arguments: GiB of memory, TFLOP/s in bfloat16, GB/s of memory, GB/s of links."""
    return Hardware(name, gib * GIB, {"bfloat16": half * 1e12, "float32": half * 1e12 / 6}, bandwidth * 1e9, link * 1e9)


HARDWARE = {entry.name: entry for entry in (
    _gpu("a100-40gb", 40, 312, 19.5, 1555, 600),
    _gpu("a100-80gb", 80, 312, 19.5, 2039, 600),
    _gpu("a100-80gb-pcie", 80, 312, 19.5, 1935, 600),
    _gpu("h100-sxm", 80, 989.5, 67, 3350, 900),
    _gpu("h100-pcie", 80, 756.5, 51, 2000, 600),
    _gpu("h100-nvl", 94, 835.5, 60, 3900, 600),
    _gpu("h200", 141, 989.5, 67, 4800, 900),
    _gpu("b200", 180, 2250, 75, 8000, 1800),
    _gpu("l4", 24, 121, 30.3, 300, 64),
    _gpu("l40s", 48, 362, 91.6, 864, 64),
    _gpu("rtx-4090", 24, 165.2, 82.6, 1008, 64),
    _gpu("t4", 16, 65, 8.1, 300, 32, bfloat16=False),
    _gpu("v100-16gb", 16, 125, 15.7, 900, 300, bfloat16=False),
    _gpu("v100-32gb", 32, 125, 15.7, 900, 300, bfloat16=False),
    _tpu("tpu-v4", 32, 275, 1200, 600),
    _tpu("tpu-v5e", 16, 197, 819, 400),
    _tpu("tpu-v5p", 95, 459, 2765, 1200),
    _tpu("tpu-v6e", 32, 918, 1638, 800),
)}
# jax's device_kind, to the letter: a laptop's GPU or a slice of one (MIG) has other names and other figures.
KINDS = {
    "NVIDIA A100-SXM4-40GB": "a100-40gb",
    "NVIDIA A100-PCIE-40GB": "a100-40gb",
    "NVIDIA A100-SXM4-80GB": "a100-80gb",
    "NVIDIA A100 80GB PCIe": "a100-80gb-pcie",
    "NVIDIA H100 80GB HBM3": "h100-sxm",
    "NVIDIA H100 PCIe": "h100-pcie",
    "NVIDIA H100 NVL": "h100-nvl",
    "NVIDIA H200": "h200",
    "NVIDIA B200": "b200",
    "NVIDIA L4": "l4",
    "NVIDIA L40S": "l40s",
    "NVIDIA GeForce RTX 4090": "rtx-4090",
    "Tesla T4": "t4",
    "Tesla V100-SXM2-16GB": "v100-16gb",
    "Tesla V100-SXM2-32GB": "v100-32gb",
    "TPU v4": "tpu-v4",
    "TPU v5 lite": "tpu-v5e",
    "TPU v5e": "tpu-v5e",
    "TPU v5": "tpu-v5p",
    "TPU v5p": "tpu-v5p",
    "TPU v6 lite": "tpu-v6e",
    "TPU v6e": "tpu-v6e",
}


SHORT = {"a100": "a100-80gb", "h100": "h100-sxm", "4090": "rtx-4090", "v100": "v100-16gb",
         **{f"v{kind}": f"tpu-v{kind}" for kind in ("4", "5e", "5p", "6e")}, "trillium": "tpu-v6e"}


def find(name: str) -> Hardware:
    """The entry of a name of HARDWARE, or of a short one. Raises UserError for others, listing the known ones."""
    name = SHORT.get(name.lower(), name.lower())
    if name not in HARDWARE:
        raise UserError(f"hardware {name!r} is not known; known are {', '.join(HARDWARE)}")
    return HARDWARE[name]


def of_device(device) -> Hardware | None:
    """The entry of a jax device, by its `device_kind`; None for a CPU and for what is not in the table."""
    name = KINDS.get(device.device_kind)
    return HARDWARE[name] if name else None


@functools.cache
def measure_peak(dtype: str, *, size: int = 1024, seconds: float = 0.2) -> float:
    """FLOP/s that a product of two [size, size] matrices reaches on the first device of this process.

    The fastest of at least three runs: what else runs on the machine only ever makes it slower. float32 is
    multiplied with all its bits, as in training.
    """
    import jax
    import jax.numpy as jnp

    device = jax.local_devices()[0]
    matrix = jax.device_put(jnp.ones((size, size), dtype), device)
    with jax.default_matmul_precision("highest" if dtype == "float32" else "default"):
        product = jax.jit(jnp.matmul).lower(matrix, matrix).compile()
    times: list[float] = []
    jax.block_until_ready(product(matrix, matrix))
    while len(times) < 3 or sum(times) < seconds:
        began = time.perf_counter()
        jax.block_until_ready(product(matrix, matrix))
        times.append(time.perf_counter() - began)
    return 2.0 * size**3 / min(times)
