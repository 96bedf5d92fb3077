"""What a leaderboard consists of: tables of rows and columns, notes, and how they were asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Literal

from evalkit.report.records import Record

DECIMALS = {"%": 1, "rank": 1, "score": 3}
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
    group: str = ""
    """What it shares with its neighbours, as papers print it: `COCO TR`. Empty in a plain table."""
    mark: str = ""
    """The number of its protocol's note, where all numbers of the group have one protocol."""
    decimals: int = 1
    """How many its numbers are shown with."""

    @property
    def title(self) -> str:
        """`i2t_r@1 (%)`, or `COCO TR R@1 [1]`; a measure of which less is better says so."""
        if self.group:
            told = f"{self.group} {self.metric}" + ("" if self.higher_is_better else " (less is better)")
            return told + (f" [{self.mark}]" if self.mark else "")
        return f"{self.metric} ({self.unit}{'' if self.higher_is_better else ', less is better'})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Neighbouring columns under one heading."""

    group: str
    mark: str
    """Where all of them have it."""
    headings: tuple[Heading, ...]


def spans(headings: Sequence[Heading]) -> tuple[Span, ...]:
    """The columns by group; a mark that a group shares stands at the group alone."""
    found = []
    for group, members in groupby(headings, key=lambda heading: heading.group):
        columns = tuple(members)
        shared = columns[0].mark if group and len({column.mark for column in columns}) == 1 else ""
        if shared:
            columns = tuple(replace(column, mark="") for column in columns)
        found.append(Span(group=group, mark=shared, headings=columns))
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """In a plain table one run's numbers of one protocol; in a paper's all that a model has."""

    labels: tuple[str, ...]
    numbers: tuple[Cell | None, ...]
    """None where there is no such number."""
    runs: tuple[str, ...] = ()
    """Where its numbers come from; empty where a paper published them."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """What the readable formats show; the texts are as they came, each format makes them inert."""

    tables: tuple[Table, ...]
    footnotes: tuple[str, ...]
    """What a reader of the numbers needs: the protocols, and what each mark means."""
    sources: tuple[str, ...]
    """Where they come from: weights and runs."""

    @property
    def notes(self) -> tuple[str, ...]:
        """All of them."""
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
