"""The best of the gallery for each query, found in tiles; scores are those that `evalkit.metrics.tiles` defines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from evalkit.metrics.tiles import TILE_IMAGES, TILE_TEXTS, FloatArray, IntArray, checked, tiles

KeyArray: TypeAlias = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopK:
    """The best of the gallery for each query, best first."""

    indices: IntArray
    """(queries, k): rows of the gallery."""
    scores: FloatArray
    """(queries, k), descending."""

    def first(self, k: int) -> TopK:
        """The same lists, no longer than k."""
        return TopK(indices=self.indices[:, :k], scores=self.scores[:, :k])


@dataclass(frozen=True, slots=True, kw_only=True)
class TopLists:
    """Top lists in both directions."""

    i2t: TopK
    """(n, k): texts for each image."""
    t2i: TopK
    """(m, k): images for each text."""


def top_k(
    images: FloatArray,
    texts: FloatArray,
    *,
    texts_per_image: int,
    images_per_text: int,
    tile_images: int = TILE_IMAGES // 2,
    tile_texts: int = TILE_TEXTS // 2,
) -> TopLists:
    """List the k best of the gallery for each query: score descending; ties by position ascending, at the cut too.

    Args:
        images: (n, d) or (n, q, d), float32.
        texts: (m, d), float32.
        texts_per_image: Length of an image's list; no more than m are listed.
        images_per_text: Length of a text's list; no more than n are listed.
        tile_images: Vectors of images a tile.
        tile_texts: Texts a tile.

    Returns:
        Lists of both directions from one sweep: a pair has the same score in both. Memory: the lists, and one tile.

    Raises:
        ModelOutputError: NaN or infinity in a vector.
        ValueError: Shapes that do not fit together, or a length below 1.

    Example:
        >>> images = np.array([[1.0, 0.0]], dtype=np.float32)
        >>> texts = np.array([[0.5, 0.0], [0.8, 0.0], [0.5, 1.0]], dtype=np.float32)
        >>> top = top_k(images, texts, texts_per_image=2, images_per_text=1)
        >>> top.i2t.indices.tolist(), top.i2t.scores.round(1).tolist()
        ([[1, 0]], [[0.800000011920929, 0.5]])
    """
    stacks, texts = checked(images, texts)
    if texts_per_image < 1 or images_per_text < 1:
        raise ValueError("a top list has at least one entry")
    by_image = np.zeros((len(stacks), min(texts_per_image, len(texts))), np.uint64)
    by_text = np.zeros((len(texts), min(images_per_text, len(stacks))), np.uint64)
    for rows, columns, tile in tiles(stacks, texts, tile_images, tile_texts, np.float64):
        scores = tile.astype(np.float32)
        by_image[rows] = _keep_best(by_image[rows], scores, columns.start)
        by_text[columns] = _keep_best(by_text[columns], scores.T, rows.start)
    return TopLists(i2t=_from_keys(by_image), t2i=_from_keys(by_text))


def _keep_best(kept: KeyArray, scores: FloatArray, first: int) -> KeyArray:
    """Merge the scores (queries, part of the gallery) from position `first` on into each query's k best.

    Args:
        kept: (queries, k): keys of what was best up to `first`, its worst in column 0; 0 where there is none yet.
        scores: (queries, part).
        first: All positions kept are smaller, so that an equal score does not displace one.
    """
    size, part = kept.shape[1], scores.shape[1]
    if kept[:, 0].all():
        candidates = scores > _score_of(kept[:, :1])
    else:  # the first part: without this, all of it would be turned into keys
        cut = max(part - size, 0)
        candidates = scores >= np.partition(scores, cut, axis=1)[:, cut : cut + 1]
    queries, places = np.nonzero(candidates)
    counts = np.bincount(queries, minlength=len(kept))
    slots = np.arange(len(queries)) - np.repeat(np.cumsum(counts) - counts, counts)
    merged = np.zeros((len(kept), size + int(counts.max())), np.uint64)
    merged[:, :size] = kept
    merged[queries, size + slots] = _keys(scores[queries, places], places + first)
    merged.partition(merged.shape[1] - size, axis=1)
    return merged[:, -size:]


def _keys(scores: FloatArray, positions: IntArray) -> KeyArray:
    """Numbers that order as (score ascending, position descending), above 0; no two are equal.

    The upper half is the float's bits, made to order as unsigned integers; the lower half is the inverted position.
    """
    bits = (scores + np.float32(0)).view(np.uint32)  # -0.0 becomes 0.0
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (ordered.astype(np.uint64) << np.uint64(32)) | (np.uint64(0xFFFFFFFF) - positions.astype(np.uint64))


def _score_of(keys: KeyArray) -> FloatArray:
    ordered = (keys >> np.uint64(32)).astype(np.uint32)
    return np.where(ordered >> 31, ordered ^ np.uint32(1 << 31), ~ordered).view(np.float32)


def _from_keys(keys: KeyArray) -> TopK:
    best_first = np.sort(keys, axis=1)[:, ::-1]
    positions = np.uint64(0xFFFFFFFF) - (best_first & np.uint64(0xFFFFFFFF))
    return TopK(indices=positions.astype(np.int64), scores=_score_of(best_first))
