"""Visual question answering that needs outside knowledge: OK-VQA's 5,046 val questions on COCO val2014."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from evalkit.datasets.locate import locate
from evalkit.datasets.vqa import read_vqa
from evalkit.families.generation import Split
from evalkit.families.question_answering import ANSWER_LIST, ROUTES, QuestionAnsweringTask
from evalkit.types import DataFile, DataSet, TaskCard
from evalkit_tasks.coco_retrieval import IMAGES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from evalkit.datasets.vqa import AskedQuestion


def _file(about: str, name: str) -> DataFile:
    return DataFile(
        path=f"okvqa/{name}",
        about=about,
        alternatives=(f"okvqa/annotations/{name}",),
        url=f"https://okvqa.allenai.org/static/data/{name}.zip",
        extract_to="okvqa",
    )


QUESTIONS = _file("OK-VQA val questions", "OpenEnded_mscoco_val2014_questions.json")
ANSWERS = _file("OK-VQA val answers", "mscoco_val2014_annotations.json")


class OkVqa(QuestionAnsweringTask):
    """OK-VQA, version 1.1; a question's type is its kind of knowledge (`one` to `ten`, `other`)."""

    card: ClassVar[TaskCard] = TaskCard(
        name="okvqa",
        version=1,
        summary="Question answering on OK-VQA: outside knowledge",
        paper="https://arxiv.org/abs/1906.00067",
        purpose="vqa/okvqa",
        protocol="okvqa-val",
        routes=ROUTES,
        main_metric="accuracy",
        dataset=DataSet(
            name="OK-VQA",
            homepage="https://okvqa.allenai.org/download.html",
            licence="annotations CC BY 4.0; images under COCO's terms of use",
            files=(QUESTIONS, ANSWERS, IMAGES, ANSWER_LIST),
        ),
    )
    splits: ClassVar[Mapping[str, Split]] = {"val": Split(protocol="okvqa-val", size=5046)}

    def asked(self, data_dir: Path, limit: int | None) -> tuple[AskedQuestion, ...]:
        """Read the official files, which are of VQA's form."""
        questions, answers, images = (locate(one, data_dir, self.card.name) for one in (QUESTIONS, ANSWERS, IMAGES))
        return read_vqa(questions, answers, "COCO_val2014_{:012d}.jpg", images)
