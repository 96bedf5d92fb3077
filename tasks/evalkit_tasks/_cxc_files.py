"""Where Crisscrossed Captions' files lie and come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evalkit.datasets.locate import find, locate
from evalkit.errors import DataError
from evalkit.types import DataFile
from evalkit_tasks.coco_retrieval import IMAGES
from evalkit_tasks.karpathy_retrieval import PATTERN

if TYPE_CHECKING:
    from pathlib import Path

_COMMIT = "7d6634be173a6f6a16ab1e61bebc217de8444513"
_URL = f"https://raw.githubusercontent.com/google-research-datasets/Crisscrossed-Captions/{_COMMIT}/data"
_RATINGS = {
    "sits": "ratings of image and text",
    "sis": "ratings of two images",
    "sts": "ratings of two texts",
}
_SHA256 = {
    "sits_test": "f92fd6d36329fb52fd5429eb5c2211f0ab3ad86bb737323f415375a144697ce6",
    "sis_test": "01f2ceb349414aff84065c0548837d1630408283601a5c97d86c2f6681cc1571",
    "sts_test": "33eea25bf41061c513ef4b39282aaf64bdf9b17ff233e343a6d6ae44d73e0272",
    "sits_val": "482d996eb91998e0a6fbaf8c70f1e2cb127370a05346720caef1c0bbd3139a0f",
    "sis_val": "f31ed6a1369e3799b7ef3411b1d612e2a5639591612d170ce57d2d4b2de44a24",
    "sts_val": "36d4fbdb88aed1ea90463f95ce40a4c081d25874fb6badd2dfaa62a28b25170b",
}
_AT = ("coco/annotations", "coco", "coco/annotation", "coco/karpathy", "annotations", ".", "annotation", "karpathy")


def _annotations(split: str) -> DataFile:
    names = ("dataset_coco.json", f"coco_karpathy_{split}.json")
    return DataFile(
        path=f"{_AT[0]}/{names[0]}",
        about=f"captions of Karpathy's {split} split (his dataset_coco.json, with the captions' ids, or BLIP's file)",
        alternatives=tuple(f"{at}/{name}" for name in names for at in _AT),
        url="https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip",
        extract_to=_AT[0],
    )


def _ratings(kind: str, split: str) -> DataFile:
    name = f"{kind}_{split}"
    folders = ("coco/cxc", "cxc", "coco/annotations", "annotations", ".")
    return DataFile(
        path=f"{folders[0]}/{name}.csv",
        about=f"CxC {split}: {_RATINGS[kind]}",
        alternatives=tuple(f"{folder}/{name}.csv" for folder in folders[1:]),
        url=f"{_URL}/{name}.csv",
        sha256=_SHA256[name],
        optional=split != "test",
    )


SPLITS: Final = ("test", "val")
ANNOTATIONS: Final = {split: _annotations(split) for split in SPLITS}
RATINGS: Final = {split: tuple(_ratings(kind, split) for kind in _RATINGS) for split in SPLITS}
FILES: Final = (ANNOTATIONS["test"], *RATINGS["test"], *RATINGS["val"], IMAGES)


def find_annotations(data_dir: Path, split: str, *, own: bool) -> Path:
    """COCO's annotation file; with `own`, where that is not there, the only `dataset*.json` at the data root.

    Raises:
        DataError: It is nowhere, or there are several of one's own.
    """
    if not own or find(ANNOTATIONS[split], data_dir) is not None:
        return locate(ANNOTATIONS[split], data_dir, "cxc")
    found = sorted(data_dir.glob(PATTERN))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise DataError(
            f"{data_dir} must hold one {PATTERN}; it holds: {names}.", "Name the folder that does with --data-dir."
        )
    return found[0]


def find_images(data_dir: Path, *, needed: bool) -> Path:
    """The folder that annotations name images from; not looked for where none will be read.

    Raises:
        DataError: The images are nowhere, and they are needed.
    """
    if not needed and find(IMAGES, data_dir) is None:
        return data_dir
    return locate(IMAGES, data_dir, "cxc").parent
