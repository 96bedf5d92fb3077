"""CLIP: pictures and captions of one batch find each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel

from evalkit.demo.world.captions import captions
from tools.minis.eyes import PICTURE, SIZES
from tools.minis.training import Schedule
from tools.minis.words import clip_tokenizer

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from tools.minis.material import Material

BATCH: Final = 192
SCHEDULE: Final = Schedule(steps=1000, rate=1.5e-3, slower=("vision_model.",))
WORDINGS: Final = 7
"""Of a scene: see `evalkit.demo.world.captions`."""


def build(eyes: dict[str, Tensor]) -> CLIPModel:
    """The model, its vision tower trained before."""
    tokenizer = clip_tokenizer()
    end = tokenizer.eos_token_id
    marks = {"eos_token_id": end, "bos_token_id": tokenizer.bos_token_id, "pad_token_id": end}
    towers = {**SIZES, "hidden_act": "gelu", "projection_dim": 64}
    config = CLIPConfig(
        text_config={**towers, **marks, "vocab_size": len(tokenizer), "max_position_embeddings": 77},
        vision_config={**towers, **PICTURE},
        projection_dim=64,
    )
    model = CLIPModel(config)
    model.vision_model.load_state_dict(eyes)
    return model


class ContrastiveLoss:
    """Cross-entropy over the batch, both ways; captions that are true of another picture are left out."""

    def __init__(self, material: Material) -> None:
        self._material = material
        self._tokenizer = clip_tokenizer()

    def __call__(self, model: nn.Module, rng: random.Random) -> tuple[Tensor, str]:
        """See `Loss`."""
        numbers = rng.choices(range(len(self._material.scenes)), k=BATCH)
        scenes = [self._material.scenes[number] for number in numbers]
        told = [captions(scene, rng, WORDINGS) for scene in scenes]
        texts = [rng.choice(each) for each in told]
        tokens = self._tokenizer(texts, padding="longest", return_tensors="pt")
        found = model(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            pixel_values=self._material.pictures(numbers),
        )
        logits = found.logits_per_image.masked_fill(also_true(told, texts), -torch.inf)
        truth = torch.arange(len(numbers))
        loss = (functional.cross_entropy(logits, truth) + functional.cross_entropy(logits.T, truth)) / 2
        return loss, f"found: {(logits.argmax(1) == truth).float().mean():.2f}"


def also_true(told: Sequence[Sequence[str]], texts: Sequence[str]) -> Tensor:
    """(pictures, texts) bool: a text of another picture that is true of this one as well."""
    known = [set(each) for each in told]
    rows = [[text in each for text in texts] for each in known]
    return torch.tensor(rows) & ~torch.eye(len(texts), dtype=torch.bool)
