"""Crisscrossed Captions: people's ratings of pairs over COCO's Karpathy val and test images.

From https://github.com/google-research-datasets/Crisscrossed-Captions. A file of each kind and split, with a header:

- `sits_test.csv`: `caption,image,agg_score,sampling_method`, image and text;
- `sis_test.csv`: `image1,image2,agg_score,sampling_method`, two images; some pairs are rated in both orders;
- `sts_test.csv`: `caption1,caption2,agg_score,sampling_method`, two texts.

An image is its file name, `COCO_val2014_000000205866.jpg`. A caption is `COCO_val2014:sentid:732091`, after the
`sentid` of Karpathy's `dataset_coco.json`, which is the id of COCO's own annotation. BLIP's annotation files have no
such ids; the package `eccv-caption` lists those of the test split in Karpathy's order. The ratings, from 0 to 5, are
means over several people.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from evalkit.datasets.captioned import CaptionedImage, malformed
from evalkit.errors import DataError, install_extra

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Kind = Literal["sits", "sis", "sts"]
CAPTIONS_EACH = 5
"""CxC knows the first five captions of each image."""
_COLUMNS: dict[Kind, tuple[str, str]] = {
    "sits": ("caption", "image"),
    "sis": ("image1", "image2"),
    "sts": ("caption1", "caption2"),
}
_CAPTION = re.compile(r"[^:]+:sentid:(\d+)")
_ORIGINAL = "c2i_original"
_HIGHEST = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedPair:
    """Two items and how alike people find them."""

    first: str
    """An image's file name, or a caption's id: `732091`."""
    second: str
    rating: float
    sampled: str
    """How the pair came to be rated: `c2i_original` is an image with its own caption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratings:
    """The three files of a split."""

    image_text: tuple[RatedPair, ...]
    """Captions first, as they stand in the file."""
    image_image: tuple[RatedPair, ...]
    text_text: tuple[RatedPair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedImages:
    """Captioned images with what is known of pairs of them."""

    images: tuple[CaptionedImage, ...]
    """Their caption ids are those of the ratings where `captions_are_rated`."""
    ratings: Ratings | None
    """None where nobody rated anything."""
    captions_are_rated: bool
    """False where the captions are not those that were rated, though the images may be."""


def read_ratings(sits: Path, sis: Path, sts: Path) -> Ratings:
    """Read a split's three files.

    Raises:
        DataError: One is missing, malformed or empty; names the line.
    """
    return Ratings(image_text=_read(sits, "sits"), image_image=_read(sis, "sis"), text_text=_read(sts, "sts"))


def rated_images(images: Sequence[CaptionedImage], ratings: Ratings, annotations: Path, split: str) -> RatedImages:
    """Tell which of the rated captions the images' captions are; captions beyond an image's fifth are left out.

    Captions with a `sentid` are those that were rated if the ratings give the same image for each id that they know,
    and know at least one; else they are somebody's own, whose numbers may be COCO's by chance.

    Args:
        images: As read from an annotation file.
        ratings: Of the same split.
        annotations: The file, for the message.
        split: `test` or `val`.

    Raises:
        DataError: The file has no caption ids, and nothing else gives them.
    """
    if any("#" in caption for image in images for caption in image.caption_ids):  # BLIP's, numbered by the reader
        images = _numbered(images, annotations, split)
    first = tuple(
        replace(image, captions=image.captions[:CAPTIONS_EACH], caption_ids=image.caption_ids[:CAPTIONS_EACH])
        for image in images
    )
    image_of = {pair.first: pair.second for pair in ratings.image_text if pair.sampled == _ORIGINAL}
    known = [
        (image_of[caption], image.image.name.rpartition("/")[2])
        for image in first
        for caption in image.caption_ids
        if caption in image_of
    ]
    rated = bool(known) and all(told == name for told, name in known)
    return RatedImages(images=first, ratings=ratings, captions_are_rated=rated)


def _numbered(images: Sequence[CaptionedImage], annotations: Path, split: str) -> tuple[CaptionedImage, ...]:
    ids = _test_caption_ids() if split == "test" else None
    if ids is None or any(image.id not in ids for image in images):
        package = f", or install the ids of the test split: {install_extra('eccv-caption')}" if split == "test" else ""
        raise DataError(
            f"{annotations} has no ids of captions, by which CxC names them.",
            f"Get Karpathy's dataset_coco.json, which has them as sentid (`evalkit data prepare cxc`){package}.",
        )
    return tuple(replace(image, captions=image.captions[:CAPTIONS_EACH], caption_ids=ids[image.id]) for image in images)


def _test_caption_ids() -> Mapping[str, tuple[str, ...]] | None:
    """COCO's number of each test image -> the ids of its first five captions; None without `eccv-caption`."""
    from evalkit.metrics import eccv

    folder = eccv.data_folder()
    if folder is None:
        return None
    coco = eccv.read_extended_coco(folder)
    each = [iter(map(str, coco.caption_ids))] * CAPTIONS_EACH
    return {str(image): captions for image, captions in zip(coco.image_ids, zip(*each, strict=True), strict=True)}


def _read(file: Path, kind: Kind) -> tuple[RatedPair, ...]:
    columns = _COLUMNS[kind]
    header = [*columns, "agg_score", "sampling_method"]
    pairs: list[RatedPair] = []
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            rows = csv.reader(opened)
            if (found := next(rows, [])) != header:
                raise malformed(file, f"the first line is {','.join(found)!r}, not {','.join(header)!r}")
            for row in rows:
                pairs.append(_pair(row, columns, file, rows.line_num))
    except FileNotFoundError as error:
        raise DataError(f"{file}: there is no such file.", "Run `evalkit data prepare cxc`.") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.", "Check what it is and its permissions.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise malformed(file, f"it is no CSV in UTF-8 ({error})") from error
    if not pairs:
        raise malformed(file, "it holds no pair")
    return tuple(pairs)


def _pair(row: list[str], columns: tuple[str, str], file: Path, line: int) -> RatedPair:
    if len(row) != 4:
        raise malformed(file, f"line {line} has {len(row)} fields, not 4")
    first, second, text, sampled = row
    try:
        rating = float(text)
    except ValueError:
        rating = -1.0
    if not 0.0 <= rating <= _HIGHEST:
        raise malformed(file, f"the rating {text!r} in line {line} is no number from 0 to 5")
    items = [_item(item, column, file, line) for item, column in zip((first, second), columns, strict=True)]
    return RatedPair(first=items[0], second=items[1], rating=rating, sampled=sampled)


def _item(text: str, column: str, file: Path, line: int) -> str:
    if not column.startswith("caption"):
        if text and not set(text) & set("/:\\"):
            return text
        raise malformed(file, f"{text!r} in line {line} is no image's file name")
    number = _CAPTION.fullmatch(text)
    if number is None:
        raise malformed(file, f"{text!r} in line {line} is no caption, such as COCO_val2014:sentid:732091")
    return number[1]
