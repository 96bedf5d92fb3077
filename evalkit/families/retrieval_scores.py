"""Retrieval predictions to numbers: a pure function of what a run stores.

Imported by `evalkit.families.retrieval` inside the method that uses it, so it may import numpy and what needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253 # see above

from evalkit.errors import DataError
from evalkit.metrics.bootstrap import Table  # noqa: TID253 # see above
from evalkit.metrics.eccv import CAPTIONS_EACH, extended_values  # noqa: TID253 # see above
from evalkit.metrics.ranks import Ranks  # noqa: TID253 # see above
from evalkit.metrics.retrieval import retrieval_values  # noqa: TID253 # see above

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evalkit.families.retrieval import RetrievalPrediction, RetrievalSample
    from evalkit.metrics.eccv import ExtendedCoco
    from evalkit.types import MetricValue, Protocol


def score(
    samples: Sequence[RetrievalSample],
    predictions: Sequence[RetrievalPrediction],
    protocols: Sequence[Protocol],
    *,
    folds: tuple[int, str],
    extended: ExtendedCoco | None,
) -> tuple[MetricValue, ...]:
    """The numbers of each protocol: of the first stage where its route is `itc`, else of the second.

    Args:
        samples: The split.
        predictions: One a sample, in order. Failed ones are left out of every number, and of its `n`.
        protocols: As `RetrievalTask.protocols` gives them.
        folds: How many consecutive parts of the split the fold ranks are within, and the protocol's name for them.
        extended: The positives of ECCV Caption and CxC where these are wanted; nothing may have failed then.

    Raises:
        DataError: Every image failed.
    """
    answered = [(position, each) for position, each in enumerate(predictions) if each.failure is None]
    if not answered:
        raise DataError("Every image failed, so there is nothing to score.", "Run the evaluation again.")
    positions = np.array([position for position, _ in answered])
    kept = [each for _, each in answered]
    owners = np.repeat(np.arange(len(kept)), [len(each.t2i_ranks) for each in kept])
    parts, fold_name = folds
    values: list[MetricValue] = []
    for protocol in protocols:
        table = Table(protocol=protocol.id, split="test")
        if protocol.name == fold_name:
            values += retrieval_values(_fold_ranks(kept), owners, table, positions * parts // len(samples))
            continue
        first = protocol.route == "itc"
        ranks = _first_ranks(kept) if first else _second_ranks(kept)
        values += retrieval_values(ranks, owners, table)
        if extended is not None:
            captions = [each.top_captions if first else each.reranked_top_captions for each in kept]
            images = [each.top_images if first else each.reranked_top_images for each in kept]
            values += extended_values(*_official_lists(samples, captions, images), extended, table)
    return tuple(values)


def _first_ranks(predictions: Sequence[RetrievalPrediction]) -> Ranks:
    return _ranks((each.i2t_rank for each in predictions), (each.t2i_ranks for each in predictions))


def _second_ranks(predictions: Sequence[RetrievalPrediction]) -> Ranks:
    return _ranks((each.reranked_i2t_rank for each in predictions), (each.reranked_t2i_ranks for each in predictions))


def _fold_ranks(predictions: Sequence[RetrievalPrediction]) -> Ranks:
    return _ranks((each.fold_i2t_rank for each in predictions), (each.fold_t2i_ranks for each in predictions))


def _ranks(i2t: Iterable[int | None], t2i: Iterable[Sequence[int]]) -> Ranks:
    ranks = [rank for rank in i2t if rank is not None]
    return Ranks(i2t=np.array(ranks, np.int64), t2i=np.array([rank for each in t2i for rank in each], np.int64))


def _official_lists(
    samples: Sequence[RetrievalSample],
    captions: Sequence[Sequence[int]],
    images: Sequence[Sequence[Sequence[int]]],
) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """The lists by the official positions: caption j of image i is 5 i + j, and captions beyond the fifth are out."""
    official: list[int | None] = [
        CAPTIONS_EACH * image + number if number < CAPTIONS_EACH else None
        for image, sample in enumerate(samples)
        for number in range(len(sample.captions))
    ]
    i2t = {
        image: [number for caption in ranked if (number := official[caption]) is not None]
        for image, ranked in enumerate(captions)
    }
    t2i = {
        CAPTIONS_EACH * image + number: list(ranked)
        for image, lists in enumerate(images)
        for number, ranked in enumerate(lists[:CAPTIONS_EACH])
    }
    return i2t, t2i
