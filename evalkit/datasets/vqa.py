"""Official VQA files (https://visualqa.org/download.html): questions and annotations; OK-VQA's are of the same form.

Questions: `{"questions": [{"question_id", "image_id", "question"}], "data_subtype": "val2014", ...}`. Annotations:
`{"annotations": [{"question_id", "image_id", "question_type", "answer_type", "answers": [{"answer", "answer_id",
"answer_confidence"}], "multiple_choice_answer"}]}`; the last field is not read, and may be absent. Test splits have no
annotations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.datasets.annotation_json import as_list, as_object, id_of, list_of, read_json, text_of
from evalkit.datasets.captioned import malformed
from evalkit.types import ImageRef

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedQuestion:
    """One question on one image, with what the annotators answered."""

    id: str
    """The question id."""
    image_id: str
    image: ImageRef
    question: str
    answers: tuple[str, ...]
    """One an annotator, as they stand in the file; empty in a test split."""
    answer_type: str
    """`yes/no`, `number`, `other`; empty in a test split."""
    question_type: str


def read_vqa(
    questions: Path, annotations: Path | None, image_file: Mapping[str, str] | str, images: Path
) -> tuple[AskedQuestion, ...]:
    """Read a split, in the order of the questions' file.

    Args:
        questions: The questions' file.
        annotations: The annotations' file; None for a test split.
        image_file: Image id -> file name; or a pattern such as `COCO_val2014_{:012d}.jpg` for a number.
        images: The folder the images lie in. Not looked at here.

    Raises:
        DataError: A file is missing or malformed, a question occurs twice, or the two files disagree.
    """
    answered = _read_annotations(annotations) if annotations is not None else {}
    asked: list[AskedQuestion] = []
    seen: set[str] = set()
    refs: dict[str, ImageRef] = {}  # one an image, however many questions it has
    records = list_of(as_object(read_json(questions), questions, "the file"), "questions", questions, "the file")
    for index, value in enumerate(records):
        where = f"questions[{index}]"
        record = as_object(value, questions, where)
        question_id = id_of(record, "question_id", questions, where)
        where = f"{where} (question {question_id})"
        if question_id in seen:
            raise malformed(questions, f"question {question_id} occurs twice")
        seen.add(question_id)
        image_id = id_of(record, "image_id", questions, where)
        if image_id not in refs:
            name = _file_name(image_file, image_id, questions, where)
            refs[image_id] = ImageRef(id=image_id, source=images / name)
        truth = _NOTHING
        if annotations is not None:
            if question_id not in answered:
                raise malformed(annotations, f"there is no annotation of question {question_id} of {questions.name}")
            truth = answered[question_id]
        asked.append(
            AskedQuestion(
                id=question_id,
                image_id=image_id,
                image=refs[image_id],
                question=text_of(record, "question", questions, where),
                answers=truth.answers,
                answer_type=truth.answer_type,
                question_type=truth.question_type,
            )
        )
    if not asked:
        raise malformed(questions, "the split is empty: it holds no question")
    return tuple(asked)


def keep_listed(asked: Sequence[AskedQuestion], ids_file: Path) -> tuple[AskedQuestion, ...]:
    """The questions of a part of a split, in the split's order: `minival`.

    Args:
        asked: The whole split.
        ids_file: A JSON list of question ids, or of image ids, or of objects that have a `question_id`.

    Raises:
        DataError: The file is missing or malformed, or lists nothing of the split.
    """
    listed: set[str] = set()
    for index, value in enumerate(as_list(read_json(ids_file), ids_file, "the file")):
        record = value if isinstance(value, dict) else {"question_id": value}
        listed.add(id_of(record, "question_id", ids_file, f"entry {index}"))
    by_question = tuple(each for each in asked if each.id in listed)
    by_image = tuple(each for each in asked if each.image_id in listed)
    # an image's number can be the number of some question too: the ids are of the kind that explains more of them
    are_images = len({each.image_id for each in by_image}) > len(by_question)
    kept = by_image if are_images else by_question
    if not kept:
        raise malformed(ids_file, f"none of its {len(listed):,} ids is a question or an image of the split")
    return kept


def read_answer_list(file: Path) -> tuple[str, ...]:
    """The candidate answers of a ranking: a JSON list of texts (BLIP's `answer_list.json`), or a text file, one a line.

    Empty answers are left out: LXMERT's list begins with one, and there is nothing to score in it.

    Raises:
        DataError: Missing, malformed or empty, or an answer occurs twice.
    """
    if file.suffix == ".json":
        values: Sequence[object] = as_list(read_json(file), file, "the file")
    else:
        try:
            values = file.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise malformed(file, f"it cannot be read ({error})") from error
    answers: dict[str, None] = {}
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise malformed(file, f"entry {index} is not a text")
        if value in answers:
            raise malformed(file, f"the answer {value!r} occurs twice")
        if value:
            answers[value] = None
    if not answers:
        raise malformed(file, "it holds no answer")
    return tuple(answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Truth:
    answers: tuple[str, ...]
    answer_type: str
    question_type: str


_NOTHING = _Truth(answers=(), answer_type="", question_type="")


def _read_annotations(file: Path) -> dict[str, _Truth]:
    truths: dict[str, _Truth] = {}
    records = list_of(as_object(read_json(file), file, "the file"), "annotations", file, "the file")
    for index, value in enumerate(records):
        where = f"annotations[{index}]"
        record = as_object(value, file, where)
        question_id = id_of(record, "question_id", file, where)
        if question_id in truths:
            raise malformed(file, f"question {question_id} is annotated twice")
        where = f"{where} (question {question_id})"
        answers = list_of(record, "answers", file, where)
        if not answers:
            raise malformed(file, f"{where} has no answer")
        truths[question_id] = _Truth(
            answers=tuple(
                text_of(as_object(answer, file, f"an answer of {where}"), "answer", file, f"an answer of {where}")
                for answer in answers
            ),
            answer_type=text_of(record, "answer_type", file, where),
            question_type=text_of(record, "question_type", file, where),
        )
    return truths


def _file_name(image_file: Mapping[str, str] | str, image_id: str, file: Path, where: str) -> str:
    if isinstance(image_file, str):
        if not image_id.isdecimal():
            raise malformed(file, f"the image id of {where} is {image_id!r}, not a number")
        return image_file.format(int(image_id))
    if image_id not in image_file:
        raise malformed(file, f"no file is known for image {image_id} of {where}")
    return image_file[image_id]
