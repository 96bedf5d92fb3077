"""Statements about two pictures, true or false, as in NLVR2: one statement stands with several pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.demo.world.scenes import COLORS, SHAPES, Scene, sample_scene

if TYPE_CHECKING:
    import random

    from evalkit.demo.world.scenes import Part

PAIRS = 4
"""Pairs that one statement is judged on, half of them true."""
_NUMBERS = ("two", "three", "four", "five")
_TRIES = 400

Holds = Callable[[Scene, Scene], bool]
"""Whether a statement is true of a left and a right scene."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPair:
    """Two scenes, and whether the statement holds."""

    left: Scene
    right: Scene
    truth: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A sentence with the pairs it is judged on."""

    text: str
    pairs: tuple[JudgedPair, ...]


def statement(rng: random.Random, part: Part) -> Statement:
    """A statement, with as many true as false pairs, in mixed order."""
    while True:
        text, holds = claim(rng)
        pairs = _pairs(rng, part, holds)
        if pairs is not None:
            rng.shuffle(pairs)
            return Statement(text=text, pairs=tuple(pairs))


def claim(rng: random.Random) -> tuple[str, Holds]:
    """A sentence about two scenes, and when it holds."""
    return rng.choice(_KINDS)(rng)


def _pairs(rng: random.Random, part: Part, holds: Holds) -> list[JudgedPair] | None:
    """Half true, half false; None where one of them is too rare."""
    wanted = {True: PAIRS // 2, False: PAIRS - PAIRS // 2}
    pairs = []
    for _ in range(_TRIES):
        left, right = sample_scene(rng, part), sample_scene(rng, part)
        truth = holds(left, right)
        if wanted[truth]:
            wanted[truth] -= 1
            pairs.append(JudgedPair(left=left, right=right, truth=truth))
        if not any(wanted.values()):
            return pairs
    return None


def _has(scene: Scene, shape: str = "", color: str = "") -> bool:
    return any((not shape or one.shape == shape) and (not color or one.color == color) for one in scene.things)


def _kind_of_thing(rng: random.Random) -> tuple[str, Callable[[Scene], bool]]:
    """`circle` or `red shape`, and whether a scene has one."""
    if rng.random() < 0.5:
        shape = rng.choice(SHAPES)
        return shape, lambda scene: _has(scene, shape=shape)
    color = rng.choice(COLORS)
    return f"{color} shape", lambda scene: _has(scene, color=color)


def _a(noun: str) -> str:
    return f"{'an' if noun[0] == 'o' else 'a'} {noun}"


def _one_side(rng: random.Random) -> tuple[str, Holds]:
    noun, has = _kind_of_thing(rng)
    if rng.random() < 0.5:
        return f"the left image shows {_a(noun)}", lambda left, right: has(left)
    return f"the right image shows {_a(noun)}", lambda left, right: has(right)


def _both(rng: random.Random) -> tuple[str, Holds]:
    noun, has = _kind_of_thing(rng)
    return f"both images show {_a(noun)}", lambda left, right: has(left) and has(right)


def _exactly_one(rng: random.Random) -> tuple[str, Holds]:
    noun, has = _kind_of_thing(rng)
    return f"exactly one image shows {_a(noun)}", lambda left, right: has(left) != has(right)


def _total(rng: random.Random) -> tuple[str, Holds]:
    number = rng.randrange(2, 6)
    return (
        f"there are {_NUMBERS[number - 2]} shapes in total",
        lambda left, right: len(left.things) + len(right.things) == number,
    )


def _more(rng: random.Random) -> tuple[str, Holds]:
    if rng.random() < 0.5:
        return "the left image has more shapes", lambda left, right: len(left.things) > len(right.things)
    return "the right image has more shapes", lambda left, right: len(right.things) > len(left.things)


def _same_ground(rng: random.Random) -> tuple[str, Holds]:
    if rng.random() < 0.5:
        return "the backgrounds are the same", lambda left, right: left.ground == right.ground
    return "the backgrounds differ", lambda left, right: left.ground != right.ground


_KINDS = (_one_side, _one_side, _both, _exactly_one, _total, _more, _same_ground)
