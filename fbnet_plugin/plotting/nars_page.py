"""A search's report: one page that needs nothing else, neither scripts nor a network."""

from __future__ import annotations

import os
from html import escape
from typing import Iterable, List, Tuple

from ..atomic_file import atomic_write
from ..nars.run_data import RunData
from .nars_catalogue import Entry, Shown, report_figures
from .nars_status import progress_rows, summary_lines
from .nars_style import figure_markup, figure_style
from .nars_tables import Table, best_table, failures_table, others_table, winners_table

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --paper: #ffffff; --card: #f6f8fa; --line: #d0d7de;
  --accent: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9da7b3; --paper: #0d1117; --card: #161b22; --line: #3d444d; --accent: #56b4e9; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 1rem; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3, .card h2 { font-size: 1rem; margin: 0 0 .5rem; padding: 0; border: 0; }
p { margin: .5rem 0; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .9rem; min-width: 0; }
figure { margin: 0; }
.picture { background: #ffffff; border-radius: 6px; padding: .4rem; max-width: 36rem; margin: 0 auto; }
.picture svg, .picture img { display: block; width: 100%; height: auto; }
.picture svg * { stroke-linejoin: round; stroke-linecap: butt; }
figcaption { margin-top: .5rem; }
.box { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; max-width: 100%; }
.box:focus-visible { outline: 2px solid var(--accent); }
table { border-collapse: collapse; font-size: .875rem; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
thead th { background: var(--card); font-weight: 600; vertical-align: bottom; }
tbody tr:last-child > * { border-bottom: 0; }
tbody th { font-weight: 600; }
tr > th:first-child { position: sticky; left: 0; }
tbody th { background: var(--paper); }
.word { text-align: left; }
.long, .longer { text-align: left; white-space: normal; min-width: 16rem; }
.longer { min-width: 36rem; }
@media (max-width: 30rem) {
  main { padding: .75rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; }
  .card { padding: .6rem; }
  .picture { padding: 0; }
  table { font-size: .8125rem; }
  th, td { padding: .35rem .45rem; }
  tr > th:first-child { min-width: 6.5rem; max-width: 10rem; white-space: normal; overflow-wrap: break-word; }
}
"""
LONG = {"reason": "long", "architecture": "longer"}  # columns whose text wraps


def write_report(run: RunData, path: str | os.PathLike[str]) -> None:
    """Writes the report of a search, as far as it has come.

    The page shows everything that ``run`` holds: a summary, winners, the figures of the paper for this search, the
    best candidates, every failure with its reason, and notes. Equal data gives equal bytes.

    Args:
        run: what the search has to show.
        path: of the .html file; its folder is made if need be, and the file appears complete or not at all.
    """
    text = page(run)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "replace"))


def page(run: RunData) -> str:
    """The report's HTML."""
    parts = [f"<h1>{escape(run.title)}</h1>", _summary(run)]
    parts += [_table(table) for table in (winners_table(run),) if table.rows]
    parts += [_figures(run)]
    parts += [_table(table) for table in (best_table(run), others_table(run), failures_table(run)) if table.rows]
    parts += [_notes(run.notes)] if run.notes else []
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(run.title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _summary(run: RunData) -> str:
    state = f'<div class="card"><h2>State</h2>{_list(summary_lines(run))}</div>'
    facts = f'<div class="card"><h2>Search</h2>{_list(run.facts)}</div>' if run.facts else ""
    header, rows = progress_rows(run)
    progress = _table(Table("Progress", "", header, rows, 1)) if rows else ""
    return f'<div class="cards">\n{state}\n{facts}\n</div>\n{progress}'


def _list(lines: Iterable[Tuple[str, str]]) -> str:
    items = "\n".join(f"<dt>{escape(str(name))}</dt><dd>{escape(str(text))}</dd>" for name, text in lines)
    return f"<dl>\n{items}\n</dl>"


def _table(table: Table) -> str:
    """A section with a table, which scrolls in its own box where it is wider than the page."""
    kinds = [_kind(name, place < table.left) for place, name in enumerate(table.header)]
    head = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind in zip(table.header, kinds))
    rows = "\n".join(_row(row, kinds) for row in table.rows)
    note = f'<p class="soft">{escape(table.note)}</p>\n' if table.note else ""
    return (
        f"<section>\n<h2>{escape(table.title)}</h2>\n{note}"
        f'<div class="box" role="region" tabindex="0" aria-label="{escape(table.title)}">\n'
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n</section>"
    )


def _kind(name: str, words: bool) -> str:
    if name in LONG:
        return f' class="{LONG[name]}"'
    return ' class="word"' if words else ""


def _row(row: List[str], kinds: List[str]) -> str:
    cells = [f'<th scope="row"{kinds[0]}>{escape(row[0])}</th>']
    cells += [f"<td{kind}>{escape(text)}</td>" for text, kind in zip(row[1:], kinds[1:])]
    return f"<tr>{''.join(cells)}</tr>"


def _figures(run: RunData) -> str:
    with figure_style():
        shown, missing = report_figures(run)
        cards = "\n".join(_figure(f"f{place}", entry, figure) for place, (entry, figure) in enumerate(shown))
    parts = ["<section>\n<h2>Figures</h2>"]
    if shown:
        parts.append('<p class="soft">Numbers of figures are those of the FBNetV3 paper.</p>')
        parts.append(f'<div class="cards">\n{cards}\n</div>')
    if missing:
        items = "\n".join(f"<li>{escape(entry.title)}: {escape(entry.stage)}</li>" for entry in missing)
        parts.append(f'<p class="soft">Not there yet:</p>\n<ul class="soft">\n{items}\n</ul>')
    return "\n".join([*parts, "</section>"])


def _figure(prefix: str, entry: Entry, shown: Shown) -> str:
    picture = figure_markup(shown.figure, prefix, escape(shown.words))
    return (
        f'<figure class="card">\n<h3>{escape(entry.title)}</h3>\n<div class="picture">\n{picture}\n</div>\n'
        f"<figcaption>{escape(shown.caption)}</figcaption>\n</figure>"
    )


def _notes(notes: List[str]) -> str:
    items = "\n".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<section>\n<h2>Notes</h2>\n<ul>\n{items}\n</ul>\n</section>"
