"""What a distillation came to, as funnel.json has it; the card and the page are made of this and of the records.

    funnel(tree, config, header, accounts, made, ended)["reasons"]       # {"too_similar": 31, "cut": 2}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jitune import __version__
from jitune.construct.curate.funnel import shown
from jitune.construct.curate.tally import of_input
from jitune.construct.distill import config as options
from jitune.construct.distill import table

VERSION = 1


def funnel(tree: Mapping[str, Any], config: Any, header: Mapping[str, Any], accounts: Mapping[str, Mapping[str, Any]],
           made: Mapping[str, str], ended: str) -> dict[str, Any]:
    """The whole of funnel.json.

    Args:
      tree: of the `Tally`.
      header: of the run, see `config.header`.
      accounts: by the role of a generator, see `generators.call.Generator`.
      made: name -> digest of files and code that the method is made of.
      ended: why the run stopped before its end, or "".
    """
    method = table.section(config.method)
    reasons = tree["stages"][method]["reasons"]
    names, defaults = options.inputs(config), table.load(config.method).defaults()
    inputs = [{"input": name, "sha256": digest, **tree["inputs"].get(str(i), of_input())}
              for i, (name, digest) in enumerate(zip(names, header["digest of the input"], strict=True))]
    section = options.options(config).to_dict()
    return {
        "version": VERSION, "jitune": __version__, "method": config.method, "ended": ended,
        "name": config.name or f"{method} by {base(header['teacher'].get('model'))}",
        "records": {"read": tree["read"], "malformed": tree["malformed"], "left_out": tree["left_out"],
                    "rejected": sum(reasons.values()), "kept": tree["kept"]},
        "unread": dict(sorted(tree["unread"].items())),
        "reasons": dict(sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))),
        "options": section, "chosen": [name for name, value in section.items() if defaults.get(name, ...) != value],
        "files": dict(made), "inputs": inputs,
        "generators": {name: {"identity": header[name], "account": dict(account)}
                       for name, account in accounts.items()},
        "before": shown(tree["before"]), "after": shown(tree["after"]), "seconds": round(tree["seconds"], 3),
        "config": config.to_dict(),
    }  # fmt: skip


def base(name: Any) -> str:
    """The last part of a model's name: "models/large/" is "large"."""
    return str(name or "a model").rstrip("/").rpartition("/")[2] or "a model"


def spent(account: Mapping[str, Any]) -> dict[str, Any]:
    """What a generator took, in all runs of the folder: cost (None where no price is known) and tokens."""
    cost, earlier = account.get("cost"), account.get("earlier_cost") or 0.0
    tokens = (account.get("input_tokens") or 0) + (account.get("output_tokens") or 0)
    return {"cost": None if cost is None else cost + earlier, "tokens": tokens + (account.get("earlier_tokens") or 0)}
