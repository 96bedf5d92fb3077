"""A captioner's output as COCO's evaluation takes it: `[{"image_id": 42, "caption": "a child"}]`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.datasets.annotation_json import as_list, as_object, id_of, read_json, text_of
from evalkit.datasets.captioned import malformed

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeCaption:
    """One caption that a model wrote."""

    image_id: str
    caption: str


def read_coco_results(file: Path) -> tuple[MadeCaption, ...]:
    """Read a results file, in its order; an image may stand in it more than once.

    Raises:
        DataError: Missing, malformed or empty.
    """
    rows = []
    for index, value in enumerate(as_list(read_json(file), file, "the file")):
        where = f"entry {index}"
        record = as_object(value, file, where)
        rows.append(
            MadeCaption(
                image_id=id_of(record, "image_id", file, where), caption=text_of(record, "caption", file, where)
            )
        )
    if not rows:
        raise malformed(file, "it holds no caption")
    return tuple(rows)
