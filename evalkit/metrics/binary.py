"""How well scores tell positives from negatives: AUROC, average precision, and what a threshold keeps.

Each measure has a form on every resample of a `ClusterBootstrap`: pairs are sorted once, and a resample only changes
how often each counts. All counts are integers, so that AUROC is exact whatever the order of summation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evalkit.metrics.tiles import BoolArray, IntArray

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from evalkit.metrics.bootstrap import ClusterBootstrap, DoubleArray

_PLACES_AT_ONCE = 4_000_000
"""Pairs times resamples that are looked at together: 32 MB an array."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ordered:
    """Pairs from the highest score down, those of equal score together."""

    order: IntArray
    """(pairs,): positions."""
    positive: BoolArray
    """(pairs,), in that order."""
    last: IntArray
    """(groups,): the place of the last pair of each group of equal scores."""

    def counts(self, times: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positives and negatives up to and with each group.

        Args:
            times: (resamples, pairs), in order: how often each pair counts.

        Returns:
            Two arrays (resamples, groups).
        """
        positives = np.cumsum(times * self.positive, axis=1)[:, self.last]
        return positives, np.cumsum(times, axis=1)[:, self.last] - positives


def auroc(scores: DoubleArray, labels: BoolArray) -> float:
    """The share of (positive, negative) pairs in which the positive's score is higher; equal scores count a half.

    Equals the area under the ROC curve, and the Mann-Whitney U over the number of pairs.

    Args:
        scores: (pairs,), finite.
        labels: (pairs,): True for positives; at least one of each kind.

    Raises:
        ValueError: Only one kind of label, or a score that is not a number.

    Example:
        >>> auroc(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False]))
        0.875
    """
    positives, negatives = _ordered(scores, labels).counts(np.ones((1, len(scores)), np.int64))
    return float(_areas(positives, negatives)[0])


def auroc_of_each(scores: DoubleArray, labels: BoolArray) -> DoubleArray:
    """For each score the share of the other kind that stands on the right side of it; equal scores count a half.

    The mean over positives is `auroc`, and so is that over negatives, and that over all.

    Args:
        scores: As in `auroc`.
        labels: As in `auroc`.

    Returns:
        (pairs,): of a positive the share of negatives below it, of a negative the share of positives above it.

    Raises:
        ValueError: As in `auroc`.

    Example:
        >>> auroc_of_each(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False])).tolist()
        [1.0, 0.75, 0.75, 1.0]
    """
    order = _ordered(scores, labels).order
    positives, negatives = (np.sort(scores[order][labels[order] == kind]) for kind in (True, False))
    below, above = (
        (np.searchsorted(others, scores, "left") + np.searchsorted(others, scores, "right")) / (2 * len(others))
        for others in (negatives, positives)
    )
    return np.where(labels, below, 1.0 - above)


def average_precision(scores: DoubleArray, labels: BoolArray) -> float:
    """Sum over thresholds of the gain in recall times the precision; equal scores are one threshold.

    No interpolation: AP = sum_t (R_t - R_{t-1}) P_t over the distinct scores t from the highest down, as scikit-learn's
    `average_precision_score`.

    Args:
        scores: (pairs,), finite.
        labels: (pairs,): True for positives; at least one of each kind.

    Raises:
        ValueError: Only one kind of label, or a score that is not a number.

    Example:
        >>> average_precision(np.array([3.0, 2.0, 1.0]), np.array([True, False, True]))
        0.8333333333333333
    """
    positives, negatives = _ordered(scores, labels).counts(np.ones((1, len(scores)), np.int64))
    return float(_precisions(positives, negatives)[0])


def resampled(
    scores: DoubleArray, labels: BoolArray, clusters: IntArray, bootstrap: ClusterBootstrap
) -> tuple[DoubleArray, DoubleArray]:
    """AUROC and average precision on each resample of the clusters.

    Args:
        scores: (pairs,), finite.
        labels: (pairs,): True for positives.
        clusters: (pairs,): the cluster of each.
        bootstrap: The resamples.

    Returns:
        Two arrays (resamples,); NaN where a resample lacks positives or negatives.

    Example:
        >>> from evalkit.metrics.bootstrap import ClusterBootstrap
        >>> bootstrap = ClusterBootstrap(2)  # in each cluster one positive, which is above its negative
        >>> scores, labels = np.array([4.0, 1.0, 3.0, 2.0]), np.array([True, False, True, False])
        >>> areas, _ = resampled(scores, labels, np.array([0, 0, 1, 1]), bootstrap)
        >>> float(areas.min())
        1.0
    """
    ordered = _ordered(scores, labels)
    owners = clusters[ordered.order]
    parts = [ordered.counts(times[:, owners]) for times in _parts(bootstrap, len(scores))]
    return (
        np.concatenate([_areas(*part) for part in parts]),
        np.concatenate([_precisions(*part) for part in parts]),
    )


def _parts(bootstrap: ClusterBootstrap, pairs: int) -> Iterator[NDArray[np.int64]]:
    step = max(1, _PLACES_AT_ONCE // pairs)
    for start in range(0, len(bootstrap.times_drawn), step):
        yield bootstrap.times_drawn[start : start + step].astype(np.int64)


def _ordered(scores: DoubleArray, labels: BoolArray) -> _Ordered:
    if scores.shape != labels.shape or scores.ndim != 1:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} are not of the same pairs")
    if not np.isfinite(scores).all():
        raise ValueError("a score is NaN or infinite, and cannot be ordered")
    if labels.all() or not labels.any():
        raise ValueError("positives and negatives are both needed")
    order = np.argsort(-scores, kind="stable")
    descending = scores[order]
    last = np.append(np.flatnonzero(descending[1:] != descending[:-1]), len(scores) - 1)
    return _Ordered(order=order, positive=labels[order], last=last)


def _areas(positives: NDArray[np.int64], negatives: NDArray[np.int64]) -> DoubleArray:
    gained = np.diff(positives, axis=1, prepend=0)
    below = 2 * negatives[:, -1:] - negatives - np.pad(negatives[:, :-1], ((0, 0), (1, 0)))  # twice; equal ones once
    with np.errstate(invalid="ignore"):
        areas: DoubleArray = (gained * below).sum(axis=1) / (2.0 * positives[:, -1] * negatives[:, -1])
    return areas


def _precisions(positives: NDArray[np.int64], negatives: NDArray[np.int64]) -> DoubleArray:
    gained = np.diff(positives, axis=1, prepend=0)
    kept = positives + negatives
    with np.errstate(invalid="ignore"):
        precisions: DoubleArray = (gained * positives / np.maximum(kept, 1)).sum(axis=1) / positives[:, -1]
    precisions[negatives[:, -1] == 0] = np.nan
    return precisions
