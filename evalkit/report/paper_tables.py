"""Records to tables in a paper's layout: one function for every layout.

A row is a model, with a route where the layout tells them apart. Where a model has several numbers for one cell there
are several rows, which say in what they differ. All numbers of a column are of one task, data set and split; where they
are not all of one protocol, each carries the number of its protocol's note.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from evalkit.report.board import DECIMALS, Cell, Heading, Leaderboard, Row, Table, View
from evalkit.report.layouts import LAYOUTS, Column, DataSet, Group, Layout
from evalkit.report.leaderboard import cell_of, measurement, plain_tables, worth
from evalkit.report.notes import Notes, model_name
from evalkit.report.published_rows import PublishedRecord
from evalkit.report.records import Record
from evalkit.report.significance import verdicts
from evalkit.report.text import elide

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_TELLING = (
    "checkpoint",
    "checkpoint_digest",
    "route",
    "prompt",
    "image_preprocessing",
    "text_preprocessing",
    "preprocessing_details",
    "decoding",
    "tie_rule",
    "protocol_version",
    "options",
    "dtype",
    "limit",
    "data_fingerprint",
    "failed",
    "table",
)
"""In what two numbers of a model for one cell may differ."""
_VALUE_WIDTH = 40
_OTHER_DATA = "‡"

CellKey: TypeAlias = tuple[int, str]
"""The block's place and the metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """Numbers of one task, protocol name and split: they share columns."""

    title: str
    split: str
    groups: tuple[Group, ...]
    records: list[Record]

    @property
    def rows(self) -> dict[tuple[str, ...], dict[str, Record]]:
        """Run and protocol -> metric -> number."""
        found: dict[tuple[str, ...], dict[str, Record]] = {}
        for record in self.records:
            found.setdefault(measurement(record), {}).setdefault(record.metric, record)
        return found


@dataclass(slots=True, kw_only=True)
class _Line:
    """A row that is being filled."""

    label: str
    heads: list[Record] = field(default_factory=list)
    """One of each block."""
    cells: dict[CellKey, Record] = field(default_factory=dict)


def paper_tables(records: Sequence[Record], layout: str, view: View) -> Leaderboard:
    """The records in a paper's layout.

    Args:
        records: Numbers of runs and of papers.
        layout: One of `LAYOUTS`; `auto` for each of them that shows any of the records, and plain tables of all tasks
            that none shows.
        view: What to show.

    Returns:
        A board without tables where the layout shows nothing of the records.
    """
    notes = Notes()
    if layout != "auto":
        tables = _tables(records, LAYOUTS[layout], view, notes)
    else:
        fixed = [one for one in LAYOUTS.values() if one.sets]
        shown = {one.task for layout in fixed for one in layout.sets}
        tables = [table for one in fixed for table in _tables(records, one, view, notes)]
        tables += plain_tables([record for record in records if record.task not in shown], view, notes)
    return Leaderboard(
        tables=tuple(tables), footnotes=notes.footnotes(view, brief=True), sources=notes.sources(protocols=True)
    )


def _tables(records: Sequence[Record], layout: Layout, view: View, notes: Notes) -> list[Table]:
    blocks = _blocks(records, layout) if layout.sets else _main_blocks(records)
    if not blocks:
        return []
    lines = _lines(blocks, layout)
    headings = [found for place, block in enumerate(blocks) for found in _headings(place, block, notes)]
    lines.sort(key=lambda line: [worth(line.cells.get(key)) for key, _ in headings])
    odd = _other_data(blocks)
    columns = [_cells(heading, [line.cells.get(key) for line in lines], view, notes, odd) for key, heading in headings]
    notes.counts[_counts(layout, [heading for _, heading in headings])] = None
    rows = tuple(
        _row(line, [column[place] for column in columns], layout, view, notes) for place, line in enumerate(lines)
    )
    if any(cell and _OTHER_DATA in cell.marks for row in rows for cell in row.numbers):
        notes.marks[f"{_OTHER_DATA} measured on other samples or image files than the other numbers of its column"] = (
            None
        )
    labels = ("model", "route") if layout.by_route else ("model",)
    return [Table(title=layout.title, labels=labels, headings=tuple(heading for _, heading in headings), rows=rows)]


