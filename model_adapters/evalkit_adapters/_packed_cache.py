"""The keys and values of prompts and of what follows them: one row a prefix, the texts behind it side by side.

A row of the batch is one prefix, an image say. The tokens of all texts behind it (questions, or candidates) lie in that
row one after another, and a mask lets each see the prefix and its own text only. Prefixes of unlike lengths are aligned
on the right, with padding on the left that nobody sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    from evalkit_adapters.conversations import PreparedImage

EVERYONE: Final = -1
"""Owner of a cached token that all questions of its row see."""
NOBODY: Final = -2
"""Owner of padding, and of the tokens of questions that are finished."""
_WORTH_TRIMMING: Final = 0.9
"""Share of columns still in use below which the others are dropped from the cache, which copies it."""


class PackedNetwork(Protocol):
    """What must be known of a model to answer and score with it here."""

    @property
    def model(self) -> PreTrainedModel:
        """Takes ids, positions, a mask of four axes and a cache, and gives logits."""
        ...

    @property
    def ends(self) -> frozenset[int]:
        """The tokens that end an answer."""
        ...

    @property
    def has_grid_positions(self) -> bool:
        """Whether positions have three axes."""
        ...

    def begin(self, head: Sequence[int], images: Sequence[Any]) -> Prefix:
        """Put a prompt's images, and the tokens up to the last of them, through the network."""
        ...


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

    def begin(self, head: Sequence[int], images: Sequence[PreparedImage]) -> Prefix:
        """See `PackedNetwork`."""
        ids = torch.tensor([list(head)], device=self.model.device)
        inputs = self.image_inputs(images)
        positions = self.positions(ids, inputs)
        output = self.model(
            input_ids=ids,
            position_ids=positions,
            past_key_values=DynamicCache(),
            use_cache=True,
            logits_to_keep=1,
            **inputs,
        )
        return Prefix.of(output.past_key_values, int(positions.max()) + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """What is cached of tokens that everyone shares."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    """Keys and values, each (1, heads, length, width)."""
    position: int
    """Of the token that comes next."""

    @classmethod
    def of(cls, cache: Any, position: int) -> Prefix:
        """The only row of a cache of transformers, and the position of the token that comes next."""
        return cls(layers=tuple((layer.keys, layer.values) for layer in cache.layers), position=position)

    @property
    def length(self) -> int:
        return self.layers[0][0].shape[2]

    def first(self, length: int) -> Prefix:
        """As it was before the tokens behind so many, which are text."""
        if length == self.length:
            return self
        layers = tuple((keys[:, :, :length], values[:, :, :length]) for keys, values in self.layers)
        return Prefix(layers=layers, position=self.position - (self.length - length))


@dataclass(slots=True, kw_only=True)
class Piece:
    """Tokens that belong to one question or candidate, to be put through the network."""

    owner: int
    tokens: Sequence[int]
    position: int
    """Of the first token."""


class Rows:
    """The cache of a batch: one row a prefix, and the owner of each of its columns."""

    def __init__(self, network: PackedNetwork, prefixes: Sequence[Prefix]) -> None:
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

    def forward(self, pieces: Sequence[Sequence[Piece]], *, last_only: bool) -> dict[int, Tensor]:
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

    def shared(self, position: int) -> Prefix:
        """What a single row has in the cache, as long as everyone sees all of it.

        Args:
            position: Of the token that comes next.
        """
        return Prefix.of(self._cache, position)

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
