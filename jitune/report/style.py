"""The style sheet of a report: light and dark, down to 360 px wide, and on paper.

Series colours are Okabe and Ito's, which colour-blind readers tell apart, darkened on white and lightened on black
to a contrast of 3:1 or more.
"""

CSS = """
:root {
  color-scheme: light dark;
  --bg: #ffffff; --panel: #f6f7f8; --text: #1c2127; --muted: #5a6470; --line: #dfe3e7; --grid: #e9ecef;
  --good: #00704f; --bad: #b3400a;
  --c1: #0072b2; --c2: #d55e00; --c3: #008a63; --c4: #a8508a; --c5: #9a6a00; --c6: #3a8fc4;
  --mark: #ffe08a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --bg: #14171b; --panel: #1c2026; --text: #e4e7ea; --muted: #9ba5b0; --line: #313841; --grid: #272d34;
    --good: #4cc9a0; --bad: #ff9a5c;
    --c1: #56b4e9; --c2: #ff8a3d; --c3: #2fbf93; --c4: #dd93bf; --c5: #e6b422; --c6: #9fd3f5;
    --mark: #6b5200;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--bg); color: var(--text); -webkit-text-size-adjust: 100%;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 70rem; margin: 0 auto; padding: 2.5rem 1rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; letter-spacing: -.015em; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; line-height: 1.3; letter-spacing: -.005em; margin: 0 0 .25rem; }
section { margin-top: 2.25rem; padding-top: 1.5rem; border-top: 1px solid var(--line); }
section > :last-child { margin-bottom: 0; }
p { margin: .4rem 0 .7rem; max-width: 44rem; overflow-wrap: anywhere; }
.lead { font-size: 1.05rem; color: var(--muted); margin-bottom: 1.5rem; }
.note, footer { color: var(--muted); font-size: .9rem; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .75rem; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.25rem, 1fr)); gap: .75rem; margin: 1rem 0; }
.tiles:has(> :nth-child(6):last-child) { grid-template-columns: repeat(2, minmax(0, 1fr)); } /* none stands alone */
@media (min-width: 36rem) { .tiles:has(> :nth-child(6):last-child) { grid-template-columns: repeat(3, 1fr); } }
@media (min-width: 64rem) { .tiles:has(> :nth-child(6):last-child) { grid-template-columns: repeat(6, 1fr); } }
.tiles > div { background: var(--panel); border-radius: .5rem; padding: .75rem .9rem; min-width: 0; }
.tiles dt { color: var(--muted); font-size: .82rem; }
.tiles dd { margin: 0; overflow-wrap: anywhere; }
.tiles .value { font-size: 1.45rem; line-height: 1.3; font-weight: 600; font-variant-numeric: tabular-nums; }
.tiles small { font-size: .95rem; font-weight: 400; }
td small { font-size: inherit; }
.num small { white-space: nowrap; }
.tiles .note { font-size: .8rem; line-height: 1.35; }
.grid {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr));
  gap: 1.75rem 2rem; margin: 1rem 0;
}
@media (min-width: 44rem) and (max-width: 65.99rem) { /* two columns: of three charts the first, beside the others */
  .grid:has(> figure:nth-child(3):last-child) > figure:first-child { grid-row: span 2; }
}
figure { margin: 0; min-width: 0; }
.chart { max-width: 34rem; }
.chart figcaption { font-weight: 600; font-size: .95rem; }
.chart svg { display: block; width: 100%; height: auto; margin-top: .35rem; overflow: visible; }
.chart text { font-size: 11px; fill: var(--muted); }
.chart .figure, .chart .group { fill: var(--text); }
.chart .group { paint-order: stroke; stroke: var(--bg); stroke-width: 4px; stroke-linejoin: round; }
.chart .rule { stroke: var(--grid); stroke-width: 1; }
.chart .axis { stroke: var(--muted); stroke-width: 1; }
.chart .line { fill: none; stroke-width: 1.75; stroke-linejoin: round; stroke-linecap: round; }
.chart .mark { stroke: var(--muted); stroke-width: 1.5; stroke-dasharray: 2 1.5; fill: none; }
.chart .whisker { stroke: var(--text); stroke-width: 1.25; fill: none; }
.chart .hit { fill-opacity: 0; }
.chart .hit:hover { fill-opacity: 1; }
.legend { list-style: none; margin: .1rem 0 0; padding: 0; display: flex; flex-wrap: wrap; gap: 0 1rem; }
.legend li { font-size: .82rem; color: var(--muted); }
.legend svg { display: inline-block; width: 1.4rem; height: .6rem; margin: 0 .35rem 0 0; vertical-align: baseline; }
.scroll { overflow-x: auto; margin: .75rem 0 1.25rem; max-width: 100%; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); font-size: .85rem; padding-bottom: .35rem; }
th, td { text-align: left; vertical-align: top; font-weight: 400; padding: .35rem 1.25rem .35rem 0;
  border-bottom: 1px solid var(--line); }
thead th { font-weight: 600; vertical-align: bottom; }
th:last-child, td:last-child { padding-right: 0; }
td, tbody th { max-width: 26rem; overflow-wrap: break-word; }
td:not(.right) { min-width: 5.5rem; }
.grid > .scroll { margin: 0; }
abbr { text-decoration: none; cursor: help; }
a { color: var(--c1); } summary small { color: var(--muted); font-size: inherit; font-weight: 400; }
.right { text-align: right; white-space: nowrap; }
.sample { border: 1px solid var(--line); border-radius: .5rem; margin: 1rem 0; overflow: hidden; break-inside: avoid; }
.sample figcaption { padding: .7rem .9rem; background: var(--panel); }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); }
@media (min-width: 48rem) { .wide > .answer:first-child { grid-column: span 2; } }
.answer { padding: .7rem .9rem; border-top: 1px solid var(--line); min-width: 0; }
.label { color: var(--muted); font-size: .82rem; margin: 0 0 .15rem; }
.text { margin: 0; white-space: pre-wrap; unicode-bidi: plaintext; overflow-wrap: anywhere; max-width: none;
  font-size: .95rem; }
.answer .label { display: flex; justify-content: space-between; gap: .75rem; }
.verdict { font-weight: 600; color: var(--muted); }
.verdict.good { color: var(--good); } .verdict.bad { color: var(--bad); }
details { margin: .75rem 0; } summary { cursor: pointer; font-weight: 600; font-size: .95rem; }
mark { background: var(--mark); color: inherit; border-radius: .15rem; padding: 0 .1rem; }
.warning { border-left: 4px solid var(--bad); padding-left: .75rem; }
pre { background: var(--panel); border-radius: .5rem; padding: .75rem .9rem; margin: 0; width: max-content;
  min-width: 100%; font: .85rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
:focus-visible { outline: 2px solid var(--c1); outline-offset: 2px; }
@media (max-width: 30rem) {
  main { padding-top: 1.5rem; } h1 { font-size: 1.45rem; } .tiles .value { font-size: 1.25rem; }
  .scroll table { width: max-content; } th, td { padding-right: 1rem; } td { max-width: 16rem; }
  tbody th { max-width: 9rem; } th:first-child { position: sticky; left: 0; background: var(--bg); }
}
@media print {
  :root { color-scheme: light; }
  body { font-size: 10.5pt; } main { max-width: none; padding: 0; }
  figure, tr, .tiles > div { break-inside: avoid; } h2 { break-after: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
  .tiles > div, pre { border: 1px solid var(--line); }
}
"""
