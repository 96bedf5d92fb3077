"""Ranks and top lists against brute force, whatever the tiles, and re-ranking."""

from __future__ import annotations

import doctest
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from evalkit.errors import ModelOutputError
from evalkit.metrics import ranks as ranks_module
from evalkit.metrics import reranking as reranking_module
from evalkit.metrics import top_lists as top_lists_module
from evalkit.metrics.ranks import Ranks, fold_ranks, retrieval_ranks
from evalkit.metrics.reranking import CandidatePairs, reranked_ranks
from evalkit.metrics.retrieval import recall_at_k
from evalkit.metrics.top_lists import TopK, TopLists, top_k

TILES = [(1, 1), (7, 7), (64, 64), (7, 64), (10**6, 10**6)]


def scores_of(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """All scores (n, m), by the definition in `evalkit.metrics.tiles`."""
    stacks = images[:, None] if images.ndim == 2 else images
    products = np.einsum("nqd,md->nqm", stacks.astype(np.float64), texts.astype(np.float64))
    return products.max(axis=1).astype(np.float32)


def brute_force_ranks(scores: np.ndarray, owners: np.ndarray) -> Ranks:
    images = np.arange(len(scores))
    i2t = [int(((row >= row[owners == i].max()) & (owners != i)).sum()) for i, row in enumerate(scores)]
    t2i = [int(((scores[:, j] >= scores[i, j]) & (images != i)).sum()) for j, i in enumerate(owners)]
    return Ranks(i2t=np.array(i2t), t2i=np.array(t2i))


def owners_of(rng: np.random.Generator, images: int, texts: int, *, shuffled: bool) -> np.ndarray:
    owners = np.sort(np.concatenate([np.arange(images), rng.integers(0, images, texts - images)]))
    if shuffled:
        rng.shuffle(owners)
    return owners


def vectors(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    if kind == "small integers":  # every sum is exact, and equal scores are everywhere
        return rng.integers(-2, 3, shape).astype(np.float32)
    made = rng.standard_normal(shape).astype(np.float32)
    made /= np.linalg.norm(made, axis=-1, keepdims=True)
    if kind == "duplicates":
        made = made[rng.integers(0, max(1, shape[0] // 3), shape[0])]
    return made


@pytest.mark.parametrize("kind", ["unit", "small integers", "duplicates"])
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("vectors_an_image", [1, 3])
def test_ranks_and_lists_are_those_of_brute_force_whatever_the_tiles(
    kind: str, shuffled: bool, vectors_an_image: int
) -> None:
    rng = np.random.default_rng(5)
    for images, texts, size in [(1, 1, 4), (1, 6, 3), (9, 9, 17), (40, 203, 33)]:
        owners = owners_of(rng, images, texts, shuffled=shuffled)
        left = vectors(rng, kind, (images, vectors_an_image, size))
        left = left[:, 0] if vectors_an_image == 1 else left
        right = vectors(rng, kind, (texts, size))
        scores = scores_of(left, right)
        expected = brute_force_ranks(scores, owners)
        best_texts = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        best_images = np.argsort(-scores.T, axis=1, kind="stable")[:, :8]
        for tile_images, tile_texts in TILES:
            got = retrieval_ranks(left, right, owners, tile_images=tile_images, tile_texts=tile_texts)
            np.testing.assert_array_equal(got.i2t, expected.i2t)
            np.testing.assert_array_equal(got.t2i, expected.t2i)
            top = top_k(
                left, right, texts_per_image=10, images_per_text=8, tile_images=tile_images, tile_texts=tile_texts
            )
            np.testing.assert_array_equal(top.i2t.indices, best_texts)
            np.testing.assert_array_equal(top.t2i.indices, best_images)
            np.testing.assert_array_equal(top.i2t.scores, np.take_along_axis(scores, best_texts, 1))
            np.testing.assert_array_equal(top.t2i.scores, np.take_along_axis(scores.T, best_images, 1))


def test_own_captions_never_count_against_an_image_and_equal_ones_of_others_do() -> None:
    images = np.array([[1, 0], [0, 1]], np.float32)
    texts = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)
    got = retrieval_ranks(images, texts, np.array([0, 0, 1, 1]))
    assert got.i2t.tolist() == [1, 0]  # three captions tie for image 0, one of them is another's
    assert got.t2i.tolist() == [0, 0, 1, 0]


def test_a_collapsed_model_gets_the_worst_ranks_not_the_best() -> None:
    owners = np.repeat(np.arange(6), 5)
    got = retrieval_ranks(np.ones((6, 3), np.float32), np.ones((30, 3), np.float32), owners)
    assert set(got.i2t.tolist()) == {25}
    assert set(got.t2i.tolist()) == {5}


def test_equal_captions_of_two_images_tie_wherever_they_stand() -> None:
    """A BLAS may sum the same two vectors differently at another place of the matrix; ranks must not show it."""
    rng = np.random.default_rng(0)
    images, texts = vectors(rng, "unit", (300, 384)), vectors(rng, "unit", (1500, 384))
    owners = np.repeat(np.arange(300), 5)
    pairs = [(5 * a, 5 * b + 1) for a, b in zip(range(0, 150), range(299, 149, -1), strict=True)]
    for one, other in pairs:
        texts[one] = images[owners[one]] * 0.6 + 0.8 * texts[one]
        texts[one] /= np.linalg.norm(texts[one])
        texts[other] = texts[one]
    order = rng.permutation(300)
    position = np.argsort(order)
    text_order = rng.permutation(1500)
    plain = retrieval_ranks(images, texts, owners)
    shuffled = retrieval_ranks(images[order], texts[text_order], position[owners[text_order]], tile_images=100)
    np.testing.assert_array_equal(shuffled.i2t, plain.i2t[order])
    np.testing.assert_array_equal(shuffled.t2i, plain.t2i[text_order])
    assert plain.i2t[:150].min() >= 1, "the equal caption of the other image counts against each of these"


def embedding_fixture(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, dict[str, float]]]:
    data = np.load(folder / "retrieval" / "coco200_minilm_fp16.npz")
    image_at = {image: row for row, image in enumerate(data["img_ids"].tolist())}
    owners = np.array([image_at[image] for image in data["cap_img"].tolist()])
    expected = json.loads((folder / "retrieval" / "expected_recall_200.json").read_text())
    return data["I"].astype(np.float32), data["T"].astype(np.float32), owners, expected


def test_lists_of_the_embedding_fixture_give_the_expected_recalls_exactly(shared_fixtures: Path) -> None:
    """The expected values order equal scores by position (a stable argsort), which is the order of the lists."""
    images, texts, owners, expected = embedding_fixture(shared_fixtures)
    top = top_k(images, texts, texts_per_image=10, images_per_text=10, tile_images=64, tile_texts=64)
    own_texts = owners[top.i2t.indices] == np.arange(len(images))[:, None]
    own_image = top.t2i.indices == owners[:, None]
    got = {
        name: {k: 100 * int(own[:, : int(k)].any(axis=1).sum()) / len(own) for k in expected[name]}
        for name, own in (("i2t", own_texts), ("t2i", own_image))
    }
    assert got == expected


def test_ranks_of_the_embedding_fixture_differ_from_the_expected_recalls_by_its_ties_alone(
    shared_fixtures: Path,
) -> None:
    """Ten of its images are five pairs with the same vector. Ties count against, so their captions lose."""
    images, texts, owners, expected = embedding_fixture(shared_fixtures)
    ranks = retrieval_ranks(images, texts, owners)
    assert {k: recall_at_k(ranks.i2t, int(k)) for k in expected["i2t"]} == expected["i2t"]
    assert [recall_at_k(ranks.t2i, k) for k in (1, 5, 10)] == [60.4, 89.5, 96.1]

    scores = scores_of(images, texts)
    own = scores[owners, np.arange(len(texts))]
    ties = (scores == own).sum(axis=0) - 1
    earlier = np.tril(np.ones((len(images), len(images)), bool), -1)[owners].T
    by_position = (scores > own).sum(axis=0) + ((scores == own) & earlier).sum(axis=0)
    assert {k: recall_at_k(by_position, int(k)) for k in expected["t2i"]} == expected["t2i"]
    np.testing.assert_array_equal(ranks.t2i, (scores > own).sum(axis=0) + ties)
    _, vector, images_with_it = np.unique(images, axis=0, return_inverse=True, return_counts=True)
    np.testing.assert_array_equal(ties, images_with_it[vector][owners] - 1)


def test_recalls_are_those_of_clip_benchmark() -> None:
    """LAION-AI/CLIP_benchmark, `zeroshot_retrieval.py`: a hit is a positive among the top k of the score matrix."""
    rng = np.random.default_rng(3)
    images, texts, owners = vectors(rng, "unit", (60, 16)), vectors(rng, "unit", (300, 16)), np.repeat(np.arange(60), 5)
    texts = texts + 0.5 * images[owners]
    scores = texts @ images.T
    positive = np.zeros_like(scores, dtype=bool)
    positive[np.arange(300), owners] = True

    def clip_benchmark(scores: np.ndarray, positive: np.ndarray, k: int) -> float:
        best = np.argpartition(-scores, k, axis=1)[:, :k]
        return float(np.take_along_axis(positive, best, axis=1).any(axis=1).mean())

    ranks = retrieval_ranks(images, texts, owners)
    for k in (1, 5, 10):
        assert recall_at_k(ranks.t2i, k) == pytest.approx(100 * clip_benchmark(scores, positive, k))
        assert recall_at_k(ranks.i2t, k) == pytest.approx(100 * clip_benchmark(scores.T, positive.T, k))


def test_fold_ranks_are_those_of_each_fold_alone() -> None:
    rng = np.random.default_rng(1)
    images, texts = vectors(rng, "duplicates", (30, 6)), vectors(rng, "duplicates", (100, 6))
    owners = owners_of(rng, 30, 100, shuffled=True)
    folds = np.arange(30) // 10
    got = fold_ranks(images, texts, owners, folds)
    for fold in range(3):
        chosen = folds[owners] == fold
        alone = retrieval_ranks(images[folds == fold], texts[chosen], owners[chosen] - 10 * fold)
        np.testing.assert_array_equal(got.i2t[folds == fold], alone.i2t)
        np.testing.assert_array_equal(got.t2i[chosen], alone.t2i)


def test_the_matrix_of_all_scores_is_never_built() -> None:
    rng = np.random.default_rng(2)
    images, texts = vectors(rng, "unit", (2000, 8)), vectors(rng, "unit", (10_000, 8))
    tracemalloc.start()
    retrieval_ranks(images, texts, np.repeat(np.arange(2000), 5), tile_images=100, tile_texts=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    tile = 100 * 1000 * 4
    assert peak < 8 * tile  # the matrix is 200 tiles


def test_lists_are_no_longer_than_the_gallery_and_their_pairs_score_the_same_both_ways() -> None:
    rng = np.random.default_rng(4)
    images, texts = vectors(rng, "unit", (5, 100)), vectors(rng, "unit", (12, 100))
    top = top_k(images, texts, texts_per_image=50, images_per_text=50)
    assert top.i2t.indices.shape == (5, 12)
    assert top.t2i.indices.shape == (12, 5)
    i2t = {(i, j): s for i in range(5) for j, s in zip(top.i2t.indices[i], top.i2t.scores[i], strict=True)}
    t2i = {(i, j): s for j in range(12) for i, s in zip(top.t2i.indices[j], top.t2i.scores[j], strict=True)}
    assert i2t == t2i


def test_what_cannot_be_ranked_is_refused() -> None:
    good, owners = np.ones((2, 3), np.float32), np.array([0, 1])
    bad = good.copy()
    bad[1, 1] = np.nan
    with pytest.raises(ModelOutputError, match="of an image holds NaN or infinity"):
        retrieval_ranks(bad, good, owners)
    with pytest.raises(ModelOutputError, match="of a text holds NaN or infinity"):
        top_k(good, bad, texts_per_image=1, images_per_text=1)
    with pytest.raises(ValueError, match="image 1 has no text"):
        retrieval_ranks(good, good, np.array([0, 0]))
    with pytest.raises(ValueError, match="image_of_text must name one of 2 images"):
        retrieval_ranks(good, good, np.array([0, 2]))
    with pytest.raises(ValueError, match="are not"):
        retrieval_ranks(good, np.ones((2, 4), np.float32), owners)
    with pytest.raises(ValueError, match="at least one entry"):
        top_k(good, good, texts_per_image=0, images_per_text=1)


def brute_force_reranked(
    scores: np.ndarray, logits: np.ndarray, owners: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """BLIP's way: a matrix of -inf with logit + cosine at each query's top k; the rest by first-stage rank."""
    first = brute_force_ranks(scores, owners)
    i2t, t2i = first.i2t.copy(), first.t2i.copy()
    for i, row in enumerate(scores):
        top = np.argsort(-row, kind="stable")[:k]
        fused = np.full(len(row), -np.inf, np.float32)
        fused[top] = logits[i, top] + row[top]
        own = owners == i
        if own[top].any():
            i2t[i] = ((fused >= fused[own].max()) & ~own).sum()
    for j, row in enumerate(scores.T):
        top = np.argsort(-row, kind="stable")[:k]
        fused = np.full(len(row), -np.inf, np.float32)
        fused[top] = logits[top, j] + row[top]
        if owners[j] in top:
            t2i[j] = (fused >= fused[owners[j]]).sum() - 1
    return i2t, t2i


@pytest.mark.parametrize("k", [1, 4, 11, 1000])
@pytest.mark.parametrize("kind", ["unit", "small integers"])
def test_reranked_ranks_are_those_of_the_filled_matrix_and_each_pair_stands_once(kind: str, k: int) -> None:
    rng = np.random.default_rng(k)
    images, texts = vectors(rng, kind, (20, 4)), vectors(rng, kind, (70, 4))
    owners = owners_of(rng, 20, 70, shuffled=True)
    scores = scores_of(images, texts)
    logits = rng.integers(-3, 4, scores.shape).astype(np.float32)
    lists = top_k(images, texts, texts_per_image=max(k, 15), images_per_text=max(k, 15))
    pairs = CandidatePairs(lists, k)
    texts_of_images = pairs.texts_of_images()
    assert sum(len(set(each.tolist())) for each in texts_of_images) == len(pairs)
    wanted = {(i, int(j)) for i, row in enumerate(lists.i2t.indices[:, :k]) for j in row}
    wanted |= {(int(i), j) for j, row in enumerate(lists.t2i.indices[:, :k]) for i in row}
    assert {(i, int(j)) for i, each in enumerate(texts_of_images) for j in each} == wanted

    answers = [logits[i, each] for i, each in enumerate(texts_of_images)]
    got = pairs.rerank(answers, owners, retrieval_ranks(images, texts, owners))
    i2t, t2i = brute_force_reranked(scores, logits, owners, k)
    np.testing.assert_array_equal(got.ranks.i2t, i2t)
    np.testing.assert_array_equal(got.ranks.t2i, t2i)
    for i in range(20):  # the list: candidates by fused score, then the rest as it was
        top = lists.i2t.indices[i]
        fused = logits[i, top[:k]] + scores[i, top[:k]]
        expected = [*top[:k][np.argsort(-fused, kind="stable")], *top[k:]]
        assert got.lists.i2t.indices[i].tolist() == expected


def test_what_is_not_reranked_never_outranks_a_candidate() -> None:
    fused = np.array([[-50.0, -60.0]], np.float32)
    assert reranked_ranks(fused, np.array([[False, True]]), np.array([0])).tolist() == [1]
    assert reranked_ranks(fused, np.array([[False, False]]), np.array([2])).tolist() == [2]


def test_an_image_that_is_nobodys_candidate_is_not_asked_about() -> None:
    i2t = TopK(indices=np.array([[0], [0], [0]]), scores=np.zeros((3, 1), np.float32))
    t2i = TopK(indices=np.array([[0], [0], [2]]), scores=np.zeros((3, 1), np.float32))
    pairs = CandidatePairs(TopLists(i2t=i2t, t2i=t2i), 1)
    assert [each.tolist() for each in pairs.texts_of_images()] == [[0, 1], [0], [0, 2]]


@pytest.mark.parametrize(
    "module", [ranks_module, reranking_module, top_lists_module], ids=lambda module: module.__name__
)
def test_examples_in_docstrings(module: object) -> None:
    failed, tried = doctest.testmod(module)  # type: ignore[arg-type] # a module is an object to pytest's parameters
    assert tried > 0
    assert failed == 0
