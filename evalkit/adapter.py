"""What a model adapter looks like: one Protocol per capability.

An adapter is a plain class without a base. It defines `card`, `describe` and `load`, and of the capability methods
those it can do and nothing else. Capability methods get one batch, never split it, and never catch errors: batching,
caching, retries, order and checks are the business of `evalkit.model.Model`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeAlias, TypeVar

from evalkit.types import CAPABILITIES, Capability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from evalkit.types import (
        CandidateScore,
        Checkpoint,
        FloatArray,
        GenerateRequest,
        Generation,
        MatchRequest,
        ModelCard,
        Placement,
        Preprocessing,
        ScoreRequest,
    )

PreparedT = TypeVar("PreparedT")
PreparedOut = TypeVar("PreparedOut", covariant=True)
PreparedIn = TypeVar("PreparedIn", contravariant=True)


class Adapter(Protocol):
    """What every adapter has; the entry point names the class."""

    card: ClassVar[ModelCard]

    @classmethod
    def describe(cls, checkpoint: Checkpoint) -> Preprocessing:
        """What is done to inputs, read from the checkpoint's configuration alone: no weights, no torch."""
        ...

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        """Load the weights.

        Raises:
            CheckpointError: A file is missing, or the weights are not of this architecture.
        """
        ...


class PreparesImages(Protocol[PreparedOut]):
    """Every adapter that takes images."""

    def prepare_image(self, image: Image) -> PreparedOut:
        """Turn one RGB image into what the network takes. Pure and thread-safe: it runs in loader threads."""
        ...


class EncodesImages(Protocol[PreparedIn]):
    """Image embeddings."""

    def encode_image(self, images: Sequence[PreparedIn]) -> FloatArray:
        """Embed a batch: (n, d), or (n, q, d) with q vectors an image; L2-normalised float32."""
        ...


class EncodesTexts(Protocol):
    """Text embeddings."""

    def encode_text(self, texts: Sequence[str]) -> FloatArray:
        """Embed a batch: (n, d), L2-normalised float32, in the space of `encode_image` where there is one."""
        ...


class EncodesQueries(Protocol):
    """Embeddings of what is searched for, in models that treat it differently from what is found (DPR)."""

    def encode_query(self, texts: Sequence[str]) -> FloatArray:
        """Embed a batch: (n, d), L2-normalised float32, in the space of `encode_text`."""
        ...


class Matches(Protocol[PreparedT]):
    """Image-text matching by cross-attention or the like."""

    def match(self, requests: Sequence[MatchRequest[PreparedT]]) -> Sequence[FloatArray]:
        """One number a text by `request.scoring`, float32, in order of requests: arrays (len(request.texts),)."""
        ...


class Generates(Protocol[PreparedT]):
    """Captions, answers, dialog."""

    def generate(self, requests: Sequence[GenerateRequest[PreparedT]]) -> Sequence[Generation]:
        """The model's text for each request in order, prompt not included."""
        ...


class ScoresCandidates(Protocol[PreparedT]):
    """Likelihood of given continuations."""

    def score_candidates(self, requests: Sequence[ScoreRequest[PreparedT]]) -> Sequence[Sequence[CandidateScore]]:
        """For each request in order, one score a candidate in order."""
        ...


class TreatsQueries(Protocol):
    """An adapter with `encode_query` whose weights may treat queries like any text: then nothing is embedded twice."""

    @classmethod
    def treats_queries(cls, checkpoint: Checkpoint) -> bool:
        """Whether a query's embedding differs from the text's; read from the configuration alone, as `describe`."""
        ...


AdapterClass: TypeAlias = type[Any]
"""A class that satisfies `Adapter`; `type[Adapter]` cannot be said of classes with different capabilities."""


def capabilities_of(adapter_class: AdapterClass) -> tuple[Capability, ...]:
    """The capabilities an adapter class defines, in the order of `CAPABILITIES`."""
    return tuple(name for name in CAPABILITIES if callable(getattr(adapter_class, name, None)))


def capabilities_with(adapter_class: AdapterClass, checkpoint: Checkpoint) -> tuple[Capability, ...]:
    """Those of them that these weights have: without `encode_query` where it gives what `encode_text` gives."""
    treats_queries = getattr(adapter_class, "treats_queries", None)
    alike = treats_queries is not None and not treats_queries(checkpoint)
    return tuple(name for name in capabilities_of(adapter_class) if not (alike and name == "encode_query"))
