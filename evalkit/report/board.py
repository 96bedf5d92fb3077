"""What a leaderboard consists of: tables of rows and columns, notes, and how they were asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Literal

from evalkit.report.records import Record

DECIMALS = {"%": 1, "points": 1, "rank": 1, "score": 3}
CLOSE = "≈"
"""Stands after a number whose difference to the best is not significant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A number in a table."""

    value: str
    """`39.2`."""
    interval: str = ""
    """`[33.1, 45.6]`."""
    n: str = ""
    """`n=255`, where the numbers of a column are not over equally many."""
    rank: Literal["", "best", "second"] = ""
    """Where it stands among the comparable numbers of its column; see `evalkit.report.significance`."""
    close: bool = False
    """Whether its difference to the best of these is not significant."""
    marks: tuple[str, ...] = ()
    """References to notes: the number of its protocol's, `*`, `†`."""

    @property
    def signs(self) -> str:
        """What stands directly after the value: `≈[2]*`."""
        return CLOSE * self.close + "".join(f"[{mark}]" if mark.isdecimal() else mark for mark in self.marks)

    @property
    def text(self) -> str:
        """Everything, as plain text."""
        return " ".join(part for part in (self.value + self.signs, self.interval, self.n) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A column of numbers."""

    metric: str
    unit: str
    higher_is_better: bool
    n: int | None
    """What all numbers of the column are over; None where they differ and each says its own."""
    data: str = ""
    """The data set, over all of its columns: `COCO`. Empty in a plain table."""
    group: str = ""
    """What it shares with its neighbours below the data set: `TR`."""
    mark: str = ""
    """The number of its protocol's note, where all numbers of the column have one protocol."""
    decimals: int = 1
    """How many its numbers are shown with."""

    @property
    def title(self) -> str:
        """`i2t_r@1 (%)`, or `COCO TR R@1 [1]`; a measure of which less is better says so."""
        if self.data:
            told = " ".join(part for part in (self.data, self.group, self.metric) if part)
            told += "" if self.higher_is_better else " (less is better)"
            return told + (f" [{self.mark}]" if self.mark else "")
        return f"{self.metric} ({self.unit}{'' if self.higher_is_better else ', less is better'})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Neighbouring columns under one heading."""

    name: str
    mark: str
    """Where all of them have it."""
    headings: tuple[Heading, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What stands above the columns of a table, line by line."""

    levels: tuple[tuple[Span, ...], ...]
    """The data sets, and below them the groups, where there are any; each level is over all columns."""
    headings: tuple[Heading, ...]
    """Each column's own; the mark that all columns of a data set share stands there, at its name, alone."""


def header(headings: Sequence[Heading]) -> Header:
    """The columns by data set and by group."""
    top, below, columns = list[Span](), list[Span](), list[Heading]()
    for data, of_data in groupby(headings, key=lambda heading: heading.data):
        members = tuple(of_data)
        shared = members[0].mark if data and len({one.mark for one in members}) == 1 else ""
        members = tuple(replace(one, mark="") for one in members) if shared else members
        top.append(Span(name=data, mark=shared, headings=members))
        for group, of_group in groupby(members, key=lambda heading: heading.group):
            below.append(Span(name=group, mark="", headings=tuple(of_group)))
        columns += members
    levels = tuple(tuple(level) for level in (top, below) if any(span.name for span in level))
    return Header(levels=levels, headings=tuple(columns))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """In a plain table one run's numbers of one protocol; in a paper's all that a model has."""

    labels: tuple[str, ...]
    numbers: tuple[Cell | None, ...]
    """None where there is no such number."""
    runs: tuple[str, ...] = ()
    """Where its numbers come from; empty where a paper published them."""
    mark: str = ""
    """The numbers of its protocols' notes, in the order of the columns: `2`, or `2, 5`; see `lifted`."""

    @property
    def marked_labels(self) -> tuple[str, ...]:
        """The labels as plain text: `itc [2]`."""
        return (*self.labels[:-1], f"{self.labels[-1]} [{self.mark}]") if self.mark else self.labels

    @property
    def cells(self) -> tuple[str, ...]:
        """The numbers as plain text."""
        return tuple("" if cell is None else cell.text for cell in self.numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Numbers that stand together. In a column they are of one task, split and protocol name."""

    title: str
    labels: tuple[str, ...]
    headings: tuple[Heading, ...]
    rows: tuple[Row, ...]


def lifted(table: Table) -> Table:
    """The table with the marks of a row's protocols once, at its labels: on one data set a row has one protocol.

    A mark that a heading has stays there.
    """
    return replace(table, rows=tuple(map(_lifted, table.rows)))


def _lifted(row: Row) -> Row:
    marks = dict.fromkeys(mark for cell in row.numbers if cell for mark in cell.marks if mark.isdecimal())
    numbers = (
        cell and replace(cell, marks=tuple(one for one in cell.marks if not one.isdecimal())) for cell in row.numbers
    )
    return replace(row, numbers=tuple(numbers), mark=", ".join(marks))


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """What the readable formats show; the texts are as they came, each format makes them inert."""

    tables: tuple[Table, ...]
    footnotes: tuple[str, ...]
    """What a reader of the numbers needs: the protocols, and what each mark means."""
    sources: tuple[str, ...]
    """Where they come from: weights and runs."""
    protocols: tuple[str, ...] = ()
    """Each protocol whole, with the number of its note; `footnotes` have them in brief."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What stands below the tables where room is short."""
        return self.footnotes + self.sources


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What to show of the records."""

    intervals: bool = True
    run_column: bool = False
    """Name each row's run, where repeated runs are shown."""
    name_runs: bool = False
    """Name every row's run in the notes."""
    left_out: int = 0
    """How many earlier runs of the same measurements are not among the records."""
    is_default: Callable[[Record], bool] = field(default=lambda record: False)
    """Whether a record's weights are what its model takes by default; others are named in the row."""
    across_protocols: bool = False
    """Look for the best of a column among all its numbers, whatever their protocols."""
    p_values: Callable[[Sequence[Record], Record], Sequence[float]] | None = None
    """Tests numbers against the best of them, see `evalkit.report.difference_tests`; None for no test."""


def number(value: float, unit: str, decimals: int | None = None) -> str:
    """A number as tables show it: percentages and ranks to 0.1, scores to 0.001, or to as many decimals as told.

    >>> number(39.215, "%"), number(float("nan"), "rank"), number(78.254, "%", 2)
    ('39.2', 'n/a', '78.25')
    """
    places = DECIMALS.get(unit, 3) if decimals is None else decimals
    return f"{value:.{places}f}" if math.isfinite(value) else "n/a" if math.isnan(value) else f"{value}"
