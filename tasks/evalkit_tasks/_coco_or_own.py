"""COCO's Karpathy test split where it is there, else one's own photos in Karpathy's layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from evalkit.datasets.karpathy import read_karpathy
from evalkit.datasets.locate import own_files
from evalkit.errors import DataError
from evalkit.families.captioned_photos import CaptionedSplit
from evalkit.types import DataSet
from evalkit_tasks.coco_retrieval import ANNOTATIONS, IMAGES, CocoRetrieval, read_coco_test
from evalkit_tasks.karpathy_retrieval import PATTERN

if TYPE_CHECKING:
    from pathlib import Path

DATASET: Final = DataSet(
    name=f"COCO 2014, Karpathy test split (or your own photos: one {PATTERN} in Karpathy's layout at the data root)",
    homepage=CocoRetrieval.card.dataset.homepage,
    licence=CocoRetrieval.card.dataset.licence,
    files=(ANNOTATIONS, IMAGES),
    own=PATTERN,
)
EXPECTED_IMAGES: Final = CocoRetrieval.expected_images
EXPECTED_CAPTIONS: Final = CocoRetrieval.expected_captions


def read_coco_or_own(data_dir: Path, task: str) -> CaptionedSplit:
    """The test split of COCO; without COCO's annotations, that of the only `dataset*.json` at the data root.

    Raises:
        DataError: Neither is there, or there are several files of one's own.
    """
    own = own_files(DATASET, data_dir)
    if len(own) > 1:
        names = ", ".join(file.name for file in own)
        raise DataError(f"{data_dir} must hold one {PATTERN} for {task}; it holds: {names}.", "Take the others away.")
    if own:
        return CaptionedSplit(images=read_karpathy(own[0], ("test",), data_dir), own=True)
    return CaptionedSplit(images=read_coco_test(data_dir, task), own=False)
