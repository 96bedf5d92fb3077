"""Zero-shot classification on ImageNet-1k's validation images, with CLIP's class names and 80 templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from evalkit.datasets.imagefolder import read_templates
from evalkit.datasets.imagenet import KEY, read_imagenet_classes, read_imagenet_val
from evalkit.datasets.locate import find, locate
from evalkit.families.classification import IMAGENET, ZERO_SHOT, ZeroShotTask
from evalkit.families.naming import split_name
from evalkit.types import DataSet, TaskCard
from evalkit_tasks._imagenet_files import IMAGES, NAMES, ORDER, SOLUTION, TEMPLATES

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.datasets.imagefolder import LabelledImage

SIZE = 50_000


class ImagenetZeroshot(ZeroShotTask):
    """The nearest of 1,000 class names, each in 80 templates."""

    card: ClassVar[TaskCard] = TaskCard(
        name="imagenet_zeroshot",
        version=1,
        summary="Zero-shot classification on ImageNet-1k (val, 50,000 images), CLIP's names and 80 templates",
        paper="ImageNet: arXiv:1409.0575; zero-shot, names and templates: CLIP, arXiv:2103.00020",
        purpose="retrieval/imagenet",
        unseen=IMAGENET,
        protocol="imagenet1k-val",
        routes=(ZERO_SHOT,),
        main_metric="acc1",
        dataset=DataSet(
            name="ImageNet-1k (ILSVRC 2012), validation images",
            homepage="https://www.image-net.org/download.php",
            licence="images for non-commercial research and education only; names and templates MIT (CLIP_benchmark)",
            files=(IMAGES, SOLUTION, ORDER, NAMES, TEMPLATES),
        ),
    )
    templates_key = KEY

    def labelled_images(self, data_dir: Path) -> tuple[LabelledImage, ...]:
        """Read the validation images in the order of their file names, whichever way they are labelled."""
        order, names, folder = (locate(file, data_dir, self.card.name) for file in (ORDER, NAMES, IMAGES))
        self.classes = read_imagenet_classes(order, names)
        return read_imagenet_val(folder, find(SOLUTION, data_dir), [each.id for each in self.classes])

    def own_templates(self, data_dir: Path) -> tuple[str, ...]:
        """CLIP's 80."""
        return read_templates(locate(TEMPLATES, data_dir, self.card.name), KEY)

    def split_name(self, images: int) -> str:
        """See `ClassificationTask`."""
        return split_name(self.card.protocol, images, whole=images == SIZE)
