"""Questions about a scene, and what ten people would answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from evalkit.demo.world.captions import place_of
from evalkit.demo.world.scenes import COLORS, GRID, GROUNDS, OPPOSITE, SHAPES, SIZES, Thing

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from evalkit.demo.world.scenes import Scene

ANNOTATORS = 10
_SYNONYMS = {
    "purple": "violet",
    "gray": "grey",
    "large": "big",
    "small": "little",
    "cross": "plus",
    "circle": "dot",
    "center": "middle",
    "striped": "lines",
}
_DISAGREES = 0.12
"""How often one annotator says something else: mostly the same by another word, else something wrong."""
AnswerType = Literal["yes/no", "number", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question with its true answer."""

    text: str
    answer: str
    answer_type: AnswerType
    kind: str
    """How it begins, as VQAv2 sorts its questions: `what color is the`."""
    wrong: tuple[str, ...]
    """Answers that the question allows and that are not true."""


def questions(scene: Scene, rng: random.Random, count: int) -> tuple[Question, ...]:
    """Different questions about one scene; as many as asked for, or as there are."""
    found: dict[str, Question] = {}
    for _ in range(20 * count):
        question = rng.choice(_ASKERS)(scene, rng)
        if question is not None:
            found.setdefault(question.text, question)
        if len(found) == count:
            break
    return tuple(found.values())


def answers(question: Question, rng: random.Random) -> tuple[str, ...]:
    """What ten annotators say."""
    return tuple(_one_answer(question, rng) for _ in range(ANNOTATORS))


def every_answer() -> tuple[str, ...]:
    """Every true answer that a question about a common scene can have, in the order of the alphabet."""
    cells = (Thing(shape="", color="", size="", column=cell % GRID, row=cell // GRID) for cell in range(GRID * GRID))
    words = (*COLORS, *SHAPES, *SIZES, *GROUNDS, *map(place_of, cells), "yes", "no", "1", "2", "3")
    return tuple(sorted(words))


def _one_answer(question: Question, rng: random.Random) -> str:
    if rng.random() >= _DISAGREES:
        return question.answer
    synonym = _SYNONYMS.get(question.answer)
    return synonym if synonym and rng.random() < 0.7 else rng.choice(question.wrong)


def _other(text: str, answer: str, kind: str, allowed: tuple[str, ...]) -> Question:
    wrong = tuple(one for one in allowed if one != answer)
    return Question(text=text, answer=answer, answer_type="other", kind=kind, wrong=wrong)


def _yes_or_no(text: str, truth: bool, kind: str) -> Question:
    answer, wrong = ("yes", "no") if truth else ("no", "yes")
    return Question(text=text, answer=answer, answer_type="yes/no", kind=kind, wrong=(wrong,))


def _number(text: str, answer: int, kind: str = "how many") -> Question:
    wrong = tuple(str(one) for one in range(1, 4) if one != answer)
    return Question(text=text, answer=str(answer), answer_type="number", kind=kind, wrong=wrong)


def _alone(scene: Scene, thing: Thing, name: str) -> bool:
    """Whether the thing is the only one with its shape, or its color."""
    return [getattr(one, name) for one in scene.things].count(getattr(thing, name)) == 1


def _color(scene: Scene, rng: random.Random) -> Question | None:
    thing = rng.choice(scene.things)
    if not _alone(scene, thing, "shape"):
        return None
    return _other(f"what color is the {thing.shape}?", thing.color, "what color is the", COLORS)


def _shape(scene: Scene, rng: random.Random) -> Question | None:
    thing = rng.choice(scene.things)
    if not _alone(scene, thing, "color"):
        return None
    return _other(f"what shape is {thing.color}?", thing.shape, "what", SHAPES)


def _size(scene: Scene, rng: random.Random) -> Question | None:
    thing = rng.choice(scene.things)
    if not _alone(scene, thing, "shape"):
        return None
    return _other(f"what size is the {thing.shape}?", thing.size, "what", SIZES)


def _ground(scene: Scene, rng: random.Random) -> Question:
    return _other("what is the background?", scene.ground, "what is the", GROUNDS)


def _place(scene: Scene, rng: random.Random) -> Question | None:
    thing = rng.choice(scene.things)
    if not _alone(scene, thing, "shape"):
        return None
    allowed = ("top left", "top right", "center", "bottom left", "bottom right")
    return _other(f"where is the {thing.shape}?", place_of(thing), "where is the", allowed)


def _count(scene: Scene, rng: random.Random) -> Question:
    return _number("how many shapes are there?", len(scene.things))


def _count_of_size(scene: Scene, rng: random.Random) -> Question | None:
    size = rng.choice(scene.things).size
    return _number(f"how many {size} shapes are there?", sum(one.size == size for one in scene.things))


def _there(scene: Scene, rng: random.Random) -> Question:
    """Half of them true; an untrue one changes color or shape of a thing that is there."""
    thing = rng.choice(scene.things)
    shape, color = thing.shape, thing.color
    if rng.random() < 0.5:
        if rng.random() < 0.5:
            shape = rng.choice([one for one in SHAPES if one != shape])
        else:
            color = rng.choice([one for one in COLORS if one != color])
    truth = any((one.shape, one.color) == (shape, color) for one in scene.things)
    return _yes_or_no(f"is there {'an' if color == 'orange' else 'a'} {color} {shape}?", truth, "is there a")


def _relation(scene: Scene, rng: random.Random) -> Question | None:
    if len(scene.things) < 2:
        return None
    first, second = rng.sample(scene.things, 2)
    if not (_alone(scene, first, "shape") and _alone(scene, second, "shape")):
        return None
    relation = first.relation_to(second)
    truth = rng.random() < 0.5
    asked = relation if truth else OPPOSITE[relation]
    return _yes_or_no(f"is the {first.shape} {asked} the {second.shape}?", truth, "is the")


_ASKERS: tuple[Callable[[Scene, random.Random], Question | None], ...] = (
    _color,
    _color,
    _shape,
    _size,
    _ground,
    _place,
    _count,
    _count_of_size,
    _there,
    _there,
    _relation,
    _relation,
)
