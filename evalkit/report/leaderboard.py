"""Records to tables: one table a task, split and protocol name; one row a model and route; notes below."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evalkit.report.board import DECIMALS, Cell, Heading, Leaderboard, Row, Table, View, number
from evalkit.report.notes import Notes, describe, model_name
from evalkit.report.published_rows import PublishedRecord
from evalkit.report.significance import Verdict, shown_decimals, shown_value, verdicts
from evalkit.report.text import elide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from evalkit.report.records import Record

__all__ = [
    "Cell",
    "Heading",
    "Leaderboard",
    "Row",
    "Table",
    "View",
    "by_measurement",
    "cell_of",
    "describe",
    "leaderboard",
    "measurement",
    "model_name",
    "number",
    "plain_tables",
    "source",
    "worth",
]
_NAME_WIDTH = 40


def leaderboard(records: Sequence[Record], view: View) -> Leaderboard:
    """Arrange records; rows are sorted by the main metric, the best first, and the main metric stands first."""
    notes = Notes()
    tables = plain_tables(records, view, notes)
    return notes.board(tables, view)


def plain_tables(records: Sequence[Record], view: View, notes: Notes) -> list[Table]:
    """The tables of a leaderboard; what is to be said of them is added to the notes."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.task, record.protocol_name, record.split), []).append(record)
    return [_table(groups[key], view, notes) for key in _ordered(groups)]


def _ordered(groups: dict[tuple[str, str, str], list[Record]]) -> list[tuple[str, str, str]]:
    """By task; within one, tables with the main metric first, then as the runs have them."""
    order = {key: place for place, key in enumerate(groups)}
    return sorted(groups, key=lambda key: (key[0], not any(record.main for record in groups[key]), order[key]))


def source(record: Record) -> tuple[object, ...]:
    """The run of a number. In two folders may be two runs of one name: what was run tells them apart."""
    what = (record.model, record.variant, record.checkpoint, record.checkpoint_digest, record.dtype, record.options)
    return (record.run, record.created, *what, record.data_fingerprint, record.limit, record.failed)


def measurement(record: Record) -> tuple[object, ...]:
    """What the numbers of a row have in common: the run and the protocol, or the row of a published table."""
    if isinstance(record, PublishedRecord):
        return (record.paper, record.table, record.model, record.protocol, record.prompt)
    return (*source(record), record.protocol_digest)


def by_measurement(records: Iterable[Record]) -> list[list[Record]]:
    """The numbers of one task, protocol name and split by row; copies of a run whose numbers differ are rows each."""
    found: dict[tuple[object, ...], list[dict[tuple[str, str, bool], Record]]] = {}
    for record in records:
        copies = found.setdefault(measurement(record), [{}])
        value, kind = repr(record.value), _kind(record)  # by its text a NaN is equal to itself
        place = next((one for one in copies if kind not in one or repr(one[kind].value) == value), None)
        if place is None:
            copies.append(place := {})
        place.setdefault(kind, record)
    return [list(copy.values()) for copies in found.values() for copy in copies]


def _table(records: list[Record], view: View, notes: Notes) -> Table:
    headings = _headings(records)
    ranked = sorted(by_measurement(records), key=lambda numbers: _rank(numbers, headings[0]))
    firsts = [numbers[0] for numbers in ranked]
    columns = _label_columns(firsts, view, notes)
    labels = [tuple(label(first) for label in columns.values()) for first in firsts]
    found = [_by_kind(numbers) for numbers in ranked]
    cells = [_column([kinds.get(_kind(heading)) for kinds in found], heading, view, notes) for heading in headings]
    task, name, split = records[0].task, records[0].protocol_name, records[0].split
    rows = tuple(
        Row(
            labels=labels[place],
            numbers=tuple(column[place] for column in cells),
            runs=(first.run,) if first.run else (),
        )
        for place, first in enumerate(firsts)
    )
    _note(firsts, labels, records, view, notes)
    return Table(title=f"{task}: {name}, split {split}", labels=tuple(columns), headings=headings, rows=rows)


def _note(firsts: list[Record], labels: list[tuple[str, ...]], records: list[Record], view: View, notes: Notes) -> None:
    for first, shown in zip(firsts, labels, strict=True):
        notes.row(first)
        if view.name_runs and first.run:
            row = ", ".join(label for label in shown if label not in ("", first.run))
            notes.runs[f"{row}; {first.task}, {first.split}: {first.run}"] = None
    for record in records:
        notes.number(record)


