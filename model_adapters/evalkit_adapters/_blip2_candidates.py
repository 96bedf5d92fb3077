"""Likelihoods of many candidates behind an image and a prompt, for BLIP-2's language models.

OPT goes the way of every decoder-only model, see `_decoding`: what stands in front are the image's vectors.

T5's encoder has seen image and prompt. Its decoder gets the tokens of all candidates as one sequence, in which each
sees its own candidate only, at the positions it has there: nothing is padded, and no key of the prompt is computed, or
copied, for a second candidate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from evalkit_adapters._packed_cache import Prefix

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHUNK_TOKENS: Final = 512
"""Most candidate tokens a pass of T5's decoder: bounds the logits, 4 bytes x vocabulary each, and the mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptNetwork:
    """OPT as `SharedPrefixDecoder` takes it; an image is (queries, width)."""

    model: Any
    ends: ClassVar[frozenset[int]] = frozenset()
    has_grid_positions: ClassVar[bool] = False

    def begin(self, head: Sequence[int], images: Sequence[Tensor]) -> Prefix:
        """See `PackedNetwork`; the head stands for the vectors of the only image."""
        vectors = images[0][None].to(self.model.dtype)
        output = self.model(inputs_embeds=vectors, use_cache=True, logits_to_keep=1)
        return Prefix.of(output.past_key_values, len(head))


class T5Candidates:
    """Scores candidates behind what T5's encoder made of a prompt.

    Args:
        language: T5 with its language head, in evaluation mode.
        encoded: (tokens, width): the encoder's last hidden state of one prompt, without padding.
    """

    def __init__(self, language: Any, encoded: Tensor) -> None:
        self._language = language
        self._blocks: list[Any] = list(language.decoder.block)
        self._keys = [self._keys_values(block.layer[1].EncDecAttention, encoded) for block in self._blocks]

    def score(self, start: int, candidates: Sequence[Sequence[int]]) -> list[float]:
        """The log-likelihood of each candidate, summed over its tokens.

        Args:
            start: The token that an answer begins with, unsaid.
            candidates: Token ids.
        """
        totals: list[float] = []
        for part in _chunks(candidates):
            begun = torch.tensor([token for row in part for token in (start, *row[:-1])], device=self._language.device)
            lengths = [len(row) for row in part]
            logits = self._logits(begun, lengths).float()
            targets = torch.tensor([token for row in part for token in row], device=begun.device)
            each = logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(dim=-1)
            totals += [own.sum().item() for own in torch.split_with_sizes(each.double(), lengths)]
        return totals

    def _logits(self, ids: Tensor, lengths: Sequence[int]) -> Tensor:
        """Of all candidates' tokens, (tokens, vocabulary)."""
        decoder = self._language.decoder
        position = torch.cat([torch.arange(length, device=ids.device) for length in lengths])
        owner = torch.arange(len(lengths), device=ids.device).repeat_interleave(
            torch.tensor(lengths, device=ids.device)
        )
        table = self._blocks[0].layer[0].SelfAttention.compute_bias(max(lengths), max(lengths), device=ids.device)
        seen = (owner == owner[:, None]) & (position <= position[:, None])
        bias = table[:, :, position[:, None], position].masked_fill(~seen, -torch.inf)  # (1, heads, tokens, tokens)
        hidden = decoder.embed_tokens(ids[None])
        bias = bias.to(hidden.dtype)
        for block, prompt in zip(self._blocks, self._keys, strict=True):
            hidden = _attended(block, hidden, prompt, bias)
        hidden = decoder.final_layer_norm(hidden[0])
        if self._language.config.scale_decoder_outputs:
            hidden = hidden * self._language.model_dim**-0.5
        logits: Tensor = self._language.lm_head(hidden)
        return logits

    @staticmethod
    def _keys_values(attention: Any, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """(1, heads, tokens, width of a head) each."""
        keys, values = (_heads(project(encoded[None]), attention) for project in (attention.k, attention.v))
        return keys, values


def _attended(block: Any, hidden: Tensor, prompt: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
    """One layer of the decoder: (1, tokens, width) to the same."""
    own, cross, feed_forward = block.layer
    attention = own.SelfAttention
    normed = own.layer_norm(hidden)
    asking, keys, values = (_heads(project(normed), attention) for project in (attention.q, attention.k, attention.v))
    seen = scaled_dot_product_attention(asking, keys, values, attn_mask=bias, scale=1.0)
    hidden = hidden + attention.o(seen.transpose(1, 2).flatten(2))
    attention = cross.EncDecAttention
    asking = _heads(attention.q(cross.layer_norm(hidden)), attention)
    seen = scaled_dot_product_attention(asking, *prompt, scale=1.0)
    hidden = hidden + attention.o(seen.transpose(1, 2).flatten(2))
    layer: Tensor = feed_forward(hidden)
    return layer


def _heads(rows: Tensor, attention: Any) -> Tensor:
    """(rows, tokens, inner width) to (rows, heads, tokens, width of a head)."""
    return rows.view(*rows.shape[:2], attention.n_heads, -1).transpose(1, 2)


def _chunks(candidates: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Candidates that go through the decoder together, in order."""
    part: list[Sequence[int]] = []
    for candidate in candidates:
        if part and sum(map(len, part)) + len(candidate) > CHUNK_TOKENS:
            yield part
            part = []
        part.append(candidate)
    if part:
        yield part
