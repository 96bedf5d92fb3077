"""Accuracy of classifiers from each image's best classes, and the weighted vote of nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evalkit.metrics.bootstrap import DoubleArray, cluster_sums
from evalkit.metrics.tiles import FloatArray, IntArray
from evalkit.metrics.top_lists import top_k

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evalkit.metrics.tiles import BoolArray

_IMAGES_AT_ONCE = 1024
_RESAMPLES_AT_ONCE = 50
NONE = -1
"""Fills the list of an image for which fewer classes were named than others have."""


def hits(labels: IntArray, best: IntArray, k: int) -> BoolArray:
    """Whether an image's class is among the first k that were named for it; ties are settled in the lists.

    Args:
        labels: (images,): the class of each.
        best: (images, at least k or all classes): the named classes, best first, filled up with -1.
        k: How many are looked at.

    Returns:
        (images,)

    Raises:
        ValueError: No image, or shapes that do not fit together.

    Example:
        >>> hits(np.array([0, 1, 2]), np.array([[0, 1], [2, 1], [0, 1]]), 2).tolist()
        [True, True, False]
    """
    if labels.ndim != 1 or best.ndim != 2 or len(labels) != len(best) or not len(labels):
        raise ValueError(f"labels {labels.shape} and best classes {best.shape} are not (n,) and (n, k), n > 0")
    among: BoolArray = (best[:, :k] == labels[:, None]).any(axis=1)
    return among


def top_k_accuracy(labels: IntArray, best: IntArray, k: int) -> float:
    """acc@k: 100 times the share of images whose class is among the first k named; ties are settled in the lists.

    Args:
        labels: As in `hits`.
        best: As in `hits`.
        k: As in `hits`.

    Example:
        >>> top_k_accuracy(np.array([0, 1, 2, 2]), np.array([[0, 1], [2, 1], [0, 1], [2, 0]]), 1)
        50.0
    """
    right = hits(labels, best, k)
    return 100.0 * int(np.count_nonzero(right)) / len(right)


def mean_per_class_recall(labels: IntArray, best: IntArray) -> float:
    """100 times the plain mean, over the classes that have images, of the share of their images whose first is right.

    Every class counts the same, however many images it has; a class without images is left out. This is
    scikit-learn's `balanced_accuracy_score`. Ties are settled in the lists.

    Args:
        labels: As in `hits`.
        best: As in `hits`.

    Example:
        >>> mean_per_class_recall(np.array([0, 0, 0, 1]), np.array([[0], [0], [0], [0]]))
        50.0
    """
    right = hits(labels, best, 1)
    present, numbers = np.unique(labels, return_inverse=True)
    recalls = cluster_sums(right, numbers, len(present)) / cluster_sums(np.ones(len(labels)), numbers, len(present))
    return 100.0 * float(recalls.mean())


def resampled_class_recall(right: BoolArray, labels: IntArray, times_drawn: DoubleArray) -> DoubleArray:
    """`mean_per_class_recall` on each resample of the images; a class that a resample has no image of is left out.

    Args:
        right: (images,): `hits` with k = 1.
        labels: (images,)
        times_drawn: (resamples, images): `ClusterBootstrap.times_drawn`, every image a cluster of its own.

    Returns:
        (resamples,)

    Example:
        >>> times_drawn = np.array([[1.0, 1.0, 1.0], [0.0, 3.0, 0.0]])
        >>> resampled_class_recall(np.array([True, False, True]), np.array([0, 0, 1]), times_drawn).tolist()
        [75.0, 0.0]
    """
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=labels[order[0]] - 1))
    recalls = np.empty(len(times_drawn))
    for first in range(0, len(recalls), _RESAMPLES_AT_ONCE):
        part = slice(first, first + _RESAMPLES_AT_ONCE)
        drawn = times_drawn[part][:, order]
        sizes = np.add.reduceat(drawn, starts, axis=1)
        found = np.add.reduceat(drawn * right[order], starts, axis=1)
        shares = np.divide(found, sizes, out=np.zeros_like(found), where=sizes > 0)
        recalls[part] = 100.0 * shares.sum(axis=1) / np.count_nonzero(sizes, axis=1)
    return recalls


# ---------------------------------------------------------------------------------------------------------------------
# Nearest neighbours
# ---------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """The most similar training images of each image, best first; equal ones in the order of the training images."""

    indices: IntArray
    """(images, k): rows of the training images."""
    similarities: FloatArray
    """(images, k), descending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BestClasses:
    """The classes named for each image, best first."""

    classes: IntArray
    """(images, k), filled up with -1."""
    scores: DoubleArray
    """(images, k): similarities or shares of the vote, descending; 0 where there is no class."""


