"""Caption files in COCO's own form: `captions_val2017.json`, `nocaps_val_4500_captions.json`, test splits' image lists.

`{"images": [{"id", "file_name", ...}], "annotations": [{"id", "image_id", "caption"}]}`. A test split's file has images
only. nocaps' images may carry a `domain`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.datasets.annotation_json import as_object, id_of, list_of, read_json, relative_path, text_of
from evalkit.datasets.captioned import malformed
from evalkit.types import ImageRef

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionedPhoto:
    """An image to caption, and how people captioned it."""

    id: str
    image: ImageRef
    references: tuple[str, ...]
    """As they stand in the file; empty in a test split."""
    domain: str | None = None
    """nocaps: `in`, `near`, `out`; None elsewhere, and where the file does not say."""


def read_coco_captions(file: Path, images_root: Path, *, with_references: bool = True) -> tuple[CaptionedPhoto, ...]:
    """Read a caption file, in the order of its images.

    Args:
        file: The file.
        images_root: An image lies at `<images_root>/<file_name>`. Not looked at here.
        with_references: False for a file of images alone.

    Raises:
        DataError: Missing or malformed; an image that occurs twice or lacks captions; a caption of no image.
    """
    content = as_object(read_json(file), file, "the file")
    references = _references(content, file) if with_references else {}
    photos: list[CaptionedPhoto] = []
    seen: set[str] = set()
    for index, value in enumerate(list_of(content, "images", file, "the file")):
        where = f"images[{index}]"
        record = as_object(value, file, where)
        image_id = id_of(record, "id", file, where)
        if image_id in seen:
            raise malformed(file, f"image {image_id} occurs twice")
        seen.add(image_id)
        if with_references and image_id not in references:
            raise malformed(file, f"image {image_id} has no caption")
        name = relative_path(text_of(record, "file_name", file, where), file, where)
        photos.append(
            CaptionedPhoto(
                id=image_id,
                image=ImageRef(id=image_id, source=images_root / name),
                references=tuple(references.get(image_id, ())),
                domain=domain_of(record, "domain", file, where) if "domain" in record else None,
            )
        )
    if strange := next((image for image in references if image not in seen), None):
        raise malformed(file, f"a caption is of image {strange}, which is not among the images")
    if not photos:
        raise malformed(file, "the split is empty: it holds no image")
    return tuple(photos)


def domain_of(record: Mapping[str, object], key: str, file: Path, where: str) -> str:
    """`in`, `near` or `out`, however the file writes it: `near-domain`, `near_domain`."""
    written = text_of(record, key, file, where)
    domain = written.replace("_", "-").removesuffix("-domain")
    if domain not in ("in", "near", "out"):
        raise malformed(file, f"{key!r} of {where} is {written!r}, not in-domain, near-domain or out-domain")
    return domain


def _references(content: Mapping[str, object], file: Path) -> dict[str, list[str]]:
    references: dict[str, list[str]] = {}
    for index, value in enumerate(list_of(content, "annotations", file, "the file")):
        where = f"annotations[{index}]"
        record = as_object(value, file, where)
        caption = text_of(record, "caption", file, where)
        references.setdefault(id_of(record, "image_id", file, where), []).append(caption)
    return references
