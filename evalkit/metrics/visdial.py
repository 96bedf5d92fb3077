"""VisDial v1.0 metrics as the official evaluator defines them, with a rule for equal scores, which it lacks.

The official code (visdial-challenge-starter-pytorch, `visdialch/metrics.py`) sorts the 100 candidates by score; among
equal scores the order is whatever `torch.sort` leaves them in. Here every number is the expected one over all orders of
equal scores: what the official code gives on average, chance where a model says the same of every candidate, and the
official number itself where no scores are equal. Sums are in double precision; the official ones are in single.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

TIE_RULE = "the mean over all orders of equal scores"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The ranks, from 1, that a candidate can have: several where others have its score."""

    first: int
    """Its rank if it comes first among its equals."""
    last: int
    """Its rank if it comes last."""

    @property
    def rank(self) -> float:
        """Expected rank: the mean of first and last; ties count half.

        Example:
            >>> Place(first=2, last=3).rank
            2.5
        """
        return (self.first + self.last) / 2

    @property
    def reciprocal_rank(self) -> float:
        """Expected 1 / rank, the mean over the ranks from first to last.

        Example:
            >>> Place(first=1, last=2).reciprocal_rank
            0.75
        """
        ranks = range(self.first, self.last + 1)
        return sum(1 / rank for rank in ranks) / len(ranks)

    def recall(self, k: int) -> float:
        """R@k: the probability that the rank is at most k, over all orders of equal scores.

        Example:
            >>> Place(first=4, last=7).recall(5)
            0.5
        """
        within = min(k, self.last) - self.first + 1
        return max(0, within) / (self.last - self.first + 1)


def place_of(scores: Sequence[float], candidate: int) -> Place:
    """Where a candidate stands by descending score: one plus those above it, to those above or equal to it.

    Args:
        scores: One a candidate.
        candidate: Its position, from 0.

    Example:
        >>> place_of([0.5, 0.9, 0.5, 0.1], 2)
        Place(first=2, last=3)
    """
    values = np.asarray(scores, np.float64)
    own = values[candidate]
    above = int((values > own).sum())
    return Place(first=above + 1, last=above + int((values == own).sum()))


def ndcg(scores: Sequence[float], relevance: Sequence[float]) -> float | None:
    """NDCG at k = candidates of relevance > 0: sum of rel / log2(rank + 1) over the ideal one; equal scores share rel.

    Each of several equal scores is credited with their mean relevance, which is the expected one in a random order.

    Args:
        scores: One a candidate.
        relevance: One a candidate, from the dense annotations.

    Returns:
        0 to 1; None where no candidate is relevant, for which NDCG is not defined (the official code gives NaN).

    Example:
        >>> ndcg([0.9, 0.5, 0.1], [0.0, 1.0, 0.0])
        0.0
        >>> round(ndcg([0.9, 0.5, 0.1], [0.5, 1.0, 0.0]), 4)
        0.8597
        >>> ndcg([0.5, 0.5], [1.0, 0.0])
        0.5
        >>> ndcg([0.9, 0.5], [0.0, 0.0]) is None
        True
    """
    values, gains = np.asarray(scores, np.float64), np.asarray(relevance, np.float64)
    k = int((gains > 0).sum())
    if k == 0:
        return None
    _, group, sizes = np.unique(-values, return_inverse=True, return_counts=True)
    means = np.bincount(group, weights=gains) / sizes
    by_rank = np.repeat(means, sizes)[:k]
    discounts = np.log2(np.arange(k) + 2)
    ideal = np.sort(gains)[::-1][:k]
    return float((by_rank / discounts).sum() / (ideal / discounts).sum())


def whole_ranks(scores: Sequence[float]) -> list[int]:
    """Ranks from 1, each once, by descending score; equal scores in the candidates' order. For the server's file.

    Example:
        >>> whole_ranks([0.1, 0.9, 0.1])
        [2, 1, 3]
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(1, len(order) + 1)
    return [int(rank) for rank in ranks]
