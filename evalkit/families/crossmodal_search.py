"""What a model is asked in retrieval within and across modalities, and each image's prediction.

Imported by `evalkit.families.crossmodal` inside the method that uses it, so it may import numpy and what needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253 # see above

from evalkit.errors import DataError
from evalkit.families.crossmodal import CrossmodalPrediction, CrossmodalSample
from evalkit.families.crossmodal_pairs import Members
from evalkit.metrics.cxc import pair_scores, wrong_before  # noqa: TID253 # see above

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.metrics.tiles import FloatArray
    from evalkit.model import Model
    from evalkit.types import Capability, Embeddings


def search(
    model: Model, samples: Sequence[CrossmodalSample], needs: Sequence[Capability], prompt: str
) -> tuple[CrossmodalPrediction, ...]:
    """Embed what the route needs, rank in every mode, compare the rated pairs; one prediction a sample.

    An image that fails, or a caption of which fails, takes no part in any mode.

    Raises:
        DataError: Every image failed.
    """
    captions = [prompt.replace("{caption}", caption) for sample in samples for caption in sample.captions]
    images = texts = asked = None
    if "encode_image" in needs:
        images = model.encode_image([sample.image for sample in samples if sample.image is not None])
    if "encode_text" in needs:
        texts = model.encode_text(captions)
        asked = model.encode_query(captions) if "encode_query" in model.capabilities else texts
    failures = _failures(samples, images, (texts, asked))
    members = Members([sample for row, sample in enumerate(samples) if row not in failures])
    if not members.samples:
        first = min(failures)
        raise DataError(
            f"Every image failed; the first, {samples[first].name}: {failures[first]}",
            "Check the images and the model.",
        )
    alive = np.array([row not in failures for row in range(len(samples))])
    kept = alive[np.repeat(np.arange(len(samples)), [len(sample.captions) for sample in samples])]
    found = _Found(members)
    if images is not None:
        found.within("i2i", "sis", images.vectors[alive], images.vectors[alive])
    if texts is not None and asked is not None:
        found.within("t2t", "sts", asked.vectors[kept], texts.vectors[kept])
        if images is not None:
            found.across(images.vectors[alive], asked.vectors[kept], texts.vectors[kept])
    predictions = iter(found.predictions())
    return tuple(
        CrossmodalPrediction(sample_id=sample.id, failure=failures[row]) if row in failures else next(predictions)
        for row, sample in enumerate(samples)
    )


class _Found:
    """Ranks of every mode, and scores of the rated pairs, by the rows of `Members`."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._ranks: dict[str, list[tuple[int, ...]]] = {}
        self._scores: dict[str, list[float]] = {}

    def within(self, mode: str, kind: str, queries: FloatArray, gallery: FloatArray) -> None:
        self._rank(mode, queries, gallery, itself=True)
        self._compare(kind, queries, gallery)

    def across(self, images: FloatArray, asked: FloatArray, texts: FloatArray) -> None:
        self._rank("i2t", images, texts, itself=False)
        self._rank("t2i", asked, images, itself=False)
        self._compare("sits", images, texts)

    def predictions(self) -> list[CrossmodalPrediction]:
        members = self._members
        counts = {kind: members.rated(kind).per_sample for kind in self._scores}
        places = dict.fromkeys(self._scores, 0)
        predictions = []
        first = 0
        for row, sample in enumerate(members.samples):
            own = slice(first, first := first + len(sample.captions))
            scores: dict[str, tuple[float, ...]] = {}
            for kind, values in self._scores.items():
                start, places[kind] = places[kind], places[kind] + counts[kind][row]
                scores[kind] = tuple(values[start : places[kind]])
            predictions.append(
                CrossmodalPrediction(
                    sample_id=sample.id,
                    failure=None,
                    i2t=self._ranks["i2t"][row] if "i2t" in self._ranks else (),
                    i2i=self._ranks["i2i"][row] if "i2i" in self._ranks else (),
                    t2i=tuple(self._ranks.get("t2i", ())[own]),
                    t2t=tuple(self._ranks.get("t2t", ())[own]),
                    **scores,
                )
            )
        return predictions

    def _rank(self, mode: str, queries: FloatArray, gallery: FloatArray, *, itself: bool) -> None:
        positives = [np.array(each, np.int64) for each in self._members.positives(mode)]
        ranks = wrong_before(queries, gallery, positives, itself=itself)
        self._ranks[mode] = [tuple(each.tolist()) for each in ranks]

    def _compare(self, kind: str, queries: FloatArray, items: FloatArray) -> None:
        pairs = self._members.rated(kind)
        rows, columns = np.array(pairs.queries, np.int64), np.array(pairs.items, np.int64)
        self._scores[kind] = pair_scores(queries, items, rows, columns).tolist()


def _failures(
    samples: Sequence[CrossmodalSample], images: Embeddings | None, texts: tuple[Embeddings | None, ...]
) -> dict[int, str]:
    """Row of a sample -> why it failed."""
    failures = {} if images is None else {row: failure.reason for row, failure in images.failures.items()}
    owners = [row for row, sample in enumerate(samples) for _ in sample.captions]
    for embeddings in texts:
        for text, failure in () if embeddings is None else embeddings.failures.items():
            failures.setdefault(owners[text], failure.reason)
    return failures
