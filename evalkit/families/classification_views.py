"""Each classified image as a reader sees it.

Imported by `evalkit.families.classification` inside the method that uses it, so it may import numpy.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from evalkit.families.classification_scores import first_is_right
from evalkit.types import SampleView, SampleViews

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evalkit.datasets.imagefolder import ImageClass
    from evalkit.families.classification import ClassifiedSample, ClassPrediction


def views(
    samples: Sequence[ClassifiedSample], predictions: Sequence[ClassPrediction], classes: Sequence[ImageClass]
) -> SampleViews:
    """A view an image; its score is 100 where the first class that was named is its own, else 0.

    Args:
        samples: The images and their classes.
        predictions: One a sample, in order.
        classes: All that can be named.
    """
    both = list(zip(samples, predictions, strict=True))
    answered = [(sample, one) for sample, one in both if one.failure is None]
    known = iter(first_is_right(answered) if answered else ())
    names = _names(classes)
    asked = f"Which of {len(classes):,} classes?"
    return SampleViews(
        metric="acc1",
        unit="%",
        higher_is_better=True,
        views=tuple(
            _view(sample, one, None if one.failure is not None else next(known), names, asked) for sample, one in both
        ),
    )


def _view(
    sample: ClassifiedSample, prediction: ClassPrediction, right: bool | None, names: Mapping[str, str], asked: str
) -> SampleView:
    label = names.get(sample.label, sample.label)
    return SampleView(
        id=sample.id,
        images=(sample.image,),
        asked=asked,
        references=(label,),
        answer="".join(names.get(one, one) for one in prediction.classes[:1]),
        failure=prediction.failure,
        score=None if right is None else 100.0 * right,
        right=right,
        groups={"class": label},
    )


def _names(classes: Sequence[ImageClass]) -> dict[str, str]:
    """Id -> first name, with the id behind it where several classes have that name."""
    first = {one.id: one.names[0] if one.names else one.id for one in classes}
    times = Counter(first.values())
    return {identifier: name if times[name] == 1 else f"{name} ({identifier})" for identifier, name in first.items()}
