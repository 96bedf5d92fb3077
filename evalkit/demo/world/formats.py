"""The world in the official file formats: COCO with VQAv2, nocaps, NLVR2, VisDial."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from evalkit.demo.world import pieces
from evalkit.demo.world.pictures import SIDE, draw
from evalkit.demo.world.questions import every_answer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evalkit.demo.world.pieces import AnsweredQuestion, Conversation, DomainPicture, Picture
    from evalkit.demo.world.scenes import Scene
    from evalkit.demo.world.statements import Statement

COCO_IMAGES = "coco/images/val2014"
NOCAPS_IMAGES = "nocaps/val"
NLVR2_IMAGES = "nlvr2/dev"
VISDIAL_IMAGES = "visdial/VisualDialog_val2018"
DOMAINS = len(pieces.DOMAINS)
_JPEG_QUALITY = 92
_NOCAPS_DOMAINS = {"in": "in-domain", "near": "near-domain", "out": "out-domain"}
_TIMES = 1000
"""A question's id is its image's so many times, plus its number: as in VQAv2."""


def save(scene: Scene, file: Path) -> None:
    """Draw a scene into a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".png":
        draw(scene).save(file, "PNG")
    else:
        draw(scene).save(file, "JPEG", quality=_JPEG_QUALITY)


def coco_name(number: int) -> str:
    """The file of a COCO picture."""
    return f"COCO_val2014_{number + 1:012d}.jpg"


def nocaps_name(number: int) -> str:
    """The file of a nocaps picture."""
    return f"{number:016x}.jpg"


def nlvr2_pair(number: int, place: int) -> str:
    """What the files of a pair begin with: statement and place of the pair among its pairs."""
    return f"dev-{number}-{place}"


def visdial_name(number: int) -> str:
    """The file of a dialog's picture."""
    return f"VisualDialog_val2018_{number + 1:012d}.jpg"


def write_coco(root: Path, pictures: Sequence[Picture]) -> None:
    """BLIP's list of Karpathy's test split; VQAv2's questions and answers on the same pictures, and answers to rank."""
    _write(
        root / "coco/annotations/coco_karpathy_test.json",
        [
            {"image": f"val2014/{coco_name(number)}", "caption": list(picture.captions)}
            for number, picture in enumerate(pictures)
        ],
    )
    asked = [
        (number + 1, (number + 1) * _TIMES + place, one)
        for number, picture in enumerate(pictures)
        for place, one in enumerate(picture.questions)
    ]
    head = {"info": {"description": "evalkit's demo world"}, "data_type": "mscoco", "data_subtype": "val2014"}
    _write(
        root / "vqav2/v2_OpenEnded_mscoco_val2014_questions.json",
        head
        | {
            "task_type": "Open-Ended",
            "questions": [
                {"image_id": image, "question": one.question.text, "question_id": question}
                for image, question, one in asked
            ],
        },
    )
    _write(
        root / "vqav2/v2_mscoco_val2014_annotations.json",
        head | {"annotations": [_annotation(image, question, one) for image, question, one in asked]},
    )
    _write(root / "vqav2/answer_list.json", every_answer())


def _annotation(image: int, question: int, asked: AnsweredQuestion) -> dict[str, Any]:
    return {
        "image_id": image,
        "question_id": question,
        "question_type": asked.question.kind,
        "answer_type": asked.question.answer_type,
        "multiple_choice_answer": max(asked.answers, key=asked.answers.count),
        "answers": [
            {"answer": answer, "answer_confidence": "yes", "answer_id": place}
            for place, answer in enumerate(asked.answers, start=1)
        ],
    }


def write_templates(root: Path) -> None:
    """What a class's name is put into, for zero-shot classification of the class folders."""
    _write(root / "templates.json", ["a picture of a small {c}", "a picture of a large {c}"])


def write_nocaps(root: Path, pictures: Sequence[DomainPicture]) -> None:
    """The official caption file, with the domain of each image."""
    _write(
        root / "nocaps/nocaps_val_4500_captions.json",
        {
            "info": {"description": "evalkit's demo world"},
            "images": [
                {
                    "id": number,
                    "file_name": nocaps_name(number),
                    "width": SIDE,
                    "height": SIDE,
                    "domain": _NOCAPS_DOMAINS[picture.domain],
                }
                for number, picture in enumerate(pictures)
            ],
            "annotations": [
                {"id": number * pieces.NOCAPS_CAPTIONS + place, "image_id": number, "caption": caption}
                for number, picture in enumerate(pictures)
                for place, caption in enumerate(picture.captions)
            ],
        },
    )


def write_nlvr2(root: Path, statements: Sequence[Statement]) -> None:
    """The official JSON lines."""
    lines = [
        json.dumps(
            {
                "identifier": f"{nlvr2_pair(number, place)}-0",
                "sentence": one.text,
                "label": str(pair.truth),
                "left_url": f"{nlvr2_pair(number, place)}-img0.png",
                "right_url": f"{nlvr2_pair(number, place)}-img1.png",
            }
        )
        for number, one in enumerate(statements)
        for place, pair in enumerate(one.pairs)
    ]
    file = root / "nlvr2/dev.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", "utf-8")


def write_visdial(root: Path, conversations: Sequence[Conversation]) -> None:
    """The dialogs, questions without their mark as officially, and the dense annotations of one round of each."""
    rounds = [one for conversation in conversations for one in conversation.dialog.rounds]
    questions = list(dict.fromkeys(one.question for one in rounds))
    answers = list(dict.fromkeys(option for one in rounds for option in one.options))
    question_at = {text: place for place, text in enumerate(questions)}
    answer_at = {text: place for place, text in enumerate(answers)}
    dialogs = [
        {
            "image_id": number + 1,
            "caption": conversation.dialog.caption,
            "dialog": [
                {
                    "question": question_at[one.question],
                    "answer": answer_at[one.answer],
                    "answer_options": [answer_at[option] for option in one.options],
                    "gt_index": one.truth,
                }
                for one in conversation.dialog.rounds
            ],
        }
        for number, conversation in enumerate(conversations)
    ]
    _write(
        root / "visdial/visdial_1.0_val.json",
        {
            "version": "1.0",
            "split": "val2018",
            "data": {"questions": [text.rstrip("?") for text in questions], "answers": answers, "dialogs": dialogs},
        },
    )
    dense = []
    for number, conversation in enumerate(conversations):
        place = number % len(conversation.dialog.rounds)
        relevance = list(conversation.dialog.rounds[place].relevance)
        dense.append({"image_id": number + 1, "round_id": place + 1, "gt_relevance": relevance})
    _write(root / "visdial/visdial_1.0_val_dense_annotations.json", dense)


def _write(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=0) + "\n", "utf-8")
