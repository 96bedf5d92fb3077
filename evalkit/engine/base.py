"""What an engine is: it executes batches in order and hands back their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from evalkit.types import Capability, GenerateRequest, ImageRef, MatchRequest, ScoreRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Request: TypeAlias = ImageRef | str | MatchRequest[ImageRef] | GenerateRequest[ImageRef] | ScoreRequest[ImageRef]
"""What `encode_image`, the two text encoders, `match`, `generate` and `score_candidates` are asked, in that order."""

Answer: TypeAlias = Any
"""An embedding row, an array of logits, a `Generation`, a list of `CandidateScore`, or a `Failure`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Requests of one capability that go through the network together."""

    capability: Capability
    requests: tuple[Request, ...]


class Engine(Protocol):
    """Executes batches."""

    def run(self, batches: Sequence[Batch]) -> Iterator[Sequence[Answer]]:
        """Yield the answers of each batch, in order; the next batch is not computed before it is asked for."""
        ...

    def close(self) -> None:
        """Release the model and whatever else is held."""
        ...


def images_of(request: Request) -> tuple[ImageRef, ...]:
    """The images a request needs."""
    if isinstance(request, ImageRef):
        return (request,)
    return () if isinstance(request, str) else request.images
