"""jitune init: a fresh model and a tokenizer of its own."""

from __future__ import annotations


def add(commands) -> None:
    """jitune init"""
    from jitune.models.families import FAMILIES

    p = commands.add_parser("init", help="make a fresh, randomly initialized model with a tokenizer")
    p.add_argument("--family", required=True, metavar="NAME", help=", ".join(FAMILIES))
    p.add_argument("--preset", default="tiny", help="a size of the family: tiny, small, ...")
    p.add_argument("--tokenizer-from", required=True, metavar="FILE",
                   help="data to train a byte-level BPE tokenizer on, or a directory that has a tokenizer")
    p.add_argument("--vocab-size", type=int, default=4096, help="of the new tokenizer (default 4096)")
    p.add_argument("--dtype", default="float32", help="of the weights: float32 | bfloat16")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", required=True, metavar="DIR")
    p.set_defaults(run=run)


def run(a) -> None:
    """Makes a model directory."""
    from jitune.hub import fresh

    made = fresh.create(a.out, family=a.family, preset=a.preset, tokenizer_from=a.tokenizer_from,
                        vocab_size=a.vocab_size, seed=a.seed, dtype=a.dtype)
    print(f"{fresh.describe(made)}\nsaved {a.out}")
