"""The bootstrap: scipy's numbers on the same draws, clusters kept together, and the same bytes every time."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from evalkit.metrics import bootstrap as bootstrap_module
from evalkit.metrics.bootstrap import RESAMPLES, SEED, ClusterBootstrap, Table, cluster_sums, interval, mean_of
from evalkit.metrics.ranks import Ranks
from evalkit.metrics.retrieval import retrieval_values


def captions(rng: np.random.Generator, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of a few captions an image, alike within an image, and their images."""
    owners = np.repeat(np.arange(images), rng.integers(1, 7, images))
    return rng.geometric(0.1 + 0.5 * rng.random(images)[owners]) - 1, owners


def test_the_intervals_are_scipys_on_the_same_draws() -> None:
    stats = pytest.importorskip("scipy.stats")
    images = 120
    ranks, owners = captions(np.random.default_rng(0), images)
    hits, sizes = cluster_sums(ranks < 5, owners, images), cluster_sums(np.ones(len(ranks)), owners, images)
    by_image = [ranks[owners == image] for image in range(images)]

    def recall(drawn: np.ndarray, axis: int) -> np.ndarray:
        return hits[drawn].sum(axis=axis) / sizes[drawn].sum(axis=axis)

    def median(drawn: np.ndarray) -> float:
        return float(np.median(np.concatenate([by_image[int(image)] for image in drawn])))

    ours = ClusterBootstrap(images)
    for statistic, vectorized, got in (
        (recall, True, ours.ratio(hits, sizes)),
        (median, False, ours.median(ranks, owners)),
    ):
        theirs = stats.bootstrap(
            (np.arange(images),),
            statistic,
            vectorized=vectorized,
            n_resamples=RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(SEED),
        )
        np.testing.assert_allclose(np.sort(got), np.sort(theirs.bootstrap_distribution), rtol=1e-9)
        ends = interval(got)
        assert (ends.low, ends.high) == pytest.approx(tuple(theirs.confidence_interval), rel=1e-9)


def test_captions_of_an_image_are_drawn_together() -> None:
    """Five equal captions an image tell no more than one, so the interval is as wide as that of one."""
    hits = np.random.default_rng(1).integers(0, 2, 300)
    bootstrap = ClusterBootstrap(300)
    one = bootstrap.ratio(hits, np.ones(300))
    five = bootstrap.ratio(5 * hits, np.full(300, 5))
    np.testing.assert_array_equal(one, five)
    independent = ClusterBootstrap(1500).ratio(np.repeat(hits, 5), np.ones(1500))
    width = interval(one).high - interval(one).low
    assert width > 1.8 * (interval(independent).high - interval(independent).low)


def test_all_statistics_are_over_the_same_resamples() -> None:
    """A mean of recalls that always add up to one has no spread."""
    hits = np.random.default_rng(2).integers(0, 2, 50)
    bootstrap = ClusterBootstrap(50)
    both = mean_of([bootstrap.ratio(hits, np.ones(50)), bootstrap.ratio(1 - hits, np.ones(50))])
    np.testing.assert_allclose(both, 0.5, rtol=1e-12)


def test_medians_are_numpys() -> None:
    ranks, owners = captions(np.random.default_rng(3), 25)
    bootstrap = ClusterBootstrap(25, resamples=150)
    expected = [
        np.median(np.concatenate([np.tile(ranks[owners == image], int(times)) for image, times in enumerate(drawn)]))
        for drawn in bootstrap.times_drawn
    ]
    np.testing.assert_array_equal(bootstrap.median(ranks, owners), expected)


def test_strata_are_drawn_within_themselves() -> None:
    strata = np.array([0, 0, 0, 1, 1, 2])
    drawn = ClusterBootstrap(6, strata=strata).times_drawn
    for stratum, size in ((0, 3), (1, 2), (2, 1)):
        assert set(drawn[:, strata == stratum].sum(axis=1).tolist()) == {size}


def test_one_cluster_has_no_spread_and_none_has_no_interval() -> None:
    one = ClusterBootstrap(1)
    ends = interval(one.ratio(np.array([2]), np.array([5])))
    assert ends.low == ends.high == 0.4
    assert set(one.median(np.array([3, 7]), np.array([0, 0])).tolist()) == {5.0}
    with pytest.raises(ValueError, match="no cluster"):
        ClusterBootstrap(0)


def test_the_same_bytes_every_time_and_others_with_another_seed() -> None:
    values, sizes = np.random.default_rng(4).random(500), np.ones(500)
    first = ClusterBootstrap(500).ratio(values, sizes).tobytes()
    assert ClusterBootstrap(500).ratio(values, sizes).tobytes() == first
    assert ClusterBootstrap(500, seed=SEED + 1).ratio(values, sizes).tobytes() != first


def test_sums_do_not_depend_on_their_order() -> None:
    """What a BLAS with another order of summation would give, to the bit."""
    values = np.random.default_rng(5).random(500)
    bootstrap = ClusterBootstrap(500)
    forward = bootstrap.ratio(values, np.ones(500))
    reversed_draws = ClusterBootstrap(500)
    reversed_draws.times_drawn = np.ascontiguousarray(bootstrap.times_drawn[:, ::-1])
    np.testing.assert_array_equal(reversed_draws.ratio(values[::-1], np.ones(500)), forward)
    np.testing.assert_allclose(forward, (bootstrap.times_drawn @ values) / 500, rtol=1e-8)


def test_all_measures_of_coco_have_intervals_around_their_values() -> None:
    rng = np.random.default_rng(6)
    owners = np.repeat(np.arange(5000), 5)
    ranks = Ranks(i2t=rng.geometric(0.1, 5000) - 1, t2i=rng.geometric(0.05, 25_000) - 1)
    values = retrieval_values(ranks, owners, Table(protocol="p", split="test"))
    values += retrieval_values(ranks, owners, Table(protocol="p", split="test/5-fold-1k"), np.arange(5000) // 1000)
    assert len(values) == 18
    assert all(value.low <= value.value <= value.high for value in values)


def test_examples_in_docstrings() -> None:
    failed, tried = doctest.testmod(bootstrap_module)
    assert tried > 0
    assert failed == 0
