"""Each image of a retrieval run as a reader sees it.

Imported by `evalkit.families.retrieval` inside the method that uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.types import SampleView, SampleViews

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.families.captioned_photos import CaptionedSample
    from evalkit.families.retrieval import RetrievalPrediction, RetrievalSample


def views(
    samples: Sequence[RetrievalSample], predictions: Sequence[RetrievalPrediction], *, reranked: bool
) -> SampleViews:
    """A view an image; its score is the rank of its best caption, from 1, and it is right where that is 1.

    Args:
        samples: The split.
        predictions: One a sample, in order.
        reranked: Whether the ranks are those of the second stage.
    """
    captions = [caption for sample in samples for caption in sample.captions]
    return SampleViews(
        metric="i2t_mean_rank",
        unit="rank",
        higher_is_better=False,
        views=tuple(
            _view(sample, one, captions, reranked=reranked) for sample, one in zip(samples, predictions, strict=True)
        ),
    )


def _view(
    sample: RetrievalSample, prediction: RetrievalPrediction, captions: Sequence[str], *, reranked: bool
) -> SampleView:
    i2t = prediction.reranked_i2t_rank if reranked else prediction.i2t_rank
    t2i = prediction.reranked_t2i_ranks if reranked else prediction.t2i_ranks
    best = (prediction.reranked_top_captions if reranked else prediction.top_captions)[:1]
    return ranked_image(sample, prediction.failure, i2t, t2i, answer="".join(captions[place] for place in best))


def ranked_image(
    sample: RetrievalSample | CaptionedSample, failure: str | None, i2t: int | None, t2i: Sequence[int], *, answer: str
) -> SampleView:
    """An image and its captions, with their 0-based ranks."""
    if failure is not None or i2t is None:
        return SampleView(
            id=sample.id,
            images=(sample.image,),
            asked="",
            references=sample.captions,
            answer="",
            failure=failure,
            score=None,
            right=None,
        )
    return SampleView(
        id=sample.id,
        images=(sample.image,),
        asked="",
        references=sample.captions,
        answer=answer,
        failure=None,
        score=float(i2t + 1),
        right=i2t == 0,
        ranks={"i2t": (i2t + 1,), "t2i": tuple(rank + 1 for rank in t2i)},
    )
