"""BLIP's NLVR2 network: is a statement true of two images? transformers has none.

As `models/blip_nlvr.py` and `models/nlvr_encoder.py` of https://github.com/salesforce/BLIP, with parts of transformers
where they are the same: one vision tower for both images; a text encoder that begins with [ENC] and whose layers, after
self-attention, attend to each image by weights of its own, both asked by the same state; a head over the first token.

The weights have the original's names but for the vision tower, which has transformers' (`vision_model`): see
`_blip_kinds`. Unlike the official evaluation, nothing swaps the images or the words "left" and "right" at random.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BlipConfig, BlipTextConfig, BlipVisionConfig
from transformers.models.blip.modeling_blip import BlipPreTrainedModel, BlipVisionModel
from transformers.models.blip.modeling_blip_text import (
    BlipTextAttention,
    BlipTextEmbeddings,
    BlipTextIntermediate,
    BlipTextOutput,
    BlipTextSelfAttention,
)

from evalkit_adapters._blip_images import ImageTower, attend_images, heads
from evalkit_adapters._blip_itm import apply_head, judged, pad
from evalkit_adapters.blip_inputs import statement_ids, two_images

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.types import FloatArray, MatchRequest
    from evalkit_adapters.blip_inputs import WordPieces

FIRST_MERGED_LAYER: Final = 6
"""Layers before it take the mean of what the two images gave; it and the later ones have a `merge_layer`."""


class TwinOutput(nn.Module):
    """What two images gave, made one: a projection each, mean or merging layer, residual and LayerNorm."""

    def __init__(self, config: BlipTextConfig, *, merges: bool) -> None:
        super().__init__()
        width = config.hidden_size
        self.dense0 = nn.Linear(width, width)
        self.dense1 = nn.Linear(width, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.merge_layer = nn.Linear(2 * width, width) if merges else None

    def forward(self, left: Tensor, right: Tensor, residual: Tensor) -> Tensor:
        """All are (n, tokens, width)."""
        left, right = self.dense0(left), self.dense1(right)
        both = (left + right) / 2 if self.merge_layer is None else self.merge_layer(torch.cat([left, right], dim=-1))
        joined: Tensor = self.LayerNorm(both + residual)
        return joined


class TwinAttention(nn.Module):
    """Cross-attention to two images."""

    def __init__(self, config: BlipTextConfig, *, merges: bool) -> None:
        super().__init__()
        self.self0 = BlipTextSelfAttention(config, is_cross_attention=True)  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        self.self1 = BlipTextSelfAttention(config, is_cross_attention=True)  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        self.output = TwinOutput(config, merges=merges)


class Nlvr2Layer(nn.Module):
    """A text layer."""

    def __init__(self, config: BlipTextConfig, number: int) -> None:
        super().__init__()
        self.attention = BlipTextAttention(config)  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        self.crossattention = TwinAttention(config, merges=number >= FIRST_MERGED_LAYER)
        self.intermediate = BlipTextIntermediate(config)  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        self.output = BlipTextOutput(config)  # type: ignore[no-untyped-call]  # transformers leaves it untyped


class Nlvr2TextEncoder(nn.Module):
    """The text encoder's parameters; `BlipNlvr2Network` computes with them."""

    def __init__(self, config: BlipTextConfig) -> None:
        super().__init__()
        self.embeddings = BlipTextEmbeddings(config)  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        self.encoder = nn.ModuleDict(
            {"layer": nn.ModuleList(Nlvr2Layer(config, number) for number in range(config.num_hidden_layers))}
        )


class BlipForNlvr2(BlipPreTrainedModel):  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    """The network's parameters, saved and loaded as a model of transformers is."""

    def __init__(self, config: BlipConfig) -> None:
        super().__init__(config)
        text, vision = config.text_config, config.vision_config
        if not isinstance(text, BlipTextConfig) or not isinstance(vision, BlipVisionConfig):
            raise TypeError("BlipConfig makes both of its halves")  # tells the type checker
        width = text.hidden_size
        self.vision_model = BlipVisionModel(vision)
        self.text_encoder = Nlvr2TextEncoder(text)
        self.cls_head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
        self.post_init()  # type: ignore[no-untyped-call]  # transformers leaves it untyped


