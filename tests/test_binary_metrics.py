"""AUROC and average precision against scikit-learn, and on resamples against a plain recomputation."""

from __future__ import annotations

import numpy as np
import pytest

from evalkit.metrics.binary import auroc, average_precision, resampled
from evalkit.metrics.bootstrap import ClusterBootstrap


def cases(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(200) < (0.5, 0.1, 0.9)[seed % 3]
    scores = rng.normal(size=200) + labels
    if seed % 2:
        scores = np.round(scores, seed % 3)  # ties
    return scores, labels


@pytest.mark.parametrize("seed", range(6))
def test_like_a_plain_count_of_pairs(seed: int) -> None:
    scores, labels = cases(seed)
    positives, negatives = scores[labels][:, None], scores[~labels][None]
    assert auroc(scores, labels) == ((positives > negatives) + 0.5 * (positives == negatives)).mean()
    precision = gained = 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        kept = scores >= threshold
        recall = (kept & labels).sum() / labels.sum()
        precision += (recall - gained) * (kept & labels).sum() / kept.sum()
        gained = recall
    assert average_precision(scores, labels) == pytest.approx(precision, rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_like_scikit_learn(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    scores, labels = cases(seed)
    assert auroc(scores, labels) == pytest.approx(metrics.roc_auc_score(labels, scores), rel=1e-12)
    assert average_precision(scores, labels) == pytest.approx(
        metrics.average_precision_score(labels, scores), rel=1e-12
    )


def test_all_scores_equal_is_chance() -> None:
    labels = np.array([True, False, False, False])
    assert auroc(np.zeros(4), labels) == 0.5
    assert average_precision(np.zeros(4), labels) == 0.25


def test_a_resample_is_the_measure_of_the_pairs_it_drew() -> None:
    scores, labels = cases(1)
    clusters = np.arange(200) // 8
    bootstrap = ClusterBootstrap(25, resamples=40)
    areas, precisions = resampled(scores, labels, clusters, bootstrap)
    for row, times in enumerate(bootstrap.times_drawn.astype(int)):
        drawn = np.repeat(np.arange(200), times[clusters])
        assert areas[row] == pytest.approx(auroc(scores[drawn], labels[drawn]), rel=1e-12)
        assert precisions[row] == pytest.approx(average_precision(scores[drawn], labels[drawn]), rel=1e-12)


def test_a_resample_without_negatives_has_no_value() -> None:
    scores, labels = np.array([2.0, 1.0]), np.array([True, False])
    areas, precisions = resampled(scores, labels, np.array([0, 1]), ClusterBootstrap(2, resamples=50))
    undefined = np.isnan(areas)
    assert 0 < undefined.sum() < 50
    assert (np.isnan(precisions) == undefined).all()
    assert (areas[~undefined] == 1.0).all()


def test_pieces_of_resamples_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = cases(4)
    clusters, bootstrap = np.arange(200) // 4, ClusterBootstrap(50, resamples=30)
    whole = resampled(scores, labels, clusters, bootstrap)
    monkeypatch.setattr("evalkit.metrics.binary._PLACES_AT_ONCE", 700)
    for one, other in zip(whole, resampled(scores, labels, clusters, bootstrap), strict=True):
        assert (one == other).all()


@pytest.mark.parametrize(
    ("scores", "labels", "problem"),
    [
        ([1.0, 2.0], [True, True], "both needed"),
        ([1.0, 2.0], [False, False], "both needed"),
        ([1.0, np.nan], [True, False], "cannot be ordered"),
        ([1.0], [True, False], "same pairs"),
    ],
)
def test_what_has_no_measure(scores: list[float], labels: list[bool], problem: str) -> None:
    for measure in (auroc, average_precision):
        with pytest.raises(ValueError, match=problem):
            measure(np.array(scores), np.array(labels))
