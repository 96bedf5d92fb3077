"""BLIP's data filter, evaluated: true captions of COCO's Karpathy test split against swapped or machine-made ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from evalkit.families.caption_filtering import CaptionFilteringTask
from evalkit.families.caption_judging import ROUTES
from evalkit.types import TaskCard
from evalkit_tasks._coco_or_own import DATASET, EXPECTED_CAPTIONS, EXPECTED_IMAGES, read_coco_or_own

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.families.captioned_photos import CaptionedSplit


class Capfilt(CaptionFilteringTask):
    """Captions of Karpathy's test images."""

    card: ClassVar[TaskCard] = TaskCard(
        name="capfilt",
        version=1,
        summary="True captions told from swapped or machine-made ones: AUROC, AP, accuracy at BLIP's threshold",
        paper="the filter: arXiv:2201.12086, section 3.3; COCO: arXiv:1405.0312; the split: arXiv:1412.2306",
        purpose="retrieval/coco",
        protocol="coco-karpathy-capfilt-swapped",
        routes=ROUTES,
        main_metric="auroc",
        dataset=DATASET,
    )
    expected_images = EXPECTED_IMAGES
    expected_captions = EXPECTED_CAPTIONS

    def captioned_split(self, data_dir: Path) -> CaptionedSplit:
        """Read COCO's test split, or one's own."""
        return read_coco_or_own(data_dir, self.card.name)
