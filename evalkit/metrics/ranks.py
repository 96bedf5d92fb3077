"""Ranks and top lists of image-text retrieval, in tiles: the matrix of all scores is never built.

The score of an image and a text is the dot product of their float32 vectors, summed in double precision and rounded
to float32; with q vectors an image, the largest of the q. Ranks are exact by that definition: neither the size of the
tiles, nor the order of the samples, nor the BLAS and its number of threads changes one. (A BLAS promises no order of
summation; some sum the same two vectors differently at another place of a matrix, so that two images with the same
caption would tie or not by chance.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import ModelOutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

FloatArray: TypeAlias = NDArray[np.float32]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
KeyArray: TypeAlias = NDArray[np.uint64]

TILE_IMAGES = 1024
TILE_TEXTS = 4096
"""A tile of scores is 16 MiB: smaller ones make the BLAS slow where other processes want its cores too."""
_PAIRS_AT_ONCE = 1024
_SPARSE = 50
"""Where fewer than one score in so many reaches its threshold, they are looked at one by one."""
_LANE = 255
"""How many 0/1 bytes can be added up in one byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """How many wrong answers stand before the right one, for each query; 0 is best."""

    i2t: IntArray
    """(n,): one an image."""
    t2i: IntArray
    """(m,): one a text."""


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


# ---------------------------------------------------------------------------------------------------------------------
# Ranks
# ---------------------------------------------------------------------------------------------------------------------
def retrieval_ranks(
    images: FloatArray,
    texts: FloatArray,
    image_of_text: IntArray,
    *,
    tile_images: int = TILE_IMAGES,
    tile_texts: int = TILE_TEXTS,
) -> Ranks:
    """Count for each query the items of OTHER images that score at least its own best: ties count against.

    An image's rank is the number of other images' texts whose score is >= that of the best of its own texts; its own
    texts never count against it. A text's rank is the number of other images whose score is >= that of its own image.

    Every score is computed once, in a float32 tile. A score that lies further from the query's threshold than float32
    rounding can move it is counted as it is; the few that lie closer are computed again in double precision.

    Args:
        images: (n, d), or (n, q, d) with q vectors an image; float32.
        texts: (m, d), float32.
        image_of_text: (m,): the row in `images` of each text's image; in any order.
        tile_images: Vectors of images a tile (an image's q vectors stay together).
        tile_texts: Texts a tile.

    Returns:
        0-based ranks. Memory beyond them: one tile, and vectors of n and m numbers.

    Raises:
        ModelOutputError: NaN or infinity in a vector, which cannot be ranked.
        ValueError: Shapes that do not fit together, or an image without a text.

    Example:
        >>> images = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
        >>> texts = np.array([[1.0, 0.0], [0.5, 0.5]], dtype=np.float32)
        >>> ranks = retrieval_ranks(images, texts, np.array([0, 1]))
        >>> ranks.i2t.tolist(), ranks.t2i.tolist()  # the second text scores 0.5 with both images: a tie
        ([0, 0], [0, 1])
    """
    stacks, texts = _checked(images, texts)
    own, best = _own_scores(stacks, texts, image_of_text)
    margin = _rounding_error(texts.shape[1]) * _longest(stacks) * _longest(texts)
    i2t, t2i = np.zeros(len(stacks), np.int64), np.zeros(len(texts), np.int64)
    for rows, columns, tile in _tiles(stacks, texts, tile_images, tile_texts, np.float32):
        part = _TilePart(stacks, texts, image_of_text, rows, columns, tile)
        i2t[rows] += part.count(best, margin, by_image=True)
        t2i[columns] += part.count(own, margin, by_image=False)
    return Ranks(i2t=i2t, t2i=t2i)


