"""Scores of images and texts, a tile at a time: the matrix of all scores is never built.

The score of an image and a text is the dot product of their float32 vectors, summed in double precision and rounded
to float32; with q vectors an image, the largest of the q. A BLAS promises no order of summation, and some sum the same
two vectors differently at another place of a matrix. By this definition neither the size of the tiles, nor the order of
the samples, nor the BLAS and its number of threads changes a rank, and two images with the same caption tie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import ModelOutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

FloatArray: TypeAlias = NDArray[np.float32]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]

TILE_IMAGES = 1024
TILE_TEXTS = 4096
"""A tile of scores is 16 MiB: smaller ones make the BLAS slow where other processes want its cores too."""
_PAIRS_AT_ONCE = 1024


def tiles(
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


def checked(images: FloatArray, texts: FloatArray) -> tuple[FloatArray, FloatArray]:
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


def exact_scores(stacks: FloatArray, texts: FloatArray, rows: IntArray, columns: IntArray) -> FloatArray:
    """The scores of single pairs, (pairs,)."""
    scores = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        left = stacks[rows[part]].astype(np.float64)
        right = texts[columns[part], None].astype(np.float64)
        scores[part] = np.vecdot(left, right).max(axis=1)
    return scores
