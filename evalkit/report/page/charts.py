"""Panels as a page draws them: every place is a percentage of the width, so that a chart fits any screen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.report.board import number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evalkit.report.figures import BarPanel, IntervalPanel

COLOURS = 8
"""How many the style sheet has; further series begin again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A mark on an axis."""

    at: str
    text: str
    anchor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row: a label, a strip that is drawn on, and the same in words."""

    label: str
    words: str
    colour: int
    at: str = ""
    """Of the point; empty where there is none."""
    low: str = ""
    high: str = ""
    width: str = ""
    """Of the bar; empty where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Lines under a heading, which is empty where all are under the chart's title."""

    heading: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A panel with places."""

    title: str
    axis: str
    note: str
    protocols: tuple[str, ...]
    """What the numbers after the labels stand for."""
    ticks: tuple[Tick, ...]
    blocks: tuple[Block, ...]


def interval_chart(panel: IntervalPanel) -> Chart:
    """Points with their intervals, over the range that they need."""
    ends = [end for mark in panel.marks for end in (mark.value, mark.low, mark.high) if math.isfinite(end)]
    scale = _Scale(*(_padded(min(ends), max(ends)) if ends else (0.0, 1.0)))
    lines = tuple(
        Line(
            label=mark.label,
            words=f"{number(mark.value, panel.unit)} [{number(mark.low, panel.unit)}, {number(mark.high, panel.unit)}]",
            colour=mark.series % COLOURS,
            at=scale.at(mark.value),
            low=scale.at(mark.low),
            high=scale.at(mark.high),
        )
        for mark in panel.marks
    )
    return Chart(
        title=panel.title,
        axis=panel.axis,
        note="",
        protocols=panel.protocols,
        ticks=scale.ticks(),
        blocks=(Block(heading="", lines=lines),),
    )


def bar_chart(panel: BarPanel) -> Chart:
    """Bars from 0; of percentages to 100."""
    values = [bar.value for bars in panel.bars for bar in bars if bar.value is not None]
    scale = _Scale(min([0.0, *values]), panel.end)
    blocks = tuple(
        Block(
            heading=category,
            lines=tuple(
                Line(
                    label=series,
                    words=_words(bar.value, bar.n, panel),
                    colour=panel.colours[place] % COLOURS,
                    width="" if bar.value is None else scale.at(bar.value),
                )
                for place, (series, bar) in enumerate(zip(panel.series, bars, strict=True))
            ),
        )
        for category, bars in zip(panel.categories, panel.bars, strict=True)
    )
    return Chart(
        title=panel.title,
        axis=panel.axis,
        note=panel.note,
        protocols=panel.protocols,
        ticks=scale.ticks(),
        blocks=blocks,
    )


def _words(value: float | None, count: int, panel: BarPanel) -> str:
    shown = "n/a" if value is None else number(value, panel.unit) + (" %" if panel.kind == "ranks" else "")
    return f"{shown} ({count:,})" if panel.kind == "ranks" else f"{shown} (n={count:,})"


def _padded(low: float, high: float) -> tuple[float, float]:
    room = 0.06 * (high - low) or max(abs(high) * 0.06, 0.5)
    return low - room, high + room


class _Scale:
    """Values to percentages of the width."""

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = low, high if high > low else low + 1.0

    def at(self, value: float) -> str:
        if not math.isfinite(value):
            return ""
        share = (value - self._low) / (self._high - self._low)
        return f"{100 * min(max(share, 0.0), 1.0):.2f}%"

    def ticks(self) -> tuple[Tick, ...]:
        return tuple(self._tick(value, step) for step in [self._step()] for value in self._steps(step))

    def _step(self) -> float:
        """The smallest of 1, 2, 5 x 10^k that gives five steps at most."""
        rough = (self._high - self._low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.9999)

    def _steps(self, step: float) -> Iterable[float]:
        first, last = math.ceil(self._low / step - 1e-9), math.floor(self._high / step + 1e-9)
        return (count * step for count in range(first, last + 1))

    def _tick(self, value: float, step: float) -> Tick:
        at = self.at(value)
        share = float(at[:-1])
        decimals = max(0, -math.floor(math.log10(step)))
        anchor = "start" if share < 4 else "end" if share > 96 else "middle"
        return Tick(at=at, text=f"{value:.{decimals}f}", anchor=anchor)
