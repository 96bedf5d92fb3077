"""Official VisDial v1.0 files (https://visualdialog.org/data): dialogs, and dense annotations.

Dialogs: `{"split": "val2018", "data": {"questions": [text], "answers": [text], "dialogs": [{"image_id", "caption",
"dialog": [{"question", "answer", "answer_options", "gt_index"}]}]}}`, where questions, answers and options are
positions in the two lists. A dialog of val has ten rounds, all with 100 options. One of test has one to ten, and only
the last, which is the one to answer, has options; it has neither an answer nor a `gt_index`.

Dense annotations: `[{"image_id", "round_id", "gt_relevance": [number]}]`, `round_id` from 1, one relevance an option.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.datasets.annotation_json import as_list, as_object, id_of, list_of, read_json, text_of
from evalkit.datasets.captioned import malformed
from evalkit.types import ImageRef

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogRound:
    """One question of a dialog."""

    question: str
    answer: str | None
    """What the person answered; None where it is not public."""
    options: tuple[str, ...]
    """The candidate answers, as they stand in the file; none in the earlier rounds of a test dialog."""
    gt_index: int | None
    """Which option is the person's answer, from 0; None where it is not public."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseAnnotation:
    """How relevant several annotators found each option of one round."""

    round_id: int
    """From 1."""
    relevance: tuple[float, ...]
    """One an option, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialog:
    """A conversation about one image."""

    image_id: str
    image: ImageRef
    caption: str
    rounds: tuple[DialogRound, ...]
    dense: DenseAnnotation | None


def read_visdial(
    dialogs: Path, dense: Path | None, image_file: str, images: Path, limit: int | None = None
) -> tuple[Dialog, ...]:
    """Read a split, in the file's order.

    Args:
        dialogs: The dialogs' file.
        dense: The dense annotations; None for a test split.
        image_file: The file name of an image by number: `VisualDialog_val2018_{:012d}.jpg`.
        images: The folder the images lie in. Not looked at here.
        limit: How many dialogs from the front; None for all.

    Raises:
        DataError: A file is missing or malformed, an image occurs twice, or the two files disagree.
    """
    data = as_object(as_object(read_json(dialogs), dialogs, "the file").get("data"), dialogs, "'data'")
    texts = _Texts(file=dialogs, questions=_texts(data, "questions", dialogs), answers=_texts(data, "answers", dialogs))
    relevant = _read_dense(dense) if dense is not None else {}
    read: dict[str, Dialog] = {}
    for index, value in enumerate(list_of(data, "dialogs", dialogs, "'data'")[:limit]):
        record = as_object(value, dialogs, f"dialogs[{index}]")
        image_id = id_of(record, "image_id", dialogs, f"dialogs[{index}]")
        where = f"dialogs[{index}] (image {image_id})"
        if image_id in read:
            raise malformed(dialogs, f"image {image_id} has two dialogs")
        if not image_id.isdecimal():
            raise malformed(dialogs, f"the image id of {where} is not a number")
        rounds = _read_rounds(record, texts, where)
        if dense is not None:
            _check_dense(relevant, image_id, rounds, dense)
        read[image_id] = Dialog(
            image_id=image_id,
            image=ImageRef(id=image_id, source=images / image_file.format(int(image_id))),
            caption=text_of(record, "caption", dialogs, where),
            rounds=rounds,
            dense=relevant.get(image_id),
        )
    if not read:
        raise malformed(dialogs, "the split is empty: it holds no dialog")
    return tuple(read.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Texts:
    file: Path
    questions: Sequence[str]
    answers: Sequence[str]

    def question(self, record: Mapping[str, object], where: str) -> str:
        return self._at(self.questions, record.get("question"), f"'question' of {where}")

    def answer(self, position: object, where: str) -> str:
        return self._at(self.answers, position, where)

    def _at(self, texts: Sequence[str], position: object, where: str) -> str:
        if isinstance(position, bool) or not isinstance(position, int) or not 0 <= position < len(texts):
            raise malformed(self.file, f"{where} is {position!r}, not a position in a list of {len(texts):,}")
        return texts[position]


def _texts(data: Mapping[str, object], key: str, file: Path) -> list[str]:
    values = list_of(data, key, file, "'data'")
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < len(values):
        raise malformed(file, f"{key!r} of 'data' holds something that is not a text")
    return texts


def _read_rounds(record: Mapping[str, object], texts: _Texts, where: str) -> tuple[DialogRound, ...]:
    values = list_of(record, "dialog", texts.file, where)
    rounds = tuple(
        _read_round(as_object(value, texts.file, f"round {number} of {where}"), texts, f"round {number} of {where}")
        for number, value in enumerate(values, start=1)
    )
    if not any(one.options for one in rounds):
        raise malformed(texts.file, f"no round of {where} has options to choose from")
    for number, one in enumerate(rounds[:-1], start=1):  # the answers before a question are part of it
        if one.answer is None:
            raise malformed(texts.file, f"round {number} of {where} has no answer, and other rounds follow it")
    return rounds


def _read_round(record: Mapping[str, object], texts: _Texts, where: str) -> DialogRound:
    answer = texts.answer(record["answer"], f"'answer' of {where}") if "answer" in record else None
    options: tuple[str, ...] = ()
    if "answer_options" in record:
        listed = list_of(record, "answer_options", texts.file, where)
        options = tuple(texts.answer(option, f"an option of {where}") for option in listed)
    index = record.get("gt_index")
    if index is not None:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(options):
            raise malformed(texts.file, f"'gt_index' of {where} is {index!r}, and it has {len(options)} options")
        if options[index] != answer:
            raise malformed(texts.file, f"'gt_index' of {where} names {options[index]!r}, its answer is {answer!r}")
    return DialogRound(question=texts.question(record, where), answer=answer, options=options, gt_index=index)


def _read_dense(file: Path) -> dict[str, DenseAnnotation]:
    read: dict[str, DenseAnnotation] = {}
    for index, value in enumerate(as_list(read_json(file), file, "the file")):
        record = as_object(value, file, f"entry {index}")
        image_id = id_of(record, "image_id", file, f"entry {index}")
        where = f"entry {index} (image {image_id})"
        if image_id in read:
            raise malformed(file, f"image {image_id} is annotated twice")
        round_id = record.get("round_id")
        if isinstance(round_id, bool) or not isinstance(round_id, int) or round_id < 1:
            raise malformed(file, f"'round_id' of {where} is {round_id!r}, not a number from 1")
        values = list_of(record, "gt_relevance", file, where)
        relevance = [float(one) for one in values if isinstance(one, (int, float)) and not isinstance(one, bool)]
        if len(relevance) < len(values) or not all(0 <= one <= 1 for one in relevance):
            raise malformed(file, f"a relevance of {where} is not a number from 0 to 1")
        read[image_id] = DenseAnnotation(round_id=round_id, relevance=tuple(relevance))
    return read


def _check_dense(
    relevant: Mapping[str, DenseAnnotation], image_id: str, rounds: Sequence[DialogRound], file: Path
) -> None:
    if image_id not in relevant:
        raise malformed(file, f"there is no annotation of image {image_id}")
    dense = relevant[image_id]
    if dense.round_id > len(rounds):
        raise malformed(file, f"image {image_id} has {len(rounds)} rounds, and round {dense.round_id} is annotated")
    options = len(rounds[dense.round_id - 1].options)
    if not options:
        raise malformed(file, f"round {dense.round_id} of image {image_id} is annotated, and has no options")
    if len(dense.relevance) != options:
        raise malformed(file, f"image {image_id} has {len(dense.relevance)} relevances for {options} options")
