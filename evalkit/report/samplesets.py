"""Runs whose samples were looked up, put together where they are over the same samples."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.report.numbers import Number
from evalkit.report.text import elide
from evalkit.types import Failure, RunResult, SampleView, SampleViews

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    return SampleSet(
        task=first.result.task,
        # the main protocol is the last
        data=first.result.protocols[-1].name if first.result.protocols else "",
        metric=first.views.metric,
        unit=first.views.unit,
        higher_is_better=first.views.higher_is_better,
        runs=tuple(labels[run.result.run_id] for run in members),
        views=tuple(run.views.views for run in members if run.views is not None),
    )
