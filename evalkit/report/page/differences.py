"""Runs of one task less the first of them, as rows of tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.report.board import number
from evalkit.report.comparison import compare, flips
from evalkit.report.samplesets import run_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.report.comparison import Compared, Flips
    from evalkit.report.records import Record
    from evalkit.report.samplesets import ShownRun
    from evalkit.types import SampleViews


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceRow:
    """A number of two runs."""

    metric: str
    split: str
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
    rows: tuple[DifferenceRow, ...]
    across: str
    """The two protocols, where they differ; empty where they do not."""
    flipped: tuple[str, ...]
    """What happened to the samples, in words."""


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
    across = {
        f"{_protocol(one.old)} and {_protocol(one.new)}": None for one in compared.numbers if one.across_protocols
    }
    same_data = new.result.data_fingerprint == old.result.data_fingerprint
    return Differences(
        task=new.result.task,
        new=labels[new.result.run_id],
        old=labels[old.result.run_id],
        rows=tuple(_row(one) for one in compared.numbers),
        across="; ".join(across),
        flipped=_flipped(new.views, old.views) if same_data else (),
    )


def _protocol(record: Record) -> str:
    return f"{record.protocol} (digest {record.protocol_digest})"


def _row(one: Compared) -> DifferenceRow:
    unit, difference = one.new.unit, one.difference
    shown = ""
    if difference is not None:
        shown = _signed(difference.value, unit)
        if not math.isnan(difference.low):
            shown += f" [{_signed(difference.low, unit)}, {_signed(difference.high, unit)}]"
    return DifferenceRow(
        metric=f"{one.new.metric} ({unit})" if unit != "score" else one.new.metric,
        split=one.new.split,
        old=number(one.old.value, unit),
        new=number(one.new.value, unit),
        difference=shown,
        p="" if math.isnan(one.adjusted_p) else "< 0.001" if one.adjusted_p < 0.001 else f"{one.adjusted_p:.3f}",
        state=one.state,
        why=one.why,
    )


def _signed(value: float, unit: str) -> str:
    text = number(value, unit)
    return text if text == "n/a" or value < 0 else f"+{text}"


def _flipped(new: SampleViews | None, old: SampleViews | None) -> tuple[str, ...]:
    return () if new is None or old is None else tuple(_told(flips(new, old)))


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
