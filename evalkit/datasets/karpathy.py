"""Karpathy's `dataset_coco.json` and `dataset_flickr30k.json`, from https://cs.stanford.edu/people/karpathy/deepimagesent/.

`{"dataset": ..., "images": [{"filepath", "filename", "imgid", "split", "cocoid", "sentences": [{"raw", "sentid"}]}]}`;
the Flickr30k file has neither `filepath` nor `cocoid`. Splits are train, val, test, and on COCO `restval`: the rest of
COCO's own val set, which commonly joins the training split.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from evalkit.datasets.annotation_json import as_object, id_of, list_of, read_json, relative_path, text_of
from evalkit.datasets.captioned import CaptionedImage, check_captioned, malformed
from evalkit.types import ImageRef

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path


def read_karpathy(file: Path, splits: Collection[str], images_root: Path) -> tuple[CaptionedImage, ...]:
    """Read the images of some splits, in the file's order.

    Args:
        file: The annotation file.
        splits: `("test",)`, `("train", "restval")`, ...
        images_root: An image lies at `<images_root>/<filepath>/<filename>`. Not looked at here.

    Returns:
        One entry an image: the id is `cocoid` on COCO, elsewhere the file name without suffix; captions are the `raw`
        texts, all of them; caption ids are the `sentid`s (on COCO the ids of COCO's own caption annotations).

    Raises:
        DataError: The file is missing or malformed, or a split is empty.
    """
    content = as_object(read_json(file), file, "the file")
    records = list_of(content, "images", file, "the file")
    on_coco = content.get("dataset") == "coco"
    images: list[CaptionedImage] = []
    seen: Counter[str] = Counter()
    for index, value in enumerate(records):
        where = f"images[{index}]"
        record = as_object(value, file, where)
        split = text_of(record, "split", file, where)
        seen[split] += 1
        if split in splits:
            images.append(_captioned(record, file, where, images_root, on_coco))
    for split in splits:
        if not seen[split]:
            there = ", ".join(f"{name} ({count:,})" for name, count in seen.items()) or "none at all"
            raise malformed(file, f"the split {split!r} is empty; the file has: {there}")
    check_captioned(images, file)
    return tuple(images)


def _captioned(
    record: Mapping[str, object], file: Path, where: str, images_root: Path, on_coco: bool
) -> CaptionedImage:
    name = text_of(record, "filename", file, where)
    folder = text_of(record, "filepath", file, where) if "filepath" in record else ""
    path = relative_path(f"{folder}/{name}" if folder else name, file, where)
    where = f"{where} ({name})"
    image_id = id_of(record, "cocoid", file, where) if on_coco or "cocoid" in record else path.stem
    captions, caption_ids = _sentences(list_of(record, "sentences", file, where), file, where)
    return CaptionedImage(
        id=image_id,
        image=ImageRef(id=image_id, source=images_root / path),
        captions=captions,
        caption_ids=caption_ids,
    )


def _sentences(values: Sequence[object], file: Path, where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    captions: list[str] = []
    caption_ids: list[str] = []
    for number, value in enumerate(values):
        place = f"sentences[{number}] of {where}"
        sentence = as_object(value, file, place)
        captions.append(text_of(sentence, "raw", file, place))
        caption_ids.append(id_of(sentence, "sentid", file, place))
    return tuple(captions), tuple(caption_ids)
