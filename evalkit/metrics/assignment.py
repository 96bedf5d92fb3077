"""One-to-one assignment of images to texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

if TYPE_CHECKING:
    from evalkit.metrics.bootstrap import DoubleArray
    from evalkit.metrics.tiles import FloatArray, IntArray

_TIE = 2.0**-30
"""What a right pair's score is lowered by, so that a tie counts against: less than cosines in float32 can differ by."""


def assign(scores: FloatArray | DoubleArray) -> IntArray:
    """For each text its image in the assignment of the highest sum of scores, each image once; -1 where none is left.

    Args:
        scores: (texts, images).

    Returns:
        (texts,): columns. With more texts than images, those without are the ones whose lack costs least.

    Example:
        >>> assign(np.array([[0.9, 0.8], [0.8, 0.1]])).tolist()
        [1, 0]
    """
    chosen = np.full(scores.shape[0], -1, np.int64)
    texts, images = linear_sum_assignment(np.asarray(scores, np.float64), maximize=True)
    chosen[texts] = images
    return chosen


def assigned_to_own(scores: FloatArray | DoubleArray) -> IntArray:
    """`assign` where image i belongs to text i: of assignments with equal sums one with fewer right pairs is taken.

    Args:
        scores: (texts, images), square.

    Example:
        >>> assigned_to_own(np.zeros((2, 2))).tolist()
        [1, 0]
    """
    return assign(np.asarray(scores, np.float64) - _TIE * np.eye(len(scores)))
