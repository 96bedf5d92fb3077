"""Which pairs of images and captions are right answers, and which were rated: plain Python over the samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.families.crossmodal import CrossmodalSample

POSITIVE = 3.0
"""The rating from which two items go together: the threshold of the CxC paper's retrieval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Rated pairs both of whose items take part, in the samples' order."""

    queries: tuple[int, ...]
    """(pairs,): rows of images (`sits`, `sis`) or captions (`sts`): those that are sampled by."""
    items: tuple[int, ...]
    """(pairs,): rows of captions (`sits`, `sts`) or images (`sis`)."""
    ratings: tuple[float, ...]
    per_sample: tuple[int, ...]
    """How many of the pairs are each sample's."""
    left_out: int
    """Rated pairs of these samples whose other item does not take part."""


class Members:
    """The images and captions that take part, by row.

    Args:
        samples: Those that have not failed, in the split's order.
    """

    def __init__(self, samples: Sequence[CrossmodalSample]) -> None:
        self.samples = samples
        self.image_at = {sample.name: row for row, sample in enumerate(samples)}
        ids = [caption for sample in samples for caption in sample.caption_ids]
        self.caption_at = {caption: row for row, caption in enumerate(ids)}
        self.owners = tuple(row for row, sample in enumerate(samples) for _ in sample.captions)
        """(captions,): the row of each caption's image."""
        self._own: list[list[int]] = [[] for _ in samples]
        for caption, owner in enumerate(self.owners):
            self._own[owner].append(caption)

    def positives(self, mode: str) -> list[list[int]]:
        """For each query of a mode the rows of its right answers, ascending."""
        wanted = {"i2t": self._i2t, "t2i": self._t2i, "i2i": self._i2i, "t2t": self._t2t}[mode]()
        return [sorted(each) for each in wanted]

    def rated(self, kind: str) -> Pairs:
        """The rated pairs of a kind: `sits`, `sis`, `sts`."""
        queries: list[int] = []
        items: list[int] = []
        ratings: list[float] = []
        counts: list[int] = []
        left_out = 0
        first_caption = 0
        for row, sample in enumerate(self.samples):
            lists = {"sits": (sample.rated_captions,), "sis": (sample.rated_images,), "sts": sample.rated_texts}[kind]
            before = len(queries)
            for place, rated in enumerate(lists):
                for name, rating in rated:
                    item = (self.image_at if kind == "sis" else self.caption_at).get(name)
                    if item is None:
                        left_out += 1
                        continue
                    queries.append(first_caption + place if kind == "sts" else row)
                    items.append(item)
                    ratings.append(rating)
            counts.append(len(queries) - before)
            first_caption += len(sample.captions)
        return Pairs(
            queries=tuple(queries),
            items=tuple(items),
            ratings=tuple(ratings),
            per_sample=tuple(counts),
            left_out=left_out,
        )

    def _i2t(self) -> list[set[int]]:
        right: list[set[int]] = [set() for _ in self.samples]
        for row, sample in enumerate(self.samples):
            if not sample.rated_captions:
                right[row].update(self._own[row])
        for query, item in self._rated_high("sits"):
            right[query].add(item)
        return right

    def _t2i(self) -> list[set[int]]:
        right: list[set[int]] = [set() for _ in self.owners]
        for image, captions in enumerate(self._i2t()):
            for caption in captions:
                right[caption].add(image)
        return right

    def _i2i(self) -> list[set[int]]:
        return self._either_way("sis", [set() for _ in self.samples])

    def _t2t(self) -> list[set[int]]:
        return self._either_way("sts", [set(self._own[owner]) for owner in self.owners])

    def _either_way(self, kind: str, right: list[set[int]]) -> list[set[int]]:
        for query, item in self._rated_high(kind):
            right[query].add(item)
            right[item].add(query)
        for row, each in enumerate(right):
            each.discard(row)
        return right

    def _rated_high(self, kind: str) -> list[tuple[int, int]]:
        pairs = self.rated(kind)
        both = zip(pairs.queries, pairs.items, pairs.ratings, strict=True)
        return [(query, item) for query, item, rating in both if rating >= POSITIVE]
