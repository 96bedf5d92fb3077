"""Each sentence to illustrate as a reader sees it.

Imported by `evalkit.families.illustration` inside the method that uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.types import SampleView, SampleViews

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.families.illustration import IllustrationPrediction, IllustrationSample


def views(samples: Sequence[IllustrationSample], predictions: Sequence[IllustrationPrediction]) -> SampleViews:
    """A view a sentence, with the image it is told of; its score is 100 where that is found first, else 0: `r@1`.

    The reference is the id of that image, and the answer the id of the one that the sentence was given within its
    paragraph, empty where the image is alone there.

    Args:
        samples: The sentences.
        predictions: One a sample, in order.
    """
    return SampleViews(
        metric="r@1",
        unit="%",
        higher_is_better=True,
        views=tuple(_view(sample, one) for sample, one in zip(samples, predictions, strict=True)),
    )


def _view(sample: IllustrationSample, prediction: IllustrationPrediction) -> SampleView:
    rank = prediction.rank if prediction.failure is None else None
    return SampleView(
        id=sample.id,
        images=(sample.image,),
        asked=sample.sentence,
        references=(sample.id,),
        answer="" if rank is None else prediction.assigned or "",
        failure=prediction.failure,
        score=None if rank is None else 100.0 * (rank == 0),
        right=None if rank is None else rank == 0,
        ranks={} if rank is None else {"t2i": (rank + 1,)},
    )
