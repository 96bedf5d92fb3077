"""Each statement as a reader sees it.

Imported by `evalkit.families.statements` inside the method that uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.metrics.nlvr2 import is_right  # noqa: TID253 # imported inside a method, see above
from evalkit.types import SampleView, SampleViews

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.families.statements import StatementPrediction, StatementSample


def views(samples: Sequence[StatementSample], predictions: Sequence[StatementPrediction]) -> SampleViews:
    """A view a statement and image pair; the score is 100 where the verdict is the label, else 0.

    Where no verdict could be read off what a model wrote, the answer is what it wrote.

    Args:
        samples: The split.
        predictions: One a sample, in order.
    """
    return SampleViews(
        metric="accuracy",
        unit="%",
        higher_is_better=True,
        views=tuple(_view(sample, one) for sample, one in zip(samples, predictions, strict=True)),
    )


def _view(sample: StatementSample, prediction: StatementPrediction) -> SampleView:
    known = prediction.failure is None and sample.label
    right = is_right(prediction.answer, sample.label) if known else None
    groups = {"subset": sample.subset, "label": sample.label}
    return SampleView(
        id=sample.id,
        images=sample.images,
        asked=sample.statement,
        references=(sample.label,) if sample.label else (),
        answer=prediction.answer or prediction.text.strip(),
        failure=prediction.failure,
        score=None if right is None else 100.0 * right,
        right=right,
        groups={name: value for name, value in groups.items() if value},
    )