def fold_ranks(images: FloatArray, texts: FloatArray, image_of_text: IntArray, fold_of_image: IntArray) -> Ranks:
    """Compute `retrieval_ranks` with each query's gallery cut down to its own fold; ties count against.

    Args:
        images: As in `retrieval_ranks`.
        texts: As in `retrieval_ranks`.
        image_of_text: As in `retrieval_ranks`.
        fold_of_image: (n,): the fold of each image; a text is in its image's fold. COCO 1K: position // 1000.

    Example:
        >>> vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], dtype=np.float32)
        >>> fold_ranks(vectors, vectors, np.array([0, 1, 2]), np.array([0, 1, 1])).i2t.tolist()
        [0, 0, 0]
        >>> retrieval_ranks(vectors, vectors, np.array([0, 1, 2])).i2t.tolist()
        [0, 1, 0]
    """
    i2t, t2i = np.zeros(len(images), np.int64), np.zeros(len(texts), np.int64)
    for fold in np.unique(fold_of_image):
        members = np.flatnonzero(fold_of_image == fold)
        captions = np.flatnonzero(fold_of_image[image_of_text] == fold)
        owners = np.searchsorted(members, image_of_text[captions])
        ranks = retrieval_ranks(images[members], texts[captions], owners)
        i2t[members], t2i[captions] = ranks.i2t, ranks.t2i
    return Ranks(i2t=i2t, t2i=t2i)


class _TilePart:
    """One float32 tile of scores, and where it lies."""

    def __init__(
        self,
        stacks: FloatArray,
        texts: FloatArray,
        image_of_text: IntArray,
        rows: slice,
        columns: slice,
        tile: FloatArray,
    ) -> None:
        self.stacks, self.texts, self.image_of_text = stacks, texts, image_of_text
        self.rows, self.columns, self.tile = rows, columns, tile

    def count(self, thresholds: FloatArray, margin: float, *, by_image: bool) -> IntArray:
        """Scores of other images' items that reach the threshold, for each image or each text of the tile.

        No own item's score lies above the margin, for none is above the threshold; within it, own items are left out.
        """
        limits = thresholds[self.rows, None] if by_image else thresholds[None, self.columns]
        reached = self._compare(limits - np.float32(margin))
        counts = np.zeros(self.tile.shape[0 if by_image else 1], np.int64)
        if np.count_nonzero(reached) > reached.size // _SPARSE:
            above = self._compare(limits + np.float32(margin))
            counts += _add_up_rows(above) if by_image else _add_up_columns(above)[: len(counts)]
            reached ^= above
        rows, columns = np.divmod(np.flatnonzero(reached), reached.shape[1])
        queries = rows if by_image else columns
        close = self.tile[rows, columns] < limits.ravel()[queries] + np.float32(margin)
        counts += np.bincount(queries[~close], minlength=len(counts))
        rows, columns, queries = rows[close], columns[close], queries[close]
        settled = self._settle(rows, columns, limits.ravel()[queries])
        counts += np.bincount(queries[settled], minlength=len(counts))
        return counts

    def _compare(self, limits: FloatArray) -> BoolArray:
        # filled up with False to a multiple of 8 columns, for `_add_up`
        height, width = self.tile.shape
        mask = np.empty((height, _words(width) * 8), np.bool_)
        mask[:, width:] = False
        np.greater_equal(self.tile, limits, out=mask[:, :width])
        return mask

    def _settle(self, rows: IntArray, columns: IntArray, limits: FloatArray) -> BoolArray:
        """Which of these places in the tile are other images' items that reach their limit."""
        images, texts = rows + self.rows.start, columns + self.columns.start
        others: BoolArray = self.image_of_text[texts] != images
        others[others] = _exact_scores(self.stacks, self.texts, images[others], texts[others]) >= limits[others]
        return others


def _own_scores(stacks: FloatArray, texts: FloatArray, image_of_text: IntArray) -> tuple[FloatArray, FloatArray]:
    """Each text's score with its own image (m,), and each image's best (n,)."""
    if image_of_text.shape != (len(texts),) or (
        len(texts) and not 0 <= image_of_text.min() <= image_of_text.max() < len(stacks)
    ):
        raise ValueError(f"image_of_text must name one of {len(stacks)} images for each of {len(texts)} texts")
    own = _exact_scores(stacks, texts, image_of_text, np.arange(len(texts)))
    best = np.full(len(stacks), -np.inf, np.float32)
    np.maximum.at(best, image_of_text, own)
    if np.isneginf(best).any():
        raise ValueError(f"image {int(np.argmin(best))} has no text, so it has no rank")
    return own, best


def _exact_scores(stacks: FloatArray, texts: FloatArray, rows: IntArray, columns: IntArray) -> FloatArray:
    """The scores of single pairs, (pairs,)."""
    scores = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        left = stacks[rows[part]].astype(np.float64)
        right = texts[columns[part], None].astype(np.float64)
        scores[part] = np.vecdot(left, right).max(axis=1)
    return scores


