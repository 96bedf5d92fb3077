"""Visual dialog on VisDial v1.0: val with 2,064 dialogs of ten rounds, test-std with 8,000 for the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from evalkit.datasets.locate import locate
from evalkit.datasets.visdial import read_visdial
from evalkit.families.dialog import ROUTES, DialogSplit, DialogTask
from evalkit.types import DataFile, DataSet, TaskCard

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from evalkit.datasets.visdial import Dialog


def _file(about: str, name: str, shared: str, *, optional: bool = False) -> DataFile:
    """A file or folder that the data set's page links to on Dropbox, zipped or not."""
    at = tuple(f"{folder}{name}" for folder in ("visdial/", "visdial/data/", "visdial/images/", ""))
    unpacked = "visdial" if shared.endswith(".zip") else None
    url = f"https://www.dropbox.com/s/{shared}?dl=1"
    return DataFile(path=at[0], about=about, alternatives=at[1:], url=url, extract_to=unpacked, optional=optional)


VAL = _file("val dialogs", "visdial_1.0_val.json", "ibs3a0zhw74zisc/visdial_1.0_val.zip")
DENSE = _file(
    "val dense annotations",
    "visdial_1.0_val_dense_annotations.json",
    "3knyk09ko4xekmc/visdial_1.0_val_dense_annotations.json",
)
VAL_IMAGES = _file("val images", "VisualDialog_val2018", "twmtutniktom7tu/VisualDialog_val2018.zip")
TEST = _file("test dialogs", "visdial_1.0_test.json", "o7mucbre2zm7i5n/visdial_1.0_test.zip", optional=True)
TEST_IMAGES = _file("test images", "VisualDialog_test2018", "mwlrg31hx0430mt/VisualDialog_test2018.zip", optional=True)


class Visdial(DialogTask):
    """VisDial v1.0; `test-std` gives the server's file, no score.

    The main number is MRR, as in the papers of BLIP's time. It asks where the one answer that was given stands; NDCG
    asks whether every answer that people find right stands high. Models tuned for one lose at the other.
    """

    card: ClassVar[TaskCard] = TaskCard(
        name="visdial",
        version=1,
        summary="Visual dialog on VisDial v1.0: 100 candidate answers a question; test-std for the server",
        paper="https://arxiv.org/abs/1611.08669",
        purpose="visdial",
        protocol="visdial-1.0-val",
        routes=ROUTES,
        main_metric="mrr",
        dataset=DataSet(
            name="VisDial v1.0",
            homepage="https://visualdialog.org/data",
            licence="annotations CC BY 4.0; images under COCO's terms of use",
            files=(VAL, DENSE, VAL_IMAGES, TEST, TEST_IMAGES),
        ),
    )
    splits: ClassVar[Mapping[str, DialogSplit]] = {
        "val": DialogSplit(protocol="visdial-1.0-val", size=2064, rounds=10),
        "test-std": DialogSplit(protocol="visdial-1.0-test-std", size=8000, rounds=1),
    }

    def dialogs(self, data_dir: Path, limit: int | None) -> tuple[Dialog, ...]:
        """Read the official files."""
        name = self.card.name
        if self.split == "test-std":
            file, images = (locate(one, data_dir, name) for one in (TEST, TEST_IMAGES))
            return read_visdial(file, None, "VisualDialog_test2018_{:012d}.jpg", images, limit)
        file, dense, images = (locate(one, data_dir, name) for one in (VAL, DENSE, VAL_IMAGES))
        return read_visdial(file, dense, "VisualDialog_val2018_{:012d}.jpg", images, limit)
