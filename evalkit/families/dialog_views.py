"""Each round of a dialog as a reader sees it.

Imported by `evalkit.families.dialog` inside the method that uses it, so it may import numpy.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evalkit.families.dialog import asked_rounds
from evalkit.families.dialog_scores import place_of_answer
from evalkit.types import SampleView, SampleViews

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.families.dialog import DialogPrediction, DialogSample, RankedRound


def views(samples: Sequence[DialogSample], predictions: Sequence[DialogPrediction]) -> SampleViews:
    """A view a round that is to be answered; its score is the reciprocal rank of the person's answer times 100.

    It is right where that answer stands alone on rank 1. Where others have its score, the rank that is shown is their
    mean one, rounded up. What was asked is shown with the dialog before it, whether or not the route tells it.

    Args:
        samples: The split.
        predictions: One a sample, in order.
    """
    return SampleViews(
        metric="mrr",
        unit="%",
        higher_is_better=True,
        views=tuple(
            view
            for sample, prediction in zip(samples, predictions, strict=True)
            for view in _rounds(sample, prediction)
        ),
    )


def _rounds(sample: DialogSample, prediction: DialogPrediction) -> Iterator[SampleView]:
    if prediction.failure is not None:
        for place in asked_rounds(sample):
            yield _view(sample, place, None, prediction.failure)
        return
    for one in prediction.rounds:
        yield _view(sample, one.round_id - 1, one, None)


def _view(sample: DialogSample, place: int, ranked: RankedRound | None, failure: str | None) -> SampleView:
    asked = sample.rounds[place]
    answer = None if ranked is None else place_of_answer(sample, ranked)
    return SampleView(
        id=f"{sample.id}#{place + 1}",
        images=(sample.image,),
        asked=_so_far(sample, place),
        references=() if asked.gt_index is None else (asked.options[asked.gt_index],),
        answer="" if ranked is None else ranked.answer,
        failure=failure,
        score=None if answer is None else 100 * answer.reciprocal_rank,
        right=None if answer is None else answer.rank == 1,
        groups={"round": str(place + 1)},
        ranks={} if answer is None else {"answer": (math.ceil(answer.rank),)},
    )


def _so_far(sample: DialogSample, place: int) -> str:
    """The caption, the rounds before, the question: a line each."""
    past = (f"{one.question}? {one.answer or ''}".rstrip() for one in sample.rounds[:place])
    return "\n".join((sample.caption, *past, f"{sample.rounds[place].question}?"))
