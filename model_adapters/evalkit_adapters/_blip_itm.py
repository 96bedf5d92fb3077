"""BLIP's image-text matcher: image-major and packed, with transformers' own forward beside it as the reference.

The usual way repeats an image's states for every text, computes their keys and values again for every pair, and pads
texts to 35 tokens of which 13 or so are real. Here a layer's keys and values are computed once for an image and all its
texts; the tokens of all texts lie in one (tokens, width) matrix without padding, which is one long query sequence for
the cross-attention; and since only the first position is scored, the last layer computes only that one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit_adapters.blip_inputs import ENC_ID

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import BlipForImageTextRetrieval
    from transformers.models.blip.modeling_blip_text import BlipTextLayer, BlipTextSelfAttention

    from evalkit.types import FloatArray
    from evalkit_adapters._blip_visdial import BlipForVisdial

    TokenIds = Sequence[int]

WAVE_TOKENS: Final = 32_768
"""Tokens that share one computation of an image's keys and values, some 2,300 captions; their states stay in memory,
3 KiB a token in float32."""
CPU_CHUNK_TOKENS: Final = 1024
"""Tokens that go through a layer together on a CPU. Measured: 256 to 4,096 differ by 3 %, and 64 is 20 % slower."""
ACCELERATOR_CHUNK_TOKENS: Final = 16_384


def pad(token_ids: Sequence[TokenIds], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, both (n, longest), padded on the right with 0, which is [PAD]."""
    longest = max(map(len, token_ids))
    ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in token_ids], device=device)
    lengths = torch.tensor([len(text) for text in token_ids], device=device)
    return ids, (torch.arange(longest, device=device) < lengths[:, None]).long()


def judged(logits: Tensor, scoring: Literal["logit", "log_odds"]) -> FloatArray:
    """(n,) float32 of (n, 2) logits of "no match" and "match", as `MatchRequest.scoring` wants it."""
    exact = logits.float()
    answer: FloatArray = (exact[:, 1] - exact[:, 0] if scoring == "log_odds" else exact[:, 1]).cpu().numpy()
    return answer


def apply_head(head: nn.Linear, hidden: Tensor) -> Tensor:
    """A linear head in float32 at least: logits that bfloat16 has rounded tie in their hundreds."""
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    return functional.linear(hidden.to(dtype), head.weight.to(dtype), head.bias.to(dtype))


