"""Which texts of which images go through the network together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evalkit.engine.base import Batch
from evalkit.types import ImageRef, MatchRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Some of the texts asked about one image."""

    key: bytes
    """Identifies model and images."""
    request: MatchRequest[ImageRef]
    """Any request with that key: it gives the images."""
    texts: tuple[str, ...]


def plan_pieces(
    groups: Mapping[bytes, tuple[MatchRequest[ImageRef], Sequence[str]]],
    *,
    max_texts: int,
    max_images: int,
) -> Iterator[list[Piece]]:
    """Cut groups of texts into batches.

    Images follow each other by key, texts of an image by length and then alphabet, so the plan depends on what is asked
    and not on the order of asking, and a batch pads little. An image whose texts fit into one batch is not cut in two.

    Args:
        groups: Key -> a request with that key, and all distinct texts asked about it.
        max_texts: Texts a batch.
        max_images: Images (or pairs of images) a batch.

    Yields:
        The pieces of one batch.
    """
    batch: list[Piece] = []
    room = max_texts
    for key in sorted(groups):
        request, unordered = groups[key]
        texts = sorted(unordered, key=lambda text: (len(text), text))
        start = 0
        while start < len(texts):
            left = len(texts) - start
            if batch and (len(batch) == max_images or room < left):
                yield batch
                batch, room = [], max_texts
            part = tuple(texts[start : start + room])
            batch.append(Piece(key=key, request=request, texts=part))
            start += len(part)
            room -= len(part)
    if batch:
        yield batch


def in_batches(chunks: Sequence[list[Piece]]) -> list[Batch]:
    """What an engine is asked for each chunk of pieces."""
    return [
        Batch(capability="match", requests=tuple(replace(piece.request, texts=piece.texts) for piece in chunk))
        for chunk in chunks
    ]
