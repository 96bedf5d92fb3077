"""Differences of two numbers: interval, p-value, Holm's correction, and what a number of samples can see.

A difference of two runs over the same samples is taken resample by resample: what both find hard then cancels. Its
standard error is the spread of those differences; interval and p-value are Student's with one degree of freedom less
than there are clusters, so that they are right for few of them and fine enough for a correction over many metrics.
Of the mean of one value a cluster they are those of the paired t-test, but for the chance of the resamples.

One cluster tells nothing of the spread, and so do resamples of which most are undefined: interval and p-value are NaN
then. Where a difference is the same on every resample, as where every cluster gained as much, there is no spread to
test by; the p-value is then that of the sign test, the chance that all clusters agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from evalkit.metrics.bootstrap import LEVEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.metrics.bootstrap import DoubleArray

POWER = 0.8
_ROUNDING = 1e-8
"""Of numbers about 1: sums of resamples are exact to 1e-9."""
_LEAST_DEFINED = 0.5
"""The share of the resamples that must be defined for both; what fewer say is of a choice of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One number less another, in their unit."""

    value: float
    low: float
    """Lower end of the 95 % interval; NaN where nothing is known of the spread."""
    high: float
    standard_error: float
    p: float
    """Two-sided: how often a difference as large would be seen if there were none. NaN as `low`."""
    clusters: int
    paired: bool
    """Whether both are over the same samples, resampled alike."""

    @property
    def none(self) -> bool:
        """Whether the two are equal on every resample too, as numbers of equal answers are."""
        return abs(self.value) <= _ROUNDING and self.standard_error == 0


def paired_difference(
    new: DoubleArray, old: DoubleArray, *, new_value: float, old_value: float, clusters: int
) -> Difference:
    """`new_value - old_value`; its standard error is that of new - old over the resamples, Student's t for the rest.

    The spread over resamples of n clusters is that of a mean over n less the factor sqrt(n / (n - 1)), which is put
    back: without it intervals over few clusters would be too narrow.

    Args:
        new: (resamples,): the one number on each resample; a resample on which either is NaN is left out.
        old: (resamples,): the other, on the same resamples.
        new_value: The one number.
        old_value: The other.
        clusters: How many clusters the number is of.

    Raises:
        ValueError: Other numbers of resamples.

    Example:
        >>> one, other = np.array([51.0, 52.0, 53.0]), np.array([50.0, 51.0, 51.0])
        >>> found = paired_difference(one, other, new_value=52.0, old_value=51.0, clusters=100)
        >>> round(found.standard_error, 4), round(found.low, 3), round(found.p, 3)
        (0.5803, -0.151, 0.088)
    """
    if new.shape != old.shape:
        raise ValueError(f"{new.shape} and {old.shape} resamples cannot be paired")
    apart = new - old
    defined = apart[~np.isnan(apart)]
    if len(defined) < max(2, _LEAST_DEFINED * len(apart)):
        error = math.nan
    elif np.ptp(defined) <= _ROUNDING * max(1.0, float(np.abs(new).max(initial=0.0, where=~np.isnan(new)))):
        error = 0.0  # exactly: what is left of equal differences is the rounding of their sums
    else:
        error = float(np.std(defined, ddof=1)) * math.sqrt(clusters / max(clusters - 1, 1))
    return _difference(new_value - old_value, error, clusters, paired=True)


def unpaired_difference(
    *, new_value: float, new_error: float, old_value: float, old_error: float, clusters: int
) -> Difference:
    """`new_value - old_value` of numbers over different samples: their squared standard errors add up.

    Args:
        new_value: The one number.
        new_error: Its standard error.
        old_value: The other.
        old_error: Its standard error; 0 for a number that is taken as it stands.
        clusters: How many the smaller of the two has.

    Example:
        >>> unpaired_difference(new_value=3, new_error=3, old_value=1, old_error=4, clusters=9).standard_error
        5.0
    """
    return _difference(new_value - old_value, math.hypot(new_error, old_error), clusters, paired=False)


def standard_error(low: float, high: float) -> float:
    """The standard error that a 95 % interval tells of, were it a normal one.

    >>> round(standard_error(-1.96, 1.96), 3)
    1.0
    """
    return (high - low) / (2 * float(stats.norm.ppf((1 + LEVEL) / 2)))


def _difference(value: float, error: float, clusters: int, *, paired: bool) -> Difference:
    degrees = max(clusters - 1, 1)
    if clusters < 2:
        error = math.nan
    reach = float(stats.t.ppf((1 + LEVEL) / 2, degrees)) * error
    if math.isnan(value) or math.isnan(error):
        p = math.nan
    elif error > 0:
        p = 2 * float(stats.t.sf(abs(value) / error, degrees))
    else:
        p = 1.0 if abs(value) <= _ROUNDING else 2.0 ** (1 - clusters)
    return Difference(
        value=value,
        low=value - reach,
        high=value + reach,
        standard_error=error,
        p=p,
        clusters=clusters,
        paired=paired,
    )


def worse_p(difference: Difference, *, higher_is_better: bool) -> float:
    """One-sided p-value of the new number being no worse; half the two-sided one where it is worse.

    Example:
        >>> drop = unpaired_difference(new_value=0, new_error=1, old_value=2, old_error=0, clusters=50)
        >>> round(worse_p(drop, higher_is_better=True), 3), round(worse_p(drop, higher_is_better=False), 3)
        (0.026, 0.974)
    """
    worse = difference.value < 0 if higher_is_better else difference.value > 0
    return difference.p / 2 if worse else 1 - difference.p / 2


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given: the k-th smallest of m times m - k + 1, never decreasing.

    NaN stands for a test that could not be made: it stays, and does not count.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    made = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(made):
        highest = max(highest, min(1.0, p * (len(made) - rank)))
        adjusted[place] = highest
    return adjusted


def smallest_difference(error: float, clusters: int, *, power: float = POWER) -> float:
    """What a two-sided test at 5 % finds with this power, given the standard error of the difference.

    Example:
        >>> round(smallest_difference(1.0, 10_000), 2)
        2.8
    """
    degrees = max(clusters - 1, 1)
    return float(stats.t.ppf((1 + LEVEL) / 2, degrees) + stats.t.ppf(power, degrees)) * error


def clusters_needed(margin: float, error: float, clusters: int, *, power: float = POWER) -> int:
    """How many clusters show, with this power, that equal models are within a margin; by the spread of these.

    Args:
        margin: Positive.
        error: The standard error of the difference over `clusters`.
        clusters: How many there are now.
        power: The share of repetitions that show it.

    Example:
        >>> clusters_needed(0.5, 1.0, 200)
        6280
    """
    reach = float(stats.norm.ppf((1 + LEVEL) / 2) + stats.norm.ppf(power))
    # never fewer than there are, where those did not suffice
    return max(clusters + 1, math.ceil(clusters * (reach * error / margin) ** 2))
