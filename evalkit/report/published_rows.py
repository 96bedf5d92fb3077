"""Published numbers as records, so that tables can show them beside those of runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.report.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evalkit.published import PublishedResult


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRecord(Record):
    """A number that a paper published: of no run, and without an interval."""

    paper: str
    table: str
    note: str


def published_records(published: Iterable[PublishedResult], measured: Sequence[Record]) -> list[PublishedRecord]:
    """The published numbers of the tasks that were measured.

    Args:
        published: As `evalkit.published.read_published` gives them.
        measured: The numbers of runs; they tell each metric's unit, and which is a task's main one.
    """
    known = {(record.task, record.metric): record for record in measured}
    tasks = {record.task for record in measured}
    return [
        _record(result, metric, value, known.get((result.task, metric)))
        for result in published
        if result.task in tasks
        for metric, value in result.metrics.items()
    ]


def _record(result: PublishedResult, metric: str, value: float, alike: Record | None) -> PublishedRecord:
    name, _, route = result.protocol.partition("/")
    of_ranks = metric.endswith("_rank")
    return PublishedRecord(
        paper=result.paper,
        table=result.table,
        note=result.note,
        protocol=result.protocol,
        protocol_name=name,
        route=route,
        # no digest is known: what a source does not say of its protocol cannot be compared
        protocol_digest="",
        protocol_version=0,
        prompt=result.prompt,
        image_preprocessing="",
        text_preprocessing="",
        preprocessing_details="",
        decoding="",
        tie_rule="",
        task=result.task,
        split=result.split,
        model=result.label,
        variant="",
        checkpoint=result.checkpoint,
        metric=metric,
        unit=alike.unit if alike else "rank" if of_ranks else "%",
        higher_is_better=alike.higher_is_better if alike else not of_ranks,
        main=alike is not None and alike.main,
        value=value,
        low=float("nan"),
        high=float("nan"),
        n=0,
        clusters=0,
        complete=True,
        samples=0,
        failed=0,
        limit=None,
        run="",
        created="",
        options="",
        checkpoint_digest="",
        data_fingerprint="",
        dtype="",
    )
