"""Each judged caption as a reader sees it.

Imported by `evalkit.families.caption_filtering` inside the method that uses it, so it may import numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253 # see above

from evalkit.families.caption_filtering import CapfiltSample
from evalkit.metrics.binary import auroc_of_each  # noqa: TID253 # see above
from evalkit.types import SampleView, SampleViews

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.families.caption_filtering import CapfiltPrediction

TRUE, SWAPPED, MACHINE = "true caption", "swapped caption", "machine caption"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """One caption of one image."""

    sample: CapfiltSample
    number: int
    """From 1: the image's captions, then the negatives."""
    text: str
    kind: str
    failure: str | None
    score: float
    """The model's; 0 where it failed."""


def views(
    samples: Sequence[CapfiltSample],
    predictions: Sequence[CapfiltPrediction],
    made: Sequence[Sequence[str]] | None,
    *,
    machine: bool,
) -> SampleViews:
    """A view a caption, true ones before the others of an image; it is right where it is kept or dropped rightly.

    The score is 100 there, else 0, so that its mean is `accuracy`. A cosine has no threshold: then nothing is right or
    wrong, and the score is the share of captions of the other kind that stand on the right side of it, whose mean is
    `auroc`.

    Args:
        samples: The images.
        predictions: One a sample, in order.
        made: The wrong captions of each sample; None where a captioner's are not known.
        machine: Whether the wrong captions are a captioner's.
    """
    judged = [
        each
        for place, (sample, one) in enumerate(zip(samples, predictions, strict=True))
        for each in _judged(sample, one, None if made is None else made[place], MACHINE if machine else SWAPPED)
    ]
    cosine = any(one.scale == "cosine" for one in predictions)
    shares = iter(_shares([each for each in judged if each.failure is None]) if cosine else ())
    return SampleViews(
        metric="auroc" if cosine else "accuracy",
        unit="%",
        higher_is_better=True,
        views=tuple(_view(each, next(shares) if cosine and each.failure is None else None) for each in judged),
    )


def _judged(
    sample: CapfiltSample, prediction: CapfiltPrediction, made: Sequence[str] | None, kind: str
) -> Iterator[_Judged]:
    true, wrong = len(sample.captions), len(prediction.negative_scores if made is None else made)
    scores = (*prediction.scores, *prediction.negative_scores) or (0.0,) * (true + wrong)
    texts = (*sample.captions, *(("",) * wrong if made is None else made))
    for number, (text, score) in enumerate(zip(texts, scores, strict=True), start=1):
        yield _Judged(
            sample=sample,
            number=number,
            text=text or f"(machine-made caption {number - true}, which the run does not hold)",
            kind=TRUE if number <= true else kind,
            failure=prediction.failure,
            score=score,
        )


def _shares(judged: Sequence[_Judged]) -> list[float]:
    scores = np.array([each.score for each in judged])
    shares: list[float] = (100.0 * auroc_of_each(scores, np.array([each.kind == TRUE for each in judged]))).tolist()
    return shares


def _view(judged: _Judged, share: float | None) -> SampleView:
    is_true = judged.kind == TRUE
    right: bool | None = None
    answer = ""
    if share is not None:
        answer = f"cosine {judged.score:.3f}"
    elif judged.failure is None:
        kept = judged.score > 0
        right, answer = kept == is_true, "kept" if kept else "dropped"
    return SampleView(
        id=f"{judged.sample.id}#{judged.number}",
        images=(judged.sample.image,),
        asked=judged.text,
        references=("kept" if is_true else "dropped",),
        answer=answer,
        failure=judged.failure,
        score=share if right is None else 100.0 * right,
        right=right,
        groups={"kind": judged.kind},
    )
