"""Greedy decoding and beam search by the rules of transformers 5, but what is finished leaves the batch.

transformers computes every prompt once a beam, and keeps finished rows until the last one is. Here a prompt is computed
once, and its keys and values are copied to its beams; a row leaves as soon as nothing can change its answer. The
answers are the same tokens. No setting in a checkpoint's `generation_config.json` applies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.types import Decoding


class Continuation:
    """Prompts that are in the cache, one row each, and what was said after them.

    Args:
        language: OPT or T5.
        cache: The keys and values of the prompts; for T5 those of the encoder's states and of the start token.
        mask: (rows, tokens) of the prompts: 1 at real tokens, 0 at padding.
        logits: (rows, vocabulary) after the prompts.
    """

    def __init__(self, language: Any, cache: Any, mask: Tensor, logits: Tensor) -> None:
        self._language = language
        self._encodes: bool = language.config.is_encoder_decoder
        self._cache = cache
        self._prompts = list(range(len(mask)))
        """Which prompt each row continues."""
        self.mask = mask
        self.logits = logits

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order; a row may be there several times. The logits are of the rows before."""
        if list(rows) == list(range(len(self.mask))):
            return
        chosen = torch.tensor(rows, device=self.mask.device)
        prompts = [self._prompts[row] for row in rows]
        if self._encodes and prompts == self._prompts:
            # the beams of each prompt in another order: what T5 has encoded stays in its place
            self._cache.self_attention_cache.batch_select_indices(chosen)
        else:
            self._cache.batch_select_indices(chosen)
            self.mask, self._prompts = self.mask[chosen], prompts

    def step(self, tokens: Sequence[int]) -> None:
        """Say one more token in each row."""
        self.logits = self.follow(torch.tensor(tokens, device=self.mask.device)[:, None])[:, -1]

    def follow(self, ids: Tensor) -> Tensor:
        """Say several more tokens in each row, (rows, tokens): the logits after each of them."""
        if self._encodes:
            # the encoder's states are not looked at again, only counted: their keys and values are in the cache
            states = (self.logits.new_zeros(*self.mask.shape, 1),)
            output = self._language(
                encoder_outputs=states, attention_mask=self.mask, decoder_input_ids=ids, past_key_values=self._cache
            )
        else:
            positions = self.mask.sum(dim=1, keepdim=True) + torch.arange(ids.shape[1], device=ids.device)
            self.mask = torch.cat([self.mask, self.mask.new_ones(ids.shape)], dim=1)
            output = self._language(
                input_ids=ids, attention_mask=self.mask, position_ids=positions, past_key_values=self._cache
            )
        logits: Tensor = output.logits
        return logits


def search(state: Continuation, prompts: list[list[int]], decoding: Decoding, end: int) -> list[list[int]]:
    """The new tokens of each row, the end token among them where there is one.

    Args:
        state: The rows; used up.
        prompts: The ids that the repetition penalty counts as said; all of one length.
        decoding: `stop` is the caller's.
        end: The token that ends an answer.
    """
    return (_greedy if decoding.num_beams == 1 else _beams)(state, prompts, decoding, end)


def _greedy(state: Continuation, prompts: list[list[int]], decoding: Decoding, end: int) -> list[list[int]]:
    answers: list[list[int]] = [[] for _ in prompts]
    live = list(range(len(prompts)))
    for new in range(1, decoding.max_new_tokens + 1):
        scores = _penalized(state.logits.float(), [prompts[row] + answers[row] for row in live], decoding)
        if new <= decoding.min_new_tokens:
            scores[:, end] = -torch.inf
        tokens = scores.argmax(dim=-1).tolist()
        for row, token in zip(live, tokens, strict=True):
            answers[row].append(token)
        places = [place for place, token in enumerate(tokens) if token != end]
        live = [live[place] for place in places]
        if not live or new == decoding.max_new_tokens:
            break
        state.select(places)
        state.step([tokens[place] for place in places])
    return answers


class _Beams:
    """The beams of one row, and what they have finished so far."""

    def __init__(self, decoding: Decoding) -> None:
        self.width = decoding.num_beams
        self._power = decoding.length_penalty
        self.texts: list[list[int]] = [[]]
        self.scores: list[float] = [0.0]
        self.origins: list[int] = [0]
        """Which of the beams before the last step each beam continues."""
        self.finished: list[tuple[float, list[int]]] = []
        """Score and tokens, best first, at most `width`."""

    def advance(self, candidates: Sequence[tuple[float, int, int]], end: int, last: bool) -> bool:
        """Take the best continuations; whether nothing can change the answer any more.

        Args:
            candidates: Summed log-probability, beam and token of the 2 * width best, best first.
            end: The token that ends an answer.
            last: Whether the budget is spent: all candidates are finished as they stand.
        """
        length = len(self.texts[0]) + 1
        # those behind the first `width` are there to continue with, and may not end
        ended = [
            (score / length**self._power, [*self.texts[beam], token])
            for score, beam, token in candidates[: self.width]
            if last or token == end
        ]
        self.finished = sorted([*self.finished, *ended], key=lambda found: -found[0])[: self.width]
        going = [found for found in candidates if found[2] != end][: self.width]
        self.texts = [[*self.texts[beam], token] for _, beam, token in going]
        self.scores, self.origins = [found[0] for found in going], [found[1] for found in going]
        full = len(self.finished) == self.width
        return last or (full and self.scores[0] / length**self._power <= self.finished[-1][0])


def _beams(state: Continuation, prompts: list[list[int]], decoding: Decoding, end: int) -> list[list[int]]:
    rows = [_Beams(decoding) for _ in prompts]
    live = list(range(len(prompts)))
    for new in range(1, decoding.max_new_tokens + 1):
        said = [prompts[row] + text for row in live for text in rows[row].texts]
        scores = _penalized(state.logits.float().log_softmax(dim=-1), said, decoding)
        if new <= decoding.min_new_tokens:
            scores[:, end] = -torch.inf
        before = torch.tensor([score for row in live for score in rows[row].scores], device=scores.device)
        totals = (scores + before[:, None]).view(len(live), -1)
        best, numbers = totals.topk(2 * decoding.num_beams, dim=1)
        width = len(before) // len(live)  # one at first
        places = []
        for place, (found, where) in enumerate(zip(best.tolist(), numbers.tolist(), strict=True)):
            candidates = [(score, *divmod(number, scores.shape[1])) for score, number in zip(found, where, strict=True)]
            if not rows[live[place]].advance(candidates, end, last=new == decoding.max_new_tokens):
                places.append(place)
        state_rows = [place * width + origin for place in places for origin in rows[live[place]].origins]
        live = [live[place] for place in places]
        if not live:
            break
        state.select(state_rows)
        state.step([text[-1] for row in live for text in rows[row].texts])
    return [row.finished[0][1] for row in rows]


def _penalized(scores: Tensor, said: list[list[int]], decoding: Decoding) -> Tensor:
    """Scores with what was said made less likely, as `RepetitionPenaltyLogitsProcessor` does."""
    if decoding.repetition_penalty == 1:
        return scores
    ids = torch.tensor(said, device=scores.device)
    found = scores.gather(1, ids)
    penalty = decoding.repetition_penalty
    return scores.scatter(1, ids, torch.where(found < 0, found * penalty, found / penalty))