def _add_up_rows(mask: BoolArray) -> IntArray:
    """`mask.sum(axis=1)`, eight bytes at a time: the bytes of 64-bit words add up side by side, each to 255 at most."""
    words = mask.view(np.uint64)
    counts = np.zeros(len(mask), np.int64)
    for start in range(0, words.shape[1], _LANE):
        part = np.add.reduce(words[:, start : start + _LANE], axis=1)
        counts += part.view(np.uint8).reshape(-1, 8).sum(axis=1, dtype=np.int64)
    return counts


def _add_up_columns(mask: BoolArray) -> IntArray:
    """`mask.sum(axis=0)`, likewise."""
    words = mask.view(np.uint64)
    counts = np.zeros(mask.shape[1], np.int64)
    for start in range(0, len(words), _LANE):
        counts += np.add.reduce(words[start : start + _LANE], axis=0).view(np.uint8)
    return counts


def _words(width: int) -> int:
    """How many 64-bit words hold that many bytes."""
    return -(-width // 8)


# ---------------------------------------------------------------------------------------------------------------------
# Top lists
# ---------------------------------------------------------------------------------------------------------------------
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
    stacks, texts = _checked(images, texts)
    if texts_per_image < 1 or images_per_text < 1:
        raise ValueError("a top list has at least one entry")
    by_image = np.zeros((len(stacks), min(texts_per_image, len(texts))), np.uint64)
    by_text = np.zeros((len(texts), min(images_per_text, len(stacks))), np.uint64)
    for rows, columns, tile in _tiles(stacks, texts, tile_images, tile_texts, np.float64):
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


# ---------------------------------------------------------------------------------------------------------------------
# Tiles
# ---------------------------------------------------------------------------------------------------------------------
def _tiles(
    stacks: FloatArray, texts: FloatArray, tile_images: int, tile_texts: int, dtype: type[np.floating]
) -> Iterator[tuple[slice, slice, NDArray[np.floating]]]:
    """Every score once: which images, which texts, and their scores (images, texts) in a buffer that is used again."""
    count, vectors, size = stacks.shape
    step = max(1, tile_images // vectors)
    products = np.empty(min(step, count) * vectors * min(tile_texts, len(texts)), dtype)
    for first_text in range(0, len(texts), tile_texts):
        columns = slice(first_text, min(first_text + tile_texts, len(texts)))
        right = texts[columns].astype(dtype, copy=False).T
        for first in range(0, count, step):
            rows = slice(first, min(first + step, count))
            left = stacks[rows].reshape(-1, size).astype(dtype, copy=False)
            tile = products[: len(left) * right.shape[1]].reshape(len(left), -1)
            np.matmul(left, right, out=tile)
            yield rows, columns, tile if vectors == 1 else tile.reshape(-1, vectors, right.shape[1]).max(axis=1)


def _checked(images: FloatArray, texts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Images as (n, q, d) and texts as (m, d), float32 and contiguous."""
    stacks = images[:, None] if images.ndim == 2 else images
    if stacks.ndim != 3 or texts.ndim != 2 or stacks.shape[2] != texts.shape[1] or 0 in (*stacks.shape, *texts.shape):
        raise ValueError(f"images {images.shape} and texts {texts.shape} are not (n[, q], d) and (m, d)")
    for name, vectors in (("an image", stacks), ("a text", texts)):
        if not np.isfinite(vectors).all():
            raise ModelOutputError(
                f"The embedding of {name} holds NaN or infinity: it cannot be ranked.", "Try --dtype float32."
            )
    return np.ascontiguousarray(stacks, np.float32), np.ascontiguousarray(texts, np.float32)


def _rounding_error(size: int) -> float:
    """How far a float32 dot product of unit vectors can be off, whatever the order of its sum.

    d u / (1 - d u) with u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), and a little
    for the rounding of the threshold itself.
    """
    error = size * 2.0**-24
    return error / (1 - error) * 1.01 + 2.0**-22


def _longest(vectors: FloatArray) -> float:
    return float(np.sqrt(np.vecdot(vectors, vectors).max()))
