"""Generated captions embedded, searched, and turned into numbers.

Imported by `evalkit.families.caption_index` inside the methods that use it, so it may import numpy.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253 # see above

from evalkit.errors import DataError
from evalkit.families.generation_scores import Clustered, generation_values
from evalkit.metrics.bootstrap import Table  # noqa: TID253 # see above
from evalkit.metrics.ranks import Ranks, retrieval_ranks  # noqa: TID253 # see above
from evalkit.metrics.retrieval import retrieval_values  # noqa: TID253 # see above

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.families.caption_index import CaptionIndexPrediction
    from evalkit.families.captioned_photos import CaptionedSample
    from evalkit.model import Model
    from evalkit.types import MetricValue

SPLIT = "test"


def placed(
    index: Model, samples: Sequence[CaptionedSample], made: Sequence[CaptionIndexPrediction]
) -> tuple[CaptionIndexPrediction, ...]:
    """The predictions with ranks.

    What is searched for is embedded as a query, where the model treats queries differently.

    Args:
        index: Embeds texts.
        samples: The split.
        made: One a sample, with its generated caption.

    An image of which a caption got no embedding fails, and is in nobody's gallery.

    Raises:
        DataError: Every image failed.
    """
    result = list(made)
    tried = _answered(made)
    captions = [made[position].caption for position in tried]
    people = [text for position in tried for text in samples[position].captions]
    positions = np.array(tried)
    writers = np.repeat(positions, [len(samples[position].captions) for position in tried])
    gallery, asked = index.encode_text(captions), index.encode_query(captions)
    texts, queries = index.encode_text(people), index.encode_query(people)
    for answer, of in ((gallery, positions), (asked, positions), (texts, writers), (queries, writers)):
        for row, failure in answer.failures.items():
            result[of[row]] = replace(made[of[row]], failure=failure.reason)
    alive = _answered(result)
    kept, told = np.isin(positions, alive), np.isin(writers, alive)
    owners = np.repeat(np.arange(len(alive)), [len(samples[position].captions) for position in alive])
    ranks = retrieval_ranks(gallery.vectors[kept], queries.vectors[told], owners)
    t2i = np.split(ranks.t2i, np.flatnonzero(np.diff(owners)) + 1)
    i2t = retrieval_ranks(asked.vectors[kept], texts.vectors[told], owners).i2t
    for row, position in enumerate(alive):
        result[position] = replace(made[position], i2t_rank=int(i2t[row]), t2i_ranks=tuple(t2i[row].tolist()))
    return tuple(result)


def _answered(made: Sequence[CaptionIndexPrediction]) -> list[int]:
    """Positions of those that did not fail.

    Raises:
        DataError: All did.
    """
    alive = [position for position, one in enumerate(made) if one.failure is None]
    if not alive:
        raise DataError(f"Every image failed; the first: {made[0].failure}", "Check the images and the model.")
    return alive


def score(predictions: Sequence[CaptionIndexPrediction], *, protocol: str) -> tuple[MetricValue, ...]:
    """The measures of image-text retrieval, and how many captions came out empty or cut off.

    Raises:
        DataError: Every image failed.
    """
    answered = [one for one in predictions if one.failure is None]
    if not answered:
        raise DataError("Every image failed, so there is nothing to score.", "Run the evaluation again.")
    i2t = np.array([one.i2t_rank for one in answered], np.int64)
    t2i = np.array([rank for one in answered for rank in one.t2i_ranks], np.int64)
    owners = np.repeat(np.arange(len(answered)), [len(one.t2i_ranks) for one in answered])
    over = Clustered([one.sample_id for one in answered], protocol=protocol, split=SPLIT)
    return (
        *retrieval_values(Ranks(i2t=i2t, t2i=t2i), owners, Table(protocol=protocol, split=SPLIT)),
        *generation_values(answered, [one.caption for one in answered], over),
    )
