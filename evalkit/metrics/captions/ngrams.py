"""Sets of references as tables of n-grams, made once and used for every set of candidates.

A tokenized caption is a string; its words are what `str.split` gives, as in pycocoevalcap, so the no-break space in a
token such as "1 1/2" parts words here, though not in ROUGE-L. n-grams are numbered by order: an n-gram's key is the
number of its first n - 1 words, shifted, and the number of its last word.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping  # dataclass fields are read at run time
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Ints: TypeAlias = NDArray[np.int64]
Doubles: TypeAlias = NDArray[np.float64]

ORDERS = 4
_SHIFT = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How often each n-gram of one order is in each text, each pair once."""

    groups: Ints
    """(pairs,): the text."""
    ngrams: Ints
    """(pairs,): numbers of n-grams."""
    times: Ints
    """(pairs,)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTable:
    """All n-grams of one order in a set of references."""

    keys: Ints
    """(n-grams,): ascending; an n-gram's place is its number."""
    counts: Counts
    """Of each reference."""
    pairs: Ints
    """(image-n-gram pairs,): image * n-grams + n-gram, ascending, for those that occur."""
    pair_of: Ints
    """(counts,): which pair each of the references' counts belongs to."""
    document_frequency: Ints
    """(n-grams,): in the references of how many images it is."""
    most: Ints
    """(pairs,): how often it is in the reference of that image that has most of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedReferences:
    """Tokenized references of images, ready for BLEU, ROUGE-L and CIDEr."""

    texts: tuple[tuple[str, ...], ...]
    """Each image's references."""
    images: Ints
    """(references,): the image of each."""
    lengths: Ints
    """(references,): words."""
    vocabulary: Mapping[str, int]
    """Word to number."""
    orders: tuple[OrderTable, ...]
    """Of 1, 2, 3 and 4 words."""

    @property
    def size(self) -> int:
        """How many images."""
        return len(self.texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedCandidates:
    """Tokenized candidates, one an image, with their n-grams found in the tables of the references."""

    texts: tuple[str, ...]
    """(images,)"""
    lengths: Ints
    """(images,): words."""
    orders: tuple[Counts, ...]
    """Of 1, 2, 3 and 4 words; numbers from the table's length on are n-grams that no reference has."""
    pairs: tuple[Ints, ...]
    """Of each order, (counts,): the place in `OrderTable.pairs`; -1 where the image's references lack the n-gram."""


def prepare(references: Sequence[Sequence[str]]) -> PreparedReferences:
    """Count the n-grams of tokenized references.

    Args:
        references: Each image's references, at least one.

    Raises:
        ValueError: No image, or one without a reference.

    Example:
        >>> prepared = prepare([["a cat", "the cat"], ["a dog"]])
        >>> prepared.lengths.tolist(), prepared.orders[0].document_frequency.tolist()
        ([2, 2, 2], [2, 1, 1, 1])
    """
    if not references or not all(references):
        raise ValueError("no image, or an image without a reference")
    texts = tuple(map(tuple, references))
    images = np.repeat(np.arange(len(texts)), [len(image) for image in texts])
    vocabulary: defaultdict[str, int] = defaultdict(itertools.count().__next__)
    numbers, lengths = _numbered(chain.from_iterable(texts), vocabulary)

    def number(order: int, keys: Ints) -> tuple[Ints, Ints]:
        if not order:
            return np.arange(len(vocabulary)), keys
        return np.unique(keys, return_inverse=True)

    walk = _walk(numbers, np.repeat(np.arange(len(lengths)), lengths), number)
    orders = tuple(_table(table, owners, ngrams, images) for table, owners, ngrams in walk)
    return PreparedReferences(texts=texts, images=images, lengths=lengths, vocabulary=dict(vocabulary), orders=orders)


def count_candidates(candidates: Sequence[str], references: PreparedReferences) -> CountedCandidates:
    """Count the n-grams of tokenized candidates.

    Args:
        candidates: One for each image of the references, in their order.
        references: From `prepare`.

    Raises:
        ValueError: Another number of candidates than of images.
    """
    if len(candidates) != references.size:
        raise ValueError(f"{len(candidates)} candidates for {references.size} images")
    vocabulary = defaultdict(itertools.count(len(references.vocabulary)).__next__, references.vocabulary)
    numbers, lengths = _numbered(candidates, vocabulary)

    def number(order: int, keys: Ints) -> tuple[Ints, Ints]:
        table = references.orders[order].keys
        different, which = np.unique(keys, return_inverse=True)
        places, seen = _places(table, different)
        new = different[~seen]
        places[~seen] = len(table) + np.arange(len(new))
        return np.concatenate([table, new]), places[which]

    walk = _walk(numbers, np.repeat(np.arange(len(lengths)), lengths), number)
    orders = tuple(_count(owners, ngrams, len(table)) for table, owners, ngrams in walk)
    pairs = tuple(_pairs(counts, table) for counts, table in zip(orders, references.orders, strict=True))
    return CountedCandidates(texts=tuple(candidates), lengths=lengths, orders=orders, pairs=pairs)


def _numbered(texts: Iterable[str], vocabulary: defaultdict[str, int]) -> tuple[Ints, Ints]:
    """The number of each word of all texts in a row, new words getting the next ones, and the words of each text."""
    words = [text.split() for text in texts]
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    numbers = np.fromiter(map(vocabulary.__getitem__, chain.from_iterable(words)), np.int64, int(lengths.sum()))
    return numbers, lengths


def _walk(
    numbers: Ints, owners: Ints, number: Callable[[int, Ints], tuple[Ints, Ints]]
) -> Iterator[tuple[Ints, Ints, Ints]]:
    """For each order: the table of keys, and of each n-gram of the texts the text and the place in the table."""
    prefixes = numbers
    for order in range(ORDERS):
        starts = np.flatnonzero(owners[: max(len(owners) - order, 0)] == owners[order:])
        keys = numbers[starts + order]
        if order:
            keys |= prefixes[starts] << _SHIFT
        table, found = number(order, keys)
        yield table, owners[starts], found
        prefixes = np.zeros_like(numbers)
        prefixes[starts] = found


def _runs(ascending: Ints) -> Ints:
    """Where each run of equal values starts."""
    return np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1])) if len(ascending) else ascending


