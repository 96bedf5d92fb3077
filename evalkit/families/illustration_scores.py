"""Sentences and images embedded, ranked and assigned, and the numbers of that.

Imported by `evalkit.families.illustration` inside the methods that use it, so it may import numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253 # see above

from evalkit.errors import DataError
from evalkit.families.generation_scores import Clustered
from evalkit.families.illustration import IllustrationPrediction
from evalkit.metrics.assignment import assigned_to_own  # noqa: TID253 # see above
from evalkit.metrics.ranks import retrieval_ranks  # noqa: TID253 # see above
from evalkit.metrics.retrieval import RECALL_AT  # noqa: TID253 # see above
from evalkit.metrics.tiles import checked, exact_scores  # noqa: TID253 # see above

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.families.illustration import IllustrationSample
    from evalkit.model import Model
    from evalkit.types import FloatArray, MetricValue


def illustrated(model: Model, samples: Sequence[IllustrationSample], prompt: str) -> tuple[IllustrationPrediction, ...]:
    """One prediction a sample; an image that failed is in no gallery, and its sentence is not asked about.

    Raises:
        DataError: Every image failed.
    """
    images = model.encode_image([one.image for one in samples])
    texts = model.encode_text([prompt.replace("{caption}", one.sentence) for one in samples])
    failures = {**texts.failures, **images.failures}
    alive = [position for position in range(len(samples)) if position not in failures]
    if not alive:
        raise DataError(f"Every image failed; the first: {failures[0].reason}", "Check the images.")
    left, right = images.vectors[alive], texts.vectors[alive]
    ranks = dict(zip(alive, retrieval_ranks(left, right, np.arange(len(alive))).t2i.tolist(), strict=True))
    given = _given(samples, alive, left, right)
    return tuple(
        IllustrationPrediction(sample_id=sample.id, failure=failures[position].reason)
        if position in failures
        else IllustrationPrediction(
            sample_id=sample.id, failure=None, rank=ranks[position], assigned=given.get(position)
        )
        for position, sample in enumerate(samples)
    )


def _given(
    samples: Sequence[IllustrationSample], alive: Sequence[int], images: FloatArray, texts: FloatArray
) -> dict[int, str]:
    """Position of a sentence -> id of the image that it was given, in paragraphs of two or more."""
    paragraphs: dict[str, list[int]] = {}
    for row, position in enumerate(alive):
        paragraphs.setdefault(samples[position].cluster, []).append(row)
    stacks, flat = checked(images, texts)
    given: dict[int, str] = {}
    for rows in paragraphs.values():
        size = len(rows)
        if size < 2:
            continue
        scores = exact_scores(stacks, flat, np.tile(rows, size), np.repeat(rows, size)).reshape(size, size)
        for row, image in zip(rows, assigned_to_own(scores).tolist(), strict=True):
            given[alive[row]] = samples[alive[rows[image]]].id
    return given


def score(
    samples: Sequence[IllustrationSample], predictions: Sequence[IllustrationPrediction], *, protocol: str
) -> tuple[MetricValue, ...]:
    """Recalls over sentences, and the assignment over the sentences of paragraphs of two or more; in percent.

    `r@k`: the share of sentences whose own image is among the k best of all. `assignment`: the share of sentences that
    are given their own image when the paragraph's images are given out, each once, for the highest sum of scores.
    `paragraphs`: the share of paragraphs all of whose sentences are. Intervals are over resampled paragraphs.

    Raises:
        DataError: Every image failed.
    """
    answered = [(sample, one) for sample, one in zip(samples, predictions, strict=True) if one.failure is None]
    if not answered:
        raise DataError("Every image failed, so there is nothing to score.", "Run the evaluation again.")
    over = Clustered([sample.cluster for sample, _ in answered], protocol=protocol, split="test")
    ranks = np.array([one.rank for _, one in answered])
    values = [over.mean(f"r@{k}", np.where(ranks < k, 100.0, 0.0)) for k in RECALL_AT]
    given = np.array([one.assigned is not None for _, one in answered])
    if not given.any():
        return tuple(values)
    right = np.array([one.assigned == sample.id for sample, one in answered])
    values.append(over.mean("assignment", np.where(right, 100.0, 0.0), given))
    # one value a paragraph: at its first sentence
    first = np.zeros(len(answered), bool)
    first[np.unique(over.clusters, return_index=True)[1]] = True
    wrong = np.bincount(over.clusters, weights=~right)
    values.append(over.mean("paragraphs", np.where(wrong[over.clusters] == 0, 100.0, 0.0), first & given))
    return tuple(values)
