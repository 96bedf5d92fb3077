"""Illustration of paragraphs made of COCO's captions, from the images of Karpathy's test split."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from evalkit.families.illustration import ROUTES, IllustrationTask
from evalkit.types import TaskCard
from evalkit_tasks._coco_or_own import DATASET, EXPECTED_CAPTIONS, EXPECTED_IMAGES, read_coco_or_own

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.families.captioned_photos import CaptionedSplit


class Illustrate(IllustrationTask):
    """Karpathy's test images, one caption each."""

    card: ClassVar[TaskCard] = TaskCard(
        name="illustrate",
        version=1,
        summary="The right image for each sentence of paragraphs of captions (COCO): recall, and assignment",
        paper="none: a protocol of our own; COCO: arXiv:1405.0312; the split: arXiv:1412.2306",
        purpose="retrieval/coco",
        protocol="coco-karpathy-illustrate-by-5",
        routes=ROUTES,
        main_metric="r@1",
        dataset=DATASET,
    )
    expected_images = EXPECTED_IMAGES
    expected_captions = EXPECTED_CAPTIONS

    def captioned_split(self, data_dir: Path) -> CaptionedSplit:
        """Read COCO's test split, or one's own."""
        return read_coco_or_own(data_dir, self.card.name)
