"""Retrieval measures from 0-based ranks (`evalkit.metrics.ranks`), as papers print them, and their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evalkit.metrics.bootstrap import ClusterBootstrap, cluster_sums, mean_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.metrics.bootstrap import DoubleArray, Table
    from evalkit.metrics.ranks import Ranks
    from evalkit.metrics.tiles import IntArray
    from evalkit.types import MetricValue

RECALL_AT = (1, 5, 10)


def recall_at_k(ranks: IntArray, k: int) -> float:
    """R@K: 100 times the share of queries whose 0-based rank is < k (a hit rate; ties are settled in the ranks).

    With several right answers to a query (an image's captions) its rank is that of the best one. This is what CLIP
    and BLIP report; the recall of information retrieval would divide by the number of right answers.

    Args:
        ranks: (queries,), 0-based, at least one.
        k: How many answers are looked at.

    Raises:
        ValueError: No ranks.

    Example:
        >>> recall_at_k(np.array([0, 4, 5, 20]), 5)
        50.0
    """
    _check(ranks)
    return 100.0 * int(np.count_nonzero(ranks < k)) / len(ranks)


def mean_recall(recalls: Sequence[float]) -> float:
    """Mean of the recalls: of the six, R@1, R@5 and R@10 in both directions (a sixth of the `RSUM` of some papers).

    Example:
        >>> mean_recall([60.0, 80.0, 90.0, 40.0, 70.0, 80.0])
        70.0
    """
    return sum(recalls) / len(recalls)


def median_rank(ranks: IntArray) -> float:
    """Median of the 1-based ranks; of an even number of queries the mean of the middle two (ties: as in the ranks).

    Args:
        ranks: (queries,), 0-based, at least one.

    Raises:
        ValueError: No ranks.

    Example:
        >>> median_rank(np.array([0, 0, 3, 9]))
        2.5
    """
    _check(ranks)
    return float(np.median(ranks)) + 1.0


def mean_rank(ranks: IntArray) -> float:
    """Mean of the 1-based ranks (ties: as in the ranks).

    Args:
        ranks: (queries,), 0-based, at least one.

    Raises:
        ValueError: No ranks.

    Example:
        >>> mean_rank(np.array([0, 0, 3, 9]))
        4.0
    """
    _check(ranks)
    return int(ranks.sum()) / len(ranks) + 1.0


def retrieval_values(
    ranks: Ranks, image_of_text: IntArray, table: Table, fold_of_image: IntArray | None = None
) -> list[MetricValue]:
    """R@1/5/10 both ways, their mean, median and mean ranks, with intervals clustered by image; ties as in the ranks.

    With folds a recall is the mean over the folds of the recall in each (COCO 1K), and images are drawn within their
    fold; median and mean ranks are left out.

    Args:
        ranks: 0-based, of n images and m texts.
        image_of_text: (m,): the row of each text's image.
        table: Where the numbers stand.
        fold_of_image: (n,), where the ranks are within folds.

    Example:
        >>> from evalkit.metrics.bootstrap import Table
        >>> from evalkit.metrics.ranks import Ranks
        >>> ranks = Ranks(i2t=np.array([0, 7]), t2i=np.array([0, 0, 3]))
        >>> for value in retrieval_values(ranks, np.array([0, 1, 1]), Table(protocol="p", split="test"))[:3]:
        ...     print(value.metric, value.value, value.low, value.high, value.n)
        i2t_r@1 50.0 0.0 100.0 2
        i2t_r@5 50.0 0.0 100.0 2
        i2t_r@10 100.0 100.0 100.0 2
    """
    images = len(ranks.i2t)
    folds = np.zeros(images, np.int64) if fold_of_image is None else fold_of_image
    bootstrap = ClusterBootstrap(images, strata=folds)
    directions = {"i2t": (ranks.i2t, np.arange(images)), "t2i": (ranks.t2i, image_of_text)}
    recalls = {
        f"{direction}_r@{k}": (*_fold_recall(queries, owners, folds, bootstrap, k), len(queries))
        for direction, (queries, owners) in directions.items()
        for k in RECALL_AT
    }
    values = [table.percent(name, *recall, images) for name, recall in recalls.items()]
    mean = mean_recall([value for value, _, _ in recalls.values()])
    statistics = mean_of([each for _, each, _ in recalls.values()])
    values.append(table.percent("mean_recall", mean, statistics, images + len(image_of_text), images))
    if fold_of_image is None:
        for direction, (queries, owners) in directions.items():
            n = len(queries)
            medians = bootstrap.median(queries + 1, owners)
            means = bootstrap.ratio(cluster_sums(queries + 1, owners, images), _sizes(owners, images))
            values.append(table.rank(f"{direction}_median_rank", median_rank(queries), medians, n, images))
            values.append(table.rank(f"{direction}_mean_rank", mean_rank(queries), means, n, images))
    return values


def _fold_recall(
    ranks: IntArray, owners: IntArray, folds: IntArray, bootstrap: ClusterBootstrap, k: int
) -> tuple[float, DoubleArray]:
    """Mean over folds of R@K, and the same on each resample."""
    inside = np.unique(folds) == folds[:, None]
    hits = cluster_sums(ranks < k, owners, len(folds))[:, None] * inside
    sizes = _sizes(owners, len(folds))[:, None] * inside
    value = mean_recall([recall_at_k(ranks[folds[owners] == fold], k) for fold in np.unique(folds)])
    return value, 100.0 * bootstrap.ratio(hits, sizes).mean(axis=1)


def _sizes(owners: IntArray, images: int) -> DoubleArray:
    return cluster_sums(np.ones(len(owners)), owners, images)


def _check(ranks: IntArray) -> None:
    if not len(ranks):
        raise ValueError("no query, no measure")
