"""The vision tower, taught first to read a picture: what lies in each cell, and on which ground.

All miniatures begin with these eyes. It is cheap, since every picture has 28 labels, where a caption has one; without
it, most of the time would go into learning to see.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BlipVisionConfig, CLIPVisionConfig
from transformers.models.blip.modeling_blip import BlipVisionModel
from transformers.models.clip.modeling_clip import CLIPVisionModel

from evalkit.demo.world.pictures import SIDE
from evalkit.demo.world.scenes import GRID, GROUNDS
from tools.minis.material import ASPECTS, cells, grounds
from tools.minis.training import Schedule

if TYPE_CHECKING:
    import random

    from tools.minis.material import Material

WIDTH: Final = 96
SIZES: Final[dict[str, Any]] = {
    "hidden_size": WIDTH,
    "intermediate_size": 4 * WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "initializer_range": 0.05,
}
"""Of every tower."""
PICTURE: Final[dict[str, Any]] = {"image_size": SIDE, "patch_size": SIDE // GRID}
BATCH: Final = 128
SCHEDULE: Final = Schedule(steps=1500, rate=2e-3)
CLIP_SCHEDULE: Final = Schedule(steps=500, rate=1e-3)


class Reader(nn.Module):
    """A tower with readouts: each cell from its patch, and the whole picture from the first token."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower
        self.cell = nn.Linear(WIDTH, sum(ASPECTS))
        self.whole = nn.Linear(WIDTH, GRID * GRID * sum(ASPECTS) + len(GROUNDS))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n, cells, aspects) from patches, the same from the first token, and (n, grounds)."""
        states = self.tower(pixel_values=pixels).last_hidden_state
        whole, ground = self.whole(states[:, 0]).split([GRID * GRID * sum(ASPECTS), len(GROUNDS)], -1)
        return self.cell(states[:, 1:]), whole.view(len(pixels), GRID * GRID, -1), ground


def blip_eyes() -> Reader:
    """BLIP's tower."""
    return Reader(BlipVisionModel(BlipVisionConfig(**SIZES, **PICTURE, layer_norm_eps=1e-6)))


def clip_eyes() -> Reader:
    """CLIP's tower."""
    return Reader(CLIPVisionModel(CLIPVisionConfig(**SIZES, **PICTURE, hidden_act="gelu")))


class ReadingLoss:
    """Cross-entropy of all readouts."""

    def __init__(self, material: Material) -> None:
        self._material = material

    def __call__(self, model: nn.Module, rng: random.Random) -> tuple[Tensor, str]:
        """See `Loss`."""
        numbers = rng.choices(range(len(self._material.scenes)), k=BATCH)
        scenes = [self._material.scenes[number] for number in numbers]
        truth, ground = cells(scenes), grounds(scenes)
        from_patches, from_first, seen_ground = model(self._material.pictures(numbers))
        loss = functional.cross_entropy(seen_ground, ground)
        right = torch.ones(len(scenes), dtype=torch.bool)
        for read in (from_patches, from_first):
            for aspect, logits in enumerate(read.split(ASPECTS, -1)):
                loss = loss + functional.cross_entropy(logits.flatten(0, 1), truth[..., aspect].flatten())
                right &= (logits.argmax(-1) == truth[..., aspect]).all(1)
        return loss, f"read without a mistake: {right.float().mean():.2f}"


def to_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of BLIP's tower under the names of CLIP's, which has one LayerNorm more."""
    new = {}
    for name, tensor in state.items():
        if ".self_attn.qkv." in name:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                new[name.replace(".qkv.", f".{part}_proj.")] = piece
        elif name == "embeddings.class_embedding":
            new[name] = tensor.flatten()
        elif name == "embeddings.position_embedding":
            new["embeddings.position_embedding.weight"] = tensor[0]
        elif name != "embeddings.patch_embedding.bias":
            new[name.replace(".self_attn.projection.", ".self_attn.out_proj.")] = tensor
    # CLIP's patches have no bias: the positions of patches take it over
    new["embeddings.position_embedding.weight"] = new["embeddings.position_embedding.weight"].clone()
    new["embeddings.position_embedding.weight"][1:] += state["embeddings.patch_embedding.bias"]
    return new
