"""COCO's Karpathy test images found by captions that a model wrote of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from evalkit.families.caption_index import CaptionIndexTask
from evalkit.families.captioning import ROUTES
from evalkit.types import TaskCard
from evalkit_tasks._coco_or_own import DATASET, EXPECTED_CAPTIONS, EXPECTED_IMAGES, read_coco_or_own

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.families.captioned_photos import CaptionedSplit


class CaptionIndex(CaptionIndexTask):
    """Karpathy's test images and their captions."""

    card: ClassVar[TaskCard] = TaskCard(
        name="caption_index",
        version=1,
        summary="Retrieval both ways on COCO through generated captions: images to text, then text embeddings",
        paper="none: a protocol of our own; COCO: arXiv:1405.0312; the split: arXiv:1412.2306",
        purpose="captioning/coco",
        protocol="coco-karpathy-caption-index",
        routes=ROUTES,
        main_metric="mean_recall",
        dataset=DATASET,
    )
    expected_images = EXPECTED_IMAGES
    expected_captions = EXPECTED_CAPTIONS

    def captioned_split(self, data_dir: Path) -> CaptionedSplit:
        """Read COCO's test split, or one's own."""
        return read_coco_or_own(data_dir, self.card.name)
