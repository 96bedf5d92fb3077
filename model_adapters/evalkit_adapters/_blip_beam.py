"""Beam search with the rules of transformers 4.15, which BLIP's published results were generated with.

transformers 5 divides a hypothesis's score by the number of new tokens; 4.15 divides by its whole length, prompt
included, as it does where it decides whether a better one can still come. The winner is often another one.
Unlike there, each image is a search of its own that leaves the batch when it is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from evalkit.errors import CapabilityError
from evalkit.types import Decoding
from evalkit_adapters.blip_inputs import SEP_ID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit_adapters._blip_decoder import Decoder, Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """A text that was generated."""

    ids: tuple[int, ...]
    """New tokens, without the prompt and without [SEP]."""
    ended: bool
    """Whether [SEP] ended it; otherwise the budget did."""
    score: float
    """Summed log-probability over length ** length_penalty, the prompt's tokens counted, [SEP]'s not."""


@dataclass(slots=True, kw_only=True)
class Search:
    """The beams of one image or question, and what they have finished so far."""

    prompt: int
    """Number of the prompt's tokens."""
    decoding: Decoding
    beams: list[tuple[int, ...]]
    """Whole sequences, prompt included."""
    scores: list[float]
    """Summed log-probability of each beam."""
    end: int = SEP_ID
    """[SEP]."""
    origins: list[int] = field(default_factory=list)
    """Which of the beams before the last step each beam continues."""
    finished: list[Hypothesis] = field(default_factory=list)
    """At most `num_beams`, in the order they were found."""
    done: bool = False

    def advance(self, candidates: Sequence[tuple[float, int, int]]) -> None:
        """Take the best continuations.

        Args:
            candidates: The 2 * num_beams best: summed log-probability, beam, token; best first.
        """
        width, length = self.decoding.num_beams, len(self.beams[0])
        beams, scores, origins = [], [], []
        for rank, (score, beam, token) in enumerate(candidates):
            if token == self.end:
                if rank < width:  # one that is no beam of its own may not end either
                    self._finish(self.beams[beam], score, ended=True)
                continue
            beams.append((*self.beams[beam], token))
            scores.append(score)
            origins.append(beam)
            if len(beams) == width:
                break
        self.beams, self.scores, self.origins = beams, scores, origins
        if len(self.finished) == width:
            attainable = candidates[0][0] / length**self.decoding.length_penalty
            self.done = min(hypothesis.score for hypothesis in self.finished) >= attainable

    def stop(self) -> None:
        """The budget is spent: what is still running competes as it stands."""
        for beam, score in zip(self.beams, self.scores, strict=True):
            self._finish(beam, score, ended=False)
        self.done = True

    def best(self) -> Hypothesis:
        """The highest score; of equal ones the last found."""
        return max(reversed(self.finished), key=lambda hypothesis: hypothesis.score)

    def _finish(self, sequence: tuple[int, ...], total: float, *, ended: bool) -> None:
        score = total / len(sequence) ** self.decoding.length_penalty
        if len(self.finished) == self.decoding.num_beams:
            worst = min(self.finished, key=lambda hypothesis: hypothesis.score)
            if score <= worst.score:
                return
            self.finished.remove(worst)
        self.finished.append(Hypothesis(ids=sequence[self.prompt :], ended=ended, score=score))


def beam_search(
    decoder: Decoder, memory: Memory, prompt: Sequence[int], decoding: Decoding, end: int = SEP_ID
) -> list[Hypothesis]:
    """Continue one prompt for every entry of a memory; one beam is greedy decoding.

    Args:
        decoder: The language model.
        memory: The n images or questions.
        prompt: Token ids, [DEC] first and without [SEP].
        decoding: `stop` is the caller's.
        end: Id of [SEP].

    Raises:
        CapabilityError: Prompt and new tokens together are more than the model has positions for.
    """
    if len(prompt) + decoding.max_new_tokens > decoder.max_tokens:
        raise CapabilityError(
            f"blip reads at most {decoder.max_tokens} tokens, and a prompt of {len(prompt)} is to be continued by "
            f"{decoding.max_new_tokens}.",
            "Shorten the prompt, or lower max_new_tokens.",
        )
    searches = [
        Search(prompt=len(prompt), decoding=decoding, beams=[tuple(prompt)], scores=[0.0], end=end)
        for _ in range(len(memory.keys[0]))
    ]
    live = searches
    logits, past = decoder.begin(prompt, memory)
    for new in range(1, decoding.max_new_tokens + 1):
        _advance(live, logits, forbid_end=new <= decoding.min_new_tokens)
        if new == decoding.max_new_tokens:
            break
        places = [place for place, search in enumerate(live) if not search.done]
        if not places:
            break
        width_before = len(past.keys[0]) // len(live)
        rows = [place * width_before + origin for place in places for origin in live[place].origins]
        if len(places) < len(live):
            memory = memory.select(places)
            live = [live[place] for place in places]
        past.select(torch.tensor(rows, device=decoder.device))
        tokens = torch.tensor([beam[-1] for search in live for beam in search.beams], device=decoder.device)
        logits = decoder.step(tokens, past, memory)
    for search in searches:
        if not search.done:
            search.stop()
    return [search.best() for search in searches]


def _advance(live: Sequence[Search], logits: Tensor, *, forbid_end: bool) -> None:
    """One step of each search: (searches * beams, vocabulary) logits of what may follow."""
    decoding = live[0].decoding
    scores = logits.log_softmax(dim=-1)
    if decoding.repetition_penalty != 1:
        said = torch.tensor([beam for search in live for beam in search.beams], device=scores.device)
        repeated = scores.gather(1, said)  # log-probabilities: below zero, so the penalty multiplies
        scores = scores.scatter(1, said, repeated * decoding.repetition_penalty)
    if forbid_end:
        scores[:, live[0].end] = -torch.inf
    before = torch.tensor([score for search in live for score in search.scores], device=scores.device)
    vocabulary = scores.shape[1]
    totals = (scores + before[:, None]).view(len(live), -1)
    best, numbers = totals.topk(2 * decoding.num_beams, dim=1)
    for search, found, where in zip(live, best.tolist(), numbers.tolist(), strict=True):
        search.advance([(score, *divmod(number, vocabulary)) for score, number in zip(found, where, strict=True)])