# ------------------------------------------------------------------------------------------------------------- columns
def _blocks(records: Sequence[Record], layout: Layout) -> list[_Block]:
    blocks = []
    for data in layout.sets:
        metrics = {column.metric for group in data.groups for column in group.columns}
        found: dict[tuple[str, str], list[Record]] = {}
        for record in records:
            shown = not data.only_splits or record.split in data.splits
            if record.task == data.task and record.metric in metrics and (shown or not _official(data, record)):
                found.setdefault((record.protocol_name, record.split), []).append(record)
        told = set[str]()
        for name, split in sorted(found, key=lambda key: _place(data, key, found)):
            members = found[name, split]
            title = data.name if _official(data, members[0]) else name
            if title in told and all(column.name for group in data.groups for column in group.columns):
                title = f"{title} ({split})"
            told.add(title)
            blocks.append(_Block(title=elide(title, _VALUE_WIDTH), split=split, groups=data.groups, records=members))
    return blocks


def _official(data: DataSet, record: Record) -> bool:
    return bool(data.official) and record.protocol_name.startswith(data.official)


def _place(data: DataSet, key: tuple[str, str], found: dict[tuple[str, str], list[Record]]) -> tuple[object, ...]:
    """The benchmark's own data first, then the splits in the layout's order, then as the runs have them."""
    name, split = key
    order = data.splits.index(split) if split in data.splits else len(data.splits)
    return (not _official(data, found[key][0]), name if not data.splits else "", order, list(found).index(key))


def _main_blocks(records: Sequence[Record]) -> list[_Block]:
    """Every task's main metric, of each run by its main protocol: the last."""
    last = {(record.run, record.split): measurement(record) for record in records if record.main and record.run}
    found: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        if record.main and (not record.run or last[record.run, record.split] == measurement(record)):
            found.setdefault((record.task, record.protocol_name, record.split), []).append(record)
    tasks = Counter(task for task, _, _ in found)
    blocks = []
    for task, name, split in sorted(found, key=lambda key: key[0]):
        members = found[task, name, split]
        metrics = tuple(dict.fromkeys(record.metric for record in members))
        group = Group(name="", columns=tuple(Column(metric=metric, name=metric) for metric in metrics))
        title = task if tasks[task] == 1 else f"{task} {name} {split}"
        blocks.append(_Block(title=elide(title, 2 * _VALUE_WIDTH), split=split, groups=(group,), records=members))
    return blocks


def _headings(place: int, block: _Block, notes: Notes) -> list[tuple[CellKey, Heading]]:
    """The columns of a block that have any number."""
    marks = {notes.protocol(record) for record in block.records}
    headings = []
    for group in block.groups:
        for column in group.columns:
            found = [record for record in block.records if record.metric == column.metric]
            if not found:
                continue
            counts = {record.n for record in found if not isinstance(record, PublishedRecord)}
            unit = found[0].unit
            heading = Heading(
                metric=column.name or block.split,
                unit=unit,
                higher_is_better=found[0].higher_is_better,
                n=min(counts) if len(counts) == 1 else None,
                group=f"{block.title} {group.name}".strip(),
                mark=min(marks) if len(marks) == 1 else "",
                decimals=DECIMALS.get(unit, 3) if column.decimals is None else column.decimals,
            )
            headings.append(((place, column.metric), heading))
    return headings


def _counts(layout: Layout, headings: Iterable[Heading]) -> str:
    """What the numbers are over: `COCO TR 5000`."""
    groups: dict[str, dict[str, None]] = {}
    for heading in headings:
        if heading.n is not None:
            groups.setdefault(heading.group, {})[str(heading.n)] = None
    told = "; ".join(f"{group} {' and '.join(counts)}" for group, counts in groups.items())
    return f"{layout.title}, over so many queries or answers: {told or 'as each number says'}."


# ---------------------------------------------------------------------------------------------------------------- rows
def _lines(blocks: Sequence[_Block], layout: Layout) -> list[_Line]:
    entries: dict[tuple[str, ...], list[tuple[int, dict[str, Record]]]] = {}
    for place, block in enumerate(blocks):
        for metrics in block.rows.values():
            entries.setdefault(_model(_head(metrics), layout), []).append((place, metrics))
    return [line for members in entries.values() for line in _split(members)]


def _head(metrics: dict[str, Record]) -> Record:
    return next(iter(metrics.values()))


