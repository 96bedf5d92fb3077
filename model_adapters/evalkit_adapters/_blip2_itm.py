"""BLIP-2's image-text matcher: image-major and without padding, with transformers' own layers beside it as reference.

The usual way repeats an image's states for every text, computes their keys and values again for every pair, and pads
texts to 35 tokens of which 13 or so are real. Here the keys and values of the six layers that look at the image are
computed once for an image and all its texts (25 MB at 364 pixels in float32); the queries of all texts are one long
sequence for the cross-attention; texts of one length go through self-attention together; and since only the queries are
scored, the last layer computes only those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import Blip2ForImageTextRetrieval

    TokenIds = Sequence[int]

MatchScoring: TypeAlias = Literal["logit", "log_odds"]
"""See `MatchRequest.scoring`."""

CPU_CHUNK_TOKENS: Final = 2048
"""Queries and words that go through the layers together; a processor gains nothing from more."""
ACCELERATOR_CHUNK_TOKENS: Final = 32_768


def pad(token_ids: Sequence[TokenIds], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, both (n, longest), padded on the right with 0, which is [PAD]."""
    longest = max(map(len, token_ids))
    ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in token_ids], device=device)
    lengths = torch.tensor([len(text) for text in token_ids], device=device)
    return ids, (torch.arange(longest, device=device) < lengths[:, None]).long()


def match_plain(model: Blip2ForImageTextRetrieval, states: Tensor, token_ids: Sequence[TokenIds]) -> Tensor:
    """The matching logits by transformers' own Q-Former: states repeated, texts padded. The reference of the tests.

    Args:
        model: The retrieval model.
        states: (patches + 1, width): the vision tower's last hidden state of one image.
        token_ids: [CLS] words [SEP] of each text.

    Returns:
        (n, 2) logits, class 1 is "match": the mean over the queries.
    """
    ids, mask = pad(token_ids, states.device)
    queries = model.query_tokens.expand(len(ids), -1, -1)
    hidden = model.qformer(
        query_embeds=model.embeddings(input_ids=ids, query_embeds=queries),
        query_length=queries.shape[1],
        attention_mask=torch.cat([mask.new_ones(queries.shape[:2]), mask], dim=1),
        encoder_hidden_states=states.expand(len(ids), -1, -1),
    ).last_hidden_state
    logits: Tensor = model.itm_head(hidden[:, : queries.shape[1]].to(model.itm_head.weight.dtype)).mean(dim=1)
    return logits


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageKeys:
    """What an image contributes to the matching of any text."""

    layers: tuple[tuple[Tensor, Tensor] | None, ...]
    """Keys and values, (heads, patches + 1, head size) each, of every layer that looks at the image."""


