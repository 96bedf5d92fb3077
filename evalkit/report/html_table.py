"""Tables as HTML: a fragment for another page, or a page of its own. Every foreign text is escaped by the template."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import DictLoader, Environment, StrictUndefined

from evalkit.report.board import CLOSE, Leaderboard, spans
from evalkit.report.text import inert

if TYPE_CHECKING:
    from evalkit.report.board import Cell

STYLE = """
.evalkit { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
.evalkit .scroll { overflow: auto; max-height: 90vh; margin: 1.5em 0; }
.evalkit table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.evalkit caption { text-align: left; font-weight: 600; padding: .3em 0; }
.evalkit th, .evalkit td { padding: .25em .7em; text-align: right; white-space: nowrap; }
.evalkit tbody th, .evalkit .label { text-align: left; font-weight: normal; overflow-wrap: anywhere; }
.evalkit thead { position: sticky; top: 0; background: Canvas; color: CanvasText; }
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
{% for table in board.tables %}
<div class="scroll" tabindex="0" role="region" aria-label="{{ table.title | inert }}">
<table>
<caption><bdi>{{ table.title | inert }}</bdi></caption>
<thead>
{% set groups = spans(table.headings) %}{% set grouped = groups | selectattr("group") | list | length > 0 %}
{% if grouped %}
<tr>{% for label in table.labels %}<td></td>{% endfor %}
{% for span in groups %}<th class="group" scope="colgroup" colspan="{{ span.headings | length }}">\
<bdi>{{ span.group | inert }}</bdi>{% if span.mark %}<sup>{{ span.mark }}</sup>{% endif %}</th>
{% endfor %}</tr>
{% endif %}
<tr>{% for label in table.labels %}<th class="label" scope="col">{{ label | inert }}</th>{% endfor %}
{% for span in groups %}{% for heading in span.headings %}<th scope="col"><bdi>{{ heading.metric | inert }}</bdi>\
{% if not heading.higher_is_better %} <span title="less is better">↓</span>{% endif %}\
{% if heading.mark %}<sup>{{ heading.mark }}</sup>{% endif %}\
<br><span class="about">{{ heading.unit | inert }}\
{% if heading.n is not none %}, n={{ heading.n }}{% endif %}</span></th>
{% endfor %}{% endfor %}</tr>
</thead>
<tbody>
{% for row in table.rows %}
<tr{% if row.runs %} title="run: {{ row.runs | join(', ') | inert }}" data-run="{{ row.runs | join(' ') | inert }}"\
{% endif %}>{% for label in row.labels %}\
{% if loop.first %}<th scope="row"><bdi>{{ label | inert }}</bdi></th>\
{% else %}<td class="label"><bdi>{{ label | inert }}</bdi></td>{% endif %}{% endfor %}
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
{% if board.sources %}
<details class="notes"><summary>Weights and runs</summary>
<ul>{% for note in board.sources %}<li><bdi>{{ note | inert }}</bdi></li>
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
    made.globals["spans"] = spans
    made.globals["marks"] = _marks
    return made


def _marks(cell: Cell) -> str:
    return " ".join([*([CLOSE] if cell.close else []), *cell.marks])