def match_plain(
    model: BlipForImageTextRetrieval, states: Tensor, token_ids: Sequence[TokenIds], enc: int = ENC_ID
) -> Tensor:
    """The matching logits by transformers' own forward: states repeated, texts padded. The reference of the tests.

    Args:
        model: The retrieval model.
        states: (patches + 1, width): the vision tower's last hidden state of one image.
        token_ids: [CLS] words [SEP] of each text.
        enc: Id of [ENC].

    Returns:
        (n,) logits of class 1, "match".
    """
    ids, mask = pad(token_ids, states.device)
    ids[:, 0] = enc
    repeated = states.expand(len(ids), -1, -1)
    hidden = model.text_encoder(input_ids=ids, attention_mask=mask, encoder_hidden_states=repeated).last_hidden_state
    return apply_head(model.itm_head, hidden[:, 0])[:, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Texts that go through self-attention as one block; their rows in the packed matrix are consecutive."""

    first_text: int
    texts: int
    first_row: int
    rows: int
    gather: Tensor | None
    """(texts, length) rows, where lengths differ."""
    mask: Tensor | None
    """(texts, length) bool, true at real tokens, where lengths differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    """Texts whose tokens go through a layer together, in ascending order of length."""

    ids: Tensor
    """(rows,) token ids; every text begins with [ENC]."""
    positions: Tensor
    """(rows,) position of each token in its text."""
    starts: Tensor
    """(texts,) row of each text's first token."""
    groups: tuple[_Group, ...]


class PackedMatcher:
    """Scores many texts against one image, or against any states.

    Args:
        model: The retrieval model, in evaluation mode, or one with the same text encoder and head.
        chunk_tokens: Tokens that go through a layer together; default by device.
        pad_groups: Whether texts of different lengths share a self-attention call, padded and masked; default by
            device, since a CPU prefers exact lengths and an accelerator few calls.
        enc: Id of [ENC].
    """

    def __init__(
        self,
        model: BlipForImageTextRetrieval | BlipForVisdial,
        *,
        chunk_tokens: int | None = None,
        pad_groups: bool | None = None,
        enc: int = ENC_ID,
    ) -> None:
        self._model = model
        self._enc = enc
        self._layers = [cast("BlipTextLayer", layer) for layer in model.text_encoder.encoder.layer]
        on_cpu = model.device.type == "cpu"
        self._chunk_tokens = chunk_tokens or (CPU_CHUNK_TOKENS if on_cpu else ACCELERATOR_CHUNK_TOKENS)
        self._pad_groups = not on_cpu if pad_groups is None else pad_groups

    def match(self, states: Tensor, token_ids: Sequence[TokenIds]) -> Tensor:
        """The logits of `match_plain`, to rounding. Arguments and result as there."""
        return self.logits(states, token_ids)[:, 1]

    def logits(self, states: Tensor, token_ids: Sequence[TokenIds]) -> Tensor:
        """(n, 2) logits of "no match" and "match". Arguments as of `match_plain`."""
        order = sorted(range(len(token_ids)), key=lambda number: len(token_ids[number]))
        exact = torch.promote_types(states.dtype, torch.float32)
        logits = torch.empty(len(order), 2, dtype=exact, device=states.device)
        for wave in _cut(order, token_ids, WAVE_TOKENS):
            chunks = [
                _pack([(self._enc, *token_ids[number][1:]) for number in part], states.device, self._pad_groups)
                for part in _cut(wave, token_ids, self._chunk_tokens)
            ]
            logits[torch.tensor(wave, device=states.device)] = self._match_wave(states, chunks)
        return logits

    def _match_wave(self, states: Tensor, chunks: Sequence[_Chunk]) -> Tensor:
        embeddings = self._model.text_encoder.embeddings
        hidden = [embeddings(chunk.ids[None], position_ids=chunk.positions[None])[0] for chunk in chunks]
        for layer in self._layers:
            # one layer's keys and values at a time: those of all layers would take twelve times the memory
            cross = layer.crossattention.self
            keys, values = _heads(cross.key(states), cross), _heads(cross.value(states), cross)
            last = layer is self._layers[-1]
            hidden = [
                _layer(layer, rows, chunk, keys, values, last) for rows, chunk in zip(hidden, chunks, strict=True)
            ]
        return apply_head(self._model.itm_head, torch.cat(hidden))


def _cut(order: Sequence[int], token_ids: Sequence[TokenIds], budget: int) -> Iterator[list[int]]:
    """Consecutive parts of at most `budget` tokens (a longer text is a part of its own)."""
    part: list[int] = []
    tokens = 0
    for number in order:
        length = len(token_ids[number])
        if part and tokens + length > budget:
            yield part
            part, tokens = [], 0
        part.append(number)
        tokens += length
    if part:
        yield part


def _pack(token_ids: Sequence[TokenIds], device: torch.device, pad_groups: bool) -> _Chunk:
    lengths = [len(text) for text in token_ids]
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    groups = []
    for key, members in groupby(range(len(lengths)), key=lambda number: 0 if pad_groups else lengths[number]):
        numbers = list(members)
        first, end = numbers[0], numbers[-1] + 1
        longest = lengths[end - 1]
        gather = mask = None
        if key == 0 and lengths[first] != longest:
            offsets = torch.arange(longest)
            size = torch.tensor(lengths[first:end])[:, None]
            mask = (offsets < size).to(device)
            gather = (torch.tensor(starts[first:end])[:, None] + torch.minimum(offsets, size - 1)).to(device)
        groups.append(
            _Group(
                first_text=first,
                texts=end - first,
                first_row=starts[first],
                rows=starts[end] - starts[first],
                gather=gather,
                mask=mask,
            )
        )
    return _Chunk(
        ids=torch.tensor([token for text in token_ids for token in text], device=device),
        positions=torch.tensor([position for length in lengths for position in range(length)], device=device),
        starts=torch.tensor(starts[:-1], device=device),
        groups=tuple(groups),
    )


def _layer(layer: BlipTextLayer, hidden: Tensor, chunk: _Chunk, keys: Tensor, values: Tensor, last: bool) -> Tensor:
    """One layer over packed rows: (rows, width) to (rows, width), or (texts, width) in the last layer."""
    residual = hidden[chunk.starts] if last else hidden
    context = _self_attention(layer.attention.self, residual, hidden, chunk, last)
    residual = layer.attention.output(context, residual)
    cross = layer.crossattention.self
    queries = _heads(cross.query(residual), cross)
    context = functional.scaled_dot_product_attention(queries[None], keys[None], values[None])[0]
    residual = layer.crossattention.output(context.transpose(0, 1).flatten(1), residual)
    output: Tensor = layer.output(layer.intermediate(residual), residual)
    return output


def _self_attention(
    attention: BlipTextSelfAttention, asking: Tensor, hidden: Tensor, chunk: _Chunk, first_only: bool
) -> Tensor:
    """Attention of each text to itself, without padding where lengths are equal: (rows of `asking`, width)."""
    queries, keys, values = attention.query(asking), attention.key(hidden), attention.value(hidden)
    context = torch.empty_like(queries)
    for group in chunk.groups:
        rows = slice(group.first_row, group.first_row + group.rows)
        texts = slice(group.first_text, group.first_text + group.texts)
        taken = rows if group.gather is None else group.gather
        attended = functional.scaled_dot_product_attention(
            _blocks(queries[texts if first_only else taken], group, attention),
            _blocks(keys[taken], group, attention),
            _blocks(values[taken], group, attention),
            attn_mask=None if group.mask is None else group.mask[:, None, None, :],
        )
        merged = attended.transpose(1, 2).flatten(2)
        real = merged if first_only or group.mask is None else merged[group.mask]
        context[texts if first_only else rows] = real.reshape(-1, context.shape[1])
    return context


def _blocks(rows: Tensor, group: _Group, attention: BlipTextSelfAttention) -> Tensor:
    """The rows of a group to (texts, heads, tokens, head size)."""
    return rows.reshape(group.texts, -1, attention.num_attention_heads, attention.attention_head_size).transpose(1, 2)


def _heads(rows: Tensor, attention: BlipTextSelfAttention) -> Tensor:
    """(n, width) to (heads, n, head size), a view."""
    return rows.view(len(rows), attention.num_attention_heads, -1).transpose(0, 1)
