"""Answering by ranking: the candidate that a model's scoring rule puts first."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evalkit.errors import ModelOutputError
from evalkit.types import Failure, ScoreRequest, Turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.families.question_answering import VqaSample
    from evalkit.model import Model
    from evalkit.types import CandidateScore, Recipe

_QUESTIONS_AT_ONCE = 8192
"""Questions a call of `score_candidates`: the answers to one name every candidate, 25 kB a question."""


def question_turns(recipe: Recipe, question: str) -> tuple[Turn, ...]:
    """The conversation in which a question is asked by a recipe."""
    return (Turn(role="user", text=recipe.prompt.replace("{question}", question)),)


def ranked_answers(
    model: Model, samples: Sequence[VqaSample], recipe: Recipe, candidates: tuple[str, ...]
) -> list[str | Failure]:
    """For each sample the candidate with the highest score by the recipe's rule; the first of equal ones.

    Raises:
        ModelOutputError: The rule's shortlist left out every candidate.
    """
    chosen: list[str | Failure] = []
    for start in range(0, len(samples), _QUESTIONS_AT_ONCE):
        part = samples[start : start + _QUESTIONS_AT_ONCE]
        requests = [
            ScoreRequest(
                images=(sample.image,),
                turns=question_turns(recipe, sample.question),
                candidates=candidates,
                scoring=recipe.scoring,
            )
            for sample in part
        ]
        for sample, scores in zip(part, model.score_candidates(requests), strict=True):
            chosen.append(scores if isinstance(scores, Failure) else _best(candidates, scores, sample.image.name))
    return chosen


def _best(candidates: Sequence[str], scores: Sequence[CandidateScore], image: str) -> str:
    logprobs = [score.logprob for score in scores]
    highest = max(logprobs)
    if highest == -math.inf:
        raise ModelOutputError(
            f"score_candidates left out every one of {len(candidates)} candidates on {image}.",
            "This is a defect of the adapter: its shortlist must keep some.",
        )
    return candidates[logprobs.index(highest)]
