"""95 % intervals by the bootstrap, clustered: what is asked about an image, or a set of images, is drawn together."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evalkit.types import MetricValue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.metrics.tiles import IntArray

DoubleArray: TypeAlias = NDArray[np.float64]
Values: TypeAlias = NDArray[np.float64] | NDArray[np.int64] | NDArray[np.bool_]

SEED = 20220128
RESAMPLES = 1000
LEVEL = 0.95
_FRACTION = 2.0**30
"""Values are rounded to this fraction before they are added up, so that every sum is exact and its order, which differs
from BLAS to BLAS, cannot show. A value moves by less than 1e-9."""
_ROWS_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """The two ends of an interval."""

    low: float
    high: float


class ClusterBootstrap:
    """Resamples of clusters, drawn once, so that all statistics of a run are taken over the same ones.

    A resample draws as many clusters as there are, with replacement; within each stratum, where there are strata. A
    statistic is evaluated on each, and `interval` gives the percentiles. One cluster, or one a stratum, makes every
    resample the sample itself: low = high = value.

    Args:
        clusters: How many there are.
        strata: (clusters,): the stratum of each cluster, for statistics that are undefined where one is empty (folds).
        resamples: How many resamples.
        seed: The same seed gives the same intervals, to the bit, on one version of numpy.

    Raises:
        ValueError: No cluster.

    Example:
        >>> bootstrap = ClusterBootstrap(2)  # two images: a hit of one caption, and misses of three
        >>> sorted(set(bootstrap.ratio(np.array([1, 0]), np.array([1, 3])).tolist()))
        [0.0, 0.25, 1.0]
    """

    def __init__(
        self, clusters: int, *, strata: IntArray | None = None, resamples: int = RESAMPLES, seed: int = SEED
    ) -> None:
        if clusters < 1:
            raise ValueError("no cluster, no interval")
        rng = np.random.default_rng(seed)
        labels = np.zeros(clusters, np.int64) if strata is None else strata
        self.times_drawn = np.zeros((resamples, clusters))
        """(resamples, clusters): how often each cluster is in each resample."""
        for stratum in np.unique(labels):
            members = np.flatnonzero(labels == stratum)
            drawn = rng.integers(0, len(members), (resamples, len(members)))
            drawn += np.arange(resamples)[:, None] * len(members)
            counts = np.bincount(drawn.ravel(), minlength=resamples * len(members))
            self.times_drawn[:, members] = counts.reshape(resamples, -1)

    def ratio(self, sums: Values, sizes: Values) -> DoubleArray:
        """Mean over queries on each resample: the sum of the cluster sums over the sum of the cluster sizes.

        Args:
            sums: (clusters,) or (clusters, statistics): each cluster's sum of its queries' values.
            sizes: (clusters,) or (clusters, statistics): each cluster's number of queries.

        Returns:
            (resamples,) or (resamples, statistics). NaN where a resample holds no query.
        """
        exact = np.round(np.asarray(sums, np.float64) * _FRACTION) / _FRACTION
        queries = self.times_drawn @ np.asarray(sizes, np.float64)
        with np.errstate(invalid="ignore"):
            result: DoubleArray = (self.times_drawn @ exact) / queries
        return result

    def median(self, values: Values, clusters: IntArray) -> DoubleArray:
        """Median over queries on each resample; of an even number of queries the mean of the middle two.

        Args:
            values: (queries,)
            clusters: (queries,): the cluster of each query; each cluster has at least one.

        Returns:
            (resamples,)
        """
        order = np.argsort(values, kind="stable")
        ordered, owners = np.asarray(values, np.float64)[order], clusters[order]
        medians = np.empty(len(self.times_drawn))
        for start in range(0, len(medians), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            passed = np.cumsum(self.times_drawn[part].astype(np.int32)[:, owners], axis=1, dtype=np.int32)
            for row, counts in enumerate(passed, start):
                total = counts[-1]
                middle = np.searchsorted(counts, [(total - 1) // 2, total // 2], side="right")
                medians[row] = ordered[middle].mean()
        return medians


def draw_digest() -> str:
    """Equal where clusters are drawn alike: of the first resamples of a few clusters, by this version of numpy.

    Numbers on resamples that were drawn otherwise cannot be paired.
    """
    drawn = ClusterBootstrap(64, resamples=8).times_drawn.astype(np.int64)
    return hashlib.sha256(f"{RESAMPLES} {drawn.tolist()}".encode()).hexdigest()[:12]


def cluster_sums(values: Values, clusters: IntArray, count: int) -> DoubleArray:
    """Add up the values of each cluster's queries.

    Args:
        values: (queries,)
        clusters: (queries,): the cluster of each query.
        count: How many clusters there are.

    Returns:
        (count,)

    Example:
        >>> cluster_sums(np.array([1, 0, 1, 1]), np.array([0, 0, 2, 2]), 3).tolist()
        [1.0, 0.0, 2.0]
    """
    return np.bincount(clusters, weights=np.asarray(values, np.float64), minlength=count).astype(np.float64, copy=False)


def interval(statistics: DoubleArray, level: float = LEVEL) -> Interval:
    """Percentile interval: the (1 - level) / 2 quantiles from both ends, linear between order statistics.

    Args:
        statistics: (resamples,): a statistic on each resample; NaN, where it is undefined, is left out.
        level: The share of resamples inside.

    Returns:
        The ends; NaN where no resample is defined.

    Example:
        >>> interval(np.arange(5.0), level=0.5)
        Interval(low=1.0, high=3.0)
    """
    tail = (1.0 - level) / 2.0
    defined = statistics[~np.isnan(statistics)]
    if not len(defined):
        return Interval(low=np.nan, high=np.nan)
    low, high = np.quantile(defined, [tail, 1.0 - tail])
    return Interval(low=float(low), high=float(high))


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Where a set of numbers stands."""

    protocol: str
    """`Protocol.id`."""
    split: str

    def percent(self, metric: str, value: float, statistics: DoubleArray, n: int, clusters: int) -> MetricValue:
        """A percentage with its interval."""
        return self._value(metric, value, statistics, n, clusters, is_rank=False)

    def rank(self, metric: str, value: float, statistics: DoubleArray, n: int, clusters: int) -> MetricValue:
        """A rank with its interval: lower is better."""
        return self._value(metric, value, statistics, n, clusters, is_rank=True)

    def _value(
        self, metric: str, value: float, statistics: DoubleArray, n: int, clusters: int, *, is_rank: bool
    ) -> MetricValue:
        ends = interval(statistics)
        return MetricValue(
            metric=metric,
            split=self.split,
            protocol=self.protocol,
            value=value,
            low=ends.low,
            high=ends.high,
            n=n,
            unit="rank" if is_rank else "%",
            higher_is_better=not is_rank,
            clusters=clusters,
            resampled=tuple(statistics.tolist()),
        )


def mean_of(statistics: Sequence[DoubleArray]) -> DoubleArray:
    """The mean of several statistics on each resample, (resamples,): for the mean of the six recalls."""
    mean: DoubleArray = np.mean(np.stack(statistics), axis=0)
    return mean
