"""Captioning on nocaps: 4,500 val images in domain, near and out of COCO's; 10,600 test images for the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from evalkit.datasets.hub_parquet import hub_files, read_hub_nocaps
from evalkit.datasets.locate import find, locate
from evalkit.datasets.nocaps import read_nocaps
from evalkit.families.captioning import ROUTES, CaptionTask
from evalkit.families.generation import Split
from evalkit.types import DataSet, TaskCard
from evalkit_tasks._nocaps_files import CAPTIONS, CORPUS, HUB, TEST, VAL, images

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from evalkit.datasets.coco_captions import CaptionedPhoto


class Nocaps(CaptionTask):
    """Captions of novel objects; `val-server` and `test` need no references and give the server's file, no score.

    The domains are the data file's own: releases differ in how many images each has, and each number says its `n`.
    """

    card: ClassVar[TaskCard] = TaskCard(
        name="nocaps",
        version=1,
        summary="Captioning on nocaps val, in, near and out of domain; test for the server",
        paper="https://arxiv.org/abs/1812.08658",
        purpose="captioning/nocaps",
        protocol="nocaps-val",
        routes=ROUTES,
        main_metric="cider",
        dataset=DataSet(
            name="nocaps",
            homepage="https://nocaps.org/download",
            licence="captions CC BY 2.0; images of Open Images, CC BY 2.0",
            files=(CAPTIONS, images("val"), VAL, CORPUS, TEST, HUB),
        ),
    )
    splits: ClassVar[Mapping[str, Split]] = {
        "val": Split(protocol="nocaps-val", size=4500),
        "val-server": Split(protocol="nocaps-val", size=4500),
        "test": Split(protocol="nocaps-test", size=10600),
    }

    def photos(self, data_dir: Path, limit: int | None) -> tuple[CaptionedPhoto, ...]:
        """Read the captions' file, or the images' list with the re-published captions, or the hub's mirror."""
        listed, corpus = find(CAPTIONS, data_dir), find(CORPUS, data_dir)
        if self.split != "val":
            listed, corpus = locate(TEST if self.split == "test" else VAL, data_dir, self.card.name), None
        elif listed is None and corpus is not None:
            listed = locate(VAL, data_dir, self.card.name)
        elif listed is None and (mirror := hub_files(data_dir / HUB.path, "validation")):
            return read_hub_nocaps(mirror, limit)
        folder = locate(images(self.split.removesuffix("-server")), data_dir, self.card.name)
        return read_nocaps(listed or locate(CAPTIONS, data_dir, self.card.name), folder, corpus=corpus)
