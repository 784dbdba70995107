"""The page on which people compare answers: items in, one HTML document out that needs nothing else and no network.

    html = make("Which answer is better?", digest, [{"question": "...", "first": "...", "second": "..."}])

Texts of models are data, never markup: they stand in a block of JSON and become text nodes. The page's policy lets run
only the one script whose hash it names. Votes are kept in the browser (localStorage) and saved as a file.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence

from markupsafe import Markup

from jitune.report.style import CSS

STYLE = CSS + """
[hidden] { display: none !important; }
body { padding-bottom: 9rem; }
main { padding-top: 1.25rem; }
.bar { display: flex; flex-wrap: wrap; gap: .5rem .75rem; align-items: end; margin: .75rem 0; }
.bar label { flex: 1 1 12rem; max-width: 20rem; }
progress { width: 100%; height: .5rem; accent-color: var(--c1); }
input { font: inherit; width: 100%; padding: .5rem .6rem; border: 1px solid var(--line); border-radius: .4rem;
  background: var(--bg); color: var(--text); }
button { font: inherit; min-height: 2.75rem; padding: .4rem .9rem; border: 1px solid var(--line); border-radius: .5rem;
  background: var(--panel); color: var(--text); cursor: pointer; }
button[aria-pressed="true"] { border-color: var(--c1); box-shadow: inset 0 0 0 2px var(--c1); font-weight: 600; }
button:disabled { opacity: .45; cursor: default; }
.vote { position: fixed; left: 0; right: 0; bottom: 0; background: var(--bg); border-top: 1px solid var(--line);
  padding: .6rem 1rem calc(.6rem + env(safe-area-inset-bottom)); }
.vote > div { max-width: 68rem; margin: 0 auto; display: grid; grid-template-columns: repeat(3, 1fr); gap: .5rem; }
kbd { color: var(--muted); font: inherit; font-size: .8rem; }
@media (hover: none) { kbd { display: none; } }
@media (min-width: 60rem) { .answers { grid-template-columns: 1fr 1fr; } .answer + .answer {
  border-left: 1px solid var(--line); } }
"""

SCRIPT = """
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const place = "jitune-votes-" + data.page;
let state = {annotator: "", at: 0, votes: {}}, keeps = true;
try {
  const kept = JSON.parse(localStorage.getItem(place));
  if (kept && typeof kept.votes === "object" && kept.votes) state = Object.assign(state, kept);
} catch (error) { keeps = false; }

function keep() {
  try { localStorage.setItem(place, JSON.stringify(state)); } catch (error) { keeps = false; }
  $("unkept").hidden = keeps;
}
function done() { return Object.keys(state.votes).length; }
function show() {
  const n = data.items.length;
  state.at = Math.min(Math.max(0, state.at | 0), n - 1);
  const item = data.items[state.at];
  $("question").textContent = item.question;
  $("first").textContent = item.first;
  $("second").textContent = item.second;
  $("reference").textContent = item.reference || "";
  $("with-reference").hidden = !item.reference;
  $("count").textContent = "Question " + (state.at + 1) + " of " + n;
  $("voted").textContent = done() + " of " + n + " answered";
  $("progress").value = done();
  document.querySelectorAll("[data-vote]").forEach(button =>
    button.setAttribute("aria-pressed", String(state.votes[state.at] === button.dataset.vote)));
  $("back").disabled = state.at === 0;
  $("next").disabled = state.at === n - 1;
  $("finished").hidden = done() < n;
}
function go(step) { state.at += step; keep(); show(); window.scrollTo(0, 0); }
function vote(what) {
  state.votes[state.at] = what;
  if (state.at < data.items.length - 1) go(1); else { keep(); show(); }
}
function save() {
  state.annotator = $("name").value.trim();
  keep();
  $("unnamed").hidden = Boolean(state.annotator);
  if (!state.annotator) { $("name").focus(); return; }
  const file = {format: 1, page: data.page, annotator: state.annotator, votes: state.votes};
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(file, null, 1)], {type: "application/json"}));
  link.download = "votes-" + (state.annotator.replace(/[^\\p{L}\\p{N}_-]+/gu, "_")) + ".json";
  document.body.append(link); link.click(); link.remove();
}
document.querySelectorAll("[data-vote]").forEach(b => b.addEventListener("click", () => vote(b.dataset.vote)));
$("back").addEventListener("click", () => go(-1));
$("next").addEventListener("click", () => go(1));
$("save").addEventListener("click", save);
$("name").value = state.annotator;
$("name").addEventListener("input", () => { state.annotator = $("name").value.trim(); keep(); });
document.addEventListener("keydown", event => {
  if (event.target === $("name") || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const meaning = {"1": "first", "2": "second", "0": "tie", "t": "tie"}[event.key.toLowerCase()];
  if (meaning) vote(meaning);
  else if (event.key === "ArrowLeft" && state.at > 0) go(-1);
  else if (event.key === "ArrowRight" && state.at < data.items.length - 1) go(1);
  else return;
  event.preventDefault();
});
keep();
show();
"""

DOCUMENT = Markup("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
script-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{guide}</p>
<div class="bar">
<label>Your name <input id="name" autocomplete="name" maxlength="80"></label>
<button id="save" type="button">Save votes as a file</button>
<button id="back" type="button">Back</button>
<button id="next" type="button">Next</button>
</div>
<p id="unnamed" class="verdict bad" role="alert" hidden>Please give your name first.</p>
<p id="unkept" class="verdict bad" role="alert" hidden>This browser keeps nothing here: do not close the page before \
you have saved your votes as a file.</p>
<p id="finished" class="verdict good" role="status" hidden>That was the last question. Save your votes as a file and \
send it back.</p>
<progress id="progress" max="{count}" value="0" aria-label="Questions answered"></progress>
<p class="note"><span id="count" aria-live="polite"></span>, <span id="voted"></span></p>
<figure class="sample">
<figcaption><p class="label">Question</p><p class="text" id="question"></p></figcaption>
<div id="with-reference" class="answer" hidden><p class="label">A reference</p><p class="text" id="reference"></p></div>
<div class="answers">
<div class="answer"><p class="label">Answer 1</p><p class="text" id="first"></p></div>
<div class="answer"><p class="label">Answer 2</p><p class="text" id="second"></p></div>
</div>
</figure>
</main>
<div class="vote" role="group" aria-label="Your vote"><div>
<button type="button" data-vote="first">Answer 1 <kbd>1</kbd></button>
<button type="button" data-vote="tie">Neither <kbd>0</kbd></button>
<button type="button" data-vote="second">Answer 2 <kbd>2</kbd></button>
</div></div>
<noscript><p>This page needs JavaScript.</p></noscript>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
""")
GUIDE = (
    "Which answer would serve the person who asked better? Answer 1, answer 2, or neither. Two models wrote them, and "
    "their order was drawn by lot for every question. Your votes are kept in this browser until you save them."
)


def make(title: str, digest: str, items: Sequence[dict], *, guide: str = GUIDE) -> str:
    """The document.

    items: dicts of `question`, `first`, `second`, and `reference` where there is one. digest: names the page in votes.
    """
    text = json.dumps({"page": digest, "items": list(items)}, ensure_ascii=False)
    # Inside a script element only "<" can end it or open a comment; JSON takes it as an escape too.
    data = Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))
    mark = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return str(DOCUMENT.format(title=title, style=Markup(STYLE), guide=guide, count=len(items), data=data,
                               script=Markup(SCRIPT), hash=Markup(mark)))
