"""Runs whose samples were looked up, put together where they are over the same samples."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evalkit.report.numbers import Number
from evalkit.report.records import ProtocolFields, protocol_fields
from evalkit.report.text import elide
from evalkit.types import Failure, Protocol, RunResult, SampleView, SampleViews

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


_NAME_WIDTH = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRun:
    """A run on a page."""

    result: RunResult
    views: SampleViews | None
    """Its samples; None where there are none to show."""
    missing: str = ""
    """Why there are none."""
    numbers: tuple[Number, ...] = ()
    """Its numbers, for differences to other runs."""
    failures: tuple[Failure, ...] = ()
    """Its failed samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSet:
    """Runs of one task over the same samples, scored by the same measure."""

    task: str
    data: str
    """Data set, split and size of the protocols."""
    metric: str
    unit: str
    higher_is_better: bool
    runs: tuple[str, ...]
    """Their names, as `run_labels` has them."""
    protocols: tuple[ProtocolFields | None, ...]
    """By run: how the samples were asked that are shown; None where nobody knows."""
    views: tuple[tuple[SampleView, ...], ...]
    """By run, then sample."""

    @property
    def title(self) -> str:
        """`vqav2: demo-world-vqav2-800`."""
        return f"{self.task}: {self.data}"

    @property
    def size(self) -> int:
        """How many samples there are."""
        return len(self.views[0])


def told_apart(runs: Mapping[Path, ShownRun]) -> list[ShownRun]:
    """Runs by their directories; those of one id, in several folders, are named by as much of the path as it takes."""
    ids = Counter(run.result.run_id for run in runs.values())
    return [
        run
        if ids[run.result.run_id] == 1
        else _renamed(run, _own_end(path, [other for other in runs if other != path]))
        for path, run in runs.items()
    ]


def _own_end(path: Path, others: Sequence[Path]) -> str:
    """The last parts of a path that no other ends with."""
    length = 2
    while any(other.parts[-length:] == path.parts[-length:] for other in others):
        length += 1
    return "/".join(path.parts[-length:])


def _renamed(run: ShownRun, name: str) -> ShownRun:
    numbers = tuple(replace(one, record=replace(one.record, run=name)) for one in run.numbers)
    return replace(run, result=replace(run.result, run_id=name), numbers=numbers)


def samples_protocol(run: RunResult) -> Protocol | None:
    """The protocol by which a run's samples are shown: its main one, which is the last."""
    return run.protocols[-1] if run.protocols else None


def run_labels(results: Sequence[RunResult]) -> dict[str, str]:
    """Run id -> `blip/base`; with the run's id where several runs of a task share that."""
    names = {run.run_id: elide(f"{run.model}/{run.variant}", _NAME_WIDTH) for run in results}
    counts = Counter((run.task, names[run.run_id]) for run in results)
    return {
        run.run_id: names[run.run_id]
        if counts[run.task, names[run.run_id]] == 1
        else f"{names[run.run_id]} ({run.run_id})"
        for run in results
    }


def sample_sets(runs: Sequence[ShownRun]) -> tuple[SampleSet, ...]:
    """Runs that show their samples, in sets of one task, data, measure and sample ids; in the order of `runs`."""
    labels = run_labels([run.result for run in runs])
    found: dict[tuple[object, ...], list[ShownRun]] = {}
    for run in runs:
        if run.views is None or not run.views.views:
            continue
        views = run.views
        ids = tuple(view.id for view in views.views)
        key = (run.result.task, run.result.data_fingerprint, views.metric, views.unit, views.higher_is_better, ids)
        found.setdefault(key, []).append(run)
    return tuple(_set(members, labels) for members in found.values())


def _set(members: Sequence[ShownRun], labels: dict[str, str]) -> SampleSet:
    first = members[0]
    assert first.views is not None
    protocols = [samples_protocol(run.result) for run in members]
    return SampleSet(
        task=first.result.task,
        data=protocols[0].name if protocols[0] else "",
        metric=first.views.metric,
        unit=first.views.unit,
        higher_is_better=first.views.higher_is_better,
        runs=tuple(labels[run.result.run_id] for run in members),
        protocols=tuple(protocol_fields(protocol) if protocol else None for protocol in protocols),
        views=tuple(run.views.views for run in members if run.views is not None),
    )
