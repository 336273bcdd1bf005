"""The style sheet of HTML dumps; light and dark follow the reader's system."""

CSS = """
:root { color-scheme: light dark; --back: #fbfbf9; --card: #ffffff; --text: #1f2328; --dim: #667079;
  --line: #dfe2e5; --link: #0b61a4; --name: #7a3e9d; --buffer: #9a5b00; --light: 58%; }
@media (prefers-color-scheme: dark) { :root { --back: #15181c; --card: #1d2126; --text: #e3e6ea; --dim: #98a2ad;
  --line: #343a42; --link: #7cb9f0; --name: #cfa3ea; --buffer: #e0b36a; --light: 52%; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem 1.25rem 4rem; background: var(--back);
  color: var(--text); font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
nav a { margin-right: 1.1rem; color: var(--link); text-decoration: none; }
.facts { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0; padding: 0; list-style: none; }
.facts li { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .45rem .8rem; }
.facts b { display: block; font-size: 1.05rem; font-variant-numeric: tabular-nums; }
.facts span, .dim { color: var(--dim); font-size: .85rem; }
pre, .node { font: 12.5px/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem;
  margin: .4rem 0; overflow-x: auto; }
.graph { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .5rem 1rem;
  overflow-x: auto; }
.node { white-space: pre; padding-left: 3.4em; }
.node:target { background: color-mix(in srgb, var(--link) 22%, transparent); }
.node .n { display: inline-block; width: 3em; margin-left: -3.4em; margin-right: .4em; text-align: right;
  color: var(--dim); }
.node a { color: var(--link); text-decoration: none; }
.node a:hover { text-decoration: underline; }
.op { font-weight: 600; }
.name { color: var(--name); }
.buffer { color: var(--buffer); }
.place { color: var(--dim); }
details { margin: .1rem 0 .1rem; }
details > .in { border-left: 2px solid var(--line); margin-left: .35rem; padding-left: .8rem; }
summary { cursor: pointer; padding: .1rem 0; }
summary .name { font-weight: 600; }
details.body { margin-left: 2.6rem; }
details.body > summary { font-size: .85rem; line-height: 1.3; }
svg { display: block; width: 100%; height: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; }
svg text { fill: var(--dim); font: 11px system-ui, Helvetica, Arial, sans-serif; }
svg .block { stroke: var(--card); stroke-width: .6; }
svg .label { fill: #10141a; pointer-events: none; }
svg .grid { stroke: var(--line); }
svg .peak { stroke: #d1433f; stroke-dasharray: 4 3; }
"""
