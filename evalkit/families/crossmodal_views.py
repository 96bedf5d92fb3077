"""Each image, or each text, of retrieval within and across modalities as a reader sees it.

Imported by `evalkit.families.crossmodal` inside the method that uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.families.crossmodal import ALL, MODES
from evalkit.families.crossmodal_pairs import Members
from evalkit.types import SampleView, SampleViews

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.families.crossmodal import CrossmodalPrediction, CrossmodalSample

_BY_IMAGE = ("i2t", "i2i")
"""Modes that are searched with an image; the others are with each of its captions."""


def views(
    samples: Sequence[CrossmodalSample], predictions: Sequence[CrossmodalPrediction], *, route: str
) -> SampleViews:
    """A view a query of the first mode of the route in which one has a right answer; ranks are told of every mode.

    The score is 100 where the first right answer stands before all wrong ones, else 0, so that its mean is that mode's
    R@1; None where a query has no right answer. References are the right answers: captions, or the names of images.

    Args:
        samples: The split.
        predictions: One a sample, in order.
        route: The route's name.
    """
    modes = MODES[route]
    mode = next((name for name in modes if any(any(_queries(one, name)) for one in predictions)), modes[0])
    both = list(zip(samples, predictions, strict=True))
    references = iter(_right_answers([sample for sample, one in both if one.failure is None], mode))
    shown = _of_images if mode in _BY_IMAGE else _of_captions
    return SampleViews(
        metric=f"{mode}_r@1",
        unit="%",
        higher_is_better=True,
        views=tuple(view for sample, one in both for view in shown(sample, one, mode, references)),
    )


def _queries(prediction: CrossmodalPrediction, mode: str) -> Sequence[tuple[int, ...]]:
    """The ranks of the right answers to each query of a mode."""
    ranks = getattr(prediction, mode)
    return (ranks,) if mode in _BY_IMAGE else ranks


def _right_answers(samples: Sequence[CrossmodalSample], mode: str) -> Iterator[tuple[str, ...]]:
    """Those of each query, among what has not failed."""
    found = mode[-1]
    items = [sample.name for sample in samples]
    if found == "t":
        items = [caption for sample in samples for caption in sample.captions]
    return (tuple(items[row] for row in rows) for rows in Members(samples).positives(mode))


def _of_images(
    sample: CrossmodalSample, prediction: CrossmodalPrediction, mode: str, references: Iterator[tuple[str, ...]]
) -> Iterator[SampleView]:
    alive = prediction.failure is None
    ranks = {name: tuple(one[0] + 1 for one in _queries(prediction, name) if one) for name in MODES[ALL.name]}
    first = ranks[mode]
    yield SampleView(
        id=sample.id,
        images=(sample.image,) if sample.image else (),
        asked="",
        references=next(references) if alive else (),
        answer="",
        failure=prediction.failure,
        score=100.0 * (first[0] == 1) if first else None,
        right=first[0] == 1 if first else None,
        ranks={name: values for name, values in ranks.items() if values},
    )


def _of_captions(
    sample: CrossmodalSample, prediction: CrossmodalPrediction, mode: str, references: Iterator[tuple[str, ...]]
) -> Iterator[SampleView]:
    alive = prediction.failure is None
    for place, caption in enumerate(sample.captions):
        ranks = _queries(prediction, mode)[place] if alive else ()
        yield SampleView(
            id=f"{sample.id}#{place + 1}",
            images=(),
            asked=caption,
            references=next(references) if alive else (),
            answer="",
            failure=prediction.failure,
            score=100.0 * (ranks[0] == 0) if ranks else None,
            right=ranks[0] == 0 if ranks else None,
            ranks={mode: (ranks[0] + 1,)} if ranks else {},
        )
