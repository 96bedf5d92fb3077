"""Tables as Markdown, CSV and JSON; every text is made inert for its format."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import TYPE_CHECKING

from evalkit.report.board import lifted
from evalkit.report.published_rows import PublishedRecord, published_in
from evalkit.report.records import COLUMNS, as_row
from evalkit.report.text import markdown, spreadsheet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.report.board import Cell, Leaderboard
    from evalkit.report.records import Record

UNPUBLISHED = ("n", "clusters", "samples", "failed", "complete", "protocol_version")
"""Columns of counts and versions that no published number has."""
_EMPHASIS = {"": "{}", "best": "**{}**", "second": "<ins>{}</ins>"}


def to_markdown(board: Leaderboard) -> str:
    """GitHub Markdown: a heading and a table each, then the notes as a list."""
    blocks = []
    for table in map(lifted, board.tables):
        titles = [heading.title + ("" if heading.n is None else f", n={heading.n}") for heading in table.headings]
        labels = len(table.labels)
        lines = [
            _markdown_row([markdown(title) for title in (*table.labels, *titles)]),
            _markdown_row(["---"] * labels + ["---:"] * len(titles)),
            *(
                _markdown_row([*map(markdown, row.marked_labels), *map(_markdown_cell, row.numbers)])
                for row in table.rows
            ),
        ]
        blocks.append(f"### {markdown(table.title)}\n\n" + "\n".join(lines))
    blocks.append("\n".join(f"- {markdown(note)}" for note in board.notes))
    return "\n\n".join(block for block in blocks if block) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    rest = cell.text.removeprefix(cell.value)
    return _EMPHASIS[cell.rank].format(markdown(cell.value)) + markdown(rest)


def data_rows(records: Sequence[Record], *, published: bool = False) -> list[dict[str, str | float | bool | None]]:
    """A row a number.

    Args:
        records: Numbers of runs and of papers; of a published one, what no paper tells is None.
        published: Add the column `source`: where a number was published, empty for one of a run.
    """
    rows = []
    for record in records:
        row = as_row(record)
        if isinstance(record, PublishedRecord):
            row |= dict.fromkeys(UNPUBLISHED)
        rows.append({**row, "source": published_in(record)} if published else row)
    return rows


def data_columns(*, published: bool = False) -> tuple[str, ...]:
    """The names of the columns, in order."""
    return (*COLUMNS, "source") if published else COLUMNS


def to_csv(records: Sequence[Record], *, published: bool = False) -> str:
    """RFC 4180, a line a number; text that a spreadsheet would take for a formula begins with an apostrophe."""
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator="\r\n")
    writer.writerow(data_columns(published=published))
    for row in data_rows(records, published=published):
        writer.writerow([csv_cell(value) for value in row.values()])
    return sink.getvalue()


def csv_cell(value: object) -> str:
    """A value as it stands in CSV: text made harmless to a spreadsheet, what is not known empty."""
    if isinstance(value, str):
        return spreadsheet(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(value)


def to_json(records: Sequence[Record], *, published: bool = False) -> str:
    """A list of objects, one a number; a number that is not finite is null."""
    return json_document(data_rows(records, published=published))


def json_document(value: object) -> str:
    """JSON in ASCII and without `<`, so that it may stand in a page or go to a terminal."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c") + "\n"


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
