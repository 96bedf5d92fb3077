"""Differences of runs of which few answers differ, where a normal theory of the difference errs.

Of three answers that changed, all for the worse, Student's t says p = 0.04; a coin says 1/8. What the resamples say of
how few changed is enough to correct that, for measures of a corpus too, which have no value of one sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from evalkit.metrics.bootstrap import LEVEL

if TYPE_CHECKING:
    from evalkit.metrics.bootstrap import DoubleArray
    from evalkit.metrics.comparison import Difference

EQUAL = 1e-9
"""Numbers are rounded to this by the bootstrap."""
_LEAST_SHARE = 0.002
"""Resamples that are equal on fewer than this share are of more than six changes: there is no need to correct them, and
their number is not known by so few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What the resamples say of how many clusters changed."""

    equal: float
    """The share of resamples on which the two are equal."""
    step: float
    """What one change makes of a mean. Where all are in one direction, the root of their mean square: the spread over
    the root of how many there are. Else the smallest difference on a resample: changes that cancel look like none, and
    nobody can say how many there are. 0 where there is none."""

    @property
    def least_p(self) -> float:
        """What a sign test can say at most: 2 to the power of minus the number of changes.

        A cluster is not drawn by a resample with probability 1/e, so that `equal` is e to the power of minus that.
        """
        return float(self.equal ** math.log(2))


def changes(new: DoubleArray, old: DoubleArray) -> Changes:
    """Look at two runs on the same resamples.

    Args:
        new: (resamples,): the one number on each resample; NaN, where it is undefined, is left out.
        old: (resamples,): the other.

    Example:
        >>> found = changes(np.array([1.0, 2.0, 4.0, 4.0]), np.array([1.0, 2.0, 3.0, 2.0]))
        >>> found.equal, round(found.step, 2)
        (0.5, 1.15)
    """
    apart = new - old
    apart = apart[~np.isnan(apart)]
    unequal = apart[np.abs(apart) > EQUAL]
    if not len(unequal):
        return Changes(equal=1.0 if len(apart) else 0.0, step=0.0)
    equal = 1 - len(unequal) / len(apart)
    step = float(np.abs(unequal).min())
    if equal and np.ptp(np.sign(unequal)) == 0:
        # a changed cluster is drawn a number of times that has variance 1, and `equal` is e to the power of -how many
        step = float(np.std(apart, ddof=1)) / math.sqrt(-math.log(equal))
    return Changes(equal=equal, step=step)


def cautious(difference: Difference, found: Changes) -> Difference:
    """The difference with an interval and a p-value that hold where few clusters changed.

    Two changes more, one for the better and one for the worse, are taken into the spread (Agresti and Min 2005), and p
    is no smaller than a sign test's could be. NaN where numbers differ of which every resample is equal.

    Args:
        difference: By Student's t.
        found: By `changes`.

    Example:
        >>> from evalkit.metrics.comparison import unpaired_difference
        >>> three = unpaired_difference(new_value=7, new_error=3**0.5, old_value=10, old_error=0, clusters=1000)
        >>> round(three.p, 3), round(cautious(three, Changes(equal=0.05, step=1.0)).p, 3)
        (0.084, 0.251)
    """
    if difference.none or found.equal < _LEAST_SHARE or math.isnan(difference.standard_error):
        return difference
    degrees = max(difference.clusters - 1, 1)
    error = math.hypot(difference.standard_error, math.sqrt(2) * found.step)
    if error == 0:  # equal on every resample, and not in all: one of the two is not of these resamples
        unknown = math.nan
        return replace(difference, low=unknown, high=unknown, standard_error=unknown, p=unknown)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, degrees)) * error
    p = 2 * float(stats.t.sf(abs(difference.value) / error, degrees))
    return replace(
        difference,
        low=difference.value - reach,
        high=difference.value + reach,
        standard_error=error,
        p=min(1.0, max(p, 2 * found.least_p)),
    )
