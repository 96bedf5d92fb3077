"""Zero-shot classification of anyone's photos: a folder with one folder a class."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from evalkit.datasets.imagefolder import (
    DEFAULT_TEMPLATE,
    TEMPLATES,
    evaluated_folder,
    interleaved,
    read_classes,
    read_image_folder,
    read_templates,
)
from evalkit.families.classification import IMAGENET, ZERO_SHOT, ZeroShotTask, names_digest
from evalkit.types import DataFile, DataSet, TaskCard

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.datasets.imagefolder import LabelledImage


class ImagefolderZeroshot(ZeroShotTask):
    """Zero-shot classification of one's own data; nothing here is comparable with a published number."""

    card: ClassVar[TaskCard] = TaskCard(
        name="imagefolder_zeroshot",
        version=1,
        summary="Zero-shot classification of your own photos, in a folder a class",
        paper="zero-shot classification: CLIP, arXiv:2103.00020",
        purpose="retrieval/imagenet",
        unseen=IMAGENET,
        routes=(ZERO_SHOT,),
        main_metric="acc1",
        dataset=DataSet(
            name="your own photos in class folders",
            homepage="https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.ImageFolder.html",
            licence="yours",
            files=(
                DataFile(
                    path=".",
                    about="a folder a class, in val/, test/ or at the top; classes.json and templates.json as you like",
                    instructions="Put each class's images into a folder of its own and name theirs with --data-dir.",
                ),
            ),
        ),
    )

    def labelled_images(self, data_dir: Path) -> tuple[LabelledImage, ...]:
        """Read the class folders below `val`, or else `test`, or where there is neither those at the top."""
        folder = evaluated_folder(data_dir)
        self.split = folder.name if folder else type(self).split
        images = read_image_folder(folder or data_dir)
        self.classes = read_classes(data_dir, list(dict.fromkeys(image.label for image in images)))
        return interleaved(images)

    def own_templates(self, data_dir: Path) -> tuple[str, ...]:
        """Those of `templates.json`, or CLIP's own template."""
        file = data_dir / TEMPLATES
        return read_templates(file) if file.exists() else (DEFAULT_TEMPLATE,)

    def split_name(self, images: int) -> str:
        """Own data has no name of its own: its size and a digest of its classes tell one set from another."""
        return f"imagefolder-layout-{images}-{names_digest(self.classes)}"
