"""Captions to numbers: a pure function of what a run stores.

Imported by `evalkit.families.captioning` inside the method that uses it, so it may import numpy.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253 # see above

from evalkit.errors import DataError
from evalkit.families.generation_scores import Clustered, can_be_scored, generation_values
from evalkit.metrics.captions import NATIVE_METRICS, score_captions  # noqa: TID253 # see above
from evalkit.metrics.captions.bleu import BleuCounts, bleu  # noqa: TID253 # see above

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evalkit.families.captioning import CaptionOptions, CaptionPrediction, CaptionSample
    from evalkit.metrics.captions import Backend, CaptionMetric, CaptionScores
    from evalkit.types import MetricValue, Unit

_DOMAINS = ("in", "near", "out")
_PERCENT = 100.0
_DIGITS = 9


def score(
    samples: Sequence[CaptionSample],
    predictions: Sequence[CaptionPrediction],
    *,
    protocol: str,
    split: str,
    options: CaptionOptions,
) -> tuple[MetricValue, ...]:
    """The caption metrics times 100; by domain where there are domains; then what is told of generated text.

    Intervals: CIDEr, ROUGE-L and SPICE are means over images, resampled with each image's score as it is, so that the
    idf stays that of the whole set. BLEU is computed from the counts of each resample. METEOR is a score of the whole
    set that its images' scores do not average to: its interval is that of their mean, moved by the difference.

    Args:
        samples: The split.
        predictions: One a sample, in order. Failed ones are left out of every number, of its `n` and of the idf.
        protocol: `Protocol.id`.
        split: The split's name.
        options: Back end and further metrics.

    Raises:
        DataError: Every image failed.
    """
    answered = [(sample, one) for sample, one in zip(samples, predictions, strict=True) if one.failure is None]
    if not answered:
        raise DataError("Every image failed, so there is nothing to score.", "Run the evaluation again.")
    over = Clustered([sample.cluster for sample, _ in answered], protocol=protocol, split=split)
    told = generation_values([one for _, one in answered], [one.caption for _, one in answered], over)
    without = [sample.id for sample, _ in answered if not sample.references]
    if not can_be_scored(without, len(answered), "images have no reference captions"):
        return told
    backend: Backend = "pycocoevalcap" if options.backend == "pycocoevalcap" else "native"
    metrics, counts = _all_metrics(answered, options, backend)
    values = (*_values(metrics, counts, over), *_by_domain(answered, metrics, over, backend), *told)
    return tuple(_rounded(value) for value in values)


def _rounded(value: MetricValue) -> MetricValue:
    """The two back ends add up in different orders; what they give is told to as many digits as is the same."""
    low, middle, high = (round(number, _DIGITS) for number in (value.low, value.value, value.high))
    return replace(value, low=low, value=middle, high=high, unit=unit_of(value.metric))


def unit_of(metric: str) -> Unit:
    """CIDEr has no upper end at 100, which all other measures of captions have."""
    return "points" if metric.startswith("cider") else "%"


def _measure(
    answered: Sequence[tuple[CaptionSample, CaptionPrediction]], metrics: Sequence[str], backend: Backend
) -> CaptionScores:
    return score_captions(
        {sample.id: sample.references for sample, _ in answered},
        {sample.id: one.caption for sample, one in answered},
        backend,
        metrics=metrics,
        allow_empty=True,  # an answer that came out empty is scored as one; `empty` tells how many there are
    )


def cider_of_each(answered: Sequence[tuple[CaptionSample, CaptionPrediction]], backend: Backend) -> dict[str, float]:
    """Id of an image with references -> its CIDEr times 100, with the idf of all that are given."""
    values = _PERCENT * _measure(answered, ("cider",), backend).metrics["cider"].per_item
    return dict(zip((sample.id for sample, _ in answered), values.tolist(), strict=True))


def _all_metrics(
    answered: Sequence[tuple[CaptionSample, CaptionPrediction]], options: CaptionOptions, backend: Backend
) -> tuple[dict[str, CaptionMetric], BleuCounts]:
    scores = _measure(answered, NATIVE_METRICS, backend)
    metrics = dict(scores.metrics)
    by_java = [name for name, wanted in (("meteor", options.meteor), ("spice", options.spice)) if wanted]
    if by_java:
        metrics |= _measure(answered, by_java, "pycocoevalcap").metrics
    return metrics, scores.bleu_counts


def _values(metrics: Mapping[str, CaptionMetric], counts: BleuCounts, over: Clustered) -> list[MetricValue]:
    values: list[MetricValue] = []
    resampled_bleu = _PERCENT * bleu(_resampled(counts, over))
    for name in ("cider", "spice", "meteor", "rouge_l", "bleu_4", "bleu_3", "bleu_2", "bleu_1"):
        if name not in metrics:
            continue
        value, items = _PERCENT * metrics[name].value, _PERCENT * metrics[name].per_item
        if name.startswith("bleu"):
            resampled = resampled_bleu[:, int(name[-1]) - 1]
        else:
            resampled = over.resampled_mean(items)
        if name == "meteor":
            resampled = resampled + value - items.mean()
        values.append(over.value(name, value, resampled, len(items)))
    return values


def _resampled(counts: BleuCounts, over: Clustered) -> BleuCounts:
    """The counts of each resample: rows of whole numbers, exact in double precision."""
    times = over.bootstrap.times_drawn[:, over.clusters]  # (resamples, images)
    summed = {
        name: np.rint(times @ getattr(counts, name)).astype(np.int64)
        for name in ("correct", "total", "length", "reference_length")
    }
    return BleuCounts(**summed)


def _by_domain(
    answered: Sequence[tuple[CaptionSample, CaptionPrediction]],
    metrics: Mapping[str, CaptionMetric],
    over: Clustered,
    backend: Backend,
) -> list[MetricValue]:
    """As the nocaps server: means with the idf of the whole set; then each domain as a set of its own."""
    domains = np.array([sample.domain or "" for sample, _ in answered])
    found = [name for name in _DOMAINS if (domains == name).any()]
    values: list[MetricValue] = []
    for metric in ("cider", "spice"):
        if metric in metrics:
            items = _PERCENT * metrics[metric].per_item
            values += [over.mean(f"{metric}_{name}", items, domains == name) for name in found]
    for name in found:
        members = domains == name
        part = [one for one, inside in zip(answered, members, strict=True) if inside]
        alone = np.zeros(len(answered))
        alone[members] = list(cider_of_each(part, backend).values())
        values.append(over.mean(f"cider_subset_{name}", alone, members))
    return values
