"""Each caption as a reader sees it.

Imported by `evalkit.families.captioning` inside the method that uses it, so it may import numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.families.caption_scores import cider_of_each
from evalkit.types import SampleView, SampleViews

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.families.captioning import CaptionPrediction, CaptionSample


def views(samples: Sequence[CaptionSample], predictions: Sequence[CaptionPrediction]) -> SampleViews:
    """A view an image; its score is its CIDEr times 100, with the idf of all images that did not fail.

    None is right or wrong. CIDEr is evalkit's own, which needs no Java and equals the reference's.

    Args:
        samples: The split.
        predictions: One a sample, in order.
    """
    both = list(zip(samples, predictions, strict=True))
    scored = [(sample, one) for sample, one in both if one.failure is None and sample.references]
    known = cider_of_each(scored, "native") if scored else {}
    return SampleViews(
        metric="cider",
        unit="points",
        higher_is_better=True,
        views=tuple(
            SampleView(
                id=sample.id,
                images=(sample.image,),
                asked="",
                references=sample.references,
                answer=one.caption,
                failure=one.failure,
                score=known.get(sample.id),
                right=None,
                groups={"domain": sample.domain} if sample.domain else {},
            )
            for sample, one in both
        ),
    )
