"""Scores of candidates to ranks, and ranks to numbers: a pure function of what a run stores.

Imported by `evalkit.families.dialog` inside the methods that use it, so it may import numpy.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253 # see above

from evalkit.errors import DataError
from evalkit.families.dialog import RankedRound, asked_rounds
from evalkit.families.generation_scores import Clustered, can_be_scored
from evalkit.metrics.visdial import ndcg, place_of  # noqa: TID253 # see above

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.families.dialog import DialogPrediction, DialogSample
    from evalkit.metrics.visdial import Place
    from evalkit.types import MetricValue

_Answered = tuple["DialogSample", "DialogPrediction"]


def ranked_rounds(sample: DialogSample, scores: Sequence[tuple[float, ...]]) -> tuple[RankedRound, ...]:
    """What a run stores of a dialog.

    Args:
        sample: The dialog.
        scores: For each of its rounds to answer, a score a candidate.
    """
    return tuple(_ranked(sample, place, values) for place, values in zip(asked_rounds(sample), scores, strict=True))


def _ranked(sample: DialogSample, place: int, scores: tuple[float, ...]) -> RankedRound:
    asked = sample.rounds[place]
    return RankedRound(
        round_id=place + 1,
        answer=asked.options[int(np.argmax(scores))],
        rank=None if asked.gt_index is None else place_of(scores, asked.gt_index).rank,
        scores=scores,
    )


def score(
    samples: Sequence[DialogSample], predictions: Sequence[DialogPrediction], *, protocol: str, split: str
) -> tuple[MetricValue, ...]:
    """MRR, R@1, R@5, R@10 and mean rank over all rounds; NDCG over the densely annotated ones. In percent, but ranks.

    Args:
        samples: The split.
        predictions: One a sample, in order. Failed ones are left out of every number, and of its `n`.
        protocol: `Protocol.id`.
        split: The split's name.

    Raises:
        DataError: Every dialog failed, or some rounds have a known answer and others not.
    """
    answered = [(sample, one) for sample, one in zip(samples, predictions, strict=True) if one.failure is None]
    if not answered:
        raise DataError("Every dialog failed, so there is nothing to score.", "Run the evaluation again.")
    return (*_sparse(answered, protocol, split), *_dense(answered, protocol, split))


def _dense(answered: Sequence[_Answered], protocol: str, split: str) -> Iterator[MetricValue]:
    annotated = [(sample, one) for sample, one in answered if sample.dense is not None]
    if not annotated:
        return
    values = [_ndcg(sample, one) for sample, one in annotated]
    defined = np.array([value is not None for value in values])
    if defined.any():
        over = Clustered([sample.cluster for sample, _ in annotated], protocol=protocol, split=split)
        yield over.mean("ndcg", np.array([100 * (value or 0.0) for value in values]), defined)


def _ndcg(sample: DialogSample, prediction: DialogPrediction) -> float | None:
    if sample.dense is None:
        return None
    (scores,) = (one.scores for one in prediction.rounds if one.round_id == sample.dense.round_id)
    return ndcg(scores, sample.dense.relevance)


def _sparse(answered: Sequence[_Answered], protocol: str, split: str) -> Iterator[MetricValue]:
    rounds = [(sample, one) for sample, prediction in answered for one in prediction.rounds]
    found = [place_of_answer(sample, one) for sample, one in rounds]
    without = [
        f"{sample.id} round {one.round_id}" for (sample, one), place in zip(rounds, found, strict=True) if place is None
    ]
    if not can_be_scored(without, len(rounds), "rounds have no known answer"):
        return
    places = [place for place in found if place is not None]
    over = Clustered([sample.cluster for sample, _ in rounds], protocol=protocol, split=split)
    yield over.mean("mrr", np.array([100 * place.reciprocal_rank for place in places]))
    for k in (1, 5, 10):
        yield over.mean(f"r@{k}", np.array([100 * place.recall(k) for place in places]))
    ranks = np.array([place.rank for place in places])
    yield replace(over.mean("mean_rank", ranks, higher_is_better=False), unit="rank")


def place_of_answer(sample: DialogSample, one: RankedRound) -> Place | None:
    """Where the person's answer stands; None where it is not public."""
    truth = sample.rounds[one.round_id - 1].gt_index
    return None if truth is None else place_of(one.scores, truth)
