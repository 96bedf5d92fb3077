"""Image-text retrieval on COCO: Karpathy's test split, 5,000 images and 25,010 captions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from evalkit.datasets.blip_json import read_blip_json
from evalkit.datasets.karpathy import read_karpathy
from evalkit.datasets.locate import locate
from evalkit.families.retrieval import ROUTES, RetrievalTask
from evalkit.types import DataFile, DataSet, TaskCard

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.datasets.captioned import CaptionedImage

_BLIP = "https://storage.googleapis.com/sfr-vision-language-research/datasets"
_AT = ("annotations", ".", "annotation", "karpathy")
_FOLDERS = (*(f"coco/{at}" for at in _AT), *_AT)

ANNOTATIONS = DataFile(
    path="coco/annotations/coco_karpathy_test.json",
    about="captions of Karpathy's test split (BLIP's file, or Karpathy's own dataset_coco.json)",
    alternatives=tuple(f"{at}/{name}" for name in ("coco_karpathy_test.json", "dataset_coco.json") for at in _FOLDERS),
    url=f"{_BLIP}/coco_karpathy_test.json",
    # of the file whose MD5 stands in LAVIS, 3ff34b0ef2db02d01c37399f6a2a6cd1
    sha256="5b202a235ee2a4e13f82b984ef9293b8e2d34f9b1f92147bf8340580f20faf15",
)
IMAGES = DataFile(
    path="coco/images/val2014",
    about="COCO val2014 images",
    alternatives=("coco/val2014", "images/val2014", "val2014"),
    url="http://images.cocodataset.org/zips/val2014.zip",
    size_bytes=6_645_013_297,
    extract_to="coco/images",
)


class CocoRetrieval(RetrievalTask):
    """COCO retrieval, and the mean over five folds of 1,000 images."""

    card: ClassVar[TaskCard] = TaskCard(
        name="coco_retrieval",
        version=1,
        summary="Image-text retrieval both ways on COCO (Karpathy test, 5K and five-fold 1K)",
        paper="COCO: arXiv:1405.0312; captions: arXiv:1504.00325; the split: arXiv:1412.2306",
        purpose="retrieval/coco",
        protocol="coco-karpathy-5k",
        routes=ROUTES,
        main_metric="mean_recall",
        dataset=DataSet(
            name="COCO 2014, Karpathy test split",
            homepage="https://cocodataset.org/#download",
            licence="annotations CC BY 4.0; images under their photographers' Flickr licences, see COCO's terms of use",
            files=(ANNOTATIONS, IMAGES),
        ),
    )
    expected_images = 5000
    expected_captions = 25010
    default_rerank_k = 256
    coco_measures = True
    folds = 5
    fold_protocol_name = "coco-karpathy-1k-5-fold"

    def captioned_images(self, data_dir: Path) -> tuple[CaptionedImage, ...]:
        """Read the test split from whichever official annotation file is there."""
        return read_coco_test(data_dir, self.card.name)


def read_coco_test(data_dir: Path, task: str) -> tuple[CaptionedImage, ...]:
    """Karpathy's test split, from whichever official annotation file is there; an error says how `task` gets it."""
    annotations = locate(ANNOTATIONS, data_dir, task)
    images_root = locate(IMAGES, data_dir, task).parent
    if annotations.name == "dataset_coco.json":
        return read_karpathy(annotations, ("test",), images_root)
    return read_blip_json(annotations, images_root)
