"""What people would write about a scene: captions in several wordings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.demo.world.scenes import OPPOSITE

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from evalkit.demo.world.scenes import Scene, Thing

CAPTIONS = 5
"""A picture, as in COCO."""
_ROWS = ("top", "middle", "bottom")
_COLUMNS = ("left", "center", "right")


def captions(scene: Scene, rng: random.Random, count: int = CAPTIONS) -> tuple[str, ...]:
    """Different true captions of a scene, each in a wording of its own; beyond seven, wordings come again."""
    writers = _WRITERS[len(scene.things)]
    chosen = [*rng.sample(writers, min(count, len(writers))), *rng.choices(writers, k=max(0, count - len(writers)))]
    return tuple(write(scene) for write in chosen)


def place_of(thing: Thing) -> str:
    """`top left`, `center`, `middle right`."""
    row, column = _ROWS[thing.row], _COLUMNS[thing.column]
    return "center" if (row, column) == ("middle", "center") else f"{row} {column}"


def described(thing: Thing) -> str:
    """`a small red circle`."""
    return f"a {thing.size} {thing.noun}"


def short(thing: Thing) -> str:
    """`a red circle`, `an orange star`."""
    return f"{'an' if thing.color == 'orange' else 'a'} {thing.noun}"


def ground_of(scene: Scene) -> str:
    """`a gray background`."""
    return f"a {scene.ground} background"


def _related(first: Thing, second: Thing) -> str:
    relation = first.relation_to(second)
    return f"to the {relation}" if relation in ("left of", "right of") else relation


_OF_ONE: tuple[Callable[[Scene], str], ...] = (
    lambda scene: f"{described(scene.things[0])} on {ground_of(scene)}",
    lambda scene: f"{described(scene.things[0])} in the {place_of(scene.things[0])} of {ground_of(scene)}",
    lambda scene: f"there is {short(scene.things[0])} in the {place_of(scene.things[0])}",
    lambda scene: f"a picture of {described(scene.things[0])}",
    lambda scene: f"one {scene.things[0].size} {scene.things[0].noun} on {ground_of(scene)}",
    lambda scene: f"{short(scene.things[0])} alone on {ground_of(scene)}",
    lambda scene: f"{ground_of(scene)} with {described(scene.things[0])} in the {place_of(scene.things[0])}",
)
_OF_TWO: tuple[Callable[[Scene], str], ...] = (
    lambda scene: f"{described(scene.things[0])} {_between(scene)} {described(scene.things[1])} on {ground_of(scene)}",
    lambda scene: f"{described(scene.things[1])} {_back(scene)} {described(scene.things[0])} on {ground_of(scene)}",
    lambda scene: f"{short(scene.things[0])} {_between(scene)} {short(scene.things[1])}",
    lambda scene: f"there is {short(scene.things[1])} {_back(scene)} {short(scene.things[0])} on {ground_of(scene)}",
    lambda scene: f"{described(scene.things[0])} and {described(scene.things[1])} on {ground_of(scene)}",
    lambda scene: f"a picture of {described(scene.things[1])} {_back(scene)} {described(scene.things[0])}",
    lambda scene: (
        f"{ground_of(scene)} with {described(scene.things[0])} in the {place_of(scene.things[0])}"
        f" and {described(scene.things[1])} in the {place_of(scene.things[1])}"
    ),
)
_OF_THREE: tuple[Callable[[Scene], str], ...] = (
    lambda scene: f"{_listed(scene, (0, 1, 2))} on {ground_of(scene)}",
    lambda scene: f"{_listed(scene, (2, 0, 1))} on {ground_of(scene)}",
    lambda scene: (
        f"{short(scene.things[0])} {_between(scene)} {short(scene.things[1])} and {described(scene.things[2])}"
        f" on {ground_of(scene)}"
    ),
    lambda scene: f"there are three shapes: {_listed(scene, (1, 2, 0))}",
    lambda scene: f"a picture of {_listed(scene, (0, 2, 1))}",
    lambda scene: f"{ground_of(scene)} with {_listed(scene, (1, 0, 2))}",
    lambda scene: (
        f"{described(scene.things[2])} in the {place_of(scene.things[2])} with {short(scene.things[0])}"
        f" {_between(scene)} {short(scene.things[1])}"
    ),
)


_WRITERS = {1: _OF_ONE, 2: _OF_TWO, 3: _OF_THREE}


def _between(scene: Scene) -> str:
    return _related(scene.things[0], scene.things[1])


def _back(scene: Scene) -> str:
    relation = OPPOSITE[scene.things[0].relation_to(scene.things[1])]
    return f"to the {relation}" if relation in ("left of", "right of") else relation


def _listed(scene: Scene, order: tuple[int, int, int]) -> str:
    first, second, third = (described(scene.things[place]) for place in order)
    return f"{first}, {second} and {third}"
