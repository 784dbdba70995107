"""The page on which people annotate: one HTML document, made when the server starts.

    make("data.jsonl", guidelines=Markup("<p>...</p>"), names=("ann", "bo")).html

Its texts come from the server as JSON and become text nodes, never markup. Its policy lets run the one script and the
one style sheet whose hashes it names, and lets it speak to its own server only.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

from markupsafe import Markup

from jitune.report.style import CSS

SCRIPTS = ("saving.js", "asking.js", "page.js")  # one script, in this order


class Page(NamedTuple):
    """html: the document. policy: its content security policy, for a header."""

    html: str
    policy: str


def make(title: str, *, guidelines: str = "", names: Sequence[str] = ()) -> Page:
    """The document.

    Args:
      guidelines: a Markup, or text.
      names: who can annotate; anybody where there are none.
    """
    here = files("jitune.construct.annotate")
    parts = [here.joinpath(name).read_text("utf-8") for name in SCRIPTS]
    script = "\n".join(('"use strict";', "(() => {", *parts, "})();"))
    style = CSS + here.joinpath("page.css").read_text("utf-8")
    policy = (f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; connect-src 'self'; "
              "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
    # Inside a script element only "<" can end it or open a comment; JSON takes it as an escape too.
    config = json.dumps({"title": title, "names": list(names)}).replace("<", "\\u003c")
    html = DOCUMENT.format(title=title, style=Markup(style), script=Markup(script), config=Markup(config),
                           guidelines=guidelines, no_guidelines=Markup("" if guidelines else " hidden"))
    return Page(str(html), policy)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


DOCUMENT = Markup("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header class="top" id="top" hidden>
<div class="line">
<h1 dir="auto">{title}</h1>
<p id="who" class="quiet" dir="auto"></p>
<p id="saved" class="saved" role="status"></p>
</div>
<div class="line">
<div class="track" id="track" role="progressbar" aria-label="Items done" aria-valuemin="0"><i class="labelled"></i>\
<i class="empty"></i><i class="skipped"></i></div>
<p id="count" class="quiet" aria-live="polite"></p>
</div>
<p id="banner" class="banner" role="alert" hidden></p>
</header>
<form id="login" class="login" hidden>
<h1 dir="auto">{title}</h1>
<p>Who is annotating? Each annotator sees the own items and answers only.</p>
<div id="names" class="points"></div>
<label id="anybody" hidden>Your name <input id="name" autocomplete="name" maxlength="80" dir="auto"></label>
<button id="enter" class="main" type="submit" hidden>Begin</button>
<p id="refused" class="verdict bad" role="alert"></p>
</form>
<main id="work" class="work" hidden>
<section id="item" class="item" aria-label="What to annotate"></section>
<aside class="panel" aria-label="Questions">
<details id="guidelines" class="guidelines"{no_guidelines}><summary>Guidelines <kbd>h</kbd></summary>
<div dir="auto">{guidelines}</div></details>
<div id="asked"></div>
<p id="missing" class="verdict bad" role="alert"></p>
</aside>
</main>
<nav id="bar" class="bar" aria-label="Go on" hidden><div>
<button type="button" id="back"><b>\N{LEFTWARDS ARROW} Back</b> <kbd>p</kbd></button>
<button type="button" id="forward"><b>Next \N{RIGHTWARDS ARROW}</b> <kbd>n</kbd></button>
<button type="button" id="undo"><b>Undo</b> <kbd>u</kbd></button>
<button type="button" id="open" class="wide"><b>Next open</b> <kbd>g</kbd></button>
<button type="button" id="help" class="wide"><b>Keys</b> <kbd>?</kbd></button>
<button type="button" id="skip"><b>Skip</b> <kbd>s</kbd></button>
<button type="button" id="save" class="main"><b>Save</b> <kbd>Enter</kbd></button>
</div></nav>
<dialog id="keys" aria-label="Keys"><h2>Keys</h2><dl id="keylist"></dl>
<button type="button" id="close">Close <kbd>Esc</kbd></button></dialog>
<noscript><p>This page needs JavaScript.</p></noscript>
<script type="application/json" id="config">{config}</script>
<script>{script}</script>
</body>
</html>
""")
