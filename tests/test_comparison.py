"""Differences: scipy's numbers on the same data, intervals that cover, and what happens at the edges."""

from __future__ import annotations

import doctest
import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from evalkit.metrics import comparison
from evalkit.metrics.bootstrap import ClusterBootstrap, cluster_sums
from evalkit.metrics.comparison import (
    Difference,
    clusters_needed,
    holm,
    paired_difference,
    smallest_difference,
    standard_error,
    unpaired_difference,
    worse_p,
)


def test_the_examples_run() -> None:
    assert doctest.testmod(comparison).failed == 0


def paired(new: np.ndarray, old: np.ndarray, bootstrap: ClusterBootstrap | None = None) -> Difference:
    """Of the means of one value a cluster."""
    drawn = bootstrap or ClusterBootstrap(len(new))
    sizes = np.ones(len(new))
    return paired_difference(
        drawn.ratio(new, sizes),
        drawn.ratio(old, sizes),
        new_value=float(new.mean()),
        old_value=float(old.mean()),
        clusters=len(new),
    )


# -- Holm --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "adjusted"),
    [
        # R: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")
        ([0.01, 0.02, 0.03, 0.04, 0.05], [0.05, 0.08, 0.09, 0.09, 0.09]),
        # Holm (1979)'s procedure in Wikipedia's example: 0.01, 0.04, 0.03, 0.005; the first two steps reject
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.9, 0.8], [1.0, 1.0]),
        ([0.04], [0.04]),
        ([], []),
    ],
)
def test_holm_is_that_of_known_examples(given: list[float], adjusted: list[float]) -> None:
    assert holm(given) == pytest.approx(adjusted)


def by_definition(p_values: Sequence[float], level: float) -> list[bool]:
    """Which are rejected by Holm's own words: go up from the smallest while p <= level / (how many are left)."""
    rejected = [False] * len(p_values)
    for step, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        if p_values[place] > level / (len(p_values) - step):
            break
        rejected[place] = True
    return rejected


def test_holms_adjusted_values_reject_what_the_procedure_does() -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        given = (rng.random(rng.integers(1, 9)) ** 3).tolist()
        for level in (0.01, 0.05, 0.2):
            assert [p <= level for p in holm(given)] == by_definition(given, level)


def test_a_test_that_could_not_be_made_does_not_count() -> None:
    adjusted = holm([0.02, math.nan, 0.01])
    assert adjusted[0] == pytest.approx(0.02)
    assert math.isnan(adjusted[1])
    assert adjusted[2] == pytest.approx(0.02)


# -- the paired difference ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("clusters", [8, 400])
def test_of_a_mean_it_is_the_paired_t_test(clusters: int) -> None:
    rng = np.random.default_rng(clusters)
    old = rng.normal(50, 20, clusters)
    new = old + rng.normal(1.5, 6, clusters)
    # with so many resamples that their chance does not show
    found = paired(new, old, ClusterBootstrap(clusters, resamples=100_000))
    test = stats.ttest_rel(new, old)
    ends = test.confidence_interval(0.95)
    assert found.value == pytest.approx(float((new - old).mean()))
    assert found.standard_error == pytest.approx(float(stats.sem(new - old)), rel=0.01)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high), rel=0.02, abs=0.03)
    assert found.p == pytest.approx(test.pvalue, rel=0.06)
    assert found.paired


def test_pairing_sees_what_two_intervals_do_not() -> None:
    rng = np.random.default_rng(1)
    old = rng.normal(50, 30, 500)
    new = old + rng.normal(1, 3, 500)
    together = paired(new, old)
    error = 30 / math.sqrt(500)
    apart = unpaired_difference(
        new_value=float(new.mean()), new_error=error, old_value=float(old.mean()), old_error=error, clusters=500
    )
    assert together.p < 0.001 < 0.5 < apart.p
    assert together.standard_error < apart.standard_error / 5


def test_captions_of_an_image_count_once() -> None:
    """Five equal captions an image are no more evidence than one."""
    rng = np.random.default_rng(2)
    new, old = rng.integers(0, 2, (2, 60)).astype(float)
    owners = np.repeat(np.arange(60), 5)
    drawn = ClusterBootstrap(60)
    five = [
        drawn.ratio(cluster_sums(np.repeat(values, 5), owners, 60), cluster_sums(np.ones(300), owners, 60))
        for values in (new, old)
    ]
    found = paired_difference(five[0], five[1], new_value=float(new.mean()), old_value=float(old.mean()), clusters=60)
    assert found == paired(new, old)


@pytest.mark.parametrize(("clusters", "what"), [(12, "real"), (50, "binary"), (200, "binary"), (200, "real")])
def test_the_interval_covers_the_true_difference_as_often_as_it_says(clusters: int, what: str) -> None:
    """Over repeated data sets, 95 % of the intervals hold the true difference, and 5 % of equal models differ."""
    rng = np.random.default_rng(3)
    drawn = ClusterBootstrap(clusters, resamples=400)
    repeats, covered, rejected = 800, 0, 0
    for _ in range(repeats):
        if what == "binary":  # 70 % right both times, and a fifth of the answers are drawn again
            old = (rng.random(clusters) < 0.7).astype(float)
            new = np.where(rng.random(clusters) < 0.4, (rng.random(clusters) < 0.7).astype(float), old)
        else:
            old = rng.normal(0, 10, clusters)
            new = old + rng.normal(0, 4, clusters)
        found = paired(new, old, drawn)
        covered += found.low <= 0 <= found.high
        rejected += found.p < 0.05
    assert 0.92 <= covered / repeats <= 0.98
    assert 0.02 <= rejected / repeats <= 0.08