class PackedMatcher:
    """Scores many texts against one image.

    Args:
        model: The retrieval model, in evaluation mode.
        chunk_tokens: Queries and words that go through the layers together; default by device.
        pad_groups: Whether texts of different lengths go together, padded and masked; default by device, since a CPU
            prefers exact lengths and an accelerator few calls.
    """

    def __init__(
        self, model: Blip2ForImageTextRetrieval, *, chunk_tokens: int | None = None, pad_groups: bool | None = None
    ) -> None:
        self._model = model
        self._layers: list[Any] = list(model.qformer.encoder.layer)  # typed as modules, whose attributes are anything
        self._queries = model.query_tokens.shape[1]
        on_cpu = model.device.type == "cpu"
        self._chunk_tokens = chunk_tokens or (CPU_CHUNK_TOKENS if on_cpu else ACCELERATOR_CHUNK_TOKENS)
        self._pad_groups = not on_cpu if pad_groups is None else pad_groups

    def image_keys(self, states: Tensor) -> ImageKeys:
        """The keys and values of one image.

        Args:
            states: (patches + 1, width): the vision tower's last hidden state.
        """
        # transformers keeps the Q-Former in float32 where the rest runs in float16
        states = states.to(self._model.qformer.layernorm.weight.dtype)
        layers: list[tuple[Tensor, Tensor] | None] = []
        for layer in self._layers:
            if layer.has_cross_attention:
                cross = layer.crossattention.attention
                layers.append((_heads(cross.key(states), cross), _heads(cross.value(states), cross)))
            else:
                layers.append(None)
        return ImageKeys(layers=tuple(layers))

    def match(self, image: ImageKeys, token_ids: Sequence[TokenIds], scoring: MatchScoring = "logit") -> Tensor:
        """Class 1 of `match_plain`, to rounding, or class 1 minus class 0: (n,) float32."""
        scores = torch.empty(len(token_ids), device=self._model.device)
        head = self._model.itm_head
        weight, bias = head.weight.float(), head.bias.float()
        if scoring == "log_odds":
            weight, bias = weight - weight[:1], bias - bias[:1]
        for part in self._chunks(token_ids):
            state = self._mean_state(image, [token_ids[number] for number in part])
            # the mean over the queries of a linear head is the head of the mean
            scored = functional.linear(state, weight[1:], bias[1:])[:, 0]
            scores[torch.tensor(part, device=scores.device)] = scored
        return scores

    def _chunks(self, token_ids: Sequence[TokenIds]) -> Iterator[list[int]]:
        """Numbers of texts that go together: of one length, or at least of neighbouring lengths."""
        part: list[int] = []
        for number in sorted(range(len(token_ids)), key=lambda number: len(token_ids[number])):
            length = len(token_ids[number])
            full = (len(part) + 1) * (self._queries + length) > self._chunk_tokens
            if part and (full or (not self._pad_groups and length != len(token_ids[part[0]]))):
                yield part
                part = []
            part.append(number)
        if part:
            yield part

    def _mean_state(self, image: ImageKeys, token_ids: Sequence[TokenIds]) -> Tensor:
        """(texts, width): the mean over the queries of what the last layer gives, in float32: little of it is left."""
        model, count = self._model, self._queries
        ids, mask = pad(token_ids, model.device)
        embedded = model.embeddings(input_ids=ids, query_embeds=model.query_tokens.expand(len(ids), -1, -1))
        hidden = model.qformer.layernorm(embedded.to(model.qformer.layernorm.weight.dtype))
        seen = None
        if len({len(text) for text in token_ids}) > 1:
            seen = torch.cat([mask.new_ones(len(ids), count), mask], dim=1).bool()[:, None, None, :]
        for layer, keys_values in zip(self._layers, image.layers, strict=True):
            hidden = _layer(layer, hidden, keys_values, seen, count, last=layer is self._layers[-1])
        mean: Tensor = hidden.float().mean(dim=1)
        return mean


def _layer(
    layer: Any, hidden: Tensor, image: tuple[Tensor, Tensor] | None, seen: Tensor | None, queries: int, *, last: bool
) -> Tensor:
    """One layer: (texts, queries + words, width) to the same, or to (texts, queries, width) in the last."""
    asking = hidden[:, :queries] if last else hidden
    own = layer.attention.attention
    context = functional.scaled_dot_product_attention(
        _blocks(own.query(asking), own), _blocks(own.key(hidden), own), _blocks(own.value(hidden), own), attn_mask=seen
    )
    attended = layer.attention.output(context.transpose(1, 2).flatten(2), asking)
    by_query: Tensor = attended[:, :queries]
    if image is not None:
        cross = layer.crossattention.attention
        rows = _heads(cross.query(by_query).flatten(0, 1), cross)  # the queries of all texts, as one sequence
        context = functional.scaled_dot_product_attention(rows[None], image[0][None], image[1][None])[0]
        by_query = layer.crossattention.output(context.transpose(0, 1).flatten(1).view(by_query.shape), by_query)
    by_query = layer.feed_forward_chunk_query(by_query)
    if last:
        return by_query
    return torch.cat([by_query, layer.feed_forward_chunk(attended[:, queries:])], dim=1)


def _blocks(rows: Tensor, attention: Any) -> Tensor:
    """(texts, n, width) to (texts, heads, n, head size), a view."""
    return rows.view(*rows.shape[:2], attention.num_attention_heads, -1).transpose(1, 2)


def _heads(rows: Tensor, attention: Any) -> Tensor:
    """(n, width) to (heads, n, head size), a view."""
    return rows.view(len(rows), attention.num_attention_heads, -1).transpose(0, 1)
