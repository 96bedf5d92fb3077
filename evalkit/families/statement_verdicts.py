"""What a model says to statements about two images: log-odds of a pair, of two answers, or a text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from evalkit.types import Failure, GenerateRequest, ImageRef, MatchRequest, ScoreRequest, SideBySide, Turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.families.statements import StatementSample
    from evalkit.model import Model
    from evalkit.types import Generation, Recipe

_CANDIDATES: Final = ("True", "False")
_VERDICTS: Final = {"true": "True", "yes": "True", "false": "False", "no": "False"}
_FIRST_WORD = re.compile(r"[\W_]*([^\W\d_]+)")
_MARKS = r"(?:[^\w.!?]|_)*"
_ALTERNATIVE = re.compile(
    rf"(?:{_MARKS}[/|\\]{_MARKS}|-|{_MARKS}\b(?:and{_MARKS})?or\b{_MARKS})(?:{'|'.join(_VERDICTS)}|not)(?![^\W_])",
    re.IGNORECASE,
)
"""What makes the first word one of two that are offered: the answer repeats the question, or decides nothing."""


def verdict_of(text: str) -> str:
    """What a generated answer says: `True` or `False` by its first word, empty where that is another.

    White space, quotes and other marks before the word are passed over; capitals do not matter. A word that its
    opposite is offered beside ("true or false", "yes/no") says nothing.

    >>> [verdict_of(text) for text in ("True.", " **no**, it", "The statement is true", "", "True or false: yes")]
    ['True', 'False', '', '', '']
    """
    found = _FIRST_WORD.match(text)
    if found is None or _ALTERNATIVE.match(text, found.end()):
        return ""
    return _VERDICTS.get(found[1].lower(), "")


def odds_of_match(model: Model, samples: Sequence[StatementSample]) -> list[float | Failure]:
    """For each sample the matcher's log-odds; one request an image pair, with every statement about it."""
    by_pair: dict[tuple[ImageRef, ImageRef], dict[str, None]] = {}
    for sample in samples:
        by_pair.setdefault(sample.images, {})[sample.statement] = None
    requests = [
        MatchRequest(images=images, texts=tuple(texts), scoring="log_odds") for images, texts in by_pair.items()
    ]
    odds: dict[tuple[tuple[ImageRef, ImageRef], str], float | Failure] = {}
    for (images, texts), answer in zip(by_pair.items(), model.match(requests), strict=True):
        for place, text in enumerate(texts):
            odds[images, text] = answer if isinstance(answer, Failure) else float(answer[place])
    return [odds[sample.images, sample.statement] for sample in samples]


def odds_of_answers(
    model: Model, samples: Sequence[StatementSample], recipe: Recipe, *, canvas: bool
) -> list[float | Failure]:
    """For each sample the log-likelihood of "True" less that of "False", each summed over its tokens."""
    requests = [
        ScoreRequest(images=_shown(sample, canvas), turns=_turns(sample, recipe), candidates=_CANDIDATES)
        for sample in samples
    ]
    return [
        scores if isinstance(scores, Failure) else scores[0].logprob - scores[1].logprob
        for scores in model.score_candidates(requests)
    ]


def written_answers(
    model: Model, samples: Sequence[StatementSample], recipe: Recipe, *, canvas: bool
) -> list[Generation | Failure]:
    """For each sample the text that the model writes."""
    return model.generate(
        [
            GenerateRequest(images=_shown(sample, canvas), turns=_turns(sample, recipe), decoding=recipe.decoding)
            for sample in samples
        ]
    )


def _turns(sample: StatementSample, recipe: Recipe) -> tuple[Turn, ...]:
    return (Turn(role="user", text=recipe.prompt.replace("{statement}", sample.statement)),)


def _shown(sample: StatementSample, canvas: bool) -> tuple[ImageRef, ...]:
    if not canvas:
        return sample.images
    return (ImageRef(id=" + ".join(image.id for image in sample.images), source=SideBySide(images=sample.images)),)
