"""ROUGE-L, as pycocoevalcap computes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.metrics.captions.ngrams import Doubles

_BETA = 1.2


def rouge_l(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Doubles:
    """F-score, beta = 1.2, of the longest common subsequence's best precision and best recall over the references.

    The two may be of different references. Words are what spaces part, so no words are one empty word, which only
    another empty caption shares.

    Args:
        candidates: Tokenized, one an image.
        references: Tokenized, of each image.

    Returns:
        (images,): each image's score; the set's is their mean.

    Example:
        >>> rouge_l(["a cat on the mat"], [["the cat on a mat", "a cat"]]).round(4).tolist()
        [0.7854]
    """
    return np.array([_score(one, of_image) for one, of_image in zip(candidates, references, strict=True)], np.float64)


def _score(candidate: str, references: Sequence[str]) -> float:
    words = candidate.split(" ")
    places: dict[str, int] = {}
    for place, word in enumerate(words):
        places[word] = places.get(word, 0) | 1 << place
    precision = recall = 0.0
    for reference in references:
        others = reference.split(" ")
        common = _longest_common_subsequence(places, len(words), others)
        precision = max(precision, common / len(words))
        recall = max(recall, common / len(others))
    if not precision or not recall:
        return 0.0
    return ((1 + _BETA**2) * precision * recall) / (recall + _BETA**2 * precision)


def _longest_common_subsequence(places: dict[str, int], length: int, others: Sequence[str]) -> int:
    """Its length, by one addition a word: a zero bit of the row is a place where the subsequence has grown.

    Source: Hyyrö, Bit-parallel LCS-length computation revisited, 2004.

    Args:
        places: Bits: where each word is in the first text.
        length: Words of the first text.
        others: The second text.
    """
    everything = (1 << length) - 1
    row = everything
    for word in others:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & everything
    return length - row.bit_count()
