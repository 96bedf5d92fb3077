"""What protocols call data."""

from __future__ import annotations

import doctest

from evalkit.families import naming
from evalkit.families.naming import split_name, texts_digest


def test_doctests() -> None:
    failed, tried = doctest.testmod(naming)
    assert (failed, tried > 0) == (0, True)


def test_a_part_is_never_called_the_whole() -> None:
    assert split_name("coco-karpathy-5k", 5000, whole=True) == "coco-karpathy-5k"
    # of the right size, and still another split: 5,000 images with too few captions
    assert split_name("coco-karpathy-5k", 5000, whole=False) == "coco-karpathy-5k-subset-5000"


def test_digests_are_those_that_stand_in_stored_runs() -> None:
    assert texts_digest(["a dog", "a cat"]) == "711451"
    assert texts_digest(iter(["a dog", "a cat"]), 8) == "71145183"
