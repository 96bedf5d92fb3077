"""What is drawn, before it is drawn: intervals, breakdowns and histograms of ranks, for a page and for papers alike."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from evalkit.report.leaderboard import worth
from evalkit.report.records import all_records
from evalkit.report.samplesets import run_labels
from evalkit.report.text import elide

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evalkit.report.records import ProtocolFields, Record
    from evalkit.report.samplesets import SampleSet
    from evalkit.types import RunResult, SampleView

GROUPS_SHOWN = 20
"""Of a breakdown with more groups, those with the most samples are drawn."""
RANK_BINS = ((1, 1), (2, 2), (3, 3), (4, 5), (6, 10), (11, 20), (21, 50), (51, 100), (101, 1000), (1001, None))
"""First and last rank of each bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A number with its interval."""

    label: str
    value: float
    low: float
    high: float
    n: int
    series: int
    """Which of all models, from 0: one colour each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalPanel:
    """The main numbers of runs that are comparable, the best first."""

    name: str
    """Of its file, without suffix."""
    title: str
    axis: str
    unit: str
    marks: tuple[Mark, ...]
    protocols: tuple[str, ...] = ()
    """What the numbers after the labels stand for: one protocol each. Empty where all have the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One run's value in one category."""

    value: float | None
    """None where there is nothing to average."""
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BarPanel:
    """Categories with one bar a run."""

    name: str
    title: str
    axis: str
    unit: str
    series: tuple[str, ...]
    """The runs."""
    colours: tuple[int, ...]
    """Of the runs, from 0; a model has one colour in all figures."""
    categories: tuple[str, ...]
    bars: tuple[tuple[Bar, ...], ...]
    """By category, then run."""
    counted: str
    """What `Bar.n` counts: `samples`, `queries`."""
    note: str = ""
    protocols: tuple[str, ...] = ()
    """As of an `IntervalPanel`, of the names of the series."""
    kind: str = "breakdown"
    """`breakdown` or `ranks`."""

    @property
    def end(self) -> float:
        """Where the axis ends that begins at 0: of percentages at 100, unless one is larger, as CIDEr may be."""
        highest = max((bar.value for bars in self.bars for bar in bars if bar.value is not None), default=0.0)
        return max(100.0, highest) if self.unit == "%" and self.kind == "breakdown" else highest or 1.0


_NOTE_WIDTH = 60
_TOLD = {"prompt": "prompt", "image_preprocessing": "image", "decoding": "decoding"}
"""What a note tells of a protocol, as papers do; the digest stands for the rest."""
Panel: TypeAlias = IntervalPanel | BarPanel


def colours_of(results: Sequence[RunResult]) -> dict[str, int]:
    """A colour's number by the name of a run, see `run_labels`: by the order in which the names come."""
    return {name: place for place, name in enumerate(dict.fromkeys(run_labels(results).values()))}


def interval_panels(results: Sequence[RunResult]) -> tuple[IntervalPanel, ...]:
    """The main metric of each task, one panel a task, data set, split and measure, by task.

    Numbers of different protocols are marked as a leaderboard marks them.
    """
    labels, colours = run_labels(results), colours_of(results)
    groups: dict[tuple[str, str, str, str], list[Record]] = {}
    for record in all_records(results):
        if record.main:
            groups.setdefault((record.task, record.protocol_name, record.split, record.metric), []).append(record)
    names = _Names()
    return tuple(
        _interval_panel(groups[key], labels, colours, names.new("intervals", *key))
        for key in sorted(groups, key=lambda k: k[0])
    )


def _interval_panel(records: list[Record], labels: dict[str, str], colours: dict[str, int], name: str) -> IntervalPanel:
    first = records[0]
    ranked = sorted(records, key=worth)
    several = len({record.route for record in records}) > 1
    protocols = _Protocols(ranked)
    return IntervalPanel(
        name=name,
        title=f"{first.task}: {first.protocol_name}, split {first.split}",
        axis=_axis(first.metric, first.unit, first.higher_is_better),
        unit=first.unit,
        marks=tuple(
            Mark(
                label=labels[record.run]
                + (f", {record.route}" if several else "")
                + protocols.mark(record)
                + _signs(record),
                value=record.value,
                low=record.low,
                high=record.high,
                n=record.n,
                series=colours[labels[record.run]],
            )
            for record in ranked
        ),
        protocols=protocols.notes,
    )


class _Protocols:
    """Numbers for the protocols that share an axis, and what each stands for; none where all have one."""

    def __init__(self, protocols: Iterable[ProtocolFields | None]) -> None:
        self._met = {one.protocol_digest: one for one in protocols if one is not None}
        self._several = len(self._met) > 1

    def mark(self, protocol: ProtocolFields | None) -> str:
        """What stands after a label: ` [2]`."""
        if not self._several or protocol is None:
            return ""
        return f" [{list(self._met).index(protocol.protocol_digest) + 1}]"

    @property
    def notes(self) -> tuple[str, ...]:
        """A line a protocol, in which is told what the protocols differ in."""
        return tuple(self._note(one) for one in self._met.values()) if self._several else ()

    def _note(self, protocol: ProtocolFields) -> str:
        told = {
            name: getattr(protocol, field)
            for field, name in _TOLD.items()
            if len({getattr(one, field) for one in self._met.values()}) > 1
        }
        facts = "".join(f"; {name}: {elide(text, _NOTE_WIDTH)}" for name, text in told.items() if text)
        return f"[{self.mark(protocol)[2:-1]}] {protocol.protocol}, digest {protocol.protocol_digest}{facts}"