def _headings(records: list[Record]) -> tuple[Heading, ...]:
    kinds: dict[tuple[str, str, bool], list[Record]] = {}
    for record in sorted(records, key=lambda record: not record.main):
        kinds.setdefault(_kind(record), []).append(record)
    return tuple(
        Heading(
            metric=metric,
            unit=unit,
            higher_is_better=higher,
            n=shared_count(column),
            decimals=shown_decimals(column, DECIMALS.get(unit, 3)),
        )
        for (metric, unit, higher), column in kinds.items()
    )


def shared_count(column: Iterable[Record]) -> int | None:
    """What all measured numbers of a column are over; None where they differ, or there are none."""
    counts = {record.n for record in column if not isinstance(record, PublishedRecord)}
    return counts.pop() if len(counts) == 1 else None


def _kind(one: Record | Heading) -> tuple[str, str, bool]:
    return (one.metric, one.unit, one.higher_is_better)


def _by_kind(numbers: list[Record]) -> dict[tuple[str, str, bool], Record]:
    return {_kind(one): one for one in reversed(numbers)}


def _rank(numbers: list[Record], heading: Heading) -> tuple[object, ...]:
    first = numbers[0]
    found = worth(_by_kind(numbers).get(_kind(heading)))
    return (*found, first.model, first.variant, first.route, first.created, first.run)


def worth(record: Record | None) -> tuple[bool, float]:
    """Sorts numbers of one measure, the best first and what is not known last."""
    if record is None or math.isnan(record.value):
        return (True, 0.0)
    return (False, -record.value if record.higher_is_better else record.value)


def _column(column: list[Record | None], heading: Heading, view: View, notes: Notes) -> list[Cell | None]:
    judged = verdicts(column, view, heading.decimals)
    for verdict in judged:
        notes.verdict(verdict)
    return [
        None if record is None else cell_of(record, verdict, heading, intervals=view.intervals)
        for record, verdict in zip(column, judged, strict=True)
    ]


def cell_of(
    record: Record, verdict: Verdict, heading: Heading, *, intervals: bool, marks: tuple[str, ...] = ()
) -> Cell:
    """A number as a cell of its column."""
    interval, n = "", ""
    if intervals and not isinstance(record, PublishedRecord):
        low, high = (number(end, record.unit, heading.decimals) for end in (record.low, record.high))
        interval = f"[{low}, {high}]"
    if heading.n is None and not isinstance(record, PublishedRecord):
        n = f"n={record.n}"
    return Cell(
        value=shown_value(record, heading.decimals),
        interval=interval,
        n=n,
        rank=verdict.rank,
        close=verdict.close,
        marks=marks,
    )


def _label_columns(rows: list[Record], view: View, notes: Notes) -> dict[str, Callable[[Record], str]]:
    """The columns that tell the rows apart; those that would say the same everywhere are left out."""
    measured = [row for row in rows if not isinstance(row, PublishedRecord)]
    columns: dict[str, Callable[[Record], str]] = {"model": lambda row: model_name(row) + _signs(row)}
    if not all(view.is_default(row) for row in measured):
        columns["checkpoint"] = lambda row: _weights(row, measured, view)
    columns["route"] = lambda row: f"{row.route} [{notes.protocol(row)}]"
    if _differ(measured, lambda row: row.options):
        shared = set.intersection(*(set(row.options.split(", ")) for row in measured))
        columns["options"] = lambda row: ", ".join(one for one in row.options.split(", ") if one not in shared)
    if len({row.dtype for row in measured}) > 1:
        columns["dtype"] = lambda row: row.dtype
    if len({row.data_fingerprint for row in measured}) > 1:
        columns["data"] = lambda row: row.data_fingerprint[:8]
        notes.other_data = True
    if view.run_column:
        columns["run"] = lambda row: row.run
    return columns


def _signs(row: Record) -> str:
    return " " * (not row.complete) + "*" * (row.failed > 0) + "†" * (row.limit is not None)


def _weights(row: Record, measured: Iterable[Record], view: View) -> str:
    name = elide(row.checkpoint, _NAME_WIDTH)
    if isinstance(row, PublishedRecord):
        return name
    if view.is_default(row):
        return "default"
    digests = {one.checkpoint_digest for one in measured if elide(one.checkpoint, _NAME_WIDTH) == name}
    return name if len(digests) == 1 else f"{name} ({row.checkpoint_digest[:15]})"


def _differ(rows: list[Record], by: Callable[[Record], str]) -> bool:
    """Whether two rows that would look the same differ in something."""
    values: dict[tuple[str, ...], set[str]] = {}
    for row in rows:
        values.setdefault((row.model, row.variant, row.checkpoint_digest, row.protocol_digest), set()).add(by(row))
    return any(len(different) > 1 for different in values.values())
