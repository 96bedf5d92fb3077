"""Greedy decoding and candidate scoring of decoder-only models that see images, with nothing computed twice.

What is shared is computed once, and its keys and values stay in the cache:

- of a prompt, everything up to its last image (`Prompt.head`) is the same for all questions on the image. Causal
  attention makes that exact: no token sees what follows it.
- of a request to score candidates, the whole prompt is; and where it goes on with the conversation that the latest
  request was about, as the rounds of a dialog do, it is computed from where that one ended.

What differs is packed, see `_packed_cache`: no key of an image is copied for a second question. A finished question
leaves its row, a finished row leaves the batch.

`_plain_decoding` computes the same the plain way, one prompt at a time.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from evalkit.errors import DataError, ModelOutputError
from evalkit.types import Decoding
from evalkit_adapters._packed_cache import EVERYONE, PackedNetwork, Piece, Prefix, Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

PACKED_TOKENS: Final = 512
"""Most candidate tokens a forward pass: bounds the logits, which take 4 bytes x vocabulary each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One prompt as token ids."""

    images: tuple[Any, ...]
    """Identity matters: prompts with the same objects and the same head share what is computed for it."""
    head: tuple[int, ...]
    """Up to and including the last token of the last image; without images, all but the last token."""
    tail: tuple[int, ...]
    """The rest; at least one token."""
    rounds: tuple[int, ...] = ()
    """Where in the tail the prompts of the conversation's earlier rounds end, ascending; none at either end of it."""

    @property
    def pieces(self) -> tuple[tuple[int, ...], ...]:
        """The tail, cut at the ends of the rounds."""
        return tuple(self.tail[start:stop] for start, stop in pairwise((0, *self.rounds, len(self.tail))))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Latest:
    """The prompt that is in the cache."""

    images: tuple[Any, ...]
    head: tuple[int, ...]
    pieces: tuple[tuple[int, ...], ...] = ()
    """Those of the tail that are in the cache behind the head."""
    prefix: Prefix

    def begins(self, prompt: Prompt) -> bool:
        """Whether a prompt has this head."""
        same = len(self.images) == len(prompt.images) and all(map(operator.is_, self.images, prompt.images))
        return same and self.head == prompt.head


@dataclass(slots=True, kw_only=True)
class _Question:
    """A prompt being answered."""

    number: int
    decoding: Decoding
    prompt: Prompt
    pending: tuple[int, ...]
    """Tokens that have not been through the network."""
    position: int
    """Of the first of them."""
    tokens: list[int] = field(default_factory=list)
    """The answer so far, without the token that ends it."""

    def piece(self) -> Piece:
        """What goes through the network next."""
        return Piece(owner=self.number, tokens=self.pending, position=self.position)


