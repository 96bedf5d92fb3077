"""Batches of image-text pairs: complete, bounded, and independent of the order of asking."""

from __future__ import annotations

import random

import pytest

from evalkit.planning import Piece, plan_pieces
from evalkit.types import ImageRef, MatchRequest


def _groups(sizes: dict[bytes, int]) -> dict[bytes, tuple[MatchRequest[ImageRef], list[str]]]:
    return {
        key: (
            MatchRequest(images=(ImageRef(id=key.decode(), source=key),), texts=()),
            [f"{key.decode()} {'x' * (number % 7)} {number}" for number in range(size)],
        )
        for key, size in sizes.items()
    }


def _plan(groups: dict[bytes, tuple[MatchRequest[ImageRef], list[str]]], texts: int, images: int) -> list[list[Piece]]:
    return list(plan_pieces(groups, max_texts=texts, max_images=images))


@pytest.mark.parametrize(("max_texts", "max_images"), [(1, 1), (3, 2), (10, 1), (64, 64)])
def test_everything_is_asked_once_and_batches_are_bounded(max_texts: int, max_images: int) -> None:
    groups = _groups({b"a": 5, b"b": 1, b"c": 23, b"d": 10, b"e": 2})
    plan = _plan(groups, max_texts, max_images)
    asked = [(piece.key, text) for batch in plan for piece in batch for text in piece.texts]
    assert sorted(asked) == sorted((key, text) for key, (_, texts) in groups.items() for text in texts)
    assert all(sum(len(piece.texts) for piece in batch) <= max_texts for batch in plan)
    assert all(len(batch) <= max_images for batch in plan)


def test_the_plan_does_not_depend_on_order() -> None:
    groups = _groups({b"a": 5, b"b": 9, b"c": 3})
    shuffled = dict(random.Random(0).sample(sorted(groups.items()), 3))
    shuffled = {
        key: (request, random.Random(1).sample(texts, len(texts))) for key, (request, texts) in shuffled.items()
    }
    assert _plan(groups, 4, 4) == _plan(shuffled, 4, 4)


def test_an_image_that_fits_into_a_batch_is_not_cut_in_two() -> None:
    plan = _plan(_groups({b"a": 6, b"b": 6, b"c": 25}), 10, 10)
    pieces = [piece.key for batch in plan for piece in batch]
    assert pieces.count(b"a") == pieces.count(b"b") == 1
    assert pieces.count(b"c") == 3


def test_texts_of_an_image_are_ordered_by_length() -> None:
    (batch,) = _plan(_groups({b"a": 20}), 64, 64)
    lengths = [len(text) for text in batch[0].texts]
    assert lengths == sorted(lengths)
