"""Crisscrossed Captions: retrieval in every mode, and agreement with people's ratings of pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from evalkit.datasets.blip_json import read_blip_json
from evalkit.datasets.cxc import RatedImages, rated_images, read_ratings
from evalkit.datasets.karpathy import read_karpathy
from evalkit.datasets.locate import locate
from evalkit.families.crossmodal import ROUTES, CrossmodalTask, RatedSplit
from evalkit.types import DataSet, TaskCard
from evalkit_tasks._cxc_files import FILES, RATINGS, find_annotations, find_images

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Cxc(CrossmodalTask):
    """CxC over COCO's Karpathy test (or val) split; with `-o ratings=none` one's own photos, without ratings."""

    card: ClassVar[TaskCard] = TaskCard(
        name="cxc",
        version=1,
        summary="Image and text retrieval in all four modes, and similarity against people's ratings (CxC on COCO)",
        paper="CxC: arXiv:2004.15020; COCO: arXiv:1405.0312; the split: arXiv:1412.2306",
        purpose="retrieval/coco",
        routes=ROUTES,
        protocol="cxc-test",
        main_metric="mean_recall",
        dataset=DataSet(
            name="Crisscrossed Captions over COCO 2014, Karpathy test split",
            homepage="https://github.com/google-research-datasets/Crisscrossed-Captions",
            licence="ratings: free for any purpose, Google LLC asks to be acknowledged; captions CC BY 4.0; images"
            " under their photographers' Flickr licences, see COCO's terms of use",
            files=FILES,
        ),
    )
    splits: ClassVar[Mapping[str, RatedSplit]] = {
        "test": RatedSplit(protocol="cxc-test", images=5000, captions=25_000, pairs=44_833 + 46_719 + 44_045),
        "val": RatedSplit(protocol="cxc-val", images=5000, captions=25_000, pairs=44_722 + 42_767 + 44_009),
    }

    def rated_split(self, data_dir: Path, *, need_images: bool) -> RatedImages:
        """Read the split from whichever annotation file is there, and the three files of ratings."""
        own = self.options.ratings == "none"
        annotations = find_annotations(data_dir, self.split, own=own)
        root = find_images(data_dir, needed=need_images and not own)
        if annotations.name.startswith("dataset"):
            images = read_karpathy(annotations, (self.split,), root)
        else:
            images = read_blip_json(annotations, root)
        if own:
            return RatedImages(images=images, ratings=None, captions_are_rated=False)
        ratings = read_ratings(*(locate(file, data_dir, self.card.name) for file in RATINGS[self.split]))
        return rated_images(images, ratings, annotations, self.split)
