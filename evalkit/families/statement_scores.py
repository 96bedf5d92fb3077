"""Verdicts to numbers: a pure function of what a run stores.

Imported by `evalkit.families.statements` inside the method that uses it, so it may import numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253 # see above

from evalkit.errors import DataError
from evalkit.families.generation_scores import Clustered, can_be_scored, generation_values
from evalkit.metrics.bootstrap import cluster_sums  # noqa: TID253 # see above
from evalkit.metrics.nlvr2 import accuracy, consistency, consistent_groups, is_right  # noqa: TID253 # see above

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from evalkit.families.statements import StatementPrediction, StatementSample
    from evalkit.types import MetricValue

_SUBSETS = ("balanced", "unbalanced")


def score(
    samples: Sequence[StatementSample],
    predictions: Sequence[StatementPrediction],
    *,
    protocol: str,
    split: str,
) -> tuple[MetricValue, ...]:
    """Accuracy and consistency, of all and of the balanced and unbalanced subsets, in percent; then what was generated.

    Samples of one image set are drawn together. Each statement of a group, each image pair and each subset's pair lies
    within one set, so a resample holds whole groups, and consistency is defined on it as on the split.

    Args:
        samples: The split.
        predictions: One a sample, in order. Failed ones are left out of every number and of its `n`, and so is the
            whole group of a failed one from consistency, which nobody can know.
        protocol: `Protocol.id`.
        split: The split's name.

    Raises:
        DataError: Every statement failed.
    """
    both = list(zip(samples, predictions, strict=True))
    answered = [(sample, one) for sample, one in both if one.failure is None]
    if not answered:
        raise DataError("Every statement failed, so there is nothing to score.", "Run the evaluation again.")
    over = Clustered([sample.cluster for sample, _ in answered], protocol=protocol, split=split)
    told = tuple(_of_texts([one for _, one in answered], over))
    without = [sample.id for sample, _ in answered if not sample.label]
    if not can_be_scored(without, len(answered), "statements have no label"):
        return told
    right = [is_right(one.answer, sample.label) for sample, one in answered]
    values: list[MetricValue] = []
    for subset in ("", *_SUBSETS):
        ending = f"_{subset}" if subset else ""
        members = np.array([subset in ("", sample.subset) for sample, _ in answered])
        if not members.any():
            continue
        share = accuracy([right[row] for row in np.flatnonzero(members).tolist()])
        each = 100.0 * np.array(right)
        values.append(over.mean(f"accuracy{ending}", each, members, value=share.percent))
        cut = {sample.group for sample, one in both if one.failure is not None and subset in ("", sample.subset)}
        members &= np.array([sample.group not in cut for sample, _ in answered])
        if members.any():
            values.append(
                _consistency(f"consistency{ending}", [sample.group for sample, _ in answered], right, members, over)
            )
    return (*values, *told)


def _consistency(
    metric: str, groups: Sequence[str], right: Sequence[bool], members: NDArray[np.bool_], over: Clustered
) -> MetricValue:
    rows = np.flatnonzero(members).tolist()
    taken, answers = [groups[row] for row in rows], [right[row] for row in rows]
    share = consistency(taken, answers)
    cluster_of = dict(zip(taken, over.clusters[rows].tolist(), strict=True))
    found = consistent_groups(taken, answers)
    clusters = np.array([cluster_of[group] for group in found])
    count = len(over.bootstrap.times_drawn[0])
    sums = cluster_sums(100.0 * np.array(list(found.values())), clusters, count)
    resampled = over.bootstrap.ratio(sums, cluster_sums(np.ones(len(found)), clusters, count))
    return over.value(metric, share.percent, resampled, share.of)


def _of_texts(predictions: Sequence[StatementPrediction], over: Clustered) -> Iterator[MetricValue]:
    """`unparsed`: the share of generated answers that are no verdict; then those of every generative family."""
    generated = np.array([one.finish is not None for one in predictions])
    if generated.any():
        unparsed = np.array([100.0 * (one.answer == "") for one in predictions])
        yield over.mean("unparsed", unparsed, generated, higher_is_better=False)
    yield from generation_values(predictions, [one.text.strip() for one in predictions], over)
