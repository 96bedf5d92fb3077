"""Numbers with their resamples, and whether two may be compared: what comparisons, gates and daggers are made of."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from evalkit import store
from evalkit.metrics.bootstrap import DoubleArray
from evalkit.metrics.comparison import Difference, paired_difference, standard_error, unpaired_difference
from evalkit.metrics.few_changes import cautious, changes
from evalkit.report.records import Record, records_of
from evalkit.report.text import elide

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.types import MetricValue, RunResult

_DETAIL = re.compile(r", (?=\w+=)")
_VALUE_WIDTH = 120
Key: TypeAlias = tuple[str, str, str]
"""Metric, split and protocol's id: what tells a run's numbers apart."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Number:
    """One number of a run, with what a comparison needs."""

    record: Record
    unanswered: str
    """A digest of the ids of the samples that failed: numbers over different samples cannot be paired. Empty where none
    did."""
    resampled: DoubleArray | None
    """(resamples,): see `MetricValue.resampled`; None where there are none."""

    @property
    def key(self) -> Key:
        """What tells it apart from the run's other numbers."""
        return (self.record.metric, self.record.split, self.record.protocol)


def read_numbers(run_dir: Path) -> tuple[Number, ...]:
    """Every number of a stored run.

    Raises:
        StoreError: The run cannot be read.
    """
    result = store.read_run(run_dir)
    resampled = {(one.metric, one.split, one.protocol): one.values for one in store.read_resampled(run_dir)}
    failed = [failure.sample for failure in store.read_failures(run_dir)] if result.counts.failed else []
    return numbers_of(result, resampled, failed)


def numbers_of(result: RunResult, resampled: dict[Key, tuple[float, ...]], failed: Sequence[str]) -> tuple[Number, ...]:
    """A run's numbers.

    Args:
        result: The run.
        resampled: The values of its numbers on the resamples, of those that have any.
        failed: The ids of its failed samples.
    """
    unanswered = digest_of(failed)
    return tuple(
        Number(record=record, unanswered=unanswered, resampled=_array(resampled.get(_key(metric))))
        for record, metric in zip(records_of(result), result.metrics, strict=True)
    )


def digest_of(failed: Sequence[str]) -> str:
    """Of a set of sample ids; empty for none."""
    return hashlib.sha256("\0".join(sorted(failed)).encode()).hexdigest()[:16] if failed else ""


def _key(metric: MetricValue) -> Key:
    return (metric.metric, metric.split, metric.protocol)


def _array(values: tuple[float, ...] | None) -> DoubleArray | None:
    return None if values is None else np.array(values, np.float64)


def why_not_comparable(new: Number, old: Number, *, across_protocols: bool = False) -> str:
    """Why two numbers cannot be compared; empty where they can. Models and weights may differ, nothing else.

    Args:
        new: The one.
        old: The other.
        across_protocols: Let differ how a model was asked too: route, prompt, preprocessing, decoding, and the tie rule
            that comes with a route. What is compared then is each model with its protocol; data set, split and the
            task's version must be the same.
    """
    one, other = new.record, old.record
    if one.metric != other.metric or one.unit != other.unit:
        return f"{one.metric} ({one.unit}) and {other.metric} ({other.unit}) are different measures"
    if one.task != other.task or one.split != other.split:
        return f"{one.task}, {one.split} and {other.task}, {other.split} are different measurements"
    if one.limit != other.limit:
        return f"{_limit(one)} and {_limit(other)} were evaluated"
    if one.protocol_digest != other.protocol_digest and not (across_protocols and _same_measurement(one, other)):
        return f"the protocols differ: {_differences(one, other)}"
    if one.data_fingerprint != other.data_fingerprint:
        return f"the data differ: fingerprints {one.data_fingerprint[:12]} and {other.data_fingerprint[:12]}"
    if new.unanswered != old.unanswered:
        return f"the samples differ: {one.failed} and {other.failed} of them failed, not the same ones"
    return ""


def _same_measurement(one: Record, other: Record) -> bool:
    return (one.protocol_name, one.protocol_version) == (other.protocol_name, other.protocol_version)


def _limit(record: Record) -> str:
    return "the whole split" if record.limit is None else f"the first {record.limit} samples (--limit)"


def _differences(one: Record, other: Record) -> str:
    names = (
        "protocol",
        "protocol_version",
        "prompt",
        "image_preprocessing",
        "text_preprocessing",
        "preprocessing_details",
        "decoding",
        "tie_rule",
    )
    return "; ".join(
        f"{name.replace('_', ' ')} {' and '.join(map(repr, _apart(name, getattr(one, name), getattr(other, name))))}"
        for name in names
        if getattr(one, name) != getattr(other, name)
    )


def _apart(name: str, *values: object) -> Sequence[object]:
    """Two values, short; of details, `size=384, crop=1.0`, what is not in both."""
    texts = [str(value) for value in values]
    if name == "preprocessing_details":
        parts = [_DETAIL.split(text) for text in texts]
        texts = [", ".join(one for one in parts[place] if one not in parts[1 - place]) for place in (0, 1)]
    short = [elide(text, _VALUE_WIDTH) for text in texts]
    return values if isinstance(values[0], int) or short[0] == short[1] else short


def difference_of(new: Number, old: Number) -> Difference:
    """New less old: resample by resample where both have resamples, else by their intervals.

    Without resamples what both find hard does not cancel: such a difference is less certain than it could be, not more.
    Call it for numbers that `why_not_comparable` has nothing against.
    """
    clusters = min(new.record.clusters or new.record.n, old.record.clusters or old.record.n)
    if new.resampled is not None and old.resampled is not None and new.resampled.shape == old.resampled.shape:
        return paired_difference(
            new.resampled,
            old.resampled,
            new_value=new.record.value,
            old_value=old.record.value,
            clusters=clusters,
        )
    return unpaired_difference(
        new_value=new.record.value,
        new_error=standard_error(new.record.low, new.record.high),
        old_value=old.record.value,
        old_error=standard_error(old.record.low, old.record.high),
        clusters=clusters,
    )


def cautious_difference(new: Number, old: Number) -> Difference:
    """`difference_of`, with an interval and a p-value that hold where few answers differ, or a number moves in steps.

    What says of two runs that one is better, or that they are equally good, goes by this one.
    """
    found = difference_of(new, old)
    if not found.paired or new.resampled is None or old.resampled is None:
        return found
    return cautious(found, changes(new.resampled, old.resampled))
