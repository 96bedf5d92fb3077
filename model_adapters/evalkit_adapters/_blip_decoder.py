"""BLIP's text decoder over the weights of transformers' model, for text that grows from something remembered.

What it cross-attends to (an image, or an encoded question) is projected to keys and values once, not at every step and
not for every beam: beams and candidate answers of one image or question are rows of one query sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers.models.blip.modeling_blip_text import (
        BlipTextLayer,
        BlipTextLMHeadModel,
        BlipTextSelfAttention,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What texts are decoded from: keys and values of n images or questions, by layer."""

    keys: tuple[Tensor, ...]
    """(n, heads, tokens, head size) each."""
    values: tuple[Tensor, ...]
    mask: Tensor | None
    """(n, 1, 1, tokens) bool, true at real tokens; None where all are."""

    def select(self, places: Sequence[int]) -> Memory:
        """Those at `places`, in that order; repeats are allowed."""
        index = torch.tensor(places, device=self.keys[0].device)
        return Memory(
            keys=tuple(tensor[index] for tensor in self.keys),
            values=tuple(tensor[index] for tensor in self.values),
            mask=None if self.mask is None else self.mask[index],
        )


@dataclass(slots=True, kw_only=True)
class Past:
    """Keys and values of the tokens so far, by layer: (rows, heads, tokens, head size) each."""

    keys: list[Tensor]
    values: list[Tensor]

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order; repeats are allowed."""
        self.keys = [tensor[rows] for tensor in self.keys]
        self.values = [tensor[rows] for tensor in self.values]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRows:
    """Tokens of many texts over one memory, each a row that says which rows it attends to; see `Decoder.packed`."""

    tokens: Tensor
    """(rows,) ids."""
    positions: Tensor
    """(rows,) position in its text."""
    attended: Tensor
    """(rows, most) row numbers, anything where `visible` is false."""
    visible: Tensor
    """(rows, most) bool."""
    by_owner: Tensor
    """(n, most rows) row numbers of each entry of the memory; padded with any row."""
    place: Tensor
    """(rows,) where each row stands in the flattened `by_owner`."""


class Decoder:
    """One layer after the other, without dropout.

    Args:
        model: The language model, in evaluation mode, on its device.
    """

    def __init__(self, model: BlipTextLMHeadModel) -> None:
        self.model = model
        self.device = model.device
        self.max_tokens: int = model.config.max_position_embeddings
        self._layers = [cast("BlipTextLayer", layer) for layer in model.bert.encoder.layer]

    def remember(self, states: Tensor, mask: Tensor | None = None) -> Memory:
        """Project what is cross-attended to.

        Args:
            states: (n, tokens, width).
            mask: (n, tokens) bool, true at real tokens.
        """
        attentions = [layer.crossattention.self for layer in self._layers]
        return Memory(
            keys=tuple(_heads(attention.key(states), attention) for attention in attentions),
            values=tuple(_heads(attention.value(states), attention) for attention in attentions),
            mask=None if mask is None else mask[:, None, None, :],
        )

    def begin(self, prompt: Sequence[int], memory: Memory) -> tuple[Tensor, Past]:
        """Read the same prompt for every entry of the memory.

        Returns:
            (n, vocabulary) logits of what follows it, and the past of n rows.
        """
        ids = torch.tensor([prompt], device=self.device).expand(len(memory.keys[0]), -1)
        hidden = self.model.bert.embeddings(ids)
        past = Past(keys=[], values=[])
        for number, layer in enumerate(self._layers):
            attention = layer.attention.self
            keys, values = _heads(attention.key(hidden), attention), _heads(attention.value(hidden), attention)
            past.keys.append(keys)
            past.values.append(values)
            queries = _heads(attention.query(hidden), attention)
            context = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
            hidden = layer.attention.output(_merge(context), hidden)
            hidden = _cross(layer, hidden, memory, number)
            hidden = layer.output(layer.intermediate(hidden), hidden)
        return self.logits(hidden[:, -1]), past

    def step(self, tokens: Tensor, past: Past, memory: Memory) -> Tensor:
        """Read one more token a row.

        Args:
            tokens: (n * beams,) ids; the beams of an entry of the memory stand together.
            past: Of as many rows; the token is added to it.
            memory: Of n entries.

        Returns:
            (n * beams, vocabulary) logits.
        """
        n = len(memory.keys[0])
        position = torch.full_like(tokens, past.keys[0].shape[2])
        hidden = self.model.bert.embeddings(tokens[:, None], position_ids=position[:, None])
        for number, layer in enumerate(self._layers):
            attention = layer.attention.self
            past.keys[number] = torch.cat([past.keys[number], _heads(attention.key(hidden), attention)], dim=2)
            past.values[number] = torch.cat([past.values[number], _heads(attention.value(hidden), attention)], dim=2)
            queries = _heads(attention.query(hidden), attention)
            context = functional.scaled_dot_product_attention(queries, past.keys[number], past.values[number])
            hidden = layer.attention.output(_merge(context), hidden)
            hidden = _cross(layer, hidden.view(n, -1, hidden.shape[-1]), memory, number).reshape(hidden.shape)
            hidden = layer.output(layer.intermediate(hidden), hidden)
        return self.logits(hidden[:, 0])

    def packed(self, rows: PackedRows, memory: Memory) -> Tensor:
        """Read the tokens of many texts in one pass, without padding.

        A token that several texts of one owner begin with is one row. Keys and values of the memory are read where
        they lie, whatever the number of texts.

        Returns:
            (rows, width) hidden states of the last layer; `logits` makes predictions of them.
        """
        hidden: Tensor = self.model.bert.embeddings(rows.tokens[None], position_ids=rows.positions[None])[0]
        visible = rows.visible[:, None, None, :]
        for number, layer in enumerate(self._layers):
            attention = layer.attention.self
            context = functional.scaled_dot_product_attention(
                _heads(attention.query(hidden)[:, None], attention),
                _heads(attention.key(hidden)[rows.attended], attention),
                _heads(attention.value(hidden)[rows.attended], attention),
                attn_mask=visible,
            )
            hidden = layer.attention.output(_merge(context)[:, 0], hidden)
            cross = layer.crossattention.self
            queries = _heads(cross.query(hidden)[rows.by_owner], cross)
            context = functional.scaled_dot_product_attention(
                queries, memory.keys[number], memory.values[number], attn_mask=memory.mask
            )
            hidden = layer.crossattention.output(_merge(context).flatten(0, 1)[rows.place], hidden)
            hidden = layer.output(layer.intermediate(hidden), hidden)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., width) to (..., vocabulary), in float32 whatever the weights are in."""
        logits: Tensor = self.model.cls(hidden)
        return logits.float()


def _cross(layer: BlipTextLayer, hidden: Tensor, memory: Memory, number: int) -> Tensor:
    """Cross-attention of (n, rows, width) to the n entries of the memory."""
    attention = layer.crossattention.self
    context = functional.scaled_dot_product_attention(
        _heads(attention.query(hidden), attention), memory.keys[number], memory.values[number], attn_mask=memory.mask
    )
    output: Tensor = layer.crossattention.output(_merge(context), hidden)
    return output


def _heads(rows: Tensor, attention: BlipTextSelfAttention) -> Tensor:
    """(n, tokens, width) to (n, heads, tokens, head size), a view."""
    return rows.view(*rows.shape[:2], attention.num_attention_heads, -1).transpose(1, 2)


def _merge(context: Tensor) -> Tensor:
    """(n, heads, tokens, head size) to (n, tokens, width)."""
    return context.transpose(1, 2).flatten(2)
