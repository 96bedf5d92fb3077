"""Runs as one record a number: what every table, export and frame is made of."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from evalkit.types import MetricValue, Protocol, RunResult


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolFields:
    """A protocol as columns."""

    protocol: str
    """`Protocol.id`."""
    protocol_name: str
    """Data set, split and size."""
    route: str
    protocol_digest: str
    protocol_version: int
    prompt: str
    image_preprocessing: str
    text_preprocessing: str
    preprocessing_details: str
    decoding: str
    tie_rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(ProtocolFields):
    """One number, its interval and everything that traces it; the fields are the columns of CSV, JSON and the frame."""

    task: str
    split: str
    model: str
    variant: str
    checkpoint: str
    metric: str
    unit: str
    higher_is_better: bool
    main: bool
    """Whether it is the task's main metric."""
    value: float
    low: float
    high: float
    n: int
    clusters: int
    """`MetricValue.clusters`."""
    complete: bool
    samples: int
    failed: int
    limit: int | None
    run: str
    created: str
    options: str
    """`rerank_k=256, rerank_with=itm`."""
    checkpoint_digest: str
    data_fingerprint: str
    dtype: str
    """As `environment` of the run has it; empty where it says nothing."""


_INHERITED = [column.name for column in fields(ProtocolFields)]
COLUMNS = (*(column.name for column in fields(Record) if column.name not in _INHERITED), *_INHERITED)
"""The order of columns in exports: what was measured first, how in the end."""


def as_row(record: Record) -> dict[str, str | float | bool | None]:
    """A record by column, in the order of `COLUMNS`."""
    return {name: getattr(record, name) for name in COLUMNS}


def records_of(run: RunResult) -> list[Record]:
    """A run's numbers in its own order."""
    protocols = {protocol.id: protocol_fields(protocol) for protocol in run.protocols}
    return [_record(run, metric, protocols[metric.protocol]) for metric in run.metrics]


def protocol_fields(protocol: Protocol) -> ProtocolFields:
    """A protocol as columns."""
    return ProtocolFields(
        protocol=protocol.id,
        protocol_name=protocol.name,
        route=protocol.route,
        protocol_digest=protocol.digest,
        protocol_version=protocol.version,
        prompt=protocol.prompt,
        image_preprocessing=protocol.preprocessing.image,
        text_preprocessing=protocol.preprocessing.text,
        preprocessing_details=pairs(dict(protocol.preprocessing.details)),
        decoding=protocol.decoding,
        tie_rule=protocol.tie_rule,
    )


def _record(run: RunResult, metric: MetricValue, described: ProtocolFields) -> Record:
    return Record(
        **{one.name: getattr(described, one.name) for one in fields(ProtocolFields)},
        task=run.task,
        split=metric.split,
        model=run.model,
        variant=run.variant,
        checkpoint=run.checkpoint,
        metric=metric.metric,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        main=metric.metric == run.main_metric,
        value=metric.value,
        low=metric.low,
        high=metric.high,
        n=metric.n,
        clusters=metric.clusters,
        complete=run.complete,
        samples=run.counts.samples,
        failed=run.counts.failed,
        limit=run.limit,
        run=run.run_id,
        created=run.created,
        options=pairs(run.options),
        checkpoint_digest=run.checkpoint_digest,
        data_fingerprint=run.data_fingerprint,
        dtype=run.environment.get("dtype", ""),
    )


def pairs(options: Mapping[str, str]) -> str:
    """`a=1, b=2`, by name."""
    return ", ".join(f"{name}={options[name]}" for name in sorted(options))


def latest_only(runs: Sequence[RunResult]) -> tuple[list[Record], int]:
    """The records of each measurement's latest run, in the order of `runs`.

    A measurement is what decides a number: model, variant, weights, precision, task, options, protocol, limit and data.
    A run with unreadable images or with `--limit` measured other data than a whole one: neither replaces the other.

    Returns:
        The records, and how many runs were left out because of them.
    """
    latest: dict[tuple[object, ...], tuple[object, ...]] = {}
    for run in runs:
        for record in records_of(run):
            key = _measurement(record)
            latest[key] = max(latest.get(key, ()), _time(record))
    every = [record for run in runs for record in records_of(run)]
    kept = [record for record in every if latest[_measurement(record)] == _time(record)]
    return kept, len({record.run for record in every} - {record.run for record in kept})


def _measurement(record: Record) -> tuple[object, ...]:
    return (
        record.model,
        record.variant,
        record.checkpoint_digest,
        record.dtype,
        record.task,
        record.options,
        record.protocol_digest,
        record.limit,
        record.data_fingerprint,
    )


def _time(record: Record) -> tuple[object, ...]:
    """Two runs of one second are told apart by their names, in which `-10` is later than `-2`."""
    name = tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]+)", record.run))
    return (record.created, name)


def all_records(runs: Iterable[RunResult]) -> list[Record]:
    """Every run's records."""
    return [record for run in runs for record in records_of(run)]
