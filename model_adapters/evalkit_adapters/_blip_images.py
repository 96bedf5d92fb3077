"""BLIP's image tower, which sees each image once, and texts attending to its images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import BlipVisionModel
    from transformers.models.blip.modeling_blip_text import BlipTextSelfAttention

    from evalkit.types import FloatArray


class ImageTower:
    """Encodes images, and remembers the last one: the next batch often begins with it.

    Args:
        model: transformers' vision model, in evaluation mode, on its device.
    """

    def __init__(self, model: BlipVisionModel) -> None:
        self.model = model
        self._latest: tuple[FloatArray, Tensor] | None = None

    def encode(self, images: Sequence[FloatArray]) -> tuple[Tensor, list[int]]:
        """Encode what is not the same object as another one.

        Returns:
            (distinct images, patches + 1, width) last hidden states, and for each image its row of them.
        """
        distinct: dict[int, FloatArray] = {id(image): image for image in images}
        row_of = {key: row for row, key in enumerate(distinct)}
        known = self._latest if self._latest is not None and id(self._latest[0]) in distinct else None
        new = [image for image in distinct.values() if known is None or image is not known[0]]
        rows: dict[int, Tensor] = {} if known is None else {id(known[0]): known[1]}
        if new:
            pixels = torch.from_numpy(np.stack(new)).to(self.model.device, self.model.dtype)
            # not pooler_output: transformers applies the last LayerNorm twice there
            encoded: Tensor = self.model(pixel_values=pixels).last_hidden_state
            rows |= {id(image): states for image, states in zip(new, encoded, strict=True)}
        # a copy, so that the whole batch is not kept for the sake of one image
        self._latest = (images[-1], rows[id(images[-1])].clone())
        return torch.stack([rows[key] for key in distinct]), [row_of[id(image)] for image in images]


def attend_images(
    attention: BlipTextSelfAttention, hidden: Tensor, states: Tensor, of_image: Sequence[Tensor]
) -> Tensor:
    """Cross-attention of each image's texts, as one long query sequence: (n, tokens, width).

    Args:
        attention: The cross-attention.
        hidden: (n, tokens, width) of the texts.
        states: (images, patches + 1, width).
        of_image: The numbers of each image's texts; every text is in one of them.
    """
    keys, values = (
        heads(project(states), attention.num_attention_heads) for project in (attention.key, attention.value)
    )
    queries = attention.query(hidden)
    context = torch.empty_like(queries)
    for image, texts in enumerate(of_image):
        rows = heads(queries[texts].flatten(0, 1)[None], attention.num_attention_heads)
        attended = functional.scaled_dot_product_attention(rows, keys[image, None], values[image, None])
        context[texts] = attended.transpose(1, 2).reshape(len(texts), *queries.shape[1:])
    return context


def heads(rows: Tensor, count: int) -> Tensor:
    """(n, tokens, width) to (n, heads, tokens, head size), a view."""
    return rows.view(*rows.shape[:2], count, -1).transpose(1, 2)
