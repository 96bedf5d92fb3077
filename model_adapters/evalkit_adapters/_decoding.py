"""Greedy decoding and candidate scoring of decoder-only models that see images, with nothing computed twice.

What is shared is computed once, and its keys and values stay in the cache:

- of a prompt, everything up to its last image (`Prompt.head`) is the same for all questions on the image. Causal
  attention makes that exact: no token sees what follows it.
- of a request to score candidates, the whole prompt is.

What differs is packed. One row of the batch is one image; the tokens of all its questions (or candidates) lie in that
row side by side, and a mask lets each see the shared part and its own question only. No key of an image is copied
for a second question, and prompts of unlike lengths are aligned on the right, with padding on the left that nobody
sees. A finished question leaves the row, a finished row leaves the batch.

`_plain_decoding` computes the same the plain way, one prompt at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from evalkit.errors import ModelOutputError
from evalkit.types import Decoding
from evalkit_adapters.conversations import PreparedImage

EVERYONE: Final = -1
"""Owner of a cached token that all questions of its row see."""
NOBODY: Final = -2
"""Owner of padding, and of the tokens of questions that are finished."""
PACKED_TOKENS: Final = 512
"""Most candidate tokens a forward pass: bounds the logits, which take 4 bytes x vocabulary each."""
_WORTH_TRIMMING: Final = 0.9
"""Share of columns still in use below which the others are dropped from the cache, which copies it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One prompt as token ids."""

    images: tuple[PreparedImage, ...]
    """Identity matters: prompts with the same objects and the same head share what is computed for it."""
    head: tuple[int, ...]
    """Up to and including the last token of the last image; without images, all but the last token."""
    tail: tuple[int, ...]
    """The rest; at least one token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A model, and what must be known to call it.

    Args:
        model: transformers' model for image and text to text, in evaluation mode, on its device.
        ends: The tokens that end an answer.
        image_token: The token that is replaced by an image's features.
        images_are_one_sample: Whether the model wants an axis for prompts before that of images.
    """

    model: PreTrainedModel
    ends: frozenset[int]
    image_token: int
    images_are_one_sample: bool = False

    @property
    def has_grid_positions(self) -> bool:
        """Whether positions have three axes (time, height, width), as in the Qwen-VL models."""
        return hasattr(self.model.base_model, "get_rope_index")

    def image_inputs(self, images: Sequence[PreparedImage]) -> dict[str, Tensor]:
        """The images of one prompt as arguments of the model's `forward`."""
        inputs: dict[str, Tensor] = {}
        for name in images[0].inputs if images else ():
            joined = torch.cat([torch.from_numpy(image.inputs[name]) for image in images]).to(self.model.device)
            joined = joined.to(self.model.dtype) if joined.is_floating_point() else joined
            inputs[name] = joined[None] if self.images_are_one_sample else joined
        return inputs

    def token_types(self, ids: Tensor) -> dict[str, Tensor]:
        """Which tokens are images, for the models that want to be told."""
        return {"mm_token_type_ids": (ids == self.image_token).int()} if self.has_grid_positions else {}

    def positions(self, ids: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Positions of one whole head: (1, length), or (3, 1, length)."""
        if not self.has_grid_positions:
            return torch.arange(ids.shape[1], device=ids.device)[None]
        model: Any = self.model.base_model
        grid = inputs.get("image_grid_thw")
        positions: Tensor = model.get_rope_index(ids, image_grid_thw=grid, **self.token_types(ids))[0]
        return positions


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prefix:
    """What is cached of tokens that everyone shares."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    """Keys and values, each (1, heads, length, width)."""
    position: int
    """Of the token that comes next."""

    @property
    def length(self) -> int:
        return self.layers[0][0].shape[2]


@dataclass(slots=True, kw_only=True)
class _Piece:
    """Tokens that belong to one question or candidate, to be put through the network."""

    owner: int
    tokens: Sequence[int]
    position: int
    """Of the first token."""


class _Rows:
    """The cache of a batch: one row a prefix, and the owner of each of its columns."""

    def __init__(self, network: Network, prefixes: Sequence[_Prefix]) -> None:
        self._network = network
        self._device = network.model.device
        width = max(prefix.length for prefix in prefixes)
        layers = []
        for pairs in zip(*(prefix.layers for prefix in prefixes), strict=True):
            keys, values = (_aligned(parts, width) for parts in zip(*pairs, strict=True))
            layers.append(_layer(keys, values))
        self._layers = layers
        self._cache = DynamicCache()
        self._cache.layers.extend(layers)
        self._owner = torch.full((len(prefixes), width), EVERYONE, device=self._device)
        for row, prefix in enumerate(prefixes):
            self._owner[row, : width - prefix.length] = NOBODY

    def forward(self, pieces: Sequence[Sequence[_Piece]], *, last_only: bool) -> dict[int, Tensor]:
        """Put each row's pieces through the network, side by side.

        Args:
            pieces: For each row.
            last_only: Whether the logits after each piece's last token are enough.

        Returns:
            Owner -> logits after each of its tokens, (tokens or 1, vocabulary).
        """
        width = max(sum(len(piece.tokens) for piece in row) for row in pieces)
        ids = torch.zeros((len(pieces), width), dtype=torch.long)
        positions, owner = torch.zeros_like(ids), torch.full_like(ids, NOBODY)
        places: dict[int, tuple[int, slice]] = {}
        for row, parts in enumerate(pieces):
            start = 0
            for piece in parts:
                own = slice(start, start := start + len(piece.tokens))
                ids[row, own] = torch.tensor(piece.tokens)
                positions[row, own] = torch.arange(piece.position, piece.position + len(piece.tokens))
                owner[row, own] = piece.owner
                places[piece.owner] = (row, slice(own.stop - 1, own.stop) if last_only else own)
        wanted = sorted({column for _, own in places.values() for column in range(own.start, own.stop)})
        logits = self._logits(ids.to(self._device), positions.to(self._device), owner.to(self._device), wanted)
        column_of = {column: place for place, column in enumerate(wanted)}
        return {
            name: logits[row, column_of[own.start] : column_of[own.stop - 1] + 1] for name, (row, own) in places.items()
        }

    def _logits(self, ids: Tensor, positions: Tensor, owner: Tensor, wanted: Sequence[int]) -> Tensor:
        """(rows, wanted columns, vocabulary); the tokens are cached."""
        before, width = self._owner.shape[1], ids.shape[1]
        self._owner = torch.cat([self._owner, owner], dim=1)
        column = torch.arange(before + width, device=self._device)
        seen = (self._owner[:, None] == EVERYONE) | (self._owner[:, None] == owner[:, :, None])
        seen &= column <= column[before:, None]  # padding sees padding: a row of the mask is never empty
        if self._network.has_grid_positions:
            positions = positions.expand(3, -1, -1)
        output = self._network.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=seen[:, None],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=torch.tensor(wanted, device=self._device),
        )
        logits: Tensor = output.logits
        return logits

    def release(self, finished: Sequence[int], rows: Sequence[int]) -> None:
        """Forget the tokens of questions that are finished, and rows without a question.

        Args:
            finished: Owners.
            rows: The rows to keep, in order.
        """
        self._owner[torch.isin(self._owner, torch.tensor(finished, device=self._device))] = NOBODY
        kept = torch.tensor(rows, device=self._device)
        owner = self._owner[kept]
        used = (owner != NOBODY).any(dim=0)
        if len(rows) == len(self._owner) and used.float().mean() > _WORTH_TRIMMING:
            return
        columns = used.nonzero()[:, 0]
        self._owner = owner[:, columns]
        for layer in self._layers:
            layer.keys = layer.keys[kept][:, :, columns]
            layer.values = layer.values[kept][:, :, columns]


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

    def piece(self) -> _Piece:
        """What goes through the network next."""
        return _Piece(owner=self.number, tokens=self.pending, position=self.position)


class SharedPrefixDecoder:
    """Answers prompts and scores candidates; the cache of the latest head is kept for the next call."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._latest: tuple[Prompt, _Prefix] | None = None

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
        prefixes: list[_Prefix] = []
        known: dict[tuple[tuple[PreparedImage, ...], tuple[int, ...]], int] = {}
        for number, (prompt, decoding) in enumerate(zip(prompts, decodings, strict=True)):
            key = (prompt.images, prompt.head)
            if key not in known:
                known[key] = len(groups)
                groups.append([])
                prefixes.append(self._prefix(prompt))
            place = known[key]
            position = prefixes[place].position
            groups[place].append(
                _Question(number=number, decoding=decoding, prompt=prompt, pending=prompt.tail, position=position)
            )
        rows = _Rows(self._network, prefixes)
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
        shared = self._prefix(prompt)
        rows = _Rows(self._network, [shared])
        piece = _Piece(owner=EVERYONE, tokens=prompt.tail, position=shared.position)
        first = rows.forward([[piece]], last_only=True)[EVERYONE][-1].float().log_softmax(dim=-1)
        heads = torch.tensor([candidate[0] for candidate in candidates], device=first.device)
        totals: list[float] = first[heads].double().tolist()
        position = shared.position + len(prompt.tail)
        done: list[int] = []
        for chunk in _chunks(candidates):
            if done:
                rows.release(done, [0])
            parts = [_Piece(owner=number, tokens=candidates[number][:-1], position=position) for number in chunk]
            logits = rows.forward([parts], last_only=False)
            for number in chunk:
                after = logits[number].float()
                targets = torch.tensor(candidates[number][1:], device=after.device)
                chosen = after.gather(1, targets[:, None])[:, 0] - after.logsumexp(dim=-1)
                totals[number] += chosen.double().sum().item()
            done = chunk
        return totals

    def _prefix(self, prompt: Prompt) -> _Prefix:
        latest = self._latest
        if latest is not None and (latest[0].images, latest[0].head) == (prompt.images, prompt.head):
            return latest[1]
        self._latest = None  # frees the memory before it is needed again
        ids = torch.tensor([prompt.head], device=self._network.model.device)
        inputs = self._network.image_inputs(prompt.images)
        positions = self._network.positions(ids, inputs)
        output = self._network.model(
            input_ids=ids,
            position_ids=positions,
            past_key_values=DynamicCache(),
            use_cache=True,
            logits_to_keep=1,
            **inputs,
        )
        layers = tuple((layer.keys, layer.values) for layer in output.past_key_values.layers)
        prefix = _Prefix(layers=layers, position=int(positions.max()) + 1)
        self._latest = (prompt, prefix)
        return prefix

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


def _aligned(parts: Sequence[Tensor], width: int) -> Tensor:
    """(rows, heads, width, head width): each part on the right, zeros on the left."""
    if len(parts) == 1:
        return parts[0]  # the cache never writes into what it is given
    return torch.cat([pad(part, (0, 0, width - part.shape[2], 0)) for part in parts])


def _layer(keys: Tensor, values: Tensor) -> Any:
    layer: Any = DynamicLayer()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    layer.lazy_initialization(keys, values)
    layer.keys, layer.values = keys, values  # `update` would copy them
    return layer
