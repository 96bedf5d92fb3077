"""BLIP's annotation files: `coco_karpathy_{train,val,test}.json`, `flickr30k_{train,val,test}.json`.

From https://storage.googleapis.com/sfr-vision-language-research/datasets/.

Evaluation form: `[{"image": "val2014/X.jpg", "caption": [text, ...]}]`, one record an image. Training form:
`[{"image", "caption": text, "image_id"}]`, one record a caption, so that an image repeats. Neither has caption ids.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from evalkit.datasets.annotation_json import as_list, as_object, list_of, read_json, relative_path, text_of
from evalkit.datasets.captioned import CaptionedImage, check_captioned, malformed
from evalkit.types import ImageRef

if TYPE_CHECKING:
    from collections.abc import Mapping

_COCO_NAME = re.compile(r"(?:COCO_[a-z]+\d{4}_)?(\d{12})")
"""`COCO_val2014_000000391895` (2014 release) or `000000391895` (2017 release); Flickr30k's numbers are shorter."""


@dataclass(slots=True)
class _Draft:
    path: PurePosixPath
    one_caption_a_record: bool
    captions: list[str] = field(default_factory=list)


def read_blip_json(file: Path, images_root: Path, *, keep_folder: bool = True) -> tuple[CaptionedImage, ...]:
    """Read a BLIP annotation file, in the file's order.

    Args:
        file: The annotation file; a file is a split.
        images_root: An image lies at `<images_root>/<image>`. Not looked at here.
        keep_folder: False where the images lie directly in `images_root`, whatever folder the records name (Flickr30k's
            say `flickr30k-images/X.jpg`, but the folder goes by other names too).

    Returns:
        One entry an image: the id is COCO's number, taken from the file name, or the file name without suffix; captions
        are all of them; caption ids are `<image id>#<position>`.

    Raises:
        DataError: The file is missing or malformed, or an image has two records.
    """
    images: list[CaptionedImage] = []
    for image_id, draft in _drafts(file).items():
        place = draft.path if keep_folder else draft.path.name
        images.append(
            CaptionedImage(
                id=image_id,
                image=ImageRef(id=image_id, source=images_root / place),
                captions=tuple(draft.captions),
                caption_ids=tuple(f"{image_id}#{position}" for position in range(len(draft.captions))),
            )
        )
    check_captioned(images, file)
    return tuple(images)


def _drafts(file: Path) -> dict[str, _Draft]:
    drafts: dict[str, _Draft] = {}
    for index, value in enumerate(as_list(read_json(file), file, "the file")):
        where = f"record {index}"
        record = as_object(value, file, where)
        path = relative_path(text_of(record, "image", file, where), file, where)
        image_id = _image_id(path)
        single = isinstance(record.get("caption"), str)
        draft = drafts.get(image_id)
        if draft is None:
            drafts[image_id] = draft = _Draft(path, single)
        elif not (single and draft.one_caption_a_record):
            raise malformed(file, f"{where}: image {image_id} ({path}) occurs twice")
        draft.captions += _captions(record, file, f"{where} ({path})", single)
    return drafts


def _captions(record: Mapping[str, object], file: Path, where: str, single: bool) -> list[str]:
    if single:
        return [text_of(record, "caption", file, where)]
    captions: list[str] = []
    for number, caption in enumerate(list_of(record, "caption", file, where)):
        if not isinstance(caption, str):
            raise malformed(file, f"caption {number + 1} of {where} is not a text")
        captions.append(caption)
    return captions


def _image_id(path: PurePosixPath) -> str:
    number = _COCO_NAME.fullmatch(path.stem)
    return str(int(number[1])) if number else path.stem
