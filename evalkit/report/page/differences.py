"""Runs of one task less the first of them, as rows of tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.report.board import number
from evalkit.report.comparison import compare, flips
from evalkit.report.comparison_text import SIGNS, change, only_one_has, p_value, whose_samples
from evalkit.report.samplesets import run_labels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.report.comparison import Compared, Comparison, Flips
    from evalkit.report.records import Record
    from evalkit.report.samplesets import ShownRun
    from evalkit.types import SampleViews


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceRow:
    """A number of two runs."""

    metric: str
    old: str
    new: str
    difference: str
    p: str
    state: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """A run less another."""

    task: str
    new: str
    old: str
    groups: tuple[tuple[str, tuple[DifferenceRow, ...]], ...]
    """Rows under a heading: the route, or both where they differ, the old one first, and the split."""
    notes: tuple[str, ...]
    """What a reader of the rows should know, and what happened to the samples."""


def differences_of(runs: Sequence[ShownRun]) -> tuple[Differences, ...]:
    """Of each task with several runs, every further run less the first."""
    labels = run_labels([run.result for run in runs])
    tasks: dict[str, list[ShownRun]] = {}
    for run in runs:
        tasks.setdefault(run.result.task, []).append(run)
    return tuple(
        _differences(new, members[0], labels) for members in tasks.values() for new in members[1:] if new.numbers
    )


def _differences(new: ShownRun, old: ShownRun, labels: dict[str, str]) -> Differences:
    compared = compare(new.numbers, old.numbers, across_protocols=True)
    names = (labels[old.result.run_id], labels[new.result.run_id])
    same_data = new.result.data_fingerprint == old.result.data_fingerprint
    flipped = _flipped(new.views, old.views) if same_data else []
    return Differences(
        task=new.result.task,
        new=names[1],
        old=names[0],
        groups=_groups(compared.numbers),
        notes=(
            *_about_numbers(compared, names),
            *([whose_samples(old.result, new.result, names)] if flipped else []),
            *flipped,
        ),
    )


def _groups(numbers: Sequence[Compared]) -> tuple[tuple[str, tuple[DifferenceRow, ...]], ...]:
    found: dict[str, list[DifferenceRow]] = {}
    for one in numbers:
        route = " and ".join(dict.fromkeys((one.old.route, one.new.route)))
        found.setdefault(f"{route}, split {one.new.split}", []).append(_row(one))
    return tuple((title, tuple(rows)) for title, rows in found.items())


def _about_numbers(compared: Comparison, names: tuple[str, str]) -> Iterator[str]:
    across = dict.fromkeys(
        f"{_protocol(one.old)} and {_protocol(one.new)}"
        for one in compared.numbers
        if one.across_protocols and not one.why
    )
    if across:
        yield (
            f"Measured by different protocols: {'; '.join(across)}. The difference is one of model and protocol"
            " together."
        )
    yield from only_one_has(compared, names)
    if any(one.by_signs for one in compared.numbers):
        yield f"{SIGNS} few answers differ: p is what a sign test of so few can say at least."


def _protocol(record: Record) -> str:
    return f"{record.protocol} (digest {record.protocol_digest})"


def _row(one: Compared) -> DifferenceRow:
    unit, difference = one.new.unit, one.difference
    shown = ""
    if difference is not None:
        shown = change(difference.value, unit)
        if not math.isnan(difference.low):
            shown += f" [{change(difference.low, unit)}, {change(difference.high, unit)}]"
    return DifferenceRow(
        metric=f"{one.new.metric} ({unit})" if unit != "score" else one.new.metric,
        old=number(one.old.value, unit),
        new=number(one.new.value, unit),
        difference=shown,
        p="" if math.isnan(one.adjusted_p) else p_value(one.adjusted_p) + SIGNS * one.by_signs,
        state=one.state,
        why=one.why,
    )


def _flipped(new: SampleViews | None, old: SampleViews | None) -> list[str]:
    return [] if new is None or old is None else _told(flips(new, old))


def _told(found: Flips) -> list[str]:
    lines = []
    if found.gained or found.lost:
        lines.append(f"Wrong before and right now: {len(found.gained):,} samples; the reverse: {len(found.lost):,}.")
    lines += [
        f"Queries whose rank changed, {one.direction}: {one.improved:,} better, {one.worsened:,} worse;"
        f" {one.stayed:,} stayed."
        for one in found.ranks
    ]
    if found.moved:
        better = sum((one.change > 0) == found.higher_is_better for one in found.moved)
        lines.append(
            f"Samples whose score ({found.metric}) changed: {better:,} better, {len(found.moved) - better:,} worse, of"
            f" {found.compared:,} that both answered."
        )
    if found.left_out:
        lines.append(f"Failed in one of the runs, or in one only: {found.left_out:,} samples.")
    return lines or ["No answer changed." if found.none else f"{found.other_answers:,} answers changed."]
