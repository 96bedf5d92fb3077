"""The hub's mirrors as Parquet files on this machine: lmms-lab/VQAv2, lmms-lab/NoCaps, lmms-lab/COCO-Caption.

Get one with `hf download lmms-lab/VQAv2 --repo-type dataset --local-dir <data root>/lmms-lab/VQAv2`. The files are read
with pyarrow and not with the library `datasets`: a mirror's rows are plain columns, an image is a struct of `bytes` and
`path`, and pyarrow, which stores the runs, needs no copy of the data set in a cache of its own. Images stay encoded in
memory, each once however many rows repeat it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evalkit.datasets.captioned import malformed
from evalkit.datasets.coco_captions import CaptionedPhoto
from evalkit.datasets.vqa import AskedQuestion
from evalkit.errors import DataError
from evalkit.types import ImageRef

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

_ROWS_AT_ONCE = 64
"""Rows decoded at a time: a row of VQAv2 has about 160 kB of image."""


def hub_files(folder: Path, split: str) -> tuple[Path, ...]:
    """The files of a split, `<folder>/data/<split>-00000-of-00068.parquet`, in order; none where there are none."""
    return tuple(sorted((folder / "data").glob(f"{split}-*.parquet")))


def read_hub_vqa(files: Sequence[Path], limit: int | None) -> tuple[AskedQuestion, ...]:
    """Questions of a mirror of VQAv2, in its order.

    Args:
        files: The Parquet files of a split.
        limit: How many rows from the front are read; None for all.

    Raises:
        DataError: A file cannot be read, lacks a column, or a question occurs twice.
    """
    asked: list[AskedQuestion] = []
    refs: dict[str, ImageRef] = {}
    seen: set[str] = set()
    columns = ("question_id", "image_id", "question", "answers", "answer_type", "question_type", "image")
    for file, row in _rows(files, columns, limit):
        question_id, image_id = str(row["question_id"]), str(row["image_id"])
        if question_id in seen:
            raise malformed(file, f"question {question_id} occurs twice")
        seen.add(question_id)
        if image_id not in refs:
            refs[image_id] = _image(row, image_id, file)
        asked.append(
            AskedQuestion(
                id=question_id,
                image_id=image_id,
                image=refs[image_id],
                question=row["question"],
                answers=tuple(answer["answer"] for answer in row["answers"] or ()),
                answer_type=row["answer_type"] or "",
                question_type=row["question_type"] or "",
            )
        )
    return tuple(asked)


def read_hub_nocaps(files: Sequence[Path], limit: int | None) -> tuple[CaptionedPhoto, ...]:
    """Images and references of a mirror of nocaps, in its order; it does not say the domains.

    Raises:
        DataError: A file cannot be read, lacks a column, or an image occurs twice.
    """
    photos: dict[str, CaptionedPhoto] = {}
    for file, row in _rows(files, ("image_id", "annotations_captions", "image"), limit):
        image_id = str(row["image_id"])
        if image_id in photos:
            raise malformed(file, f"image {image_id} occurs twice")
        references = tuple(row["annotations_captions"] or ())
        photos[image_id] = CaptionedPhoto(id=image_id, image=_image(row, image_id, file), references=references)
    return tuple(photos.values())


def read_hub_images(files: Sequence[Path], wanted: Collection[str]) -> Mapping[str, ImageRef]:
    """COCO images by id, out of a mirror of COCO's captions, whose column `id` is the image's number.

    Its own splits are COCO's and not Karpathy's, so that only the images are taken, and the captions come from an
    official annotation file.

    Args:
        files: The Parquet files.
        wanted: The ids that are kept.

    Raises:
        DataError: A file cannot be read or lacks a column; an image is in none of them.
    """
    refs: dict[str, ImageRef] = {}
    for file, row in _rows(files, ("id", "image"), None):
        image_id = str(row["id"])
        if image_id in wanted:
            refs[image_id] = _image(row, image_id, file)
    if missing := [image_id for image_id in wanted if image_id not in refs]:
        raise DataError(
            f"{files[0].parent}: {len(missing)} of {len(wanted)} images are in none of the {len(files)} files,"
            f" the first is {missing[0]}.",
            "Get the whole data set, or the images from COCO.",
        )
    return refs


def _rows(files: Sequence[Path], columns: Sequence[str], limit: int | None) -> Iterator[tuple[Path, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    left = limit
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                if lacking := [name for name in columns if name not in opened.schema_arrow.names]:
                    raise malformed(file, f"it has no column {', '.join(lacking)}")
                for batch in opened.iter_batches(batch_size=_ROWS_AT_ONCE, columns=list(columns)):
                    rows = batch.to_pylist()[:left]
                    yield from ((file, row) for row in rows)
                    left = None if left is None else left - len(rows)
                    if left == 0:
                        return
        except (pa.ArrowException, OSError) as error:
            raise malformed(file, f"it cannot be read ({' '.join(str(error).split())})") from error


def _image(row: Mapping[str, Any], image_id: str, file: Path) -> ImageRef:
    content = (row["image"] or {}).get("bytes")
    if not content:
        raise malformed(file, f"image {image_id} has no bytes")
    return ImageRef(id=image_id, source=content)
