"""Scenes: which things lie where, on which ground.

A scene is drawn from a generator of its own, named by seed, split and number, so that any part of the world can be made
alone, in any order and by any number of processes.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Literal

Domain = Literal["in", "near", "out"]
"""As in nocaps: only common kinds of things, one new kind among common ones, or only new kinds."""
Part = Literal["train", "test"]
Relation = Literal["left of", "right of", "above", "below"]

SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
NEW_SHAPES = ("heart", "ring")
COLORS = ("red", "green", "blue", "yellow", "purple", "orange")
NEW_COLORS = ("pink", "brown")
SIZES = ("small", "large")
GROUNDS = ("white", "gray", "black", "striped")
OPPOSITE: dict[Relation, Relation] = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
}
GRID = 3
"""Things lie in the cells of a square of so many columns and rows, one a cell."""
_TEST_SHARE = 8
"""One of so many scenes belongs to the test part, by a digest of what it shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One colored shape."""

    shape: str
    color: str
    size: str
    column: int
    row: int

    @property
    def noun(self) -> str:
        """`red circle`."""
        return f"{self.color} {self.shape}"

    def relation_to(self, other: Thing) -> Relation:
        """Where it lies, seen from another thing: along the axis on which they are farther apart, else sideways."""
        across, down = self.column - other.column, self.row - other.row
        if abs(across) >= abs(down):
            return "left of" if across < 0 else "right of"
        return "above" if down < 0 else "below"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Things on a ground; no two are of the same color and shape."""

    ground: str
    things: tuple[Thing, ...]
    """In the order of cells, row by row."""
    jitter: int
    """Moves the pixels a little and nothing else."""

    @property
    def part(self) -> Part:
        """Training and test never share a scene: what it shows decides which one it is of."""
        shown = repr((self.ground, self.things)).encode()
        return "test" if hashlib.sha256(shown).digest()[0] % _TEST_SHARE == 0 else "train"


def generator(seed: int, *names: str | int) -> random.Random:
    """A generator that depends on its names alone, alike on every machine."""
    return random.Random("/".join(map(str, (seed, *names))))


def sample_scene(rng: random.Random, part: Part, domain: Domain = "in") -> Scene:
    """A scene of a part of the world: one thing in five, else two, else (one in five) three."""
    while True:
        scene = _any_scene(rng, domain)
        if scene.part == part:
            return scene


def _any_scene(rng: random.Random, domain: Domain) -> Scene:
    count = rng.choice((1, 2, 2, 2, 3))
    cells = sorted(rng.sample(range(GRID * GRID), count))
    new = set(range(count)) if domain == "out" else {rng.randrange(count)} if domain == "near" else set()
    kinds: list[tuple[str, str]] = []
    for place in range(count):
        kind = _kind(rng, place in new)
        while kind in kinds:
            kind = _kind(rng, place in new)
        kinds.append(kind)
    return Scene(
        ground=rng.choice(GROUNDS),
        things=tuple(
            Thing(shape=shape, color=color, size=rng.choice(SIZES), column=cell % GRID, row=cell // GRID)
            for (shape, color), cell in zip(kinds, cells, strict=True)
        ),
        jitter=rng.randrange(1 << 30),
    )


def _kind(rng: random.Random, new: bool) -> tuple[str, str]:
    """Shape and color; of a new kind, one of them or both are new."""
    if not new:
        return rng.choice(SHAPES), rng.choice(COLORS)
    which = rng.choice(("shape", "color", "both"))
    shape = rng.choice(SHAPES if which == "color" else NEW_SHAPES)
    color = rng.choice(COLORS if which == "shape" else NEW_COLORS)
    return shape, color
