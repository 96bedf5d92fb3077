"""Captioning on COCO: Karpathy's test split, 5,000 images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from evalkit.datasets.blip_json import read_blip_json
from evalkit.datasets.coco_captions import CaptionedPhoto
from evalkit.datasets.hub_parquet import hub_files, read_hub_images
from evalkit.datasets.karpathy import read_karpathy
from evalkit.datasets.locate import find, locate
from evalkit.families.captioning import ROUTES, CaptionTask
from evalkit.families.generation import Split
from evalkit.types import DataFile, DataSet, TaskCard
from evalkit_tasks.coco_retrieval import ANNOTATIONS, IMAGES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HUB = DataFile(
    path="lmms-lab/COCO-Caption",
    about="the hub's mirror of COCO val2014, in place of the images' folder",
    instructions="hf download lmms-lab/COCO-Caption --repo-type dataset --local-dir <data root>/lmms-lab/COCO-Caption",
    optional=True,
)


class CocoCaption(CaptionTask):
    """Captions of Karpathy's test images."""

    card: ClassVar[TaskCard] = TaskCard(
        name="coco_caption",
        version=1,
        summary="Captioning on COCO (Karpathy test): CIDEr, BLEU, ROUGE-L; METEOR and SPICE on request",
        paper="COCO: arXiv:1405.0312; captions: arXiv:1504.00325; the split: arXiv:1412.2306",
        purpose="captioning/coco",
        protocol="coco-karpathy-caption",
        routes=ROUTES,
        main_metric="cider",
        dataset=DataSet(
            name="COCO 2014, Karpathy test split",
            homepage="https://cocodataset.org/#download",
            licence="annotations CC BY 4.0; images under their photographers' Flickr licences, see COCO's terms of use",
            files=(ANNOTATIONS, IMAGES, HUB),
        ),
    )
    splits: ClassVar[Mapping[str, Split]] = {"test": Split(protocol="coco-karpathy-caption", size=5000)}

    def photos(self, data_dir: Path, limit: int | None) -> tuple[CaptionedPhoto, ...]:
        """Read the test split from whichever official annotation file is there."""
        annotations = locate(ANNOTATIONS, data_dir, self.card.name)
        folder = find(IMAGES, data_dir)
        mirror = hub_files(data_dir / HUB.path, "val") if folder is None else ()
        # without either, `locate` says what is missing
        root = data_dir if mirror else locate(IMAGES, data_dir, self.card.name).parent
        karpathy = annotations.name == "dataset_coco.json"
        images = read_karpathy(annotations, ("test",), root) if karpathy else read_blip_json(annotations, root)
        photos = tuple(CaptionedPhoto(id=one.id, image=one.image, references=one.captions) for one in images[:limit])
        if not mirror:
            return photos
        inline = read_hub_images(mirror, {photo.id for photo in photos})
        return tuple(replace(photo, image=inline[photo.id]) for photo in photos)
