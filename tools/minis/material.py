"""What is trained on: scenes of the world's training part, drawn once and kept on disk as one tensor of bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from evalkit.demo.world.pictures import SIDE, draw
from evalkit.demo.world.scenes import COLORS, GRID, GROUNDS, SHAPES, SIZES, Scene, generator, sample_scene

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
STD: Final = (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP, BLIP, BLIP-2 and LLaVA alike."""
ASPECTS: Final = (1 + len(SHAPES), 1 + len(COLORS), 1 + len(SIZES))
"""What a cell can be, by shape, color and size; 0 is an empty cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Scenes and their pictures."""

    scenes: tuple[Scene, ...]
    pixels: Tensor
    """(scenes, 3, side, side) uint8."""

    def pictures(self, numbers: Sequence[int]) -> Tensor:
        """(n, 3, side, side) float32, normalized as the models' processors do."""
        bytes_ = self.pixels[torch.tensor(numbers)].float() / 255
        return (bytes_ - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def gather(work: Path, count: int, seed: int) -> Material:
    """The first scenes of the training part; pictures are read from `work` where an earlier run left them."""
    scenes = tuple(sample_scene(generator(seed, "train", "mini", number), "train") for number in range(count))
    file = work / f"pictures-{seed}-{count}-{SIDE}.npy"
    if not file.is_file():
        work.mkdir(parents=True, exist_ok=True)
        drawn = np.stack([np.asarray(draw(scene)) for scene in scenes]).transpose(0, 3, 1, 2)
        unfinished = file.with_suffix(".part.npy")
        np.save(unfinished, np.ascontiguousarray(drawn))
        unfinished.replace(file)
    return Material(scenes=scenes, pixels=torch.from_numpy(np.load(file)))


def cells(scenes: Sequence[Scene]) -> Tensor:
    """(n, cells, 3): what lies in each cell, by shape, color and size; see `ASPECTS`."""
    found = torch.zeros(len(scenes), GRID * GRID, len(ASPECTS), dtype=torch.long)
    for row, scene in enumerate(scenes):
        for thing in scene.things:
            aspects = (SHAPES.index(thing.shape), COLORS.index(thing.color), SIZES.index(thing.size))
            found[row, thing.row * GRID + thing.column] = 1 + torch.tensor(aspects)
    return found


def grounds(scenes: Sequence[Scene]) -> Tensor:
    """(n,) numbers of the backgrounds."""
    return torch.tensor([GROUNDS.index(scene.ground) for scene in scenes])
