"""Classification measures against scikit-learn and torch, and the vote of neighbours against a plain loop."""

from __future__ import annotations

import doctest
import math
from typing import Any

import numpy as np
import pytest
import torch

from evalkit.datasets import imagefolder
from evalkit.errors import ModelOutputError
from evalkit.metrics import classification
from evalkit.metrics.bootstrap import ClusterBootstrap
from evalkit.metrics.classification import (
    Neighbours,
    hits,
    mean_per_class_recall,
    nearest,
    neighbour_votes,
    resampled_class_recall,
    top_k_accuracy,
)


@pytest.mark.parametrize("module", [classification, imagefolder])
def test_doctests(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def logits(images: int = 400, classes: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    labels = rng.choice(classes, images, p=np.arange(1, classes + 1) / (classes * (classes + 1) / 2))
    scores = rng.normal(size=(images, classes))
    scores[np.arange(images), labels] += 1.5
    return labels, scores


@pytest.mark.parametrize("k", [1, 3, 5, 12])
def test_accuracy_is_that_of_torch_and_scikit_learn(k: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    labels, scores = logits()
    best = torch.from_numpy(scores).topk(k).indices.numpy()
    value = top_k_accuracy(labels, best, k)
    by_torch = torch.from_numpy(best).eq(torch.from_numpy(labels)[:, None]).any(1).double().mean()
    assert value == pytest.approx(100 * float(by_torch), rel=1e-12)
    if k < scores.shape[1]:  # scikit-learn warns that all are right otherwise
        assert value == pytest.approx(100 * metrics.top_k_accuracy_score(labels, scores, k=k), rel=1e-12)
    assert 30 < value <= 100
    assert hits(labels, best, k).mean() * 100 == pytest.approx(value)


def test_mean_per_class_recall_is_balanced_accuracy() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    labels, scores = logits()
    first = scores.argmax(1)
    value = mean_per_class_recall(labels, first[:, None])
    assert value == pytest.approx(100 * metrics.balanced_accuracy_score(labels, first), rel=1e-12)
    assert abs(value - top_k_accuracy(labels, first[:, None], 1)) > 0.5  # the classes are of unequal size
    some = np.flatnonzero(labels > 5)  # classes without an image are left out
    expected = np.mean([(first[labels == each] == each).mean() for each in range(6, 12)])
    assert mean_per_class_recall(labels[some], first[some, None]) == pytest.approx(100 * expected, rel=1e-12)


def test_recall_on_a_resample_is_the_recall_of_the_images_drawn() -> None:
    labels, scores = logits(60)
    best = scores.argmax(1)[:, None]
    bootstrap = ClusterBootstrap(60, resamples=120)
    resampled = resampled_class_recall(hits(labels, best, 1), labels, bootstrap.times_drawn)
    lost = 0
    for times, value in zip(bootstrap.times_drawn.astype(int), resampled, strict=True):
        drawn = np.repeat(np.arange(60), times)
        lost += len(set(labels[drawn])) < len(set(labels))
        assert value == pytest.approx(mean_per_class_recall(labels[drawn], best[drawn]), rel=1e-12)
    assert lost > 10  # resamples without any image of some class are among them


def test_a_class_that_is_not_named_is_no_hit() -> None:
    labels = np.array([0, 1])
    best = np.array([[0, -1], [0, -1]])
    assert hits(labels, best, 5).tolist() == [True, False]


@pytest.mark.parametrize(("labels", "best"), [([], [[]]), ([1, 2], [[1]]), ([1], [1])])
def test_shapes_that_do_not_fit(labels: list[int], best: list[Any]) -> None:
    with pytest.raises(ValueError, match="best classes"):
        hits(np.array(labels, int), np.array(best, int), 1)


# -- neighbours --------------------------------------------------------------------------------------------------------
def unit(rng: np.random.Generator, count: int, size: int = 8) -> np.ndarray:
    vectors = rng.normal(size=(count, size))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("sizes", [(200,), (1, 7, 92, 100), (50, 50, 50, 50)])
@pytest.mark.parametrize("k", [1, 20, 500])
def test_neighbours_are_those_of_a_plain_search(sizes: tuple[int, ...], k: int) -> None:
    rng = np.random.default_rng(5)
    images, training = unit(rng, 30), unit(rng, 200)
    training[150:160] = training[3]  # equal ones, on both sides of the parts' borders
    exact = (images.astype(np.float64) @ training.astype(np.float64).T).astype(np.float32)
    order = np.lexsort((np.broadcast_to(np.arange(200), exact.shape), -exact))[:, :k]
    found = nearest(images, np.split(training, np.cumsum(sizes)[:-1]), k)
    assert found.indices.tolist() == order.tolist()
    assert found.similarities.tolist() == np.take_along_axis(exact, order, 1).tolist()


def test_neighbours_of_nothing() -> None:
    with pytest.raises(ValueError, match="no training image"):
        nearest(np.ones((1, 2), np.float32), [], 3)
    with pytest.raises(ModelOutputError, match="NaN"):
        nearest(np.ones((1, 2), np.float32), [np.full((1, 2), np.nan, np.float32)], 3)


@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_votes_are_those_of_dino(k: int, temperature: float) -> None:
    """The weights of DINO's evaluation, written out image by image."""
    rng = np.random.default_rng(9)
    images, training, labels = unit(rng, 1100), unit(rng, 300), rng.integers(0, 7, 300)
    votes = neighbour_votes(nearest(images, [training], k), labels, temperature=temperature, best=5)
    for row in range(0, 1100, 37):
        cosines = torch.from_numpy(training.astype(np.float64)) @ torch.from_numpy(images[row].astype(np.float64))
        near, at = cosines.topk(k)
        weights = torch.zeros(7, dtype=torch.float64).index_add(
            0, torch.from_numpy(labels)[at], (near / temperature).exp()
        )
        expected = weights.sort(descending=True)
        count = int((weights > 0).sum().clamp(max=5))
        assert votes.classes[row, :count].tolist() == expected.indices[:count].tolist()
        shares = expected.values[:count] / weights.sum()
        assert votes.scores[row, :count] == pytest.approx(shares.numpy(), rel=1e-5)  # cosines are float32 there
        assert set(votes.classes[row, count:].tolist()) <= {-1}
        assert set(votes.scores[row, count:].tolist()) <= {0.0}


def test_equal_votes_go_to_the_class_that_comes_first() -> None:
    tied = Neighbours(indices=np.array([[0, 1, 2, 3]]), similarities=np.full((1, 4), 0.5, np.float32))
    votes = neighbour_votes(tied, np.array([4, 2, 4, 2]), temperature=0.07, best=5)
    assert votes.classes.tolist() == [[2, 4, -1, -1]]
    assert votes.scores.tolist() == [[0.5, 0.5, 0.0, 0.0]]


def test_a_small_temperature_overflows_nothing() -> None:
    found = Neighbours(indices=np.array([[2, 0, 1]]), similarities=np.array([[0.9, -0.9, -0.95]], np.float32))
    votes = neighbour_votes(found, np.array([3, 1, 2]), temperature=1e-4, best=2)
    assert votes.classes.tolist() == [[2, 1]]  # 1 and 3 have a vote of 0, and yet are named before 0
    assert votes.scores.tolist() == [[1.0, 0.0]]
    assert math.isfinite(votes.scores.sum())
