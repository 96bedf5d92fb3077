"""Retrieval within and across modalities with several right answers a query, and correlation with people's ratings.

The measures of Crisscrossed Captions (Parekh et al., EACL 2021, https://arxiv.org/abs/2004.15020): R@K and R-precision
from the ranks of all right answers, and the sampled Spearman correlation. Scores are those that `evalkit.metrics.tiles`
defines; where both sides have several vectors (two images of BLIP-2) a score is the largest over all pairs of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

from evalkit.errors import ModelOutputError
from evalkit.metrics.bootstrap import SEED, ClusterBootstrap, DoubleArray, cluster_sums, mean_of
from evalkit.metrics.retrieval import RECALL_AT, mean_recall
from evalkit.metrics.tiles import TILE_IMAGES, TILE_TEXTS, FloatArray, IntArray, tiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from evalkit.metrics.bootstrap import Table
    from evalkit.types import MetricValue

SAMPLES = 1000
LEAST_QUERIES = 20
"""A correlation over half of fewer queries says nothing."""
_TOGETHER = 50
_PAIRS_AT_ONCE = 1024


# ---------------------------------------------------------------------------------------------------------------------
# Ranks
# ---------------------------------------------------------------------------------------------------------------------
def wrong_before(
    queries: FloatArray,
    gallery: FloatArray,
    positives: Sequence[IntArray],
    *,
    itself: bool = False,
    tile_queries: int = TILE_IMAGES // 2,
    tile_gallery: int = TILE_TEXTS // 2,
) -> list[IntArray]:
    """For each right answer of a query, how many wrong ones score at least as much: ties count against.

    Right answers never count against each other, so the j-th of them (from 0) stands at position `result[j] + j`.

    Args:
        queries: (n, d), or (n, q, d) with q vectors each; float32.
        gallery: (m, d) or (m, r, d), float32.
        positives: For each query the rows of its right answers in the gallery; a query without any is not asked.
        itself: The gallery is the queries, in the same order, and a query is neither right nor wrong for itself.
        tile_queries: Vectors of queries a tile.
        tile_gallery: Vectors of the gallery a tile.

    Returns:
        For each query the counts, ascending: as many as it has right answers. Memory beyond them: one tile.

    Raises:
        ModelOutputError: NaN or infinity in a vector, which cannot be ranked.
        ValueError: Shapes that do not fit together.

    Example:
        >>> vectors = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]], dtype=np.float32)
        >>> ranks = wrong_before(vectors, vectors, [np.array([1, 3]), np.array([], np.int64)] * 2, itself=True)
        >>> [each.tolist() for each in ranks]
        [[0, 1], [], [0, 0], []]
    """
    stacks, others = _checked(queries, "a query"), _checked(gallery, "the gallery")
    if stacks.shape[2] != others.shape[2] or len(positives) != len(stacks) or (itself and len(others) != len(stacks)):
        raise ValueError(f"queries {stacks.shape}, gallery {others.shape} and {len(positives)} lists of positives")
    sizes = np.array([len(each) for each in positives])
    asked = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]  # most right answers first
    result = [np.empty(0, np.int64)] * len(stacks)
    if not len(asked):
        return result
    rows = np.repeat(np.arange(len(asked)), sizes[asked])
    columns = np.concatenate([positives[query] for query in asked])
    thresholds = _thresholds(rows, pair_scores(stacks, others, asked[rows], columns), sizes[asked])
    if itself:
        rows, columns = np.concatenate([rows, np.arange(len(asked))]), np.concatenate([columns, asked])
    left_out = _LeftOut(rows, columns)
    counts = np.zeros(thresholds.shape, np.int64)
    for part, span, scores in _score_tiles(stacks[asked], others, tile_queries, tile_gallery):
        left_out.erase(scores, part, span)
        counts[part] += _counts(scores, thresholds[part])
    for row, query in enumerate(asked.tolist()):
        result[query] = counts[row, : sizes[query]]
    return result


def pair_scores(left: FloatArray, right: FloatArray, rows: IntArray, columns: IntArray) -> FloatArray:
    """The scores of single pairs, (pairs,) float32: summed in double precision, the largest over pairs of vectors.

    Args:
        left: (n, d) or (n, q, d).
        right: (m, d) or (m, r, d).
        rows: (pairs,): rows of `left`.
        columns: (pairs,): rows of `right`.

    Example:
        >>> left, right = np.eye(2, dtype=np.float32), np.array([[[0.0, 0.5], [0.25, 0.0]]], dtype=np.float32)
        >>> pair_scores(left, right, np.array([0, 1]), np.array([0, 0])).tolist()
        [0.25, 0.5]
    """
    left, right = (each[:, None] if each.ndim == 2 else each for each in (left, right))
    scores = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        first, second = left[rows[part]].astype(np.float64), right[columns[part]].astype(np.float64)
        scores[part] = np.vecdot(first[:, :, None], second[:, None]).max(axis=(1, 2))
    return scores


def found_in_first_r(wrong: Sequence[int]) -> float:
    """R-precision: the share of a query's R right answers that are among its first R; ties as in `wrong_before`.

    Args:
        wrong: What `wrong_before` gives for the query, R numbers.

    Example:
        >>> found_in_first_r([0, 1, 1, 40])  # they stand at positions 0, 2, 3 and 43
        0.75
    """
    return sum(count + place < len(wrong) for place, count in enumerate(wrong)) / len(wrong)


# ---------------------------------------------------------------------------------------------------------------------
# Numbers
# ---------------------------------------------------------------------------------------------------------------------
def mode_values(
    modes: Mapping[str, tuple[Sequence[Sequence[int]], IntArray]], images: int, table: Table
) -> list[MetricValue]:
    """R@1/5/10 and R-precision of each mode, and the mean of all the recalls; intervals clustered by image.

    R@K: 100 times the share of queries with at least one right answer among the first K, ties as in `wrong_before`.

    Args:
        modes: `i2t`, ... -> for each query that is asked what `wrong_before` gives, and the row of its image.
        images: How many images there are.
        table: Where the numbers stand.

    Example:
        >>> from evalkit.metrics.bootstrap import Table
        >>> modes = {"i2i": ([[0, 3], [12]], np.array([0, 1]))}
        >>> [(value.metric, value.value) for value in mode_values(modes, 2, Table(protocol="p", split="test"))]
        [('i2i_r@1', 50.0), ('i2i_r@5', 50.0), ('i2i_r@10', 50.0), ('i2i_rprecision', 25.0), ('mean_recall', 50.0)]
    """
    bootstrap = ClusterBootstrap(images)
    values: list[MetricValue] = []
    recalls: list[tuple[float, DoubleArray]] = []
    asked = 0
    for mode, (wrong, owners) in modes.items():
        first = np.array([each[0] for each in wrong])
        sizes = cluster_sums(np.ones(len(wrong)), owners, images)
        scores = {f"{mode}_r@{k}": (first < k).astype(np.float64) for k in RECALL_AT}
        scores[f"{mode}_rprecision"] = np.array([found_in_first_r(each) for each in wrong])
        for metric, each in scores.items():
            with np.errstate(divide="ignore"):
                statistics = 100.0 * bootstrap.ratio(cluster_sums(each, owners, images), sizes)
            value = 100.0 * float(np.mean(each))
            # a resample may hold none of the few images that have a query
            values.append(table.percent(metric, value, statistics, len(wrong), len(np.unique(owners))))
            if "_r@" in metric:
                recalls.append((value, statistics))
        asked += len(wrong)
    together = mean_of([statistics for _, statistics in recalls])
    values.append(table.percent("mean_recall", mean_recall([value for value, _ in recalls]), together, asked, images))
    return values


def sampled_spearman(
    scores: DoubleArray | FloatArray,
    ratings: DoubleArray,
    queries: IntArray,
    *,
    samples: int = SAMPLES,
    seed: int = SEED,
) -> DoubleArray:
    """Spearman's correlation of scores and ratings on each sample: half of the queries, one rated pair of each.

    Queries are drawn without replacement, and of each one of its pairs with equal chance; ties get their mean rank.
    The paper's number is the mean over 1,000 samples, and what it prints as +- is their standard deviation. It does so
    because the pairs of one query are not independent of each other.

    Args:
        scores: (pairs,): the model's.
        ratings: (pairs,): people's.
        queries: (pairs,): any number that says which query a pair belongs to.
        samples: How many.
        seed: The same seed gives the same samples.

    Returns:
        (samples,). NaN where all scores or all ratings of a sample are equal.

    Raises:
        ValueError: Fewer than four queries, which leave no correlation to compute on a half.

    Example:
        >>> ratings = np.arange(8.0)
        >>> sampled_spearman(-ratings, ratings, np.arange(8), samples=3).round(6).tolist()
        [-1.0, -1.0, -1.0]
    """
    order = np.argsort(queries, kind="stable")
    starts = np.flatnonzero(np.diff(queries[order], prepend=-1)) if len(order) else order
    if len(starts) < 4:
        raise ValueError(f"{len(starts)} queries are too few for a correlation on half of them")
    sizes = np.diff(starts, append=len(order))
    half = len(starts) // 2
    rng = np.random.default_rng(seed)
    result = np.empty(samples)
    for start in range(0, samples, _TOGETHER):
        chosen = np.stack(
            [rng.permutation(len(starts))[:half] for _ in range(min(_TOGETHER, samples - start))]
        )  # (samples, half): queries
        pairs = order[starts[chosen] + rng.integers(0, sizes[chosen])]
        ranked = [rankdata(each[pairs], axis=1) - (half + 1) / 2 for each in (scores, ratings)]
        covariance, *variances = (np.vecdot(*two) for two in (ranked, ranked[:1] * 2, ranked[1:] * 2))
        with np.errstate(invalid="ignore"):
            result[start : start + len(pairs)] = covariance / np.sqrt(variances[0] * variances[1])
    return result


# ---------------------------------------------------------------------------------------------------------------------
# Parts
# ---------------------------------------------------------------------------------------------------------------------
class _LeftOut:
    """Pairs that are neither right nor wrong: their scores are taken out of the tiles."""

    def __init__(self, rows: IntArray, columns: IntArray) -> None:
        order = np.argsort(rows, kind="stable")
        self._rows, self._columns = rows[order], columns[order]

    def erase(self, scores: FloatArray, rows: slice, columns: slice) -> None:
        first, last = np.searchsorted(self._rows, [rows.start, rows.stop])
        places = self._columns[first:last] - columns.start
        inside = (places >= 0) & (places < scores.shape[1])
        scores[self._rows[first:last][inside] - rows.start, places[inside]] = -np.inf


def _score_tiles(
    stacks: FloatArray, others: FloatArray, tile_queries: int, tile_gallery: int
) -> Iterator[tuple[slice, slice, FloatArray]]:
    """Which queries, which of the gallery, and their scores."""
    count, vectors, size = others.shape
    step = max(1, tile_gallery // vectors) * vectors
    for rows, flat, tile in tiles(stacks, others.reshape(count * vectors, size), tile_queries, step, np.float64):
        scores = tile.astype(np.float32)
        if vectors > 1:
            scores = scores.reshape(len(scores), -1, vectors).max(axis=2)
        yield rows, slice(flat.start // vectors, flat.stop // vectors), scores


def _counts(scores: FloatArray, thresholds: FloatArray) -> IntArray:
    """How many scores of each row reach each of its thresholds, which descend and end in infinities."""
    lowest = np.min(thresholds, axis=1, where=np.isfinite(thresholds), initial=np.inf)
    rows, columns = np.divmod(np.flatnonzero(scores >= lowest[:, None]), scores.shape[1])
    reached = scores[rows, columns]
    counts = np.zeros(thresholds.shape, np.int64)
    for place in range(thresholds.shape[1]):
        limits = thresholds[:, place]
        if np.isinf(limits).all():
            break
        counts[:, place] = np.bincount(rows[reached >= limits[rows]], minlength=len(counts))
    return counts


def _thresholds(rows: IntArray, scores: FloatArray, sizes: IntArray) -> FloatArray:
    """(queries, most right answers): the scores of each query's right answers, descending, then infinities."""
    order = np.lexsort((-scores, rows))
    places = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    thresholds = np.full((len(sizes), int(sizes.max())), np.inf, np.float32)
    thresholds[rows, places] = scores[order]
    return thresholds


def _checked(vectors: FloatArray, what: str) -> FloatArray:
    stacks = vectors[:, None] if vectors.ndim == 2 else vectors
    if stacks.ndim != 3 or 0 in stacks.shape:
        raise ValueError(f"the vectors of {what} have the shape {vectors.shape}, not (n, d) or (n, q, d)")
    if not np.isfinite(stacks).all():
        raise ModelOutputError(
            f"The embedding of {what} holds NaN or infinity: it cannot be ranked.", "Try --dtype float32."
        )
    return np.ascontiguousarray(stacks, np.float32)
