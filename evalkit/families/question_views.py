"""Each question as a reader sees it.

Imported by `evalkit.families.question_answering` inside the method that uses it, so it may import numpy.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from evalkit.families.question_scores import accuracies
from evalkit.types import SampleView, SampleViews

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.families.question_answering import VqaPrediction, VqaSample

RIGHT_FROM = 50.0
"""Percent of the official accuracy: of ten annotators, two or more gave the answer."""


def views(samples: Sequence[VqaSample], predictions: Sequence[VqaPrediction]) -> SampleViews:
    """A view a question; its score is its official accuracy, and it is right from half of that on.

    The references are the annotators' answers as they stand in the file, the commonest first, with how many gave each.

    Args:
        samples: The split.
        predictions: One a sample, in order.
    """
    both = list(zip(samples, predictions, strict=True))
    scored = [(sample, one) for sample, one in both if one.failure is None and sample.answers]
    known = iter(accuracies(scored).per_question) if scored else iter(())
    return SampleViews(
        metric="accuracy",
        unit="%",
        higher_is_better=True,
        views=tuple(
            _view(sample, one, next(known) if one.failure is None and sample.answers else None) for sample, one in both
        ),
    )


def _view(sample: VqaSample, prediction: VqaPrediction, score: float | None) -> SampleView:
    groups = {"answer type": sample.answer_type, "question type": sample.question_type}
    return SampleView(
        id=sample.id,
        images=(sample.image,),
        asked=sample.question,
        references=tuple(f"{answer} ({times})" for answer, times in Counter(sample.answers).most_common()),
        answer=prediction.answer,
        failure=prediction.failure,
        score=score,
        right=None if score is None else score >= RIGHT_FROM,
        groups={name: value for name, value in groups.items() if value},
    )
