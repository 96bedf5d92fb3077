"""The pieces of the world that files and training are made of: a scene with what is said of it, by number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.demo.world.captions import captions
from evalkit.demo.world.dialogs import Dialog, dialog
from evalkit.demo.world.questions import Question, answers, questions
from evalkit.demo.world.scenes import SHAPES, Domain, Scene, generator, sample_scene
from evalkit.demo.world.statements import statement

if TYPE_CHECKING:
    from evalkit.demo.world.scenes import Part
    from evalkit.demo.world.statements import Statement

QUESTIONS = 4
"""A picture."""
NOCAPS_CAPTIONS = 10
DOMAINS: tuple[Domain, ...] = ("in", "near", "out")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredQuestion:
    """A question and what ten people answer."""

    question: Question
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A scene with captions and questions."""

    scene: Scene
    captions: tuple[str, ...]
    questions: tuple[AnsweredQuestion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainPicture:
    """A scene of nocaps, with captions."""

    scene: Scene
    captions: tuple[str, ...]
    domain: Domain


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A scene and the dialog about it."""

    scene: Scene
    dialog: Dialog


def pictured(seed: int, part: Part, number: int) -> Picture:
    """The `number`-th picture of a part."""
    rng = generator(seed, part, "picture", number)
    scene = sample_scene(rng, part)
    return Picture(
        scene=scene,
        captions=captions(scene, rng),
        questions=tuple(
            AnsweredQuestion(question=question, answers=answers(question, rng))
            for question in questions(scene, rng, QUESTIONS)
        ),
    )


def domain_picture(seed: int, number: int) -> DomainPicture:
    """The `number`-th picture of nocaps, whose domains take turns; all of them belong to the test part."""
    rng = generator(seed, "nocaps", number)
    domain = DOMAINS[number % len(DOMAINS)]
    scene = sample_scene(rng, "test", domain)
    return DomainPicture(scene=scene, captions=captions(scene, rng, NOCAPS_CAPTIONS), domain=domain)


def judged(seed: int, part: Part, number: int) -> Statement:
    """The `number`-th statement of a part, with its pairs."""
    return statement(generator(seed, part, "statement", number), part)


def photographed(seed: int, part: Part, number: int) -> Scene:
    """The `number`-th scene of a single thing, whose shapes take turns: a picture of one class."""
    rng = generator(seed, part, "photo", number)
    while True:
        scene = sample_scene(rng, part)
        if [thing.shape for thing in scene.things] == [SHAPES[number % len(SHAPES)]]:
            return scene


def conversed(seed: int, part: Part, number: int) -> Conversation:
    """The `number`-th dialog of a part."""
    rng = generator(seed, part, "dialog", number)
    scene = sample_scene(rng, part)
    return Conversation(scene=scene, dialog=dialog(scene, rng))
