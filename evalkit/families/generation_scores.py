"""Numbers that the generative families share: means with clustered intervals, empty and cut-off texts.

Imported inside the methods that use it, so it may import numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253 # see above

from evalkit.errors import DataError
from evalkit.metrics.bootstrap import ClusterBootstrap, cluster_sums, interval  # noqa: TID253 # see above
from evalkit.types import MetricValue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from evalkit.families.generation import GeneratedPrediction
    from evalkit.metrics.bootstrap import DoubleArray


class Clustered:
    """Values over answers, and the resamples of the images that the answers belong to, drawn once for all of them."""

    def __init__(self, clusters: Sequence[str], *, protocol: str, split: str) -> None:
        numbers: dict[str, int] = {}
        self.clusters = np.array([numbers.setdefault(name, len(numbers)) for name in clusters])
        """(answers,): the cluster of each."""
        self.bootstrap = ClusterBootstrap(len(numbers))
        self.protocol = protocol
        self.split = split

    def under(self, split: str) -> Clustered:
        """The same answers and resamples, for numbers that stand under another split."""
        other = object.__new__(Clustered)
        other.clusters, other.bootstrap = self.clusters, self.bootstrap
        other.protocol, other.split = self.protocol, split
        return other

    def mean(
        self,
        metric: str,
        values: DoubleArray,
        members: NDArray[np.bool_] | None = None,
        *,
        value: float | None = None,
        higher_is_better: bool = True,
    ) -> MetricValue:
        """The mean of one value an answer, in percent.

        Args:
            metric: Its name.
            values: (answers,)
            members: (answers,): which answers it is over; None for all.
            value: The mean, where it is known exactly.
            higher_is_better: Whether more is better.
        """
        taken = np.ones(len(values), bool) if members is None else members
        known = float(values[taken].mean()) if value is None else value
        resampled = self.resampled_mean(values, taken)
        clusters = len(np.unique(self.clusters[taken]))
        return self.value(
            metric, known, resampled, int(taken.sum()), higher_is_better=higher_is_better, clusters=clusters
        )

    def resampled_mean(self, values: DoubleArray, members: NDArray[np.bool_] | None = None) -> DoubleArray:
        """(resamples,): the mean of one value an answer on each resample; NaN where it holds no member."""
        taken = np.ones(len(values), bool) if members is None else members
        count = len(self.bootstrap.times_drawn[0])
        sums = cluster_sums(np.where(taken, values, 0.0), self.clusters, count)
        return self.bootstrap.ratio(sums, cluster_sums(taken, self.clusters, count))

    def value(
        self,
        metric: str,
        value: float,
        resampled: DoubleArray,
        n: int,
        *,
        higher_is_better: bool = True,
        clusters: int | None = None,
    ) -> MetricValue:
        """A number whose value on each resample is known, NaN where it is undefined; of all clusters if None."""
        ends = interval(resampled)
        return MetricValue(
            metric=metric,
            split=self.split,
            protocol=self.protocol,
            value=value,
            low=ends.low,
            high=ends.high,
            n=n,
            higher_is_better=higher_is_better,
            clusters=self.bootstrap.times_drawn.shape[1] if clusters is None else clusters,
            resampled=tuple(resampled.tolist()),
        )


def can_be_scored(without: Sequence[str], count: int, what: str) -> bool:
    """Whether a split's references are public: all samples have them, or none has.

    Args:
        without: Ids of the samples that have none.
        count: How many samples there are.
        what: What those lack, for the message.

    Raises:
        DataError: Some have them and some have not.
    """
    if without and len(without) < count:
        raise DataError(
            f"{len(without)} {what}, though others have: the first is {without[0]}.", "Get the annotation file again."
        )
    return not without


def generation_values(
    predictions: Sequence[GeneratedPrediction], answers: Sequence[str], over: Clustered
) -> tuple[MetricValue, ...]:
    """`empty` and `cut_off`: the share of generated texts that hold nothing, and that the token budget cut; in percent.

    Also `filtered`, those that a server's content filter withheld, where there is one. Nothing where nothing was
    generated: a ranking can be neither.

    Args:
        predictions: Those that did not fail.
        answers: What was extracted of each.
        over: The same answers' clusters.
    """
    generated = np.array([one.finish is not None for one in predictions])
    if not generated.any():
        return ()
    empty = np.array([100.0 * (answer == "") for answer in answers])
    cut = np.array([100.0 * (one.finish == "length") for one in predictions])
    shares = {"empty": empty, "cut_off": cut}
    filtered = np.array([100.0 * (one.finish == "filtered") for one in predictions])
    if filtered.any():
        shares["filtered"] = filtered
    return tuple(over.mean(name, values, generated, higher_is_better=False) for name, values in shares.items())