def _model(head: Record, layout: Layout) -> tuple[str, ...]:
    source = head.paper if isinstance(head, PublishedRecord) else ""
    return (head.model, head.variant, source, _route(head) if layout.by_route else "")


def _route(head: Record) -> str:
    """`itc+itm` of `itc+itm@256`: how many are re-ranked differs from benchmark to benchmark."""
    return re.sub(r"@\d+$", "", head.route)


def _split(members: list[tuple[int, dict[str, Record]]]) -> list[_Line]:
    """One row, or as many as are needed for one number a cell."""
    told = _distinct(members)
    lines: dict[tuple[str, ...], _Line] = {}
    for place, metrics in members:
        head = _head(metrics)
        values = tuple(_told(head, name) for name in told)
        ordinal = 0
        while (key := (*values, str(ordinal))) in lines and any(one == place for one, _ in lines[key].cells):
            ordinal += 1  # equal in all that is known: runs of one measurement
        line = lines.setdefault(key, _Line(label=_label(head, told, ordinal)))
        line.heads.append(head)
        line.cells.update({(place, metric): record for metric, record in metrics.items()})
    return list(lines.values())


def _distinct(members: list[tuple[int, dict[str, Record]]]) -> list[str]:
    """In what numbers for one cell differ."""
    cells: dict[int, list[Record]] = {}
    for place, metrics in members:
        cells.setdefault(place, []).append(_head(metrics))
    return [
        name for name in _TELLING if any(len({_told(head, name) for head in heads}) > 1 for heads in cells.values())
    ]


def _told(head: Record, name: str) -> str:
    return str(getattr(head, name, ""))  # only a published one has a table


def _label(head: Record, told: Sequence[str], ordinal: int) -> str:
    shown = [name for name in told if not (name == "checkpoint_digest" and "checkpoint" in told)]
    facts = [f"{name.replace('_', ' ')} {elide(_told(head, name), _VALUE_WIDTH)}" for name in shown]
    if ordinal:
        facts.append(f"run {ordinal + 1}")
    return model_name(head) + (f" ({'; '.join(facts)})" if facts else "")


def _row(line: _Line, numbers: list[Cell | None], layout: Layout, view: View, notes: Notes) -> Row:
    for head in line.heads:
        notes.row(head)
        notes.number(head)
    runs = tuple(dict.fromkeys(head.run for head in line.heads if head.run))
    routes = {head.route for head in line.heads}
    route = routes.pop() if len(routes) == 1 else _route(line.heads[0])
    labels = (line.label, elide(route, _VALUE_WIDTH)) if layout.by_route else (line.label,)
    if view.name_runs and runs:
        told = dict.fromkeys(f"{head.run} ({head.task}, {head.split})" for head in line.heads if head.run)
        notes.runs[f"{', '.join(labels)}: {', '.join(told)}"] = None
    return Row(labels=labels, numbers=tuple(numbers), runs=runs)


# --------------------------------------------------------------------------------------------------------------- cells
def _cells(
    heading: Heading, column: list[Record | None], view: View, notes: Notes, odd: set[tuple[str, ...]]
) -> list[Cell | None]:
    judged = verdicts(column, view, heading.decimals)
    for verdict in judged:
        notes.verdict(verdict)
    return [
        None
        if record is None
        else cell_of(
            record,
            verdict,
            intervals=view.intervals,
            own_n=heading.n is None,
            decimals=heading.decimals,
            marks=_marks(record, heading, notes, odd),
        )
        for record, verdict in zip(column, judged, strict=True)
    ]


def _marks(record: Record, heading: Heading, notes: Notes, odd: set[tuple[str, ...]]) -> tuple[str, ...]:
    marks = [] if heading.mark else [notes.protocol(record)]
    if record.failed:
        marks.append("*")
    if record.limit is not None:
        marks.append("†")
    if measurement(record) in odd:
        marks.append(_OTHER_DATA)
    return tuple(marks)


def _other_data(blocks: Iterable[_Block]) -> set[tuple[str, ...]]:
    """The measurements on other data than most of their block."""
    odd: set[tuple[str, ...]] = set()
    for block in blocks:
        heads = [_head(metrics) for metrics in block.rows.values()]
        ours = [head for head in heads if not isinstance(head, PublishedRecord)]
        usual = Counter(head.data_fingerprint for head in ours).most_common(1)
        odd |= {measurement(head) for head in ours if head.data_fingerprint != usual[0][0]}
    return odd
