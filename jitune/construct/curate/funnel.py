"""The counts of a run as funnel.json has them: how many records came to each stage, and what became of them.

    funnel(tally.tree, config, stages, digests, made)["stages"][1]
    # {"name": "length", "kind": "filter", "in": 98, "out": 90, "reasons": {"too_short": 8}, "cpu_seconds": 0.02, ...}

The card and the report are made of this file and of the rejected records alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jitune import __version__
from jitune.construct.curate import config as options
from jitune.construct.curate import table
from jitune.construct.curate.stage import Filter, Sieve, Stage
from jitune.construct.curate.table import Spec
from jitune.construct.curate.tally import octave_name, of_input

VERSION = 1


def funnel(tree: Mapping[str, Any], config: Any, stages: Sequence[tuple[Spec, Stage]], digests: Sequence[str],
           made: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The whole of funnel.json.

    Args:
      tree: of the `Tally`.
      stages: in order, with the one of ids in front.
      digests: of the inputs, in order.
      made: by the names of stages, what each is made of besides its options, see `identity.made_of`.
    """
    rows, left = [], tree["read"] - tree["malformed"] - tree["left_out"]
    came = left
    for spec, stage in stages:
        rows.append(stage_row(tree, spec, stage, left) | {"files": dict(made[spec.name])})
        left = rows[-1]["out"]
    names = options.inputs(config)
    inputs = [{"input": name, "sha256": digest, **tree["inputs"].get(str(i), of_input())}
              for i, (name, digest) in enumerate(zip(names, digests, strict=True))]
    return {
        "version": VERSION, "jitune": __version__, "name": config.name,
        "records": {"read": tree["read"], "malformed": tree["malformed"], "left_out": tree["left_out"],
                    "rejected": came - tree["kept"], "kept": tree["kept"]},
        "unread": dict(sorted(tree["unread"].items())),
        "notes": {k: v for k, v in sorted(tree["notes"].items()) if k not in tree["unread"]},
        "inputs": inputs, "stages": rows,
        "before": shown(tree["before"]), "after": shown(tree["after"]),
        "seconds": round(tree["seconds"], 3), "cpu_seconds": round(tree["cpu"], 3),
        "config": config.to_dict(),
    }  # fmt: skip


def stage_row(tree: Mapping[str, Any], spec: Spec, stage: Stage, came: int) -> dict[str, Any]:
    """One stage. chosen: the options that are not as they are by default. CPU seconds are of the stage alone; its
    records per second are by them, on one core.
    """
    counts = tree["stages"][spec.name]
    rejected, cpu = sum(counts["reasons"].values()), counts["cpu"]
    defaults = table.options(spec.target)
    kind = "filter" if isinstance(stage, Filter) else "sieve" if isinstance(stage, Sieve) else "choice"
    return {
        "name": spec.name, "kind": kind, "target": spec.target, "options": {
            k: v for k, v in spec.options.items() if k != "inputs"},
        "chosen": [k for k, v in spec.options.items() if k != "inputs" and defaults.get(k, ...) != v],
        "in": came, "out": came - rejected, "rejected": rejected, "changed": counts["changed"],
        "reasons": dict(sorted(counts["reasons"].items(), key=lambda pair: (-pair[1], pair[0]))),
        "cpu_seconds": round(cpu, 3), "records_per_second": round(came / cpu) if cpu > 0.001 else None,
        "told": tree["told"].get(spec.name, {}),
    }  # fmt: skip


def shown(side: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Counts before or after, lengths by the names of their bins, short ones first; the rest by size."""
    return {name: {octave_name(int(bin)): counts[bin] for bin in sorted(counts, key=int)}
            if name in ("prompt", "answer") else dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
            for name, counts in side.items()}
