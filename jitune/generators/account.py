"""What a generator took, in one line for people.

    line({"model": "gpt-x", "calls": 12, "cached": 3, "failed": 1, "cost": 0.0123, "budget": 5.0, ...})
    # "gpt-x: 12 answers, 3 kept from before, 1 failed; 1,200 tokens in, 480 out, 61 a second; cost 0.0123 of 5"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def line(account: Mapping[str, Any]) -> str:
    """The account as one line; what is zero or not known is left out."""
    counts = [f"{account.get('calls', 0):,} answers"]
    counts += [f"{account[name]:,} {words}" for name, words in (
        ("cached", "kept from before"), ("failed", "failed"), ("retries", "retries"),
        ("not_asked", "not asked for the budget")) if account.get(name)]
    text = f"{account.get('model') or account.get('kind', 'generator')}: {', '.join(counts)}"
    if account.get("input_tokens") or account.get("output_tokens"):
        text += f"; {account.get('input_tokens', 0):,} tokens in, {account.get('output_tokens', 0):,} out"
        speed = account.get("tokens_per_second")
        text += f", {speed:,.0f} a second" if speed else ""
        if account.get("uncounted"):
            text += f" (at most: the endpoint did not count {account['uncounted']:,} of them)"
    if account.get("cost") is not None:
        budget = f" of {account['budget']:g}" if account.get("budget") is not None else ""
        text += f"; cost {account['cost'] + account.get('earlier_cost', 0.0):.4g}{budget}"
        text += f" (earlier runs {account['earlier_cost']:.4g})" if account.get("earlier_cost") else ""
    return text
