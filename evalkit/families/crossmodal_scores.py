"""Predictions of retrieval within and across modalities to numbers: a pure function of what a run stores.

Imported by `evalkit.families.crossmodal` inside the method that uses it, so it may import numpy and what needs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253 # see above

from evalkit.errors import DataError
from evalkit.families.crossmodal import ALL, IMAGE, MODES, TEXT, CrossmodalPrediction
from evalkit.families.crossmodal_pairs import Members, Pairs
from evalkit.metrics.bootstrap import Table, interval  # noqa: TID253 # see above
from evalkit.metrics.cxc import LEAST_QUERIES, mode_values, sampled_spearman  # noqa: TID253 # see above
from evalkit.types import MetricValue, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.families.crossmodal import CrossmodalSample

_MODES = {
    "i2t": "no image has a right text",
    "t2i": "no text has a right image",
    "i2i": "no image has a right image",
    "t2t": "no text has a right text",
}
_KINDS = {"sits": "an image and a text", "sis": "two images", "sts": "two texts"}
_OF_ROUTE = {
    ALL.name: (MODES[ALL.name], tuple(_KINDS)),
    IMAGE.name: (MODES[IMAGE.name], ("sis",)),
    TEXT.name: (MODES[TEXT.name], ("sts",)),
}
"""What a route looks at, whether or not there is anything to measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answered:
    """What has not failed."""

    members: Members
    predictions: tuple[CrossmodalPrediction, ...]

    @property
    def route(self) -> str:
        """The route's name, by what there are ranks of."""
        if any(each.i2t for each in self.predictions):
            return ALL.name
        return IMAGE.name if any(each.i2i for each in self.predictions) else TEXT.name

    def mode(self, mode: str) -> tuple[list[tuple[int, ...]], list[int]]:
        """Each query that has a right answer: its ranks, and the row of its image."""
        if mode in ("i2t", "i2i"):
            lists = [(row, getattr(each, mode)) for row, each in enumerate(self.predictions)]
        else:
            lists = [(row, ranks) for row, each in enumerate(self.predictions) for ranks in getattr(each, mode)]
        return [ranks for _, ranks in lists if ranks], [row for row, ranks in lists if ranks]

    def rated(self, kind: str) -> tuple[Pairs, list[float]]:
        """The rated pairs of a kind, and the model's scores of them."""
        pairs = self.members.rated(kind)
        scores = [score for each in self.predictions for score in getattr(each, kind)]
        if len(scores) != len(pairs.ratings):
            raise DataError(
                f"The run compared {len(scores)} rated pairs of {_KINDS[kind]}; the data has {len(pairs.ratings)}.",
                "Name the data root the run was made with.",
            )
        return pairs, scores

    def is_correlated(self, kind: str) -> bool:
        """Whether there are enough rated pairs of a kind, and something that differs."""
        pairs, scores = self.rated(kind)
        differ = len(set(pairs.ratings)) > 1 and len(set(scores)) > 1
        return differ and len(set(pairs.queries)) >= LEAST_QUERIES


def score(
    samples: Sequence[CrossmodalSample], predictions: Sequence[CrossmodalPrediction], protocol: Protocol, split: str
) -> tuple[MetricValue, ...]:
    """R@K and R-precision of every mode with a right answer, and the correlations with enough rated pairs.

    A correlation is the mean over its samples, and its interval holds 95 % of them.

    Raises:
        DataError: Every image failed, or no query has a right answer.
    """
    answered = _answered(samples, predictions)
    if not answered.predictions:
        raise DataError("Every image failed, so there is nothing to score.", "Run the evaluation again.")
    looked_at, kinds = _OF_ROUTE[protocol.route]
    found = {mode: answered.mode(mode) for mode in looked_at}
    modes = {mode: (ranks, np.array(owners)) for mode, (ranks, owners) in found.items() if ranks}
    if not modes:
        raise DataError(
            "No image and no caption has a right answer among the others, so there is nothing to score.",
            "Use more of the data, or a model that embeds texts too.",
        )
    table = Table(protocol=protocol.id, split=split)
    values = mode_values(modes, len(answered.predictions), table)
    values += [_correlation(*answered.rated(kind), kind, table) for kind in kinds if answered.is_correlated(kind)]
    return tuple(values)


def notes(samples: Sequence[CrossmodalSample], predictions: Sequence[CrossmodalPrediction]) -> Iterator[str]:
    """Rated pairs that are left out, and numbers that are absent."""
    answered = _answered(samples, predictions)
    if not answered.predictions:
        return
    modes, kinds = _OF_ROUTE[answered.route]
    for kind in kinds:
        pairs = answered.members.rated(kind)
        total = pairs.left_out + len(pairs.ratings)
        if pairs.left_out:
            yield (
                f"{kind}: {pairs.left_out:,} of {total:,} rated pairs of {_KINDS[kind]} are left out: their other"
                f" item is not among the {len(answered.predictions):,} images that were evaluated and their captions."
            )
        if total and not answered.is_correlated(kind):
            yield (
                f"No {kind}_spearman: it needs rated pairs of {LEAST_QUERIES} queries, and ratings and scores that"
                f" differ; there are {len(pairs.ratings):,} pairs of {len(set(pairs.queries)):,} queries."
            )
    for mode in modes:
        if not answered.mode(mode)[0]:
            yield f"No {mode} numbers: {_MODES[mode]}."


def _correlation(pairs: Pairs, scores: Sequence[float], kind: str, table: Table) -> MetricValue:
    statistics = sampled_spearman(np.array(scores), np.array(pairs.ratings), np.array(pairs.queries))
    ends = interval(statistics)
    return MetricValue(
        metric=f"{kind}_spearman",
        split=table.split,
        protocol=table.protocol,
        value=float(np.nanmean(statistics)),
        low=ends.low,
        high=ends.high,
        n=len(scores),
        unit="score",
        clusters=len(set(pairs.queries)),
        resampled=tuple(statistics.tolist()),
    )


def _answered(samples: Sequence[CrossmodalSample], predictions: Sequence[CrossmodalPrediction]) -> _Answered:
    pairs = [(one, got) for one, got in zip(samples, predictions, strict=True) if got.failure is None]
    return _Answered(members=Members([one for one, _ in pairs]), predictions=tuple(got for _, got in pairs))
