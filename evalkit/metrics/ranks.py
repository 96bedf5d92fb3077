"""Ranks of image-text retrieval, counted in tiles; scores are those that `evalkit.metrics.tiles` defines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evalkit.metrics.tiles import TILE_IMAGES, TILE_TEXTS, BoolArray, FloatArray, IntArray, checked, exact_scores, tiles

_SPARSE = 50
"""Scores of a tile are looked at one by one where they are fewer than one in so many."""
_LANE = 255
"""How many 0/1 bytes can be added up in one byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """How many wrong answers stand before the right one, for each query; 0 is best."""

    i2t: IntArray
    """(n,): one an image."""
    t2i: IntArray
    """(m,): one a text."""


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
    stacks, texts = checked(images, texts)
    own, best = _own_scores(stacks, texts, image_of_text)
    margin = _rounding_error(texts.shape[1]) * _longest(stacks) * _longest(texts)
    i2t, t2i = np.zeros(len(stacks), np.int64), np.zeros(len(texts), np.int64)
    for rows, columns, tile in tiles(stacks, texts, tile_images, tile_texts, np.float32):
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
        add_up = _add_up_rows if by_image else _add_up_columns
        reached = _at_least(self.tile, limits - np.float32(margin))
        counts = np.zeros(self.tile.shape[0 if by_image else 1], np.int64)
        if _is_dense(reached):
            above = _at_least(self.tile, limits + np.float32(margin))
            reached ^= above
            if _is_dense(reached):  # a model that gives nearly the same vector to everything
                return add_up(_at_least(self._exact_tile(), limits))[: len(counts)]
            counts += add_up(above)[: len(counts)]
        rows, columns = np.divmod(np.flatnonzero(reached), reached.shape[1])
        queries = rows if by_image else columns
        close = self.tile[rows, columns] < limits.ravel()[queries] + np.float32(margin)
        counts += np.bincount(queries[~close], minlength=len(counts))
        rows, columns, queries = rows[close], columns[close], queries[close]
        settled = self._settle(rows, columns, limits.ravel()[queries])
        counts += np.bincount(queries[settled], minlength=len(counts))
        return counts

    def _settle(self, rows: IntArray, columns: IntArray, limits: FloatArray) -> BoolArray:
        """Which of these places in the tile are other images' items that reach their limit."""
        images, texts = rows + self.rows.start, columns + self.columns.start
        others: BoolArray = self.image_of_text[texts] != images
        others[others] = exact_scores(self.stacks, self.texts, images[others], texts[others]) >= limits[others]
        return others

    def _exact_tile(self) -> FloatArray:
        """The tile's scores as they are defined; those of own items are -inf."""
        ((_, _, products),) = tiles(
            self.stacks[self.rows],
            self.texts[self.columns],
            self.stacks[self.rows].size,
            self.tile.shape[1],
            np.float64,
        )
        exact = products.astype(np.float32)
        owners = self.image_of_text[self.columns] - self.rows.start
        inside = np.flatnonzero((owners >= 0) & (owners < len(exact)))
        exact[owners[inside], inside] = -np.inf
        return exact


def _own_scores(stacks: FloatArray, texts: FloatArray, image_of_text: IntArray) -> tuple[FloatArray, FloatArray]:
    """Each text's score with its own image (m,), and each image's best (n,)."""
    if image_of_text.shape != (len(texts),) or (
        len(texts) and not 0 <= image_of_text.min() <= image_of_text.max() < len(stacks)
    ):
        raise ValueError(f"image_of_text must name one of {len(stacks)} images for each of {len(texts)} texts")
    own = exact_scores(stacks, texts, image_of_text, np.arange(len(texts)))
    best = np.full(len(stacks), -np.inf, np.float32)
    np.maximum.at(best, image_of_text, own)
    if np.isneginf(best).any():
        raise ValueError(f"image {int(np.argmin(best))} has no text, so it has no rank")
    return own, best


def _at_least(scores: FloatArray, limits: FloatArray) -> BoolArray:
    """`scores >= limits`, filled up with False to a multiple of 8 columns, which `_add_up_rows` needs."""
    height, width = scores.shape
    mask = np.empty((height, -(-width // 8) * 8), np.bool_)
    mask[:, width:] = False
    np.greater_equal(scores, limits, out=mask[:, :width])
    return mask


def _is_dense(mask: BoolArray) -> bool:
    """Whether there are too many to be looked at one by one."""
    return int(np.count_nonzero(mask)) > mask.size // _SPARSE


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


def _rounding_error(size: int) -> float:
    """How far a float32 dot product of unit vectors can be off, whatever the order of its sum.

    d u / (1 - d u) with u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), and a little
    for the rounding of the threshold itself.
    """
    error = size * 2.0**-24
    return error / (1 - error) * 1.01 + 2.0**-22


def _longest(vectors: FloatArray) -> float:
    return float(np.sqrt(np.vecdot(vectors, vectors).max()))
