"""Two stored runs over the samples that both answered, scored again so that their numbers can be paired."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evalkit.errors import DataError
from evalkit.families.classification import ClassificationTask
from evalkit.families.generation import Splits
from evalkit.reopening import StoredRun, reopen
from evalkit.report.numbers import Number, numbers_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.types import Prediction, RunResult

_EACH_BY_ITSELF = (Splits, ClassificationTask)
"""The families that answer each sample by itself. Elsewhere an answer depends on which other images could be read, as a
rank does on the gallery: leaving a sample out afterwards would not give what a run without it gives."""
_LEFT_OUT = "left out: the run it is compared with has no answer to it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """The numbers of two runs over the samples that both answered."""

    new: tuple[Number, ...]
    old: tuple[Number, ...]
    left_out: int
    """Samples that failed in either run."""
    samples: int


def over_the_same_samples(new_dir: Path, old_dir: Path, *, new_data: Path, old_data: Path) -> Paired | None:
    """Score two runs again over the samples that both answered.

    A part of a split has no right to its protocol's name, and two parts of as many samples need not be the same part:
    the protocols are named after the two runs' common samples, and numbers of folds, which only whole splits have, are
    gone. Nothing that was stored changes.

    Args:
        new_dir: The one run's directory.
        old_dir: The other's.
        new_data: The data root of the one, for its annotations.
        old_data: That of the other.

    Returns:
        None where the same samples failed in both, and where scoring again would not make the runs comparable: they are
        of other tasks or data, or of a family that does not answer each sample by itself.

    Raises:
        DataError: The data are not those of the runs, or no sample was answered by both.
    """
    new, old = reopen(new_dir, new_data), reopen(old_dir, old_data)
    one, other = new.result, old.result
    if not same_data(one, other) or not isinstance(new.task, _EACH_BY_ITSELF):
        return None
    failed = _failed(new.predictions) | _failed(old.predictions)
    if failed == _failed(new.predictions) == _failed(old.predictions):
        return None
    if len(failed) == len(new.samples):
        raise DataError(
            f"No sample was answered by both {new_dir.name} and {old_dir.name}.",
            "Run one of them again: answers that came are cached.",
        )
    return Paired(new=_numbers(new, failed), old=_numbers(old, failed), left_out=len(failed), samples=len(new.samples))


def same_data(one: RunResult, other: RunResult) -> bool:
    """Whether two runs are over the same samples, but for those that failed."""
    return (one.task, one.limit, one.data_fingerprint) == (other.task, other.limit, other.data_fingerprint)


def _failed(predictions: Sequence[Prediction]) -> set[str]:
    return {one.sample_id for one in predictions if one.failure is not None}


def _numbers(run: StoredRun, failed: set[str]) -> tuple[Number, ...]:
    marked = [
        replace(one, failure=one.failure or _LEFT_OUT) if one.sample_id in failed else one for one in run.predictions
    ]
    count = len(marked) - len(failed)
    protocols = tuple(
        # one a route, the last: those before it are of folds
        {
            one.route: replace(one, name=f"{run.result.task}-{count}-answered-by-both") for one in run.result.protocols
        }.values()
    )
    metrics = run.task.score(run.samples, marked, protocols)
    result: RunResult = replace(
        run.result,
        protocols=protocols,
        metrics=metrics,
        counts=replace(run.result.counts, failed=len(failed)),
    )
    resampled = {(one.metric, one.split, one.protocol): one.resampled for one in metrics if one.resampled}
    return numbers_of(result, resampled, sorted(failed))
