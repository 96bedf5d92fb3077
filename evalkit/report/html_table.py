"""Tables as HTML: a fragment for another page, or a page of its own. Every foreign text is escaped by the template."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import DictLoader, Environment, StrictUndefined

from evalkit.report.board import CLOSE, Leaderboard, header, lifted
from evalkit.report.text import inert

if TYPE_CHECKING:
    from evalkit.report.board import Cell

STYLE = """
.evalkit { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; --paper: var(--page, Canvas); }
.evalkit .scroll { overflow: auto; max-height: 90vh; margin: 1.5em 0; background:
  linear-gradient(to left, var(--paper) 1.5em, transparent) right / 4em 100% no-repeat local,
  linear-gradient(to left, GrayText, transparent) right / 1.2em 100% no-repeat scroll; }
.evalkit table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.evalkit caption { text-align: left; font-weight: 600; padding: .3em 0; }
.evalkit th, .evalkit td { padding: .25em .7em; text-align: right; white-space: nowrap; }
.evalkit tbody th, .evalkit .label { text-align: left; font-weight: normal; overflow-wrap: break-word; }
.evalkit thead { position: sticky; top: 0; z-index: 2; background: var(--paper); }
.evalkit th:first-child, .evalkit td:first-child { position: sticky; left: 0; z-index: 1; background: var(--paper);
  max-width: min(22em, 40vw); white-space: normal; }
.evalkit caption bdi { position: sticky; left: 0; }
.evalkit thead tr:last-child th { border-bottom: 1px solid; }
.evalkit th.group { text-align: center; border-bottom: 1px solid GrayText; }
.evalkit .best { font-weight: 700; }
.evalkit .second { text-decoration: underline; }
.evalkit .about { color: GrayText; font-size: .85em; }
.evalkit .notes { overflow-wrap: anywhere; max-width: 80em; }
"""
_TABLES = """{% macro cell(one) %}{% if one %}\
<span{% if one.rank %} class="{{ one.rank }}"{% endif %}>{{ one.value }}</span>\
{% if marks(one) %}<sup>{{ marks(one) }}</sup>{% endif %}\
{% if one.interval or one.n %} <span class="about">{{ one.interval }} {{ one.n }}</span>{% endif %}\
{% endif %}{% endmacro %}
<div class="evalkit">
{% for table in board.tables | map("lifted") %}
<div class="scroll" tabindex="0" role="region" aria-label="{{ table.title | inert }}">
<table>
<caption><bdi>{{ table.title | inert }}</bdi></caption>
<thead>
{% set head = header(table.headings) %}{% for level in head.levels %}
<tr>{% for label in table.labels %}<td></td>{% endfor %}
{% for span in level %}{% if span.name %}<th class="group" scope="colgroup" colspan="{{ span.headings | length }}">\
<bdi>{{ span.name | inert }}</bdi>{% if span.mark %}<sup>{{ span.mark }}</sup>{% endif %}</th>
{% else %}<td colspan="{{ span.headings | length }}"></td>
{% endif %}{% endfor %}</tr>
{% endfor %}
<tr>{% for label in table.labels %}<th class="label" scope="col">{{ label | inert }}</th>{% endfor %}
{% for heading in head.headings %}<th scope="col"><bdi>{{ heading.metric | inert }}</bdi>\
{% if not heading.higher_is_better %} <span title="less is better">↓</span>{% endif %}\
{% if heading.mark %}<sup>{{ heading.mark }}</sup>{% endif %}\
<br><span class="about">{{ heading.unit | inert }}\
{% if heading.n is not none %}, n={{ heading.n }}{% endif %}</span></th>
{% endfor %}</tr>
</thead>
<tbody>
{% for row in table.rows %}
<tr{% if row.runs %} title="run: {{ row.runs | join(', ') | inert }}" data-run="{{ row.runs | join(' ') | inert }}"\
{% endif %}>{% for label in row.labels %}\
{% if loop.first %}<th scope="row">{% else %}<td class="label">{% endif %}<bdi>{{ label | inert }}</bdi>\
{% if loop.last and row.mark %}<sup>{{ row.mark }}</sup>{% endif %}\
{% if loop.first %}</th>{% else %}</td>{% endif %}{% endfor %}
{% for one in row.numbers %}<td>{{ cell(one) }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endfor %}
{% if board.footnotes %}
<ul class="notes">{% for note in board.footnotes %}<li><bdi>{{ note | inert }}</bdi></li>
{% endfor %}</ul>
{% endif %}
{% if board.sources or board.protocols %}
<details class="notes"><summary>Weights, runs and whole protocols</summary>
<ul>{% for note in board.sources + board.protocols %}<li><bdi>{{ note | inert }}</bdi></li>
{% endfor %}</ul></details>
{% endif %}
</div>
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Leaderboard</title>
<style>:root { color-scheme: light dark; } body { margin: 1.5em; }{{ style }}</style>
</head>
<body>
{% include "tables" %}
</body>
</html>
"""


def html_table(board: Leaderboard) -> str:
    """A fragment of a page: a table each, then the notes; style: `STYLE`, all of it below the class `evalkit`."""
    return _environment().get_template("tables").render(board=board)


def html_page(board: Leaderboard) -> str:
    """A page of its own, which needs no network and runs no script."""
    return _environment().get_template("page").render(board=board, style=STYLE)


def _environment() -> Environment:
    made = Environment(
        loader=DictLoader({"tables": _TABLES, "page": _PAGE}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["inert"] = inert
    made.filters["lifted"] = lifted
    made.globals["header"] = header
    made.globals["marks"] = _marks
    return made


def _marks(cell: Cell) -> str:
    return " ".join([*([CLOSE] if cell.close else []), *cell.marks])
