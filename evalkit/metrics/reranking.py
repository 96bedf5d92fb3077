"""Two-stage retrieval: a matcher scores each query's best candidates again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evalkit.metrics.ranks import Ranks
from evalkit.metrics.top_lists import TopK, TopLists

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.metrics.tiles import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Reranked:
    """What the second stage gives."""

    ranks: Ranks
    lists: TopLists
    """The candidates by fused score, ties in their first-stage order; then what was not re-ranked, as it was."""


class CandidatePairs:
    """The (image, text) pairs of both directions' candidates, each once.

    Args:
        lists: The first stage's top lists.
        k: How many of each are candidates.

    Example:
        >>> i2t = TopK(indices=np.array([[0, 1], [0, 1]]), scores=np.zeros((2, 2), np.float32))
        >>> t2i = TopK(indices=np.array([[0], [1]]), scores=np.zeros((2, 1), np.float32))
        >>> [texts.tolist() for texts in CandidatePairs(TopLists(i2t=i2t, t2i=t2i), k=1).texts_of_images()]
        [[0], [0, 1]]
    """

    def __init__(self, lists: TopLists, k: int) -> None:
        self._lists = lists
        self._i2t, self._t2i = lists.i2t.first(k), lists.t2i.first(k)
        self._images, self._texts = len(lists.i2t.indices), len(lists.t2i.indices)
        i2t, t2i = self._codes()
        self._pairs = np.unique(np.concatenate([i2t.ravel(), t2i.ravel()]))

    def __len__(self) -> int:
        return len(self._pairs)

    def texts_of_images(self) -> list[IntArray]:
        """For each image in order the texts it is paired with, ascending."""
        image, text = np.divmod(self._pairs, self._texts)
        return np.split(text, np.searchsorted(image, np.arange(1, self._images)))

    def rerank(self, logits: Sequence[FloatArray], image_of_text: IntArray, first_stage: Ranks) -> Reranked:
        """Rank by fused score = matcher logit + first-stage score of the same pair, float32; see `reranked_ranks`.

        Args:
            logits: For each image one logit a text of `texts_of_images`.
            image_of_text: (m,)
            first_stage: Ranks by the first stage.
        """
        flat = np.concatenate(logits)
        i2t_logits, t2i_logits = (flat[np.searchsorted(self._pairs, codes)] for codes in self._codes())
        i2t_fused, t2i_fused = i2t_logits + self._i2t.scores, t2i_logits + self._t2i.scores
        own_texts = image_of_text[self._i2t.indices] == np.arange(self._images)[:, None]
        own_image = self._t2i.indices == image_of_text[:, None]
        return Reranked(
            ranks=Ranks(
                i2t=reranked_ranks(i2t_fused, own_texts, first_stage.i2t),
                t2i=reranked_ranks(t2i_fused, own_image, first_stage.t2i),
            ),
            lists=TopLists(i2t=_by_score(self._lists.i2t, i2t_fused), t2i=_by_score(self._lists.t2i, t2i_fused)),
        )

    def _codes(self) -> tuple[IntArray, IntArray]:
        """Each candidate of both directions as one number, image-major."""
        i2t = np.arange(self._images)[:, None] * self._texts + self._i2t.indices
        t2i = self._t2i.indices * self._texts + np.arange(self._texts)[:, None]
        return i2t, t2i


def reranked_ranks(fused: FloatArray, positive: BoolArray, first_stage: IntArray) -> IntArray:
    """Count the other candidates whose fused score is >= the best positive's: ties count against.

    A query without a positive among its candidates keeps its first-stage rank: what was not re-ranked never outranks a
    candidate. Positives never count against one another.

    Args:
        fused: (queries, k): fused scores of each query's candidates.
        positive: (queries, k), bool: which candidates are right.
        first_stage: (queries,): 0-based ranks.

    Example:
        >>> fused = np.array([[0.2, 0.9, 0.9], [0.5, 0.4, 0.3]], dtype=np.float32)
        >>> positive = np.array([[False, True, False], [False, False, False]])
        >>> reranked_ranks(fused, positive, np.array([2, 7])).tolist()
        [1, 7]
    """
    best = np.where(positive, fused, np.float32(-np.inf)).max(axis=1)
    ahead = ((fused >= best[:, None]) & ~positive).sum(axis=1)
    return np.where(positive.any(axis=1), ahead, first_stage)


def _by_score(top: TopK, fused: FloatArray) -> TopK:
    """`top` with its first entries in the order of their fused scores, which replace their scores."""
    k = fused.shape[1]
    order = np.argsort(-fused, axis=1, kind="stable")
    return TopK(
        indices=np.hstack([np.take_along_axis(top.indices[:, :k], order, axis=1), top.indices[:, k:]]),
        scores=np.hstack([np.take_along_axis(fused, order, axis=1), top.scores[:, k:]]),
    )
