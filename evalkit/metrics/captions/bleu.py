"""BLEU, as pycocoevalcap computes it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evalkit.metrics.captions.ngrams import ORDERS, CountedCandidates, Doubles, Ints, PreparedReferences

_SMALL = 1e-9
_TINY = 1e-15


@dataclass(frozen=True, slots=True, kw_only=True)
class BleuCounts:
    """What BLEU is computed from: one row an image, or sums of rows."""

    correct: Ints
    """(rows, 4): n-grams of the candidate, each at most as often as the reference that has most of it."""
    total: Ints
    """(rows, 4): n-grams of the candidate."""
    length: Ints
    """(rows,): words of the candidate."""
    reference_length: Ints
    """(rows,): words of the reference closest in length, of two the shorter."""

    def summed(self) -> BleuCounts:
        """One row: the whole set."""
        return BleuCounts(
            correct=self.correct.sum(axis=0, keepdims=True),
            total=self.total.sum(axis=0, keepdims=True),
            length=self.length.sum(keepdims=True),
            reference_length=self.reference_length.sum(keepdims=True),
        )


def bleu_counts(candidates: CountedCandidates, references: PreparedReferences) -> BleuCounts:
    """Count matches and lengths, one row an image.

    Args:
        candidates: From `count_candidates`, with the same references.
        references: From `prepare`.
    """
    correct = np.zeros((references.size, ORDERS), np.int64)
    for n, (counts, pairs, table) in enumerate(
        zip(candidates.orders, candidates.pairs, references.orders, strict=True)
    ):
        shared = pairs >= 0
        clipped = np.minimum(counts.times[shared], table.most[pairs[shared]])
        correct[:, n] = np.bincount(counts.groups[shared], clipped, references.size)
    lengths = candidates.lengths
    distance = np.abs(references.lengths - lengths[references.images])
    closest = np.lexsort((references.lengths, distance, references.images))
    first = np.searchsorted(references.images, np.arange(references.size))  # of each image, among the sorted rows
    return BleuCounts(
        correct=correct,
        total=np.maximum(lengths[:, None] - np.arange(ORDERS), 0),
        length=lengths,
        reference_length=references.lengths[closest[first]],
    )


def bleu(counts: BleuCounts) -> Doubles:
    """Geometric mean of the clipped n-gram precisions up to n, times exp(1 - r / c) where the candidates are shorter.

    Precisions are (correct + 1e-15) / (total + 1e-9), and c / r is (length + 1e-15) / (reference length + 1e-9): with
    nothing matched it is almost 0, and nothing is divided by 0. A set's BLEU is that of the sums of the counts.

    Args:
        counts: One row for each score.

    Returns:
        (rows, 4): BLEU-1 to BLEU-4.

    Example:
        >>> from evalkit.metrics.captions.ngrams import count_candidates, prepare
        >>> prepared = prepare([["a cat on a mat", "the cat sat"]])
        >>> bleu(bleu_counts(count_candidates(["a cat on the mat"], prepared), prepared)).round(4).tolist()
        [[1.0, 0.7071, 0.5503, 0.0001]]
    """
    precisions = (counts.correct + _TINY) / (counts.total + _SMALL)
    scores = np.cumprod(precisions, axis=1) ** (1.0 / np.arange(1, ORDERS + 1))
    ratio = (counts.length + _TINY) / (counts.reference_length + _SMALL)
    short = ratio < 1
    scores[short] *= np.exp(1 - 1 / ratio[short])[:, None]
    result: Doubles = scores
    return result