def _count(groups: Ints, ngrams: Ints, size: int) -> Counts:
    """Count equal pairs, of n-grams numbered below a size."""
    pairs, times = np.unique(groups * max(size, 1) + ngrams, return_counts=True)
    return Counts(groups=pairs // max(size, 1), ngrams=pairs % max(size, 1), times=times)


def _table(keys: Ints, owners: Ints, ngrams: Ints, images: Ints) -> OrderTable:
    """Count n-grams of references, sorted by image, n-gram and reference by one sort of one number for the three."""
    size = max(len(keys), 1)
    of_image = np.bincount(images)
    first, width = np.cumsum(of_image) - of_image, int(of_image.max())
    image = images[owners]
    codes = np.sort((image * size + ngrams) * width + owners - first[image])
    starts = _runs(codes)
    times = np.diff(np.append(starts, len(codes)))
    pairs_again, places = np.divmod(codes[starts], width)
    runs = _runs(pairs_again)
    pairs = pairs_again[runs]
    pair_of = np.repeat(np.arange(len(runs)), np.diff(np.append(runs, len(pairs_again))))
    of_pair, which = np.divmod(pairs_again, size)
    return OrderTable(
        keys=keys,
        counts=Counts(groups=first[of_pair] + places, ngrams=which, times=times),
        pairs=pairs,
        pair_of=pair_of,
        document_frequency=np.bincount(pairs % size, minlength=len(keys)),
        most=np.maximum.reduceat(times, runs) if len(runs) else times,
    )


def _pairs(counts: Counts, table: OrderTable) -> Ints:
    known = np.flatnonzero(counts.ngrams < len(table.keys))
    places, there = _places(table.pairs, counts.groups[known] * len(table.keys) + counts.ngrams[known])
    found = np.full(len(counts.ngrams), -1)
    found[known[there]] = places[there]
    return found


def _places(ascending: Ints, wanted: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Where each wanted value is in an ascending array, and whether it is there."""
    places = np.searchsorted(ascending, wanted)
    there = places < len(ascending)
    there[there] = ascending[places[there]] == wanted[there]
    return places, there
