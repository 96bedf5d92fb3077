"""Classes named to numbers: a pure function of what a run stores.

Imported by `evalkit.families.classification` inside the method that uses it, so it may import numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253 # see above

from evalkit.errors import DataError
from evalkit.families.generation_scores import Clustered
from evalkit.metrics.classification import (  # noqa: TID253 # see above
    NONE,
    hits,
    mean_per_class_recall,
    resampled_class_recall,
    top_k_accuracy,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.families.classification import ClassifiedSample, ClassPrediction
    from evalkit.metrics.tiles import IntArray
    from evalkit.types import MetricValue


def score(
    samples: Sequence[ClassifiedSample],
    predictions: Sequence[ClassPrediction],
    *,
    protocol: str,
    split: str,
    five: bool,
) -> tuple[MetricValue, ...]:
    """`acc1`, `acc5` and `mean_per_class_recall`, in percent.

    Args:
        samples: The images and their classes.
        predictions: One a sample, in order. Failed ones are left out of every number, and of its `n`.
        protocol: The numbers' protocol.
        split: Where they stand.
        five: Whether there are five classes or more, without which `acc5` says nothing.

    Raises:
        DataError: Every image failed.
    """
    answered = [(one, got) for one, got in zip(samples, predictions, strict=True) if got.failure is None]
    if not answered:
        raise DataError("Every image failed, so there is nothing to score.", "Run the evaluation again.")
    labels, best = _in_numbers(answered)
    over = Clustered([sample.cluster for sample, _ in answered], protocol=protocol, split=split)
    values = [
        over.mean(f"acc{k}", np.where(hits(labels, best, k), 100.0, 0.0), value=top_k_accuracy(labels, best, k))
        for k in ((1, 5) if five else (1,))
    ]
    resampled = resampled_class_recall(hits(labels, best, 1), labels, over.bootstrap.times_drawn)
    recall = mean_per_class_recall(labels, best)
    return (*values, over.value("mean_per_class_recall", recall, resampled, len(labels)))


def first_is_right(answered: Sequence[tuple[ClassifiedSample, ClassPrediction]]) -> list[bool]:
    """Whether the first class that was named for each image is its own; one image or more."""
    labels, best = _in_numbers(answered)
    right: list[bool] = hits(labels, best, 1).tolist()
    return right


def _in_numbers(answered: Sequence[tuple[ClassifiedSample, ClassPrediction]]) -> tuple[IntArray, IntArray]:
    """(images,) the class of each; (images, most) the classes named for it, as `hits` takes them."""
    numbers: dict[str, int] = {}
    labels = np.array([numbers.setdefault(sample.label, len(numbers)) for sample, _ in answered])
    width = max(1, *(len(prediction.classes) for _, prediction in answered))
    best = np.full((len(answered), width), NONE, np.int64)
    for row, (_, prediction) in zip(best, answered, strict=True):
        row[: len(prediction.classes)] = [numbers.setdefault(name, len(numbers)) for name in prediction.classes]
    return labels, best
