"""jitune export: the weights of a run in another layout."""

from __future__ import annotations


def add(commands) -> None:
    """jitune export"""
    p = commands.add_parser("export", help="write a run's weights in another layout")
    p.add_argument("--run", dest="directory", required=True, metavar="DIR")
    p.add_argument("--to", required=True, choices=("peft", "merged", "hf", "vllm"),
                   help="the adapter, the whole model (hf: the same), or what vLLM serves")  # fmt: skip
    p.add_argument("--out", required=True, metavar="DIR")
    p.add_argument("--step", default="last", help="last | best | a step that has a checkpoint")
    p.add_argument("--dtype", default="float32", help="of whole models: float32 | bfloat16")
    p.set_defaults(run=run)


def run(a) -> None:
    """Writes a run's weights."""
    from jitune.export import export

    for path in export(a.directory, a.out, to=a.to, step=a.step, dtype=a.dtype):
        print(f"saved {path}")
    if a.to == "vllm":
        print(hint(a.out))


def hint(out: str) -> str:
    """How vLLM is started with what was written."""
    import json
    from pathlib import Path

    if not (Path(out) / "adapter").exists():
        return f"all of it is in the base: vllm serve {out}/base"
    config = json.loads((Path(out) / "adapter" / "adapter_config.json").read_text())
    return (f"vllm serve {config['base_model_name_or_path']} --enable-lora --max-lora-rank {config['r']} "
            f"--lora-modules tuned={out}/adapter")  # fmt: skip
