"""Asking for scores of candidate answers.

Imported by `evalkit.families.dialog` inside the method that uses it, so it may import numpy.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

import numpy as np  # noqa: TID253 # see above

from evalkit.families.dialog import (
    ASKED,
    CAPTION_REQUEST,
    LOGLIKELIHOOD,
    MATCH,
    OWN_RECIPE,
    PAST,
    SHORT,
    SIMILARITY,
    asked_rounds,
    kind_of,
    tells_history,
)
from evalkit.metrics.tiles import checked, exact_scores  # noqa: TID253 # see above
from evalkit.types import Failure, MatchRequest, ScoreRequest, Turn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from evalkit.datasets.visdial import DialogRound
    from evalkit.families.dialog import DialogSample
    from evalkit.model import Model
    from evalkit.types import CandidateScore, Recipe, Route

Scores: TypeAlias = list[tuple[float, ...]]
"""Of one dialog: for each round to answer, a score a candidate."""

_PIECE = re.compile(r"\w+|[^\w\s]")
"""A word, or a mark, as tokenizers take them apart first."""
_DIALOGS_AT_ONCE = 64
"""Dialogs a call to the model: their 64,000 candidates, each with the dialog before it, are 30 MB of text, and 130 MB
of vectors of 512 numbers."""


def candidate_scores(model: Model, samples: Sequence[DialogSample], route: Route) -> Iterator[Scores | Failure]:
    """For each dialog the scores of its candidates, or why there are none.

    Args:
        model: Has what the route needs.
        samples: The dialogs.
        route: As `DialogTask.route` gave it.
    """
    for start in range(0, len(samples), _DIALOGS_AT_ONCE):
        part = samples[start : start + _DIALOGS_AT_ONCE]
        if kind_of(route) == LOGLIKELIHOOD.name:
            yield from _likelihoods(model, part, route.recipe or OWN_RECIPE, history=tells_history(route))
        elif kind_of(route) == SIMILARITY.name:
            yield from _cosines(model, part)
        else:
            yield from _matches(model, part, caption=kind_of(route) == MATCH.name, history=tells_history(route))


def _matches(
    model: Model, samples: Sequence[DialogSample], *, caption: bool, history: bool
) -> Iterator[Scores | Failure]:
    # one request a dialog: its image (and caption) is encoded once for all rounds
    texts = [_texts(sample, history=history, short=not caption) for sample in samples]
    requests = [
        MatchRequest(
            images=(sample.image,),
            texts=_distinct(text for rounds in told for text in rounds),
            context=sample.caption if caption else "",
            scoring="log_odds",
        )
        for sample, told in zip(samples, texts, strict=True)
    ]
    for request, told, answer in zip(requests, texts, model.match(requests), strict=True):
        if isinstance(answer, Failure):
            yield answer
            continue
        yield _by_round(told, dict(zip(request.texts, answer.tolist(), strict=True)))


def _likelihoods(
    model: Model, samples: Sequence[DialogSample], recipe: Recipe, *, history: bool
) -> Iterator[Scores | Failure]:
    requests = [
        ScoreRequest(
            images=(sample.image,),
            turns=dialog_turns(sample, place, recipe, history=history),
            candidates=_distinct(sample.rounds[place].options),
            scoring=recipe.scoring,
        )
        for sample in samples
        for place in asked_rounds(sample)
    ]
    answers = iter(zip(requests, model.score_candidates(requests), strict=True))
    for sample in samples:
        found: Scores = []
        failure: Failure | None = None
        for place in asked_rounds(sample):
            request, answer = next(answers)
            if isinstance(answer, Failure):
                failure = failure or answer
                continue
            known = dict(zip(request.candidates, map(_per_token, answer), strict=True))
            found.append(tuple(known[option] for option in sample.rounds[place].options))
        yield failure or found


def _cosines(model: Model, samples: Sequence[DialogSample]) -> Iterator[Scores | Failure]:
    images = model.encode_image([sample.image for sample in samples])
    if len(images.failures) == len(samples):  # then there is no vector at all
        yield from (images.failures[number] for number in range(len(samples)))
        return
    # a thousand texts a dialog: none is embedded for an image that failed
    texts = [
        [] if number in images.failures else _texts(sample, history=False, short=True)
        for number, sample in enumerate(samples)
    ]
    distinct = [_distinct(text for rounds in told for text in rounds) for told in texts]
    rows = {text: row for row, text in enumerate(dict.fromkeys(text for told in distinct for text in told))}
    embedded = model.encode_text(list(rows))
    failures: dict[int, Failure] = {}
    for number, asked in enumerate(distinct):
        for text in asked:
            if rows[text] in embedded.failures:
                failures.setdefault(number, embedded.failures[rows[text]])
    failures.update(images.failures)
    if len(failures) == len(samples):  # then there may be no vector at all
        yield from (failures[number] for number in range(len(samples)))
        return
    stacks, vectors = checked(images.vectors, embedded.vectors)
    for number, (told, asked) in enumerate(zip(texts, distinct, strict=True)):
        if number in failures:
            yield failures[number]
            continue
        # a BLAS sums the same two vectors differently at another place of a matrix: equal candidates would not tie
        places = np.array([rows[text] for text in asked])
        cosines = exact_scores(stacks, vectors, np.full(len(places), number), places)
        yield _by_round(told, dict(zip(asked, cosines.tolist(), strict=True)))


def dialog_turns(sample: DialogSample, place: int, recipe: Recipe, *, history: bool) -> tuple[Turn, ...]:
    """The conversation that a candidate of a round would continue.

    Args:
        sample: The dialog.
        place: Which round, from 0.
        recipe: Its prompt is a user turn.
        history: Whether caption and earlier rounds are told.
    """
    asked = Turn(role="user", text=_user(recipe, sample.rounds[place]))
    if not history:
        return (asked,)
    told = [Turn(role="user", text=CAPTION_REQUEST), Turn(role="assistant", text=sample.caption)]
    for one in sample.rounds[:place]:
        told += [Turn(role="user", text=_user(recipe, one)), Turn(role="assistant", text=one.answer or "")]
    return (*told, asked)


def _user(recipe: Recipe, one: DialogRound) -> str:
    return recipe.prompt.replace("{question}", f"{one.question}?")


def _texts(sample: DialogSample, *, history: bool, short: bool) -> list[list[str]]:
    """For each round to answer, a text for each of its candidates, of a caption's length where it is to be short."""
    texts = []
    for place in asked_rounds(sample):
        asked = sample.rounds[place]
        if short:
            texts.append([_shortened(asked.question, one) for one in asked.options])
            continue
        earlier = sample.rounds[:place] if history else ()
        past = "".join(PAST.format(question=one.question, answer=one.answer) for one in earlier)
        texts.append([past + ASKED.format(question=asked.question, candidate=one) for one in asked.options])
    return texts


def _shortened(question: str, candidate: str) -> str:
    """`ASKED` without the question's first words, as far as it is too long: a matcher cuts the end, the candidate."""
    text = ASKED.format(question=question, candidate=candidate)
    for _ in range(len(question.split())):
        if len(_PIECE.findall(text)) <= SHORT:
            break
        text = text.lstrip().partition(" ")[2]
    return text


def _by_round(texts: Sequence[Sequence[str]], known: Mapping[str, float]) -> Scores:
    return [tuple(known[text] for text in rounds) for rounds in texts]


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _per_token(score: CandidateScore) -> float:
    return score.logprob / max(score.tokens, 1)
