"""Records to tables in a paper's layout: one function for every layout.

A row is a model with its weights, with a route where the layout tells them apart: the weights that a model's card names
for the tasks are one row, any others a row each. Where a model has several numbers for one cell there are several rows,
which say in what they differ. All numbers of a column are of one task, data set and split; where they are not all of
one protocol, each carries the number of its protocol's note.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from evalkit.report.board import DECIMALS, Cell, Heading, Leaderboard, Row, Table, View
from evalkit.report.layouts import DEMO, LAYOUTS, OFFICIAL, OTHER, Column, DataSet, Group, Layout, world
from evalkit.report.leaderboard import by_measurement, cell_of, measurement, plain_tables, shared_count, source, worth
from evalkit.report.notes import Notes, model_name
from evalkit.report.published_rows import PublishedRecord
from evalkit.report.records import Record
from evalkit.report.significance import shown_decimals, verdicts
from evalkit.report.text import elide

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

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
_Member: TypeAlias = tuple[int, dict[str, Record]]
"""The block's place, and a measurement's numbers by metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """Numbers of one task, protocol name and split: they share columns."""

    world: str
    title: str
    split: str
    groups: tuple[Group, ...]
    records: list[Record]

    @property
    def rows(self) -> list[dict[str, Record]]:
        """Of each measurement its numbers by metric."""
        return [{one.metric: one for one in reversed(row)} for row in by_measurement(self.records)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Identity:
    """What keeps numbers of one model apart, though they are in different columns."""

    checkpoint: str = ""
    digest: str = ""
    dtype: str = ""
    paper: str = ""

    def apart_from(self, kinds: Collection[_Identity]) -> list[str]:
        """What tells it from the others, for a row's label."""
        shown = elide(self.checkpoint, _VALUE_WIDTH)
        alike = {one.digest for one in kinds if elide(one.checkpoint, _VALUE_WIDTH) == shown}
        told = {
            "checkpoint": shown + (f" ({self.digest[:15]})" if len(alike) > 1 and self.digest else ""),
            "dtype": self.dtype,
            "paper": elide(self.paper, _VALUE_WIDTH),
        }
        differ = {
            "checkpoint": len({(one.checkpoint, one.digest) for one in kinds}) > 1,
            "dtype": len({one.dtype for one in kinds}) > 1,
            "paper": len({one.paper for one in kinds}) > 1,
        }
        return [f"{name} {value}" for name, value in told.items() if differ[name]]


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
    return notes.board(tables, view)


def _tables(records: Sequence[Record], layout: Layout, view: View, notes: Notes) -> list[Table]:
    """A table for the benchmarks' own data, the demo's and any other, where there are such numbers."""
    blocks = _blocks(records, layout) if layout.sets else _main_blocks(records)
    found = {whose: [block for block in blocks if block.world == whose] for whose in (OFFICIAL, DEMO, OTHER)}
    return [_table(members, whose, layout, view, notes) for whose, members in found.items() if members]


def _table(blocks: Sequence[_Block], whose: str, layout: Layout, view: View, notes: Notes) -> Table:
    title = f"{layout.title}, {whose}" if whose else layout.title
    lines = _lines(blocks, layout, view)
    headings = [found for place, block in enumerate(blocks) for found in _headings(place, block, notes)]
    lines.sort(key=lambda line: [worth(line.cells.get(key)) for key, _ in headings])
    odd = _other_data(blocks)
    columns = [_cells(heading, [line.cells.get(key) for line in lines], view, notes, odd) for key, heading in headings]
    if counted := f"{_counts(title, [heading for _, heading in headings])} {layout.legend}".strip():
        notes.counts[counted] = None
    rows = tuple(
        _row(line, [column[place] for column in columns], layout, view, notes) for place, line in enumerate(lines)
    )
    if any(cell and _OTHER_DATA in cell.marks for row in rows for cell in row.numbers):
        notes.marks[f"{_OTHER_DATA} measured on other samples or image files than the other numbers of its column"] = (
            None
        )
    labels = ("model", "route") if layout.by_route else ("model",)
    return Table(title=title, labels=labels, headings=tuple(heading for _, heading in headings), rows=rows)


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
            whose = world(name, data.official)
            title = name if whose else data.name
            if title in told and all(column.name for group in data.groups for column in group.columns):
                title = f"{title} ({split})"
            told.add(title)
            blocks.append(_block(whose, title, split, data.groups, members))
    return blocks


def _block(whose: str, title: str, split: str, groups: tuple[Group, ...], members: list[Record]) -> _Block:
    return _Block(world=whose, title=elide(title, _VALUE_WIDTH), split=split, groups=groups, records=members)


def _official(data: DataSet, record: Record) -> bool:
    return record.protocol_name in data.official


def _place(data: DataSet, key: tuple[str, str], found: dict[tuple[str, str], list[Record]]) -> tuple[object, ...]:
    """The benchmark's own data first, then the splits in the layout's order, then as the runs have them."""
    name, split = key
    order = data.splits.index(split) if split in data.splits else len(data.splits)
    return (not _official(data, found[key][0]), name if not data.splits else "", order, list(found).index(key))


def _main_blocks(records: Sequence[Record]) -> list[_Block]:
    """Every task's main metric, of each run by its main protocol: the last."""
    last = {(source(record), record.split): measurement(record) for record in records if record.main and record.run}
    found: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        if record.main and (not record.run or last[source(record), record.split] == measurement(record)):
            found.setdefault((record.task, record.protocol_name, record.split), []).append(record)
    tasks = Counter((task, world(name)) for task, name, _ in found)
    blocks = []
    for task, name, split in sorted(found, key=lambda key: key[0]):
        members = found[task, name, split]
        metrics = tuple(dict.fromkeys(record.metric for record in members))
        group = Group(name="", columns=tuple(Column(metric=metric, name=metric) for metric in metrics))
        title = task if tasks[task, world(name)] == 1 else f"{task} {name} {split}"
        blocks.append(_block(world(name), title, split, (group,), members))
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
            unit = found[0].unit
            usual = DECIMALS.get(unit, 3) if column.decimals is None else column.decimals
            heading = Heading(
                metric=column.name or block.split,
                unit=unit,
                higher_is_better=found[0].higher_is_better,
                n=shared_count(found),
                data=block.title,
                group=group.name,
                mark=min(marks) if len(marks) == 1 else "",
                decimals=shown_decimals(found, usual),
            )
            headings.append(((place, column.metric), heading))
    return headings


def _counts(title: str, headings: Iterable[Heading]) -> str:
    """What the numbers are over: `COCO TR 5000`."""
    groups: dict[str, dict[str, None]] = {}
    for heading in headings:
        if heading.n is not None:
            groups.setdefault(f"{heading.data} {heading.group}".strip(), {})[str(heading.n)] = None
    told = "; ".join(f"{group} {' and '.join(counts)}" for group, counts in groups.items())
    return f"{title}, over so many queries or answers: {told}." if told else ""


# ---------------------------------------------------------------------------------------------------------------- rows
def _lines(blocks: Sequence[_Block], layout: Layout, view: View) -> list[_Line]:
    models: dict[tuple[str, ...], dict[_Identity, list[_Member]]] = {}
    for place, block in enumerate(blocks):
        for metrics in block.rows:
            head = _head(metrics)
            of_model = models.setdefault(_model(head, layout), {})
            of_model.setdefault(_identity(head, view), []).append((place, metrics))
    return [
        line
        for kinds in models.values()
        for identity, members in kinds.items()
        for line in _split(members, identity.apart_from(kinds))
    ]


def _head(metrics: dict[str, Record]) -> Record:
    return next(iter(metrics.values()))


def _model(head: Record, layout: Layout) -> tuple[str, ...]:
    published = str(isinstance(head, PublishedRecord))
    return (head.model, head.variant, published, _route(head) if layout.by_route else "")


def _identity(head: Record, view: View) -> _Identity:
    if isinstance(head, PublishedRecord):
        return _Identity(paper=head.paper)
    usual = view.is_default(head) or head.checkpoint.startswith("demo:")  # the demo's miniatures, one a task
    return _Identity(
        checkpoint="default" if usual else head.checkpoint,
        digest="" if usual else head.checkpoint_digest,
        dtype=head.dtype,
    )


def _route(head: Record) -> str:
    """`itc+itm` of `itc+itm@256`: how many are re-ranked differs from benchmark to benchmark."""
    return re.sub(r"@\d+$", "", head.route)


def _split(members: list[_Member], known: Sequence[str]) -> list[_Line]:
    """One row, or as many as are needed for one number a cell."""
    told = _distinct(members)
    lines: dict[tuple[str, ...], _Line] = {}
    for place, metrics in members:
        head = _head(metrics)
        values = tuple(_told(head, name) for name in told)
        ordinal = 0
        while (key := (*values, str(ordinal))) in lines and any(one == place for one, _ in lines[key].cells):
            ordinal += 1  # equal in all that is known: runs of one measurement
        line = lines.setdefault(key, _Line(label=_label(head, known, told, ordinal)))
        line.heads.append(head)
        line.cells.update({(place, metric): record for metric, record in metrics.items()})
    return list(lines.values())


def _distinct(members: list[_Member]) -> list[str]:
    """In what numbers for one cell differ."""
    cells: dict[int, list[Record]] = {}
    for place, metrics in members:
        cells.setdefault(place, []).append(_head(metrics))
    return [
        name for name in _TELLING if any(len({_told(head, name) for head in heads}) > 1 for heads in cells.values())
    ]


def _told(head: Record, name: str) -> str:
    return str(getattr(head, name, ""))  # only a published one has a table


def _label(head: Record, known: Sequence[str], told: Sequence[str], ordinal: int) -> str:
    shown = [name for name in told if not (name == "checkpoint_digest" and "checkpoint" in told)]
    facts = [*known, *(f"{name.replace('_', ' ')} {elide(_told(head, name), _VALUE_WIDTH)}" for name in shown)]
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
    heading: Heading, column: list[Record | None], view: View, notes: Notes, odd: set[tuple[object, ...]]
) -> list[Cell | None]:
    judged = verdicts(column, view, heading.decimals)
    for verdict in judged:
        notes.verdict(verdict)
    return [
        None
        if record is None
        else cell_of(record, verdict, heading, intervals=view.intervals, marks=_marks(record, heading, notes, odd))
        for record, verdict in zip(column, judged, strict=True)
    ]


def _marks(record: Record, heading: Heading, notes: Notes, odd: set[tuple[object, ...]]) -> tuple[str, ...]:
    marks = [] if heading.mark else [notes.protocol(record)]
    if record.failed:
        marks.append("*")
    if record.limit is not None:
        marks.append("†")
    if measurement(record) in odd:
        marks.append(_OTHER_DATA)
    return tuple(marks)


def _other_data(blocks: Iterable[_Block]) -> set[tuple[object, ...]]:
    """The measurements on other data than most of their block."""
    odd: set[tuple[object, ...]] = set()
    for block in blocks:
        heads = [_head(metrics) for metrics in block.rows]
        ours = [head for head in heads if not isinstance(head, PublishedRecord)]
        usual = Counter(head.data_fingerprint for head in ours).most_common(1)
        odd |= {measurement(head) for head in ours if head.data_fingerprint != usual[0][0]}
    return odd
