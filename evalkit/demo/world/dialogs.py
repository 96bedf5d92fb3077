"""Dialogs about a scene, as in VisDial: ten questions, each with a hundred answers to choose from."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.demo.world.captions import captions, place_of
from evalkit.demo.world.questions import Question, questions
from evalkit.demo.world.scenes import COLORS, GRID, GROUNDS, SHAPES, SIZES, Thing

if TYPE_CHECKING:
    import random

    from evalkit.demo.world.scenes import Scene

ROUNDS = 10
OPTIONS = 100
_LONGER = {"yes": ("yes it is", "yes there is"), "no": ("no it is not", "no there is not")}
_RELEVANCE = (1.0, 0.6, 0.4)
"""Of the answer itself, and of the same said at greater length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A question, the answers to choose from, and how far each of them is right."""

    question: str
    answer: str
    options: tuple[str, ...]
    truth: int
    """Place of the answer among the options."""
    relevance: tuple[float, ...]
    """One an option, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialog:
    """A caption and the rounds that follow it."""

    caption: str
    rounds: tuple[Round, ...]


def dialog(scene: Scene, rng: random.Random) -> Dialog:
    """Ten rounds; where a scene is too poor for ten different questions, some are asked again."""
    asked = list(questions(scene, rng, ROUNDS))
    asked += rng.choices(asked, k=ROUNDS - len(asked))
    return Dialog(caption=captions(scene, rng, 1)[0], rounds=tuple(_round(question, rng) for question in asked))


def longer(answer: str) -> tuple[str, ...]:
    """The same answer said at greater length, in two ways."""
    return _LONGER.get(answer, (f"it is {answer}", f"i think {answer}"))


def _round(question: Question, rng: random.Random) -> Round:
    """The true answer and its longer forms, the plausible untrue ones, and any others."""
    right = (question.answer, *longer(question.answer))
    others = [one for one in question.wrong if one not in right]
    rest = [one for one in pool() if one not in right and one not in others]
    options = [*right, *others, *rng.sample(rest, OPTIONS - len(right) - len(others))]
    rng.shuffle(options)
    weight = dict(zip(right, _RELEVANCE, strict=True))
    return Round(
        question=question.text,
        answer=question.answer,
        options=tuple(options),
        truth=options.index(question.answer),
        relevance=tuple(weight.get(one, 0.0) for one in options),
    )


@functools.cache
def pool() -> tuple[str, ...]:
    """Everything that anybody answers, short and long."""
    cells = [
        place_of(Thing(shape="", color="", size="", column=column, row=row))
        for column in range(GRID)
        for row in range(GRID)
    ]
    nouns = (f"{color} {shape}" for color in COLORS for shape in SHAPES)
    words = ("yes", "no", "1", "2", "3", *COLORS, *SHAPES, *SIZES, *GROUNDS, *cells, *nouns)
    return tuple(dict.fromkeys(form for word in words for form in (word, *longer(word))))
