"""One rejected row on a page: the prompt, the answer, and what was found in them, marked.

    shown_row({"stage": "pii", "reason": "email", "detail": "1 address", "spans": [["a@b.org", "email"]], ...})

What people and models wrote is cut, escaped, and freed of what cannot be seen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from jitune.evals.pages.shown import as_text, fitting, numbered, short
from jitune.report import page

SHOWN = 900  # bytes of a text on the page
AROUND = 200  # characters before the first mark, where a text is cut
SPANS = 20  # marks of a text
QUOTED = re.compile(r'"([^"\n]{2,300})"')
SIDES = ("chosen", "rejected")


def shown_row(row: Mapping[str, Any]) -> Markup:
    """A line of rejected.jsonl as a figure."""
    label = " \N{MIDDLE DOT} ".join(filter(None, (short(row.get("source"), 120), short(row.get("id"), 60))))
    spans = pairs(row.get("spans") or ()) or quoted(as_text(row.get("detail")))
    why = short(row.get("detail"), 400) or row.get("reason", "")
    record = row.get("record")
    if not isinstance(record, Mapping):
        return page.sample(marked(as_text(row.get("raw")), spans), [("why", why)], label=label)
    prompt, answers = texts(record)
    found = [(name, marked(text, spans)) for name, text in answers] or [("answer", "")]
    everywhere = [prompt, *(text for _, text in answers)]
    where = [s for s in pairs(row.get("spans") or ()) if not any(s[0] in text for text in everywhere)]
    why += "".join(f"\n{short(text, 300)}{f' ({short(of, 100)})' if of else ''}" for text, of in where[:SPANS])
    return page.sample(marked(prompt, spans) or "(no prompt)", [*found, ("why", why)], label=label)


def pairs(spans: Sequence) -> list[tuple[str, str]]:
    """(text, why) of each span."""
    found = [(s, "") if isinstance(s, str) else (*map(as_text, s), "")[:2] for s in spans if s]
    return [(text, why) for text, why in found if text]


def quoted(detail: str) -> list[tuple[str, str]]:
    """What a detail quotes, for filters that say in words what they found: '"Sure! Here is", twice'."""
    found = (text.rstrip(". \N{HORIZONTAL ELLIPSIS}") for text in QUOTED.findall(detail))
    return [(text, "") for text in found if len(text) > 1]


def texts(record: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    """The prompt of a record's row, and its answers by name."""
    messages = [m for m in record.get("messages") or record.get("prompt") or () if isinstance(m, Mapping)]
    if not messages:
        prompt = record.get("prompt") if isinstance(record.get("prompt"), str) else ""
        given = record.get("completion") or record.get("text")
        answers = [("answer" if prompt else "text", given)] if isinstance(given, str) else []
    else:
        last = messages[-1] if messages[-1].get("role") == "assistant" else None
        before = messages[:-1] if last else messages
        only = len(before) == 1
        prompt = "\n\n".join(said(m) if only else f"{m.get('role')}: {said(m)}" for m in before)
        answers = [("answer", said(last))] if last else []
    for side in SIDES:
        value = record.get(side)
        text = value if isinstance(value, str) else "\n\n".join(said(m) for m in value or () if isinstance(m, Mapping))
        answers += [(side, text)] if text else []
    return prompt, answers


def said(message: Mapping[str, Any]) -> str:
    """What a message says: its text, or the tools that it calls."""
    return as_text(message.get("content")) or as_text(message.get("tool_calls"))


def marked(text: str, spans: Sequence[tuple[str, str]]) -> Markup:
    """A text with the spans in it marked; a long one is cut around the first of them."""
    if not text:
        return Markup("")
    whys = {s: why for s, why in sorted(spans[:SPANS], key=lambda pair: -len(pair[0]))}
    pattern = re.compile("|".join(map(re.escape, sorted(whys, key=len, reverse=True)))) if whys else None
    first = pattern.search(text) if pattern else None
    start = max(0, first.start() - AROUND) if first and fitting(text, SHOWN) < len(text) else 0
    end = start + fitting(text[start:], SHOWN)
    shown, parts, at = text[start:end], [], 0
    for match in pattern.finditer(shown) if pattern else ():
        parts += [escape(shown[at : match.start()]), _mark(match[0], whys[match[0]])]
        at = match.end()
    if first and not parts:  # the mark is longer than what is shown
        parts, at = [_mark(shown[first.start() - start :], whys[first[0]])], len(shown)
        parts.insert(0, escape(shown[: first.start() - start]))
    dots = "\N{HORIZONTAL ELLIPSIS}"
    left = len(text) - len(shown)
    more = f"{numbered(left, 'more character')} in rejected.jsonl."
    note = Markup('<p class="note">{}</p>').format(more) if left else ""
    body = Markup("").join([dots if start else "", *parts, escape(shown[at:]), dots if end < len(text) else ""])
    return page.join((Markup('<p class="text">{}</p>').format(body), note))


def _mark(text: str, why: str) -> Markup:
    return Markup('<mark title="{}">{}</mark>').format(why, text) if why else Markup("<mark>{}</mark>").format(text)
