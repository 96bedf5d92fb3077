"""Image-text retrieval on Flickr30k: Karpathy's test split, 1,000 images and 5,000 captions."""

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

_AT = ("annotations", ".", "annotation", "karpathy")
_FOLDERS = (*(f"flickr30k/{at}" for at in _AT), *_AT)

ANNOTATIONS = DataFile(
    path="flickr30k/annotations/flickr30k_test.json",
    about="captions of Karpathy's test split (BLIP's file, or Karpathy's own dataset_flickr30k.json)",
    alternatives=(
        "flickr30k/annotations/test.json",  # as LAVIS stores it
        *(f"{at}/{name}" for name in ("flickr30k_test.json", "dataset_flickr30k.json") for at in _FOLDERS),
    ),
    url="https://storage.googleapis.com/sfr-vision-language-research/datasets/flickr30k_test.json",
)
IMAGES = DataFile(
    path="flickr30k/flickr30k-images",
    about="Flickr30k images",
    alternatives=(
        *("flickr30k/images/flickr30k-images", "flickr30k/images", "flickr30k/flickr30k_images"),
        *("images/flickr30k-images", "flickr30k-images", "flickr30k_images"),
    ),
    instructions="Fill in the form at https://forms.illinois.edu/sec/229675 and unpack the flickr30k-images.tar.gz you"
    " are given in <data root>/flickr30k, so that the photos lie in <data root>/flickr30k/flickr30k-images.",
)


class Flickr30kRetrieval(RetrievalTask):
    """Flickr30k retrieval."""

    card: ClassVar[TaskCard] = TaskCard(
        name="flickr30k_retrieval",
        version=1,
        summary="Image-text retrieval both ways on Flickr30k (Karpathy test, 1K)",
        paper="Flickr30k: Young et al., TACL 2014, https://aclanthology.org/Q14-1006; the split: arXiv:1412.2306",
        purpose="retrieval/flickr30k",
        protocol="flickr30k-karpathy-1k",
        routes=ROUTES,
        main_metric="mean_recall",
        dataset=DataSet(
            name="Flickr30k, Karpathy test split",
            homepage="https://shannon.cs.illinois.edu/DenotationGraph/",
            licence="for non-commercial research and education only; images under Flickr's terms of use",
            files=(ANNOTATIONS, IMAGES),
        ),
    )
    expected_images = 1000
    expected_captions = 5000
    default_rerank_k = 128

    def captioned_images(self, data_dir: Path) -> tuple[CaptionedImage, ...]:
        """Read the test split from whichever official annotation file is there."""
        annotations = locate(ANNOTATIONS, data_dir, self.card.name)
        images_root = locate(IMAGES, data_dir, self.card.name)
        if annotations.name == "dataset_flickr30k.json":
            return read_karpathy(annotations, ("test",), images_root)
        return read_blip_json(annotations, images_root, keep_folder=False)
