"""BLIP's formulas over a plain dictionary of weights, one text and one image at a time, for the tests to compare with.

No module of transformers or of evalkit takes part: only matrix products, softmax and the like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]
HEADS = 4
"""Of the tiny networks."""
PATCH = 8


def linear(weights: Weights, name: str, rows: Tensor) -> Tensor:
    return rows @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def norm(weights: Weights, name: str, rows: Tensor, eps: float) -> Tensor:
    centered = rows - rows.mean(dim=-1, keepdim=True)
    variance = (centered**2).mean(dim=-1, keepdim=True)
    return centered / (variance + eps).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def gelu(rows: Tensor) -> Tensor:
    return rows * 0.5 * (1 + torch.erf(rows / 2**0.5))


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Multi-head attention of (m, width) to (n, width), head by head."""
    size = queries.shape[1] // HEADS
    heads = []
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        odds = queries[:, part] @ keys[:, part].T / size**0.5
        heads.append(odds.softmax(dim=-1) @ values[:, part])
    return torch.cat(heads, dim=1)


def attend_by(weights: Weights, name: str, asking: Tensor, asked: Tensor) -> Tensor:
    return attend(
        linear(weights, f"{name}.query", asking),
        linear(weights, f"{name}.key", asked),
        linear(weights, f"{name}.value", asked),
    )


def image_states(weights: Weights, image: Tensor, layers: int) -> Tensor:
    """(patches + 1, width) of the (3, size, size) pixels."""
    kernel = weights["vision_model.embeddings.patch_embedding.weight"]
    count = image.shape[1] // PATCH
    patches = [
        (kernel * image[:, PATCH * row : PATCH * (row + 1), PATCH * column : PATCH * (column + 1)]).sum(dim=(1, 2, 3))
        for row in range(count)
        for column in range(count)
    ]
    rows = torch.stack(patches) + weights["vision_model.embeddings.patch_embedding.bias"]
    hidden = torch.cat([weights["vision_model.embeddings.class_embedding"][0], rows])
    hidden = hidden + weights["vision_model.embeddings.position_embedding"][0]
    for number in range(layers):
        name = f"vision_model.encoder.layers.{number}"
        queries, keys, values = linear(
            weights, f"{name}.self_attn.qkv", norm(weights, f"{name}.layer_norm1", hidden, 1e-6)
        ).chunk(3, dim=1)
        hidden = hidden + linear(weights, f"{name}.self_attn.projection", attend(queries, keys, values))
        inner = gelu(linear(weights, f"{name}.mlp.fc1", norm(weights, f"{name}.layer_norm2", hidden, 1e-6)))
        hidden = hidden + linear(weights, f"{name}.mlp.fc2", inner)
    return norm(weights, "vision_model.post_layernorm", hidden, 1e-6)


def embed(weights: Weights, token_ids: Sequence[int]) -> Tensor:
    words = weights["text_encoder.embeddings.word_embeddings.weight"][list(token_ids)]
    places = weights["text_encoder.embeddings.position_embeddings.weight"][: len(token_ids)]
    return norm(weights, "text_encoder.embeddings.LayerNorm", words + places, 1e-12)


def attend_itself(weights: Weights, name: str, hidden: Tensor) -> Tensor:
    context = attend_by(weights, f"{name}.attention.self", hidden, hidden)
    projected = linear(weights, f"{name}.attention.output.dense", context)
    return norm(weights, f"{name}.attention.output.LayerNorm", projected + hidden, 1e-12)


def feed_forward(weights: Weights, name: str, hidden: Tensor) -> Tensor:
    inner = gelu(linear(weights, f"{name}.intermediate.dense", hidden))
    return norm(weights, f"{name}.output.LayerNorm", linear(weights, f"{name}.output.dense", inner) + hidden, 1e-12)