def test_the_smallest_difference_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(5)
    clusters, spread = 100, 8.0
    there = smallest_difference(spread / math.sqrt(clusters), clusters)
    found = [stats.ttest_1samp(rng.normal(there, spread, clusters), 0).pvalue < 0.05 for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


def test_so_many_clusters_show_that_equal_models_are_within_the_margin() -> None:
    rng = np.random.default_rng(6)
    spread, margin = 8.0, 1.0
    needed = clusters_needed(margin, spread / math.sqrt(50), 50)
    shown = 0
    for _ in range(2000):
        apart = rng.normal(0, spread, needed)
        low = apart.mean() - stats.t.ppf(0.975, needed - 1) * apart.std(ddof=1) / math.sqrt(needed)
        shown += low > -margin
    assert shown / 2000 == pytest.approx(0.8, abs=0.03)


def test_more_are_needed_than_there_are() -> None:
    assert clusters_needed(100.0, 0.1, 50) == 51


# -- edges -------------------------------------------------------------------------------------------------------------
def test_equal_numbers_are_equal() -> None:
    values = np.random.default_rng(7).random(30)
    found = paired(values, values)
    assert found.none
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_equal_means_of_different_answers_are_not_equal_numbers() -> None:
    found = paired(np.array([1.0, 0.0] * 20), np.array([0.0, 1.0] * 20))
    assert not found.none
    assert found.value == 0
    assert found.p == 1
    assert found.low < 0 < found.high


@pytest.mark.parametrize("clusters", [3, 10])
def test_where_every_cluster_gained_as_much_the_sign_test_speaks(clusters: int) -> None:
    """There is no spread to go by; three images that all got better are no proof, ten are."""
    rng = np.random.default_rng(8)
    old = rng.random(clusters)  # sums of these are not exact, but to the last digits
    found = paired(old + 0.25, old)
    assert found.standard_error == 0
    assert found.p == 2 ** (1 - clusters) == pytest.approx(stats.binomtest(clusters, clusters).pvalue)


def test_one_cluster_tells_nothing_of_the_spread() -> None:
    found = paired(np.array([1.0]), np.array([0.0]))
    assert found.value == 1
    assert all(math.isnan(each) for each in (found.low, found.high, found.standard_error, found.p))
    assert not found.none


def test_resamples_that_are_undefined_in_either_are_left_out() -> None:
    rng = np.random.default_rng(9)
    new, old = rng.random((2, 1000))
    holes = new.copy()
    holes[::10] = np.nan
    sparse = old.copy()
    sparse[5::10] = np.nan
    found = paired_difference(holes, sparse, new_value=0.5, old_value=0.4, clusters=50)
    kept = [place for place in range(1000) if place % 10 not in (0, 5)]
    alone = paired_difference(new[kept], old[kept], new_value=0.5, old_value=0.4, clusters=50)
    assert found == alone


def test_where_most_resamples_are_undefined_nothing_is_known() -> None:
    new = np.full(1000, np.nan)
    new[:499] = np.random.default_rng(10).random(499)
    found = paired_difference(new, np.zeros(1000), new_value=0.5, old_value=0.0, clusters=50)
    assert found.value == 0.5
    assert math.isnan(found.p)
    none = paired_difference(np.full(1000, np.nan), np.zeros(1000), new_value=0.5, old_value=0.0, clusters=50)
    assert math.isnan(none.standard_error)


def test_an_undefined_number_has_no_p_value() -> None:
    found = paired_difference(np.zeros(9), np.zeros(9), new_value=math.nan, old_value=0.0, clusters=9)
    assert math.isnan(found.p)
    assert not found.none


def test_other_numbers_of_resamples_are_a_defect() -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_difference(np.zeros(9), np.zeros(8), new_value=0, old_value=0, clusters=9)


def test_unknown_errors_stay_unknown() -> None:
    found = unpaired_difference(new_value=2, new_error=math.nan, old_value=1, old_error=0, clusters=100)
    assert math.isnan(found.low)
    assert math.isnan(found.p)
    assert math.isnan(smallest_difference(math.nan, 100))


def test_unpaired_is_welchs_but_for_the_degrees() -> None:
    rng = np.random.default_rng(11)
    one, other = rng.normal(0.4, 4, 300), rng.normal(0, 2, 300)
    found = unpaired_difference(
        new_value=float(one.mean()),
        new_error=float(stats.sem(one)),
        old_value=float(other.mean()),
        old_error=float(stats.sem(other)),
        clusters=300,
    )
    test = stats.ttest_ind(one, other, equal_var=False)
    assert test.pvalue > 0.001  # where the degrees of freedom matter little
    assert found.p == pytest.approx(test.pvalue, rel=0.02)
    assert not found.paired


def test_the_standard_error_of_an_interval() -> None:
    ends = stats.norm.interval(0.95, loc=7, scale=2.5)
    assert standard_error(*ends) == pytest.approx(2.5)


@pytest.mark.parametrize("value", [-2.0, 0.0, 2.0])
def test_the_one_sided_p_value_is_students(value: float) -> None:
    apart = unpaired_difference(new_value=value, new_error=1, old_value=0, old_error=0, clusters=30)
    assert worse_p(apart, higher_is_better=True) == pytest.approx(float(stats.t.cdf(value, 29)))
    assert worse_p(apart, higher_is_better=False) == pytest.approx(float(stats.t.sf(value, 29)))
