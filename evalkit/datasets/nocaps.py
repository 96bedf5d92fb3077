"""nocaps (https://nocaps.org): the official files, BLIP's image list, and the usual re-publication with domains.

- `nocaps_val_4500_captions.json`: COCO's caption form, `domain` in its images where the release has it.
- `nocaps_val_image_info.json`, `nocaps_test_image_info.json`: the images alone.
- `nocaps_val.json` of BLIP: `[{"image": "val/X.jpg", "img_id": 0}]`, the images alone.
- `nocaps_val_corpus.json`: `[{"split": "in_domain", "image_id": "0.jpg", "caption": [text, ...]}]`, references with
  domains; the number is the official image id.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from evalkit.datasets.annotation_json import as_list, as_object, id_of, list_of, read_json, relative_path, text_of
from evalkit.datasets.captioned import malformed
from evalkit.datasets.coco_captions import CaptionedPhoto, domain_of, read_coco_captions
from evalkit.types import ImageRef

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def read_nocaps(file: Path, images: Path, *, corpus: Path | None = None) -> tuple[CaptionedPhoto, ...]:
    """Read nocaps from any of its files, in the file's order.

    Args:
        file: A caption file, an image info file or BLIP's list.
        images: The folder the images lie in. Not looked at here.
        corpus: `nocaps_val_corpus.json`: gives the references and domains that `file` lacks.

    Raises:
        DataError: A file is missing or malformed, or the two do not have the same images.
    """
    content = read_json(file)
    if isinstance(content, list):
        photos = _blip_list(content, file, images)
    else:
        scored = "annotations" in as_object(content, file, "the file")
        photos = read_coco_captions(file, images, with_references=scored)
    return photos if corpus is None else _with_corpus(photos, file, corpus)


def _blip_list(records: Sequence[object], file: Path, images: Path) -> tuple[CaptionedPhoto, ...]:
    photos: dict[str, CaptionedPhoto] = {}
    for index, value in enumerate(records):
        where = f"record {index}"
        record = as_object(value, file, where)
        image_id = id_of(record, "img_id", file, where)
        if image_id in photos:
            raise malformed(file, f"image {image_id} occurs twice")
        path = relative_path(text_of(record, "image", file, where), file, where)
        image = ImageRef(id=image_id, source=images / path.name)
        photos[image_id] = CaptionedPhoto(id=image_id, image=image, references=())
    if not photos:
        raise malformed(file, "the split is empty: it holds no image")
    return tuple(photos.values())


def _with_corpus(photos: Sequence[CaptionedPhoto], file: Path, corpus: Path) -> tuple[CaptionedPhoto, ...]:
    told: dict[str, tuple[str, tuple[str, ...]]] = {}
    for index, value in enumerate(as_list(read_json(corpus), corpus, "the file")):
        where = f"record {index}"
        record = as_object(value, corpus, where)
        image_id = id_of(record, "image_id", corpus, where).removesuffix(".jpg")
        captions = list_of(record, "caption", corpus, where)
        texts = tuple(caption for caption in captions if isinstance(caption, str))
        if image_id in told or not texts or len(texts) != len(captions):
            raise malformed(corpus, f"{where} (image {image_id}) occurs twice, or has no captions that are texts")
        told[image_id] = (domain_of(record, "split", corpus, where), texts)
    if missing := next((photo.id for photo in photos if photo.id not in told), None):
        raise malformed(corpus, f"image {missing} of {file.name} is not in it")
    return tuple(
        replace(photo, domain=photo.domain or told[photo.id][0], references=photo.references or told[photo.id][1])
        for photo in photos
    )