class SharedPrefixDecoder:
    """Answers prompts and scores candidates; the cache of the latest prompt is kept for the next call.

    What a number is computed from never depends on whether it was: a head is one pass through the network, and each
    round of a conversation is another, in a call that finds them in the cache and in one that does not.
    """

    def __init__(self, network: PackedNetwork) -> None:
        self._network = network
        self._latest: _Latest | None = None

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Prompt], decodings: Sequence[Decoding], stopped: Callable[[int, list[int]], bool]
    ) -> list[tuple[list[int], bool]]:
        """Greedy answers.

        Args:
            prompts: What to continue.
            decodings: For each prompt; `num_beams` and `length_penalty` are not looked at.
            stopped: Of a prompt's number and the tokens so far: whether a stop string ends the answer here.

        Returns:
            For each prompt, the tokens without the one that ends the answer, and whether it ended by itself.
        """
        if not prompts:
            return []
        groups: list[list[_Question]] = []
        prefixes: list[Prefix] = []
        known: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
        for number, (prompt, decoding) in enumerate(zip(prompts, decodings, strict=True)):
            key = (tuple(map(id, prompt.images)), prompt.head)
            if key not in known:
                known[key] = len(groups)
                groups.append([])
                prefixes.append(self._prefix(prompt))
            place = known[key]
            position = prefixes[place].position
            groups[place].append(
                _Question(number=number, decoding=decoding, prompt=prompt, pending=prompt.tail, position=position)
            )
        rows = Rows(self._network, prefixes)
        del prefixes  # the rows hold what is needed of them
        answers: dict[int, tuple[list[int], bool]] = {}
        while groups:
            logits = rows.forward([[question.piece() for question in group] for group in groups], last_only=True)
            finished = []
            for question in (question for group in groups for question in group):
                ended = self._advance(question, logits[question.number][-1], stopped)
                if ended is not None:
                    answers[question.number] = (question.tokens, ended)
                    finished.append(question.number)
            if finished:
                remaining = [[question for question in group if question.number not in answers] for group in groups]
                kept = [row for row, group in enumerate(remaining) if group]
                groups = [remaining[row] for row in kept]
                if groups:
                    rows.release(finished, kept)
        return [answers[number] for number in range(len(prompts))]

    @torch.inference_mode()
    def score(self, prompt: Prompt, candidates: Sequence[Sequence[int]]) -> list[float]:
        """The log-likelihood of each candidate after the prompt, summed over its tokens (one or more)."""
        rows, first, position = self._whole(prompt)
        first = first.float().log_softmax(dim=-1)
        heads = torch.tensor([candidate[0] for candidate in candidates], device=first.device)
        totals: list[float] = first[heads].double().tolist()
        done: list[int] = []
        for chunk in _chunks(candidates):
            if done:
                rows.release(done, [0])
            parts = [Piece(owner=number, tokens=candidates[number][:-1], position=position) for number in chunk]
            logits = rows.forward([parts], last_only=False)
            for number in chunk:
                after = logits[number].float()
                targets = torch.tensor(candidates[number][1:], device=after.device)
                chosen = after.gather(1, targets[:, None])[:, 0] - after.logsumexp(dim=-1)
                totals[number] += chosen.double().sum().item()
            done = chunk
        return totals

    def _whole(self, prompt: Prompt) -> tuple[Rows, Tensor, int]:
        """A prompt in the cache, the logits after it, and the position of what comes next.

        Computed from where the latest prompt ends, or one of its rounds.
        """
        pieces = prompt.pieces
        latest = self._begun(prompt)
        held = 0  # never all of them: the logits after the last one are wanted
        while held < min(len(latest.pieces), len(pieces) - 1) and latest.pieces[held] == pieces[held]:
            held += 1
        begun = latest.prefix.first(len(prompt.head) + sum(map(len, pieces[:held])))
        rows, position = Rows(self._network, [begun]), begun.position
        for piece in pieces[held:]:
            shown = Piece(owner=EVERYONE, tokens=piece, position=position)
            logits = rows.forward([[shown]], last_only=True)[EVERYONE][-1]
            position += len(piece)
        self._latest = _Latest(images=prompt.images, head=prompt.head, pieces=pieces, prefix=rows.shared(position))
        return rows, logits, position

    def _prefix(self, prompt: Prompt) -> Prefix:
        return self._begun(prompt).prefix.first(len(prompt.head))

    def _begun(self, prompt: Prompt) -> _Latest:
        """A prompt's head in the cache, with whatever follows it there."""
        latest = self._latest
        if latest is not None and latest.begins(prompt):
            return latest
        self._latest = latest = None  # frees the memory before it is needed again
        begun = self._network.begin(prompt.head, prompt.images)
        self._latest = _Latest(images=prompt.images, head=prompt.head, prefix=begun)
        return self._latest

    def _advance(self, question: _Question, logits: Tensor, stopped: Callable[[int, list[int]], bool]) -> bool | None:
        """Take the next token; whether the answer ended by itself, or None where it goes on."""
        decoding = question.decoding
        token = _choose(logits, question, self._network.ends)
        if token in self._network.ends:
            return True
        question.tokens.append(token)
        question.position += len(question.pending)
        question.pending = (token,)
        if decoding.stop and stopped(question.number, question.tokens):
            return True
        return False if len(question.tokens) >= decoding.max_new_tokens else None


def refuse_too_long(prompt: int, answer: int, longest: int, shown: str) -> None:
    """Refuse what a model has no positions for, before it computes anything.

    Args:
        prompt: Tokens of the prompt, images included.
        answer: Tokens of the longest candidate, or of the longest answer that is allowed. The last of them is never
            put into the network.
        longest: How many tokens the network takes.
        shown: The prompt's text, of which an error shows the end.

    Raises:
        DataError: They are more than the network takes.
    """
    if prompt + answer - 1 > longest:
        raise DataError(
            f"A prompt has {prompt} tokens with its images, an answer up to {answer}, and the model takes {longest}:"
            f" {shown[-200:]!r}.",
            "Shorten the conversation or the candidates, show fewer images, or allow shorter answers with "
            "-o max_new_tokens=N.",
        )


def round_ends(tokens: Sequence[int], earlier: Iterable[Sequence[int]]) -> list[int]:
    """How many tokens the prompts of earlier rounds have that are beginnings of a prompt, for `Prompt.rounds`.

    A template or a tokenizer may bring it about that some are none.
    """
    lengths: list[int] = []
    for each in earlier:
        if max(lengths, default=0) < len(each) < len(tokens) and list(tokens[: len(each)]) == list(each):
            lengths.append(len(each))
    return lengths


def _choose(logits: Tensor, question: _Question, ends: frozenset[int]) -> int:
    """The likeliest token after the penalties, in transformers' order; the first of equals."""
    decoding = question.decoding
    if decoding.repetition_penalty != 1:
        seen = sorted({*question.prompt.head, *question.prompt.tail, *question.tokens})
        values = logits[seen]
        penalty = decoding.repetition_penalty
        logits = logits.clone()
        logits[seen] = torch.where(values < 0, values * penalty, values / penalty)
    if len(question.tokens) < decoding.min_new_tokens:
        logits = logits.clone()
        logits[sorted(ends)] = -torch.inf
    token = int(logits.argmax())
    if bool(logits[token].isnan()):  # which is the largest of all
        raise ModelOutputError(
            f"The model gave NaN after {len(question.tokens)} tokens of an answer.",
            "Try --dtype float32; if it stays, the weights are damaged.",
        )
    return token


def _chunks(candidates: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Numbers of the candidates whose tokens go through the network together; those of one token need not."""
    chunk: list[int] = []
    size = 0
    for number, candidate in enumerate(candidates):
        more = len(candidate) - 1
        if chunk and size + more > PACKED_TOKENS:
            yield chunk
            chunk, size = [], 0
        if more:
            chunk.append(number)
            size += more
    if chunk:
        yield chunk
