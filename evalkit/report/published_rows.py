"""Published numbers as records, so that tables can show them beside those of runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.report.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evalkit.published import PublishedResult

_OF_THE_RECORDS = re.compile(r"weights|published|in the card|on record|adapter|to be checked")
"""Parts of a note that are about weights and our records of the source: not for those who read a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRecord(Record):
    """A number that a paper published: of no run, and without an interval."""

    paper: str
    table: str
    printed: str
    """The number as the source prints it."""
    note: str
    """What a reader of the number should know: `zero-shot`."""
    aside: str
    """What is known of its weights and of the record of it here."""


def narrowed(
    published: Iterable[PublishedResult], measured: Sequence[Record], labels: Sequence[str] = ()
) -> list[PublishedResult]:
    """The rows of the models that were measured, of any size and weights; or those that are asked for.

    Args:
        published: As `evalkit.published.read_published` gives them.
        measured: The numbers of runs.
        labels: Parts of rows' labels, in any case; a row with one of them is taken, whatever its model.
    """
    rows = list(published)
    if labels:
        return [row for row in rows if any(part.casefold() in row.label.casefold() for part in labels)]
    models = {record.model for record in measured}
    known = sorted({row.model for row in rows if row.model} | models, key=len, reverse=True)
    return [row for row in rows if _family(row, known) in models]


def _family(row: PublishedResult, models: Sequence[str]) -> str:
    """The model of a row; where no adapter runs that, the one that its label begins with: blip2 of `BLIP-2 ViT-L`."""
    told = _bare(row.label)
    return row.model or next((model for model in models if _bare(model) and told.startswith(_bare(model))), "")


def _bare(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def published_in(record: Record) -> str:
    """`BLIP (Li et al. 2022), table 7`; empty for a number of a run."""
    return f"{record.paper}, {record.table}" if isinstance(record, PublishedRecord) else ""


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
    parts = re.split(r"; |: (?=no revision)", result.note)
    return PublishedRecord(
        paper=result.paper,
        table=result.table,
        printed=result.printed(metric),
        note="; ".join(part for part in parts if not _OF_THE_RECORDS.search(part)),
        aside="; ".join(part for part in parts if _OF_THE_RECORDS.search(part)),
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
        unit=alike.unit if alike else "rank" if of_ranks else "points" if metric.startswith("cider") else "%",
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
