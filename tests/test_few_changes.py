"""Differences of runs of which few answers differ: against what can be counted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from evalkit.metrics.bootstrap import ClusterBootstrap, DoubleArray
from evalkit.metrics.comparison import Difference, paired_difference
from evalkit.metrics.few_changes import Changes, cautious, changes

IMAGES = 500


def runs(worse: int, better: int = 0) -> tuple[DoubleArray, DoubleArray, float]:
    """Resamples of a run and of one with so many other answers, and the difference in points."""
    old, new = np.zeros(IMAGES), np.zeros(IMAGES)
    old[:worse] = 100
    new[worse : worse + better] = 100
    bootstrap, ones = ClusterBootstrap(IMAGES), np.ones(IMAGES)
    return bootstrap.ratio(new, ones), bootstrap.ratio(old, ones), float(new.mean() - old.mean())


def plain(worse: int, better: int = 0) -> tuple[Difference, Changes]:
    new, old, value = runs(worse, better)
    return paired_difference(new, old, new_value=value, old_value=0.0, clusters=IMAGES), changes(new, old)


@pytest.mark.parametrize("worse", [1, 2, 3, 4, 5])
def test_p_is_not_below_that_of_a_sign_test(worse: int) -> None:
    difference, found = plain(worse)
    exact = stats.binomtest(0, worse, alternative="less").pvalue
    assert cautious(difference, found).p / 2 == pytest.approx(exact, rel=0.35)  # the number of changes is estimated


def test_three_changes_alarm_by_students_t_alone() -> None:
    """What this is for: were it not so, the correction could go."""
    difference, found = plain(3)
    assert difference.p / 2 < 0.05
    assert cautious(difference, found).p / 2 > 0.05


def test_nine_changes_for_the_worse_are_worse() -> None:
    difference, found = plain(9)
    assert cautious(difference, found).p / 2 < 0.01


def test_the_spread_has_two_changes_more() -> None:
    difference, found = plain(3, 3)
    one = 100 / IMAGES
    assert found.step == pytest.approx(one)
    assert cautious(difference, found).standard_error == pytest.approx(
        math.hypot(difference.standard_error, math.sqrt(2) * one)
    )


def test_many_changes_are_left_alone() -> None:
    difference, found = plain(60, 30)
    assert cautious(difference, found) == difference


def test_many_changes_that_cancel_lose_next_to_nothing() -> None:
    difference, found = plain(60, 60)
    assert cautious(difference, found).standard_error < 1.02 * difference.standard_error


@pytest.mark.parametrize("losses", [(20.0, 60.0, 100.0), (20.0, 20.0, 20.0, 100.0, 100.0)])
def test_graded_losses_count_by_their_mean_square(losses: tuple[float, ...]) -> None:
    """The smallest says nothing of the others: two models that differ by the margin would pass."""
    old = np.zeros(IMAGES)
    old[: len(losses)] = losses
    resampled = ClusterBootstrap(IMAGES).ratio(old, np.ones(IMAGES))
    found = changes(np.zeros_like(resampled), resampled)
    assert found.step == pytest.approx(math.sqrt(np.mean(np.square(losses))) / IMAGES, rel=0.15)


def test_numbers_that_differ_where_no_resample_does_are_of_no_known_spread() -> None:
    """As with the resamples of another run, by a mixed-up file."""
    same = np.array([1.0, 2.0, 3.0])
    difference = paired_difference(same, same, new_value=2.0, old_value=1.0, clusters=IMAGES)
    found = cautious(difference, changes(same, same))
    assert (found.value, math.isnan(found.p), math.isnan(found.low)) == (1.0, True, True)


def test_equal_runs_stay_equal() -> None:
    difference, found = plain(0)
    assert difference.none
    assert cautious(difference, found) == difference
    assert found == Changes(equal=1.0, step=0.0)


def test_a_median_that_moves_on_every_resample_is_no_single_change() -> None:
    new, old = np.full(1000, 2.0), np.full(1000, 1.0)
    difference = paired_difference(new, old, new_value=2.0, old_value=1.0, clusters=IMAGES)
    assert cautious(difference, changes(new, old)) == difference


def test_resamples_on_which_a_number_is_undefined_do_not_count() -> None:
    new, old = np.array([1.0, np.nan, 2.0, 2.0]), np.array([1.0, 1.0, np.nan, 1.0])
    assert changes(new, old).equal == 0.5
    assert changes(np.array([np.nan]), np.array([1.0])) == Changes(equal=0.0, step=0.0)
