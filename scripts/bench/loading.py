"""What loading and saving a checkpoint of some gigabytes takes: seconds, and host memory beyond the arrays themselves.

    python scripts/bench/loading.py --gb 5 --dtype bfloat16

Makes a sharded checkpoint of random bits (kept in --dir, to be used again), then loads it in processes of their own:
onto 1 and onto 8 virtual devices, in its dtype and, with --cast, in another. Beside it, a plain read of the files.
Each result is a line of JSON.

peak: the largest anonymous memory (RssAnon of /proc/self/status) seen while it loads, above what the process had before
and above the arrays. Pages of mapped files (RssFile) can be taken back by the system at any time; their largest is told
apart. On CPU devices the arrays themselves are anonymous memory of this process.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

LAYERS = 16
SIZES = {"vocab_size": 32000, "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 128,
         "hidden_size": 2048, "rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "model_type": "llama"}  # fmt: skip


def make(directory: Path, gb: float, dtype: str, shard_bytes: int) -> None:
    """Writes a Llama of about this many gigabytes, random bits with an exponent near 1."""
    import ml_dtypes
    import numpy as np

    from jitune.hub import files, stored, weights
    from jitune.models.config import ModelConfig
    from jitune.models.names import names

    item = 2 if dtype == "bfloat16" else 4
    rest = gb * 1e9 / item - 2 * 32000 * 2048 - LAYERS * (2 * 2048 * 2048 + 2 * 2048 * 512)
    raw = {**SIZES, "num_hidden_layers": LAYERS, "intermediate_size": int(rest / LAYERS / 3 / 2048) // 128 * 128,
           "dtype": dtype}  # fmt: skip
    config, rng = ModelConfig.from_hf(raw), np.random.default_rng(0)
    from jitune import tree

    leaves = tree.flatten(weights.abstract_params(config))
    held = stored.holders(names(config), {path: leaf.shape for path, leaf in leaves.items()})
    kind = ml_dtypes.bfloat16 if item == 2 else np.float32

    def tensors():
        for name, one in held.items():
            yield name, rng.random(one.shape, np.float32).astype(kind)

    directory.mkdir(parents=True, exist_ok=True)
    files.write_shards(directory, {n: (h.shape, kind) for n, h in held.items()}, tensors(), shard_bytes)
    files.write_json(directory / "config.json", config.to_hf())


def memory() -> tuple[int, int]:
    """(anonymous bytes, bytes of mapped files) that this process has in memory."""
    fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return tuple(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))


class Peak:
    """The largest memory while a block runs."""

    def __enter__(self):
        self.before, self.most, self.done = memory(), [0, 0], False
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        self.began = time.perf_counter()
        return self

    def watch(self):
        while not self.done:
            self.most = [max(pair) for pair in zip(self.most, memory(), strict=True)]
            time.sleep(0.005)

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self.began
        self.done = True
        self.thread.join()


def child(directory: Path, devices: int, dtype: str, out: str) -> None:
    """Loads (and saves, to `out`) in this process, and prints what it took."""
    import jax

    jax.config.update("jax_num_cpu_devices", devices)
    from jitune import sharding, tree
    from jitune.hub import weights

    mesh = sharding.make_mesh(fsdp=devices)
    jax.block_until_ready(jax.numpy.zeros(8) + 1)
    with Peak() as peak:
        loaded = weights.load(directory, dtype=dtype, mesh=mesh)
    arrays = tree.count_bytes(loaded.params)
    found = {"what": "load", "devices": devices, "dtype": dtype, "seconds": round(peak.seconds, 1),
             "arrays_gib": round(arrays / 2**30, 2),
             "beyond_mib": round((peak.most[0] - peak.before[0] - arrays) / 2**20),
             "file_pages_mib": round(peak.most[1] / 2**20)}  # fmt: skip
    print(json.dumps(found), flush=True)
    if out:
        with Peak() as peak:
            weights.save(out, loaded)
        print(json.dumps({"what": "save", "devices": devices, "seconds": round(peak.seconds, 1),
                          "beyond_mib": round((peak.most[0] - peak.before[0]) / 2**20)}))  # fmt: skip


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--gb", type=float, default=5.0)
    p.add_argument("--dtype", default="bfloat16", help="of the files: bfloat16 | float32")
    p.add_argument("--cast", default="", help="of the arrays, where it is another")
    p.add_argument("--dir", default="/tmp/jitune-loading", help="where the checkpoint is made")
    p.add_argument("--devices", default="1,8")
    p.add_argument("--save", action="store_true", help="save again too, which takes as much disk")
    p.add_argument("--child", type=int, default=0, help=argparse.SUPPRESS)
    a = p.parse_args()
    directory = Path(a.dir) / f"{a.gb:g}gb-{a.dtype}"
    if a.child:
        child(directory, a.child, a.cast or a.dtype, str(Path(a.dir) / "saved") if a.save else "")
        return
    if not (directory / "config.json").exists():
        make(directory, a.gb, a.dtype, 2 << 30)
    began, size = time.perf_counter(), 0
    for path in sorted(directory.glob("*.safetensors")):
        with open(path, "rb", buffering=0) as file:
            block = bytearray(16 << 20)
            while count := file.readinto(block):
                size += count
    print(json.dumps({"what": "read", "gb": round(size / 1e9, 2), "seconds": round(time.perf_counter() - began, 1)}))
    for devices in a.devices.split(","):
        subprocess.run([sys.executable, __file__, "--child", devices, *sys.argv[1:]], check=True, env=os.environ)


if __name__ == "__main__":
    main()
