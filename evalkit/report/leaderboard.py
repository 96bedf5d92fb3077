"""Records to tables: one table a task, split and protocol name; one row a model and route; notes below."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from evalkit.report.records import ProtocolFields, Record
from evalkit.report.text import elide
from evalkit.types import FEW_CLUSTERS

_DECIMALS = {"%": 1, "rank": 1, "score": 3}
_NAME_WIDTH = 40
"""Names longer than this are shown with their middle left out; CSV and JSON have them whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A column of numbers."""

    metric: str
    unit: str
    higher_is_better: bool
    n: int | None
    """What all numbers of the column are over; None where they differ and each says its own."""

    @property
    def title(self) -> str:
        """`i2t_r@1 (%)`; a measure of which less is better says so."""
        return f"{self.metric} ({self.unit}{'' if self.higher_is_better else ', less is better'})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A model on a route: one run's numbers of one protocol."""

    labels: tuple[str, ...]
    cells: tuple[str, ...]
    """Empty where the run has no such number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Numbers of one task, split and protocol name; nothing else shares its columns."""

    title: str
    labels: tuple[str, ...]
    headings: tuple[Heading, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """What the readable formats show; the texts are as they came, each format makes them inert."""

    tables: tuple[Table, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What to show of the records."""

    intervals: bool = True
    run_column: bool = False
    """Name each row's run, where repeated runs are shown."""
    left_out: int = 0
    """How many earlier runs of the same measurements are not among the records."""
    is_default: Callable[[Record], bool] = field(default=lambda record: False)
    """Whether a record's weights are what its model takes by default; others are named in the row."""


@dataclass(slots=True, kw_only=True)
class _Notes:
    """Notes in the order their references are met."""

    protocols: dict[str, Record] = field(default_factory=dict)
    weights: dict[tuple[str, ...], None] = field(default_factory=dict)
    marks: dict[str, None] = field(default_factory=dict)
    few: dict[str, None] = field(default_factory=dict)
    """Models of which a number is over so few samples or answers that its interval says little."""
    correlations: bool = False
    other_data: bool = False

    def protocol(self, record: Record) -> str:
        self.protocols.setdefault(record.protocol_digest, record)
        return f"[{list(self.protocols).index(record.protocol_digest) + 1}]"


def leaderboard(records: Sequence[Record], view: View) -> Leaderboard:
    """Arrange records; rows are sorted by the main metric, the best first, and the main metric stands first."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.task, record.protocol_name, record.split), []).append(record)
    notes = _Notes()
    tables = tuple(_table(groups[key], view, notes) for key in _ordered(groups))
    return Leaderboard(tables=tables, notes=_notes(notes, view))


def _ordered(groups: dict[tuple[str, str, str], list[Record]]) -> list[tuple[str, str, str]]:
    """By task; within one, tables with the main metric first, then as the runs have them."""
    order = {key: place for place, key in enumerate(groups)}
    return sorted(groups, key=lambda key: (key[0], not any(record.main for record in groups[key]), order[key]))


def _table(records: list[Record], view: View, notes: _Notes) -> Table:
    runs: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        runs.setdefault((record.run, record.protocol), []).append(record)
    headings = _headings(records)
    ranked = sorted(runs.values(), key=lambda numbers: _rank(numbers, headings[0]))
    firsts = [numbers[0] for numbers in ranked]
    columns = _label_columns(firsts, view, notes)
    rows = tuple(
        Row(
            labels=tuple(label(numbers[0]) for label in columns.values()),
            cells=tuple(_cell(numbers, heading, view) for heading in headings),
        )
        for numbers in ranked
    )
    _note_rows(firsts, notes)
    _note_intervals(records, notes)
    task, name, split = records[0].task, records[0].protocol_name, records[0].split
    return Table(title=f"{task}: {name}, split {split}", labels=tuple(columns), headings=headings, rows=rows)


def _headings(records: list[Record]) -> tuple[Heading, ...]:
    kinds: dict[tuple[str, str, bool], set[int]] = {}
    for record in sorted(records, key=lambda record: not record.main):
        kinds.setdefault((record.metric, record.unit, record.higher_is_better), set()).add(record.n)
    return tuple(
        Heading(metric=metric, unit=unit, higher_is_better=higher, n=min(counts) if len(counts) == 1 else None)
        for (metric, unit, higher), counts in kinds.items()
    )


def _find(numbers: list[Record], heading: Heading) -> Record | None:
    sought = (heading.metric, heading.unit, heading.higher_is_better)
    return next((one for one in numbers if (one.metric, one.unit, one.higher_is_better) == sought), None)


def _rank(numbers: list[Record], heading: Heading) -> tuple[object, ...]:
    record = _find(numbers, heading)
    value = math.nan if record is None else record.value
    worth = 0.0 if math.isnan(value) else -value if heading.higher_is_better else value
    first = numbers[0]
    return (math.isnan(value), worth, first.model, first.variant, first.route, first.created, first.run)


def _cell(numbers: list[Record], heading: Heading, view: View) -> str:
    record = _find(numbers, heading)
    if record is None:
        return ""
    text = number(record.value, record.unit)
    if view.intervals:
        text += f" [{number(record.low, record.unit)}, {number(record.high, record.unit)}]"
    return text if heading.n is not None else f"{text} n={record.n}"


def number(value: float, unit: str) -> str:
    """A number as tables show it: percentages and ranks to 0.1, scores to 0.001.

    >>> number(39.215, "%"), number(float("nan"), "rank")
    ('39.2', 'n/a')
    """
    return "n/a" if math.isnan(value) else f"{value:.{_DECIMALS.get(unit, 3)}f}"


def _label_columns(rows: list[Record], view: View, notes: _Notes) -> dict[str, Callable[[Record], str]]:
    """The columns that tell the rows apart; those that would say the same everywhere are left out."""
    columns: dict[str, Callable[[Record], str]] = {"model": lambda row: model_name(row) + _signs(row)}
    if not all(view.is_default(row) for row in rows):
        columns["checkpoint"] = lambda row: "default" if view.is_default(row) else _weights(row, rows)
    columns["route"] = lambda row: f"{row.route} {notes.protocol(row)}"
    shared = set.intersection(*(set(row.options.split(", ")) for row in rows))
    if _differ(rows, lambda row: row.options):
        columns["options"] = lambda row: ", ".join(one for one in row.options.split(", ") if one not in shared)
    if len({row.dtype for row in rows}) > 1:
        columns["dtype"] = lambda row: row.dtype
    if len({row.data_fingerprint for row in rows}) > 1:
        columns["data"] = lambda row: row.data_fingerprint[:8]
        notes.other_data = True
    if view.run_column:
        columns["run"] = lambda row: row.run
    return columns


def model_name(record: Record) -> str:
    """`blip/base`."""
    return elide(f"{record.model}/{record.variant}", _NAME_WIDTH)


def _signs(row: Record) -> str:
    return " " * (not row.complete) + "*" * (row.failed > 0) + "†" * (row.limit is not None)


def _weights(row: Record, rows: Iterable[Record]) -> str:
    name = elide(row.checkpoint, _NAME_WIDTH)
    digests = {one.checkpoint_digest for one in rows if elide(one.checkpoint, _NAME_WIDTH) == name}
    return name if len(digests) == 1 else f"{name} ({row.checkpoint_digest[:15]})"


def _differ(rows: list[Record], by: Callable[[Record], str]) -> bool:
    """Whether two rows that would look the same differ in something."""
    values: dict[tuple[str, ...], set[str]] = {}
    for row in rows:
        values.setdefault((row.model, row.variant, row.checkpoint_digest, row.protocol_digest), set()).add(by(row))
    return any(len(different) > 1 for different in values.values())


def _note_rows(rows: list[Record], notes: _Notes) -> None:
    for row in rows:
        notes.weights[(model_name(row), elide(row.checkpoint, 80), elide(row.checkpoint_digest, 80))] = None
        if row.failed:
            notes.marks[f"* incomplete: {row.failed} of {row.samples} samples failed ({row.run})"] = None
        if row.limit is not None:
            notes.marks[f"† limited: only the first {row.limit} samples were evaluated ({row.run})"] = None


def _note_intervals(records: list[Record], notes: _Notes) -> None:
    for record in records:
        if min(record.n, record.samples - record.failed) < FEW_CLUSTERS:
            notes.few[model_name(record)] = None
        notes.correlations |= record.metric.endswith("_spearman")


def _notes(notes: _Notes, view: View) -> tuple[str, ...]:
    lines = [f"[{place}] {describe(record)}" for place, record in enumerate(notes.protocols.values(), 1)]
    lines += notes.marks
    if notes.other_data:
        lines.append("data: rows with different values were measured on different samples or image files.")
    lines += [f"weights of {model}: {checkpoint} ({digest})" for model, checkpoint, digest in notes.weights]
    if view.intervals and lines:
        lines.append(
            "After each number its 95 % interval, bootstrap clustered by image or by what shares images (a set of image"
            " pairs, a paragraph)"
            + ("; of a correlation the spread of its 1,000 samples" if notes.correlations else "")
            + ". n: the queries or answers it is over."
        )
    if view.intervals and notes.few:
        lines.append(
            f"Over fewer than {FEW_CLUSTERS} samples or answers an interval is too narrow to rely on:"
            f" {', '.join(notes.few)}."
        )
    if view.left_out:
        lines.append(f"Earlier runs of the same measurements that are not shown: {view.left_out} (--all-runs).")
    return tuple(lines)


def describe(record: ProtocolFields) -> str:
    """A protocol in full, on one line; parts that are empty are left out."""
    parts = {
        "prompt": record.prompt,
        "image": record.image_preprocessing,
        "text": record.text_preprocessing,
        "details": record.preprocessing_details,
        "decoding": record.decoding,
        "ties": record.tie_rule,
    }
    told = "; ".join(f"{name}: {text}" for name, text in parts.items() if text)
    return f"{record.protocol}, version {record.protocol_version}, digest {record.protocol_digest}: {told}"
