"""Scenes that differ in one thing only: their captions are what a matcher must tell apart."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from evalkit.demo.world.captions import captions
from evalkit.demo.world.scenes import COLORS, GRID, GROUNDS, SHAPES, SIZES, Scene, Thing

if TYPE_CHECKING:
    import random

WORDINGS: Final = 7
"""Of a scene: see `evalkit.demo.world.captions`."""


def untrue_caption(scene: Scene, told: frozenset[str], rng: random.Random) -> str:
    """A caption of a scene that is almost this one, and not true of this one.

    Args:
        scene: The scene.
        told: Every caption of it.
        rng: Chooses what is different.
    """
    while True:
        text = rng.choice(captions(_changed(scene, rng), rng, WORDINGS))
        if text not in told:
            return text


def _changed(scene: Scene, rng: random.Random) -> Scene:
    kind = rng.choice(("color", "shape", "size", "place", "swap", "ground"))
    things = list(scene.things)
    chosen = rng.randrange(len(things))
    thing = things[chosen]
    if kind == "ground":
        return replace(scene, ground=rng.choice([one for one in GROUNDS if one != scene.ground]))
    if kind == "swap" and len(things) > 1:
        other = rng.choice([place for place in range(len(things)) if place != chosen])
        names = rng.choice((("color",), ("shape",), ("size",), ("color", "shape", "size")))
        mine, theirs = ({name: getattr(things[place], name) for name in names} for place in (chosen, other))
        things[chosen], things[other] = _with(thing, theirs), _with(things[other], mine)
    elif kind in ("place", "swap"):
        free = [cell for cell in range(GRID * GRID) if all(one.row * GRID + one.column != cell for one in things)]
        cell = rng.choice(free)
        things[chosen] = replace(thing, column=cell % GRID, row=cell // GRID)
        things.sort(key=lambda one: (one.row, one.column))
    else:
        values = {"color": COLORS, "shape": SHAPES, "size": SIZES}[kind]
        things[chosen] = _with(thing, {kind: rng.choice([one for one in values if one != getattr(thing, kind)])})
    return replace(scene, things=tuple(things))


def _with(thing: Thing, words: dict[str, str]) -> Thing:
    return replace(
        thing,
        shape=words.get("shape", thing.shape),
        color=words.get("color", thing.color),
        size=words.get("size", thing.size),
    )
