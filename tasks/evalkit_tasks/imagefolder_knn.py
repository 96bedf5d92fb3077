"""The nearest-neighbour probe on anyone's photos: class folders in `train` and `val`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from evalkit.datasets.imagefolder import EVALUATED, ImageClass, interleaved, read_image_folder
from evalkit.datasets.locate import locate
from evalkit.families.classification import IMAGENET, names_digest
from evalkit.families.knn_probe import KNN, KnnTask
from evalkit.types import DataFile, DataSet, TaskCard

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.datasets.imagefolder import LabelledImage

_HOW = (
    "Put each class's images into a folder of its own, <data root>/{}/<class>/, or name another root with --data-dir."
)
TRAIN = DataFile(path="train", about="class folders of the images that vote", instructions=_HOW.format("train"))
VAL = DataFile(
    path=EVALUATED[0],
    about="class folders of the images that are classified",
    alternatives=EVALUATED[1:],
    instructions=_HOW.format("val"),
)


class ImagefolderKnn(KnnTask):
    """A nearest-neighbour probe on one's own data; with ImageNet's train and val it is DINO's."""

    card: ClassVar[TaskCard] = TaskCard(
        name="imagefolder_knn",
        version=1,
        summary="Nearest-neighbour probe of image embeddings on your own photos, in train/ and val/ class folders",
        paper="the vote: DINO, arXiv:2104.14294; its weights: arXiv:1805.01978",
        purpose="retrieval/imagenet",
        unseen=IMAGENET,
        routes=(KNN,),
        main_metric="acc1",
        dataset=DataSet(
            name="your own photos in train and val class folders",
            homepage="https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.ImageFolder.html",
            licence="yours",
            files=(TRAIN, VAL),
        ),
    )

    def training_images(self, data_dir: Path) -> tuple[LabelledImage, ...]:
        """Read `train`."""
        return read_image_folder(locate(TRAIN, data_dir, self.card.name))

    def labelled_images(self, data_dir: Path) -> tuple[LabelledImage, ...]:
        """Read `val`, or else `test`. The classes are those of the training images."""
        labels = dict.fromkeys(image.label for image in self.training)
        self.classes = tuple(ImageClass(id=label, names=(label,)) for label in labels)
        folder = locate(VAL, data_dir, self.card.name)
        self.split = folder.name
        return interleaved(read_image_folder(folder))

    def split_name(self, images: int) -> str:
        """Own data has no name of its own: its size and a digest of its classes tell one set from another."""
        return f"imagefolder-layout-{images}-{names_digest(self.classes)}"
