"""Tasks on COCO's captioned photos, or on one's own: the split, and the name that numbers stand under."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from evalkit.datasets.captioned import CaptionedImage
from evalkit.errors import DataError
from evalkit.families import naming
from evalkit.types import ImageRef, Sample, TaskCard

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionedSplit:
    """A split as it was read."""

    images: tuple[CaptionedImage, ...]
    """All of them, official order."""
    own: bool
    """Whether it is somebody's own data, which has no official name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionedSample(Sample):
    """One image with people's captions of it."""

    image: ImageRef
    captions: tuple[str, ...]


class CaptionedPhotos(ABC):
    """What such tasks share; a subclass names its data. `read` is called before names are asked for."""

    card: ClassVar[TaskCard]
    kind: ClassVar[str]
    """What is done with the split by default, `capfilt-swapped`: the card's protocol ends in it."""
    expected_images: ClassVar[int]
    expected_captions: ClassVar[int]
    """With fewer or more of either, the protocol's name says that this is not the whole split."""
    _own = False

    @abstractmethod
    def captioned_split(self, data_dir: Path) -> CaptionedSplit:
        """Read the whole split.

        Raises:
            DataError: Missing or malformed data.
        """

    def read(self, data_dir: Path, limit: int | None) -> tuple[CaptionedImage, ...]:
        """The whole split, of which a run takes the first `limit`.

        Raises:
            DataError: As `captioned_split`, or the limit leaves nothing.
        """
        split = self.captioned_split(data_dir)
        self._own = split.own
        if not split.images[:limit]:
            raise DataError(f"{self.card.name}: no image of the split is left.", "Give a --limit of 1 or more.")
        return split.images

    def split_name(self, samples: Sequence[CaptionedSample], kind: str | None = None) -> str:
        """The protocol's name: a part of the split never carries the whole one's.

        Own data has no name: its size and a digest of its captions tell one set from another.

        Args:
            samples: Those that were answered.
            kind: What is done with them, where options change that: `illustrate-by-3`.
        """
        captions = [caption for sample in samples for caption in sample.captions]
        if self._own:
            return f"karpathy-layout-{len(samples)}-{naming.texts_digest(captions)}-{kind or self.kind}"
        whole = (len(samples), len(captions)) == (self.expected_images, self.expected_captions)
        protocol = f"{self.card.protocol.removesuffix(self.kind)}{kind or self.kind}"
        return naming.split_name(protocol, len(samples), whole=whole)
