"""Each image of a retrieval by captions as a reader sees it.

Imported by `evalkit.families.caption_index` inside the method that uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.families.retrieval_views import ranked_image
from evalkit.types import SampleViews

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.families.caption_index import CaptionIndexPrediction
    from evalkit.families.captioned_photos import CaptionedSample


def views(samples: Sequence[CaptionedSample], predictions: Sequence[CaptionIndexPrediction]) -> SampleViews:
    """A view an image, as in `evalkit.families.retrieval_views`; the answer is the caption that was generated.

    Args:
        samples: The split.
        predictions: One a sample, in order.
    """
    return SampleViews(
        metric="i2t_mean_rank",
        unit="rank",
        higher_is_better=False,
        views=tuple(
            ranked_image(sample, one.failure, one.i2t_rank, one.t2i_ranks, answer=one.caption)
            for sample, one in zip(samples, predictions, strict=True)
        ),
    )
