"""Visual question answering on VQAv2: val with 214,354 questions, minival, and the server's two test splits."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from evalkit.datasets.hub_parquet import hub_files, read_hub_vqa
from evalkit.datasets.locate import find, locate
from evalkit.datasets.vqa import keep_listed, read_vqa
from evalkit.families.generation import Split
from evalkit.families.question_answering import ANSWER_LIST, ROUTES, QuestionAnsweringTask
from evalkit.types import DataSet, TaskCard
from evalkit_tasks._vqav2_files import ANSWERS, HUB, MINIVAL, TEST_IMAGES, TESTS, VAL
from evalkit_tasks.coco_retrieval import IMAGES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from evalkit.datasets.vqa import AskedQuestion

CONTAMINATED = "VQAv2 val is in the training data of BLIP and of fine-tuned BLIP-2: their numbers here are too high."


class Vqav2(QuestionAnsweringTask):
    """VQAv2. BLIP and fine-tuned BLIP-2 were trained on val too: compare them on test-dev."""

    card: ClassVar[TaskCard] = TaskCard(
        name="vqav2",
        version=1,
        summary="Question answering on VQAv2 (val is in the training data of BLIP and of fine-tuned BLIP-2)",
        paper="https://arxiv.org/abs/1612.00837",
        purpose="vqa/vqav2",
        protocol="vqav2-val",
        routes=ROUTES,
        main_metric="accuracy",
        dataset=DataSet(
            name="VQA v2.0",
            homepage="https://visualqa.org/download.html",
            licence="annotations CC BY 4.0; images under COCO's terms of use",
            files=(VAL, ANSWERS, IMAGES, MINIVAL, *TESTS.values(), TEST_IMAGES, ANSWER_LIST, HUB),
        ),
    )
    splits: ClassVar[Mapping[str, Split]] = {
        "val": Split(protocol="vqav2-val", size=214354, note=CONTAMINATED),
        "minival": Split(protocol="vqav2-minival", size=25994, note=CONTAMINATED),
        "test-dev": Split(protocol="vqav2-test-dev", size=107394),
        "test-std": Split(protocol="vqav2-test-std", size=447793),
    }

    def asked(self, data_dir: Path, limit: int | None) -> tuple[AskedQuestion, ...]:
        """Read the official files, or for val the hub's mirror where there are none."""
        if self.split in TESTS:
            file = locate(TESTS[self.split], data_dir, self.card.name)
            folder = locate(TEST_IMAGES, data_dir, self.card.name)
            return read_vqa(file, None, "COCO_test2015_{:012d}.jpg", folder)
        mirror = hub_files(data_dir / HUB.path, "validation")
        if mirror and find(VAL, data_dir) is None:
            every = read_hub_vqa(mirror, limit if self.split == "val" else None)
        else:
            files = [locate(one, data_dir, self.card.name) for one in (VAL, ANSWERS, IMAGES)]
            every = read_vqa(files[0], files[1], "COCO_val2014_{:012d}.jpg", files[2])
        return every if self.split == "val" else keep_listed(every, locate(MINIVAL, data_dir, self.card.name))
