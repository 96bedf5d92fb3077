"""Scenes as pixels."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from evalkit.demo.world.scenes import GRID

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

    from evalkit.demo.world.scenes import Scene, Thing

SIDE = 48
"""Pixels: sixteen a cell, so that a network with patches of sixteen sees a cell as one patch."""
_OVERSAMPLING = 4
"""Drawn larger and reduced, which smooths the edges."""
_RGB = {
    "red": (220, 38, 38),
    "green": (34, 160, 70),
    "blue": (37, 82, 220),
    "yellow": (240, 205, 30),
    "purple": (140, 60, 190),
    "orange": (240, 130, 20),
    "pink": (245, 140, 190),
    "brown": (125, 75, 35),
}
_GROUNDS = {"white": (246, 246, 246), "gray": (150, 150, 150), "black": (28, 28, 28), "striped": (246, 246, 246)}
_STRIPE = (200, 200, 200)
_RADIUS = {"small": 0.3, "large": 0.46}
"""Of a cell's side."""
_JITTER = 0.05
"""As a share of a cell's side, either way."""


def draw(scene: Scene) -> Image:
    """The picture of a scene: (48, 48) RGB."""
    from PIL import Image, ImageDraw

    side = SIDE * _OVERSAMPLING
    rng = random.Random(scene.jitter)
    image = Image.new("RGB", (side, side), _shaded(_GROUNDS[scene.ground], rng))
    canvas = ImageDraw.Draw(image)
    if scene.ground == "striped":
        width = side // 16
        for top in range(rng.randrange(width), side, 2 * width):
            canvas.rectangle((0, top, side, top + width - 1), fill=_STRIPE)
    for thing in scene.things:
        _draw_thing(canvas, thing, side / GRID, rng)
    return image.resize((SIDE, SIDE), Image.Resampling.BOX)


def _shaded(color: tuple[int, int, int], rng: random.Random) -> tuple[int, int, int]:
    """A color a little lighter or darker."""
    shift = rng.randint(-8, 8)
    red, green, blue = (min(255, max(0, value + shift)) for value in color)
    return red, green, blue


def _draw_thing(canvas: ImageDraw, thing: Thing, cell: float, rng: random.Random) -> None:
    x = (thing.column + 0.5 + rng.uniform(-_JITTER, _JITTER)) * cell
    y = (thing.row + 0.5 + rng.uniform(-_JITTER, _JITTER)) * cell
    radius = _RADIUS[thing.size] * cell * rng.uniform(0.94, 1.06)
    color = _shaded(_RGB[thing.color], rng)
    if thing.shape == "circle":
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
    elif thing.shape == "ring":
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), outline=color, width=round(radius * 0.45))
    else:
        canvas.polygon([(x + radius * across, y + radius * down) for across, down in _outline(thing.shape)], fill=color)


def _outline(shape: str) -> list[tuple[float, float]]:
    """Corners around (0, 0), within a radius of about 1; y grows downwards."""
    if shape == "square":
        return [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]
    if shape == "triangle":
        return _corners(3)
    if shape == "diamond":
        return [(0.0, -1.0), (0.65, 0.0), (0.0, 1.0), (-0.65, 0.0)]
    if shape == "star":
        return [
            (length * across, length * down)
            for place, (across, down) in enumerate(_corners(10))
            for length in (1.0 if place % 2 == 0 else 0.42,)
        ]
    if shape == "cross":
        arm = 0.34
        return [
            *((-arm, -1.0), (arm, -1.0), (arm, -arm), (1.0, -arm), (1.0, arm), (arm, arm)),
            *((arm, 1.0), (-arm, 1.0), (-arm, arm), (-1.0, arm), (-1.0, -arm), (-arm, -arm)),
        ]
    return [_on_heart(2 * math.pi * step / 40) for step in range(40)]


def _corners(count: int) -> list[tuple[float, float]]:
    """Of a regular polygon, the first on top."""
    turns = [2 * math.pi * place / count - math.pi / 2 for place in range(count)]
    return [(math.cos(turn), math.sin(turn)) for turn in turns]


def _on_heart(turn: float) -> tuple[float, float]:
    down = 13 * math.cos(turn) - 5 * math.cos(2 * turn) - 2 * math.cos(3 * turn) - math.cos(4 * turn)
    return 16 * math.sin(turn) ** 3 / 16.5, -down / 16.5
