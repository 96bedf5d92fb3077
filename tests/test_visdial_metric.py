"""VisDial's numbers: the official evaluator's on real dialogs, and every order of equal scores by brute force."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evalkit.metrics.visdial import ndcg, place_of, whole_ranks

SETS = ("minilm_q_vs_option", "random_seed0", "noisy_oracle_seed0")


@pytest.fixture(scope="module")
def official(shared_fixtures: Path) -> dict[str, Any]:
    """Scores (97, 10, 100), the answers' positions, the annotated rounds and their relevance, and the metrics."""
    folder = shared_fixtures / "visdial"
    dense = json.loads((folder / "visdial_1.0_val_dense_annotations_crowdsourced.json").read_text("utf-8"))
    by_image = {one["image_id"]: one for one in dense}
    with np.load(folder / "scores.npz") as arrays:
        told = [by_image[int(image)] for image in arrays["image_ids"]]
        return {
            **{name: arrays[name] for name in (*SETS, "gt")},
            "round": np.array([one["round_id"] - 1 for one in told]),
            "relevance": np.array([one["gt_relevance"] for one in told], np.float32),
            "expected": json.loads((folder / "expected_metrics.json").read_text("utf-8")),
        }


def by_the_official_rules(official: dict[str, Any], name: str) -> tuple[dict[str, float], torch.Tensor]:
    """The official evaluator's formulas in its own precision, and its ranks of the answers, (97, 10)."""
    scores = torch.from_numpy(official[name])
    order = scores.sort(dim=-1, descending=True).indices
    ranks = order.argsort(dim=-1) + 1
    truth = ranks.gather(-1, torch.from_numpy(official["gt"])[..., None])[..., 0]
    flat = truth.reshape(-1).float()
    metrics = {f"r@{k}": (flat <= k).float().mean().item() for k in (1, 5, 10)}
    metrics |= {"mean": flat.mean().item(), "mrr": flat.reciprocal().mean().item()}
    total = torch.tensor(0.0)
    for dialog, (place, values) in enumerate(zip(official["round"], official["relevance"], strict=True)):
        relevance = torch.from_numpy(values)
        k = int((relevance != 0).sum())
        discounts = torch.log2(torch.arange(k).float() + 2)
        best = (relevance.sort(descending=True).values[:k] / discounts).sum()
        total = total + (relevance[order[dialog, place][:k]] / discounts).sum() / best
    return {**metrics, "ndcg": float(total / len(official["round"]))}, truth


@pytest.mark.parametrize("name", SETS)
def test_the_official_numbers(official: dict[str, Any], name: str) -> None:
    second, ranks = by_the_official_rules(official, name)
    assert second == official["expected"][name]  # what is compared with below is what the official code does
    scores, truth = official[name], official["gt"]
    places = [[place_of(*one) for one in zip(*rounds, strict=True)] for rounds in zip(scores, truth, strict=True)]
    assert [[(one.first, one.last) for one in rounds] for rounds in places] == [
        [(rank, rank) for rank in rounds] for rounds in ranks.tolist()
    ]
    every = [one for rounds in places for one in rounds]
    dense = [
        ndcg(scores[dialog, place], relevance)
        for dialog, (place, relevance) in enumerate(zip(official["round"], official["relevance"], strict=True))
    ]
    ours = {f"r@{k}": math.fsum(one.recall(k) for one in every) / 970 for k in (1, 5, 10)}
    ours["mean"] = math.fsum(one.rank for one in every) / 970
    ours["mrr"] = math.fsum(one.reciprocal_rank for one in every) / 970
    ours["ndcg"] = math.fsum(value for value in dense if value is not None) / 97
    for metric, expected in official["expected"][name].items():
        # to the last place of single precision, in which the official code adds up
        assert abs(np.float32(ours[metric]) - np.float32(expected)) <= np.spacing(np.float32(expected)), metric


# -- equal scores ------------------------------------------------------------------------------------------------------
def orders(scores: Sequence[float]) -> Iterator[list[int]]:
    """Every order of the candidates in which no score follows a lower one."""
    for order in itertools.permutations(range(len(scores))):
        if all(scores[one] >= scores[other] for one, other in itertools.pairwise(order)):
            yield list(order)


TIED = [[3.0, 1.0, 1.0, 2.0, 1.0], [0.0] * 5, [5.0, 4.0, 3.0, 2.0, 1.0], [1.0, -math.inf, 1.0, -math.inf, 0.0]]


@pytest.mark.parametrize("scores", TIED)
def test_equal_scores_count_as_the_mean_over_their_orders(scores: list[float]) -> None:
    every = list(orders(scores))
    for candidate in range(5):
        ranks = [order.index(candidate) + 1 for order in every]
        place = place_of(scores, candidate)
        assert (place.first, place.last) == (min(ranks), max(ranks))
        assert place.rank == pytest.approx(np.mean(ranks))
        assert place.reciprocal_rank == pytest.approx(np.mean([1 / rank for rank in ranks]))
        for k in (1, 2, 3, 5, 10):
            assert place.recall(k) == pytest.approx(np.mean([rank <= k for rank in ranks]))
    relevance = [0.0, 0.8, 0.2, 0.0, 0.4]
    ideal = sum(value / math.log2(place + 2) for place, value in enumerate((0.8, 0.4, 0.2)))
    gained = [sum(relevance[one] / math.log2(place + 2) for place, one in enumerate(order[:3])) for order in every]
    assert ndcg(scores, relevance) == pytest.approx(np.mean(gained) / ideal)


def test_a_round_without_a_relevant_candidate_has_no_ndcg() -> None:
    assert ndcg([0.3, 0.2], [0.0, 0.0]) is None


def test_the_best_order_has_an_ndcg_of_one_and_the_worst_need_not_have_none() -> None:
    relevance = [0.2, 1.0, 0.0, 0.6]
    assert ndcg(relevance, relevance) == pytest.approx(1.0)
    reverse = [-value for value in relevance]
    assert ndcg(reverse, relevance) == pytest.approx(
        (0.2 / math.log2(3) + 0.6 / 2) / (1 + 0.6 / math.log2(3) + 0.2 / 2)
    )


def test_the_servers_ranks_are_each_given_once() -> None:
    scores = [0.5, 0.9, 0.5, -1.0, 0.9]
    assert whole_ranks(scores) == [3, 1, 4, 5, 2]
    assert whole_ranks([0.0] * 100) == list(range(1, 101))
