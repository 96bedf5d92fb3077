"""Image-text retrieval on anyone's photos: a folder with one annotation file in Karpathy's layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from evalkit.datasets.karpathy import read_karpathy
from evalkit.errors import DataError
from evalkit.families.naming import texts_digest
from evalkit.families.retrieval import ROUTES, RetrievalTask
from evalkit.types import DataFile, DataSet, TaskCard

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.datasets.captioned import CaptionedImage
    from evalkit.families.retrieval import RetrievalSample

PATTERN = "dataset*.json"


class KarpathyRetrieval(RetrievalTask):
    """Retrieval over the `test` split of one's own data; nothing here is comparable with a published number."""

    card: ClassVar[TaskCard] = TaskCard(
        name="karpathy_retrieval",
        version=1,
        summary="Image-text retrieval both ways on your own photos, in Karpathy's layout",
        paper="layout: arXiv:1412.2306",
        purpose="retrieval",
        routes=ROUTES,
        main_metric="mean_recall",
        dataset=DataSet(
            name="your own photos and captions",
            homepage="https://cs.stanford.edu/people/karpathy/deepimagesent/",
            licence="yours",
            files=(
                DataFile(
                    path=".",
                    about=f"one {PATTERN} in Karpathy's layout, and the images it names",
                    instructions=f"Write a {PATTERN} (layout: docs/data.md) and name its folder with --data-dir.",
                ),
            ),
        ),
    )
    default_rerank_k = 128

    def captioned_images(self, data_dir: Path) -> tuple[CaptionedImage, ...]:
        """Read the test split of the only annotation file in the folder."""
        found = sorted(data_dir.glob(PATTERN))
        if len(found) != 1:
            names = ", ".join(file.name for file in found) or "none"
            raise DataError(
                f"{data_dir} must hold one {PATTERN}; it holds: {names}.", "Name the folder that does with --data-dir."
            )
        return read_karpathy(found[0], ("test",), data_dir)

    def split_name(self, samples: Sequence[RetrievalSample]) -> str:
        """Own data has no name of its own: its size and a digest of its captions tell one set from another."""
        digest = texts_digest(caption for sample in samples for caption in sample.captions)
        return f"karpathy-layout-{len(samples)}-{digest}"

    def whole(self, samples: Sequence[RetrievalSample]) -> bool:
        """There is no official split to be the whole of."""
        return False
