"""ImageNet-1k's validation images, in folders by WordNet id or flat with Kaggle's LOC_val_solution.csv.

The order is that of the file names, ILSVRC2012_val_00000001 on, in which the classes are mixed; so both layouts give
the same samples. The development kit's ILSVRC2012_validation_ground_truth.txt is not read: its class numbers are in an
order of their own.
"""

from __future__ import annotations

import csv
import itertools
import re
from typing import TYPE_CHECKING, Final

from evalkit.datasets.annotation_json import as_list, as_object, read_json
from evalkit.datasets.captioned import malformed
from evalkit.datasets.imagefolder import ImageClass, LabelledImage, class_folders, entries, image_files
from evalkit.errors import DataError
from evalkit.types import ImageRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

CLASSES: Final = 1000
KEY: Final = "imagenet1k"
"""ImageNet-1k's key in CLIP_benchmark's files."""
_WNID = re.compile(r"n\d{8}")


def read_imagenet_classes(order: Path, names: Path) -> tuple[ImageClass, ...]:
    """The 1,000 classes in the usual order, that of their WordNet ids.

    Args:
        order: Keras' imagenet_class_index.json, or Kaggle's LOC_synset_mapping.txt.
        names: CLIP_benchmark's en_classnames.json. Of its names, `missile` and `sunglasses` stand for two classes each.

    Raises:
        DataError: A file is missing or malformed.
    """
    wnids = _mapping_wnids(order) if order.suffix == ".txt" else _index_wnids(order)
    if len(wnids) != CLASSES or list(wnids) != sorted(set(wnids)) or not all(map(_WNID.fullmatch, wnids)):
        raise malformed(order, f"it does not list {CLASSES:,} WordNet ids (n01440764 and so on) in ascending order")
    table = as_object(read_json(names), names, "the file")
    if KEY not in table:
        raise malformed(names, f"it has no {KEY!r}")
    texts = as_list(table[KEY], names, repr(KEY))
    if len(texts) != CLASSES or not all(isinstance(text, str) and text.strip() for text in texts):
        raise malformed(names, f"{KEY!r} is not {CLASSES:,} names")
    return tuple(ImageClass(id=wnid, names=(str(text),)) for wnid, text in zip(wnids, texts, strict=True))


def read_imagenet_val(folder: Path, solution: Path | None, wnids: Iterable[str]) -> tuple[LabelledImage, ...]:
    """The validation images, in the order of their file names; an image's id is that name without its suffix.

    Args:
        folder: It holds folders named by WordNet id, or the images themselves.
        solution: LOC_val_solution.csv, for the images themselves.
        wnids: The classes.

    Raises:
        DataError: A folder that is none of the classes, an image without a label, or a file that is malformed.
    """
    known = frozenset(wnids)
    if any(_WNID.fullmatch(entry.name) for entry in entries(folder)):
        images = _in_folders(folder, known)
    elif solution is None:
        raise DataError(
            f"{folder} holds no folders named by WordNet id (n01440764 and so on), and there is no"
            " LOC_val_solution.csv to label flat images by.",
            "Sort the images into such folders, or put Kaggle's LOC_val_solution.csv beside the folder.",
        )
    else:
        images = _by_solution(folder, solution, known)
    images = sorted(images, key=lambda image: image.id)
    for one, other in itertools.pairwise(images):
        if one.id == other.id:
            raise DataError(f"Two images are called {one.id}: {one.image.name}, {other.image.name}.", "Remove one.")
    return tuple(images)


def _in_folders(folder: Path, known: frozenset[str]) -> list[LabelledImage]:
    images = []
    for each in class_folders(folder):
        if each.name not in known:
            raise DataError(f"{each} is the folder of none of ImageNet-1k's classes.", "Remove it.")
        images += [_image(file, each.name) for file in image_files(each)]
    return images


def _by_solution(folder: Path, solution: Path, known: frozenset[str]) -> list[LabelledImage]:
    """A line is `ILSVRC2012_val_00048981,n03995372 85 1 499 272`: a class and a box, or several boxes."""
    try:
        rows = list(csv.reader(solution.read_text("utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise malformed(solution, f"it cannot be read as a CSV file ({error})") from error
    images = []
    for number, row in enumerate(rows[1:], start=2):
        wnid = row[1].split(" ")[0] if len(row) == 2 else ""
        if wnid not in known:
            raise malformed(solution, f"line {number} is {','.join(row)[:60]!r}, not an image and a class")
        images.append(_image(folder / f"{row[0]}.JPEG", wnid))
    if not images:
        raise malformed(solution, "it labels no image")
    return images


def _image(file: Path, wnid: str) -> LabelledImage:
    return LabelledImage(id=file.stem, image=ImageRef(id=file.stem, source=file), label=wnid)


def _index_wnids(file: Path) -> Sequence[str]:
    table = as_object(read_json(file), file, "the file")
    wnids = []
    for number in range(len(table)):
        entry = table.get(str(number))
        if not isinstance(entry, list) or not entry:
            raise malformed(file, f"it has no list under {str(number)!r}")
        wnids.append(str(entry[0]))
    return wnids


def _mapping_wnids(file: Path) -> Sequence[str]:
    try:
        return [line.partition(" ")[0] for line in file.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise malformed(file, f"it cannot be read ({error})") from error
