"""The looks of the card: one style sheet, light and dark, nothing from elsewhere."""

STYLE = """
:root { color-scheme: light dark;
  --page: #f6f7f9; --sheet: #ffffff; --ink: #1c2733; --soft: #5d6b7a; --line: #e3e7ec;
  --faint: #f0f3f6; --blue: #2563a8; --blue-soft: #d6e4f5; --orange: #c9661f; --red: #b3372f;
  --green: #2d7d4f; --low: #3b6fc4; --high: #d1483f; --middle: #a9a4b4; }
@media (prefers-color-scheme: dark) { :root {
  --page: #11161c; --sheet: #19202a; --ink: #e4e9ef; --soft: #97a4b3; --line: #2c3643;
  --faint: #202935; --blue: #6ea8ea; --blue-soft: #243d5c; --orange: #f0995a; --red: #ef7d74;
  --green: #6cc493; --low: #6a9cf0; --high: #f07b72; --middle: #8d889a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  font-variant-numeric: tabular-nums; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 72px; }
header { margin-bottom: 26px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -.01em; }
h2 { font-size: 19px; margin: 0 0 4px; letter-spacing: -.005em; }
h3 { font-size: 14px; margin: 22px 0 6px; color: var(--soft); font-weight: 600; }
p { margin: 0 0 12px; max-width: 92ch; }
.soft { color: var(--soft); } .small { font-size: 13px; }
section { background: var(--sheet); border: 1px solid var(--line); border-radius: 12px;
  padding: 24px 28px 26px; margin-top: 18px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.tile { background: var(--sheet); border: 1px solid var(--line); border-radius: 12px;
  padding: 14px 16px 12px; }
.tile b { display: block; font-size: 25px; line-height: 1.25; font-weight: 650; }
.tile span { color: var(--soft); font-size: 12.5px; display: block; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(400px, 1fr));
  gap: 26px 40px; align-items: start; }
.columns > div { max-width: 520px; } .columns h3:first-child { margin-top: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 12.5px;
  padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
td { padding: 5px 12px 5px 0; border-bottom: 1px solid var(--faint); vertical-align: middle; }
tr:last-child td { border-bottom: 0; }
td.n, th.n { text-align: right; white-space: nowrap; }
tr.group td { font-weight: 600; padding-top: 14px; border-bottom: 1px solid var(--line); }
tr.few td { color: var(--soft); }
.tag { display: inline-block; font-size: 11.5px; padding: 0 7px; border-radius: 9px;
  background: var(--faint); color: var(--soft); margin-left: 6px; font-weight: 500; }
.worse { color: var(--red); } .better { color: var(--green); }
code { font: 12.5px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
pre { font: 12px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; margin: 8px 0 0;
  background: var(--faint); border-radius: 8px; padding: 14px 16px; overflow-x: auto; }
ul { margin: 6px 0 0; padding-left: 20px; } li { margin: 5px 0; max-width: 96ch; }
details { margin-top: 14px; } summary { cursor: pointer; color: var(--blue); }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--soft); font-size: 11.5px; font-family: inherit; }
svg text.ink { fill: var(--ink); }
.axis { stroke: var(--line); } .zero { stroke: var(--soft); stroke-dasharray: 4 4; }
.curve { fill: none; stroke: var(--blue); stroke-width: 2; stroke-linejoin: round; }
.area { fill: var(--blue); opacity: .08; } .whisker { stroke: var(--blue); stroke-width: 1.5; }
.dot { fill: var(--blue); } .point { fill: var(--orange); stroke: var(--sheet); stroke-width: 2; }
.best { fill: none; stroke: var(--orange); stroke-width: 1.8; }
.hollow { fill: none; stroke: var(--soft); } .bar { fill: var(--blue); }
.up { fill: var(--high); } .down { fill: var(--low); }
.cell { fill: var(--blue); } .few .whisker, .few .dot { opacity: .45; }
footer { color: var(--soft); font-size: 12.5px; margin-top: 26px; }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""
