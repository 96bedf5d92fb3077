"""Judged captions to numbers: a pure function of what a run stores.

Imported by `evalkit.families.caption_filtering` inside the method that uses it, so it may import numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253 # see above

from evalkit.errors import DataError
from evalkit.families.generation_scores import Clustered
from evalkit.metrics.binary import auroc, average_precision, resampled  # noqa: TID253 # see above

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.families.caption_filtering import CapfiltPrediction, CapfiltSample
    from evalkit.types import MetricValue


def score(
    samples: Sequence[CapfiltSample], predictions: Sequence[CapfiltPrediction], *, protocol: str
) -> tuple[MetricValue, ...]:
    """The numbers over all captions and negatives of the images that did not fail, in percent.

    `auroc`, `ap`; and of log-odds, by which a caption is kept where they are above 0: `accuracy`, the share of all that
    are kept or dropped rightly; `kept_precision`, the share of true captions among the kept (absent where none is);
    `kept_recall`, the share of true captions that are kept; `kept_negatives`, the share of negatives that are.

    Raises:
        DataError: Every image failed.
    """
    answered = [(sample.cluster, one) for sample, one in zip(samples, predictions, strict=True) if one.failure is None]
    if not answered:
        raise DataError("Every image failed, so there is nothing to score.", "Run the evaluation again.")
    scores = np.array([value for _, one in answered for value in (*one.scores, *one.negative_scores)])
    labels = np.array(
        [is_true for _, one in answered for is_true in [True] * len(one.scores) + [False] * len(one.negative_scores)]
    )
    owners = [cluster for cluster, one in answered for _ in (*one.scores, *one.negative_scores)]
    over = Clustered(owners, protocol=protocol, split="test")
    areas, precisions = resampled(scores, labels, over.clusters, over.bootstrap)
    n = len(scores)
    values = [
        over.value("auroc", 100.0 * auroc(scores, labels), 100.0 * areas, n),
        over.value("ap", 100.0 * average_precision(scores, labels), 100.0 * precisions, n),
    ]
    if answered[0][1].scale == "cosine":
        return tuple(values)
    kept = scores > 0
    each = np.where(kept, 100.0, 0.0)
    values.append(over.mean("accuracy", np.where(kept == labels, 100.0, 0.0)))
    if kept.any():
        values.append(over.mean("kept_precision", np.where(labels, 100.0, 0.0), kept))
    values.append(over.mean("kept_recall", each, labels))
    values.append(over.mean("kept_negatives", each, ~labels, higher_is_better=False))
    return tuple(values)
