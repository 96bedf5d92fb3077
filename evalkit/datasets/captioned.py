"""What every reader of image-caption data gives: images with their captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.errors import DataError
from evalkit.types import ImageRef

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionedImage:
    """One image and all of its captions, in the file's order."""

    id: str
    """The data set's own id: COCO's number without leading zeros, elsewhere the file name without its suffix."""
    image: ImageRef
    captions: tuple[str, ...]
    """As they stand in the file: cleaning belongs to the model's preprocessing."""
    caption_ids: tuple[str, ...]
    """One a caption: the data set's own where the file has them, else `<image id>#<position>`."""


def check_captioned(images: Sequence[CaptionedImage], file: Path) -> None:
    """Refuse data that would give wrong numbers.

    Args:
        images: What was read.
        file: Where it was read from, for the message.

    Raises:
        DataError: No image at all; an image or caption id that occurs twice; an image without captions, or with another
            number of ids than captions; a blank caption.
    """
    if not images:
        raise malformed(file, "the split is empty: it holds no image")
    image_ids: set[str] = set()
    caption_ids: set[str] = set()
    for image in images:
        if image.id in image_ids:
            raise malformed(file, f"image {image.id} occurs twice")
        image_ids.add(image.id)
        if not image.captions:
            raise malformed(file, f"image {image.id} has no caption")
        if len(image.caption_ids) != len(image.captions):
            raise malformed(
                file, f"image {image.id} has {len(image.captions)} captions but {len(image.caption_ids)} caption ids"
            )
        for number, (caption, caption_id) in enumerate(zip(image.captions, image.caption_ids, strict=True), start=1):
            if not caption.strip():
                raise malformed(file, f"caption {number} of image {image.id} is blank")
            if caption_id in caption_ids:
                raise malformed(file, f"caption id {caption_id} occurs twice, the second time on image {image.id}")
            caption_ids.add(caption_id)


def malformed(file: Path, problem: str) -> DataError:
    """The error for an annotation file that can be read but not used."""
    return DataError(
        f"{file}: {problem}.", "Correct it; a benchmark's own file comes again with `evalkit data prepare TASK`."
    )