def nearest(images: FloatArray, parts: Iterable[FloatArray], k: int) -> Neighbours:
    """The k training images with the largest dot product; ties by position ascending, at the cut too.

    Dot products are those that `evalkit.metrics.tiles` defines, so that neither tiles nor parts change a neighbour.

    Args:
        images: (n, d), float32.
        parts: The training images in order, a part (m, d) at a time: only one is looked at at once.
        k: Neighbours an image; all of the training images where there are fewer.

    Raises:
        ModelOutputError: NaN or infinity in a vector.
        ValueError: No training image, or k below 1.

    Example:
        >>> images = np.array([[1.0, 0.0]], dtype=np.float32)
        >>> parts = [np.array([[0.6, 0.8], [1.0, 0.0]], dtype=np.float32), np.array([[1.0, 0.0]], dtype=np.float32)]
        >>> nearest(images, parts, 2).indices.tolist()
        [[1, 2]]
    """
    indices: IntArray = np.empty((len(images), 0), np.int64)
    similarities: FloatArray = np.empty((len(images), 0), np.float32)
    seen = 0
    for part in parts:
        new = top_k(images, part, texts_per_image=k, images_per_text=1).i2t
        indices = np.concatenate([indices, new.indices + seen], axis=1)
        similarities = np.concatenate([similarities, new.scores], axis=1)
        order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]  # earlier parts stand first among equals
        indices = np.take_along_axis(indices, order, axis=1)
        similarities = np.take_along_axis(similarities, order, axis=1)
        seen += len(part)
    if not seen:
        raise ValueError("no training image, no neighbour")
    return Neighbours(indices=indices, similarities=similarities)


def neighbour_votes(neighbours: Neighbours, labels: IntArray, *, temperature: float, best: int) -> BestClasses:
    """A neighbour votes for its class with weight exp(similarity / temperature); equal sums go to the first class.

    The vote of DINO's evaluation (https://arxiv.org/abs/2104.14294, section 4.1; weights as in arXiv:1805.01978). A
    class that no neighbour votes for is not named.

    Args:
        neighbours: Of each image.
        labels: (training images,): the class of each.
        temperature: Above 0; DINO's is 0.07.
        best: How many classes are named for an image at most.

    Returns:
        Classes with their share of the image's vote, which is 1 in all.

    Example:
        >>> two = Neighbours(indices=np.array([[2, 0, 1]]), similarities=np.array([[0.9, 0.8, 0.8]], np.float32))
        >>> votes = neighbour_votes(two, np.array([0, 0, 1]), temperature=1.0, best=5)
        >>> votes.classes.tolist(), votes.scores.round(3).tolist()
        ([[0, 1]], [[0.644, 0.356]])
    """
    count = int(labels.max()) + 1
    best = min(best, count, neighbours.indices.shape[1])
    classes = np.full((len(neighbours.indices), best), NONE, np.int64)
    scores = np.zeros(classes.shape)
    for first in range(0, len(classes), _IMAGES_AT_ONCE):
        part = slice(first, first + _IMAGES_AT_ONCE)
        similarities = neighbours.similarities[part].astype(np.float64)
        weights = np.exp((similarities - similarities[:, :1]) / temperature)  # the nearest has 1: nothing overflows
        rows = np.repeat(np.arange(len(weights)), weights.shape[1])
        places = rows * count + labels[neighbours.indices[part]].ravel()
        votes = np.bincount(places, weights.ravel(), len(weights) * count)
        votes[np.bincount(places, minlength=len(votes)) == 0] = -1  # behind a vote so small that it became 0
        votes = votes.reshape(-1, count)
        order = np.argsort(-votes, axis=1, kind="stable")[:, :best]
        taken = np.take_along_axis(votes, order, axis=1)
        classes[part] = np.where(taken < 0, NONE, order)
        scores[part] = np.maximum(taken, 0) / weights.sum(axis=1, keepdims=True)
    return BestClasses(classes=classes, scores=scores)
