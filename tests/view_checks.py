"""What the views of every stored run must be, whatever its task."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from evalkit.reopening import reopen, views_of
from evalkit.types import MetricValue, RunResult, SampleView, SampleViews

BREAKDOWNS = {"answer type": "accuracy_{}", "domain": "cider_{}", "subset": "accuracy_{}"}
"""What views are grouped by -> the run's number of each group."""


def check_views(run_dir: Path, data_dir: Path) -> SampleViews:
    """Views are of the run's samples, in order, and their scores average to the run's number."""
    run = reopen(run_dir, data_dir)
    views = views_of(run_dir, data_dir)
    assert views is not None, run.result.task
    assert views == run.task.views(run.samples, run.predictions, run.result.protocols)
    ids = [view.id for view in views.views]
    assert len(set(ids)) == len(ids)
    known = {sample.id for sample in run.samples}
    owners = [identifier if identifier in known else identifier.rpartition("#")[0] for identifier in ids]
    assert list(dict.fromkeys(owners)) == [sample.id for sample in run.samples]
    failures = {one.sample_id: one.failure for one in run.predictions}
    for owner, view in zip(owners, views.views, strict=True):
        assert view.failure == failures[owner]
        check_view(view, views)
    check_scores(views, run.result)
    return views


def check_view(view: SampleView, views: SampleViews) -> None:
    if view.failure is not None:
        assert (view.answer, view.score, view.right, dict(view.ranks)) == ("", None, None, {})
    if view.score is not None:
        assert type(view.score) is float
        assert math.isfinite(view.score)
        least, most = {"%": (0, 100), "points": (0, 1000), "rank": (1, math.inf)}[views.unit]
        assert least <= view.score <= most
    assert view.right is None or type(view.right) is bool
    for ranks in view.ranks.values():
        assert ranks
        assert all(type(rank) is int and rank >= 1 for rank in ranks)
    assert all(value for value in view.groups.values())
    assert all(view.references)


def check_scores(views: SampleViews, result: RunResult) -> None:
    """The mean of all scores, and of those of each group that the run has a number of."""
    scores = [view.score for view in views.views if view.score is not None]
    number = number_of(views.metric, result)
    if number is None:
        assert not scores
        return
    assert (number.unit, number.higher_is_better) == (views.unit, views.higher_is_better)
    assert number.n == len(scores)
    assert mean(scores) == pytest.approx(number.value, rel=0, abs=1e-9)
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for view in views.views:
        for name, value in view.groups.items():
            if view.score is not None:
                groups[name, value].append(view.score)
    for (name, value), members in groups.items():
        if name in BREAKDOWNS:
            told = number_of(BREAKDOWNS[name].format(value), result)
            assert told is not None, (name, value)
            assert told.n == len(members)
            assert mean(members) == pytest.approx(told.value, rel=0, abs=1e-9), (name, value)


def number_of(metric: str, result: RunResult) -> MetricValue | None:
    """The run's number of that name under its main protocol, over all samples of the split."""
    found = [
        one
        for one in result.metrics
        if (one.metric, one.protocol) == (metric, result.protocols[-1].id) and "/" not in one.split
    ]
    assert len(found) <= 1
    return found[0] if found else None


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
