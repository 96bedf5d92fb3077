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

    Raises:
        DataError: Every image failed.
    """
    alive = [position for position, one in enumerate(made) if one.failure is None]
    if not alive:
        raise DataError(f"Every image failed; the first: {made[0].failure}", "Check the images and the model.")
    captions = [made[position].caption for position in alive]
    people = [text for position in alive for text in samples[position].captions]
    owners = np.repeat(np.arange(len(alive)), [len(samples[position].captions) for position in alive])
    gallery, texts = index.encode_text(captions).vectors, index.encode_text(people).vectors
    asked, queries = index.encode_query(captions).vectors, index.encode_query(people).vectors
    t2i = np.split(retrieval_ranks(gallery, queries, owners).t2i, np.flatnonzero(np.diff(owners)) + 1)
    i2t = retrieval_ranks(asked, texts, owners).i2t
    result = list(made)
    for row, position in enumerate(alive):
        result[position] = replace(made[position], i2t_rank=int(i2t[row]), t2i_ranks=tuple(t2i[row].tolist()))
    return tuple(result)


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