def _signs(record: Record) -> str:
    told = [f"{record.failed} failed"] if record.failed else []
    told += [f"--limit {record.limit}"] if record.limit is not None else []
    return f" ({', '.join(told)})" if told else ""


def _axis(metric: str, unit: str, higher_is_better: bool) -> str:
    parts = [unit] if unit != "score" else []
    parts += [] if higher_is_better else ["less is better"]
    return f"{metric} ({', '.join(parts)})" if parts else metric


def breakdown_panels(sets: Sequence[SampleSet], colours: dict[str, int]) -> tuple[BarPanel, ...]:
    """The mean score by group, one panel a set of samples and kind of group."""
    names = _Names()
    return tuple(
        _breakdown(one, kind, colours, names.new("breakdown", one.task, one.data, kind))
        for one in sets
        for kind in dict.fromkeys(kind for views in one.views for view in views for kind in view.groups)
    )


def _breakdown(samples: SampleSet, kind: str, colours: dict[str, int], name: str) -> BarPanel:
    scores: list[dict[str, list[float]]] = []
    for views in samples.views:
        groups: dict[str, list[float]] = {}
        for view in views:
            if kind in view.groups:
                found = groups.setdefault(view.groups[kind], [])
                found += _finite(view.score)
        scores.append(groups)
    every = dict.fromkeys(group for groups in scores for group in groups)
    counts = {group: max(len(groups.get(group, [])) for groups in scores) for group in every}
    # a stable sort: groups of one size stay in the order of the data
    shown = set(sorted(every, key=lambda group: -counts[group])[:GROUPS_SHOWN])
    kept = [group for group in every if group in shown]
    left, rest = len(every) - len(kept), sum(counts[one] for one in every if one not in shown)
    series, protocols = _series(samples)
    return BarPanel(
        name=name,
        title=f"{samples.title}, by {kind}",
        axis=f"mean of the samples' {_axis(samples.metric, samples.unit, samples.higher_is_better)}",
        unit=samples.unit,
        series=series,
        colours=tuple(colours[run] for run in samples.runs),
        categories=tuple(kept),
        bars=tuple(tuple(_mean(groups.get(group, [])) for groups in scores) for group in kept),
        counted="samples",
        note=f"Smaller groups that are left out: {left}, with {rest:,} samples." if left else "",
        protocols=protocols,
    )


def _series(samples: SampleSet) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The runs with a number each for its protocol, and what the numbers stand for."""
    protocols = _Protocols(samples.protocols)
    marked = zip(samples.runs, samples.protocols, strict=True)
    return tuple(run + protocols.mark(protocol) for run, protocol in marked), protocols.notes


def _finite(score: float | None) -> list[float]:
    return [score] if score is not None and math.isfinite(score) else []


def _mean(scores: list[float]) -> Bar:
    return Bar(value=math.fsum(scores) / len(scores) if scores else None, n=len(scores))


def rank_panels(sets: Sequence[SampleSet], colours: dict[str, int]) -> tuple[BarPanel, ...]:
    """How often the right answer stands at which rank, one panel a set of samples and direction."""
    names = _Names()
    return tuple(
        _histogram(one, direction, colours, names.new("ranks", one.task, one.data, direction))
        for one in sets
        for direction in dict.fromkeys(kind for views in one.views for view in views for kind in view.ranks)
    )


def _histogram(samples: SampleSet, direction: str, colours: dict[str, int], name: str) -> BarPanel:
    ranks = [_ranks(views, direction) for views in samples.views]
    last = max((rank for found in ranks for rank in found), default=1)
    bins = [one for one in RANK_BINS if one[0] <= last]
    series, protocols = _series(samples)
    return BarPanel(
        name=name,
        title=f"{samples.title}, ranks {direction}",
        axis="share of the queries (%)",
        unit="%",
        series=series,
        colours=tuple(colours[run] for run in samples.runs),
        categories=tuple(_bin_label(*one) for one in bins),
        bars=tuple(tuple(_share(found, *one) for found in ranks) for one in bins),
        counted="queries",
        note="The rank of the right answer, from 1; " + _queries(samples.runs, ranks),
        protocols=protocols,
        kind="ranks",
    )


def _ranks(views: Iterable[SampleView], direction: str) -> list[int]:
    return [rank for view in views for rank in view.ranks.get(direction, ())]


def _queries(runs: Sequence[str], ranks: list[list[int]]) -> str:
    counts = {len(found) for found in ranks}
    if len(counts) == 1:
        return f"{counts.pop():,} queries."
    return "queries: " + ", ".join(f"{run} {len(found):,}" for run, found in zip(runs, ranks, strict=True)) + "."


def _bin_label(first: int, last: int | None) -> str:
    return f"{first:,}" if first == last else f"over {first - 1:,}" if last is None else f"{first:,} to {last:,}"


def _share(ranks: list[int], first: int, last: int | None) -> Bar:
    inside = sum(first <= rank and (last is None or rank <= last) for rank in ranks)
    return Bar(value=100 * inside / len(ranks) if ranks else None, n=inside)


class _Names:
    """File names without anything a file system minds, no two alike."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def new(self, *parts: str) -> str:
        stem = re.sub(r"[^A-Za-z0-9._@+-]+", "-", "-".join(parts)).strip("-.")[:100] or "figure"
        number = 1
        while (name := stem if number == 1 else f"{stem}-{number}").lower() in self._taken:
            number += 1
        self._taken.add(name.lower())
        return name