class BlipNlvr2Network:
    """Judges statements about pairs of images.

    Args:
        model: In evaluation mode, on its device.
        word_pieces: The tokenizer.
    """

    def __init__(self, model: BlipForNlvr2, word_pieces: WordPieces) -> None:
        self.model = model
        self._tower = ImageTower(model.vision_model)
        self._word_pieces = word_pieces
        self._positions = model.text_encoder.embeddings.position_embeddings.num_embeddings

    @torch.inference_mode()
    def match(self, requests: Sequence[MatchRequest[FloatArray]]) -> list[FloatArray]:
        """For each request and text the logit of "true", or the log-odds.

        Raises:
            CapabilityError: A request has another number of images than two, or a context.
        """
        pairs = [two_images(request) for request in requests]
        states, rows = self._tower.encode([image for pair in pairs for image in pair])
        owners = [number for number, request in enumerate(requests) for _ in request.texts]
        logits = self.logits(
            states,
            [rows[2 * number] for number in owners],
            [rows[2 * number + 1] for number in owners],
            [statement_ids(text, self._word_pieces, self._positions) for request in requests for text in request.texts],
        )
        parts = torch.split(logits, [len(request.texts) for request in requests])
        return [judged(part, request.scoring) for part, request in zip(parts, requests, strict=True)]

    @torch.inference_mode()
    def logits(
        self, states: Tensor, left: Sequence[int], right: Sequence[int], token_ids: Sequence[Sequence[int]]
    ) -> Tensor:
        """(texts, 2) logits of "false" and "true".

        An image's keys and values are computed once a layer and side for all statements about it.

        Args:
            states: (images, patches + 1, width) of the vision tower.
            left: The row of each text's left image in `states`.
            right: That of its right image.
            token_ids: [ENC] words [SEP] of each text.
        """
        ids, mask = pad(token_ids, states.device)
        visible = mask.bool()[:, None, None, :]
        sides = [_side(states, rows) for rows in (left, right)]
        # by number, since nothing fills the embeddings' own list of positions when a model of ours is loaded
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        hidden = self.model.text_encoder.embeddings(ids, position_ids=positions)
        layers: list[Nlvr2Layer] = list(self.model.text_encoder.encoder["layer"])  # type: ignore[call-overload] # typed as a module
        for layer in layers:
            asking = hidden[:, :1] if layer is layers[-1] else hidden  # the head reads the first position alone
            residual = layer.attention.output(_attend_itself(layer, asking, hidden, visible), asking)
            cross = layer.crossattention
            gave = [
                attend_images(one, residual, images, of_image)
                for one, (images, of_image) in zip((cross.self0, cross.self1), sides, strict=True)
            ]
            residual = cross.output(*gave, residual)
            hidden = layer.output(layer.intermediate(residual), residual)
        first, activation, second = self.model.cls_head
        wide = activation(apply_head(cast("nn.Linear", first), hidden[:, 0]))
        return apply_head(cast("nn.Linear", second), wide)


def _side(states: Tensor, rows: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    """The states of the images that stand on one side, and the texts of each."""
    used = sorted(set(rows))
    numbers = torch.tensor(rows)
    return states[used], [(numbers == row).nonzero()[:, 0].to(states.device) for row in used]


def _attend_itself(layer: Nlvr2Layer, asking: Tensor, hidden: Tensor, visible: Tensor) -> Tensor:
    attention = layer.attention.self
    queries, keys, values = (
        heads(project(rows), attention.num_attention_heads)
        for project, rows in ((attention.query, asking), (attention.key, hidden), (attention.value, hidden))
    )
    context = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=visible)
    return context.transpose(1, 2).flatten(2)
