"""The reader of the official VisDial files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalkit.datasets.visdial import DenseAnnotation, DialogRound, read_visdial
from evalkit.errors import DataError

PATTERN = "VisualDialog_val2018_{:012d}.jpg"


def write(file: Path, content: Any) -> Path:
    file.write_text(json.dumps(content))
    return file


def val() -> dict[str, Any]:
    """Two dialogs of two rounds with three options."""
    rounds = [
        {"question": 0, "answer": 2, "answer_options": [0, 2, 1], "gt_index": 1},
        {"question": 1, "answer": 0, "answer_options": [0, 1, 3], "gt_index": 0},
    ]
    return {
        "version": "1.0",
        "split": "val2018",
        "data": {
            "questions": ["is it red", "how many"],
            "answers": ["no", "yes", "yes ", "2"],
            "dialogs": [{"image_id": image, "caption": f"a {image}", "dialog": rounds} for image in (254080, 7)],
        },
    }


def annotated() -> list[dict[str, Any]]:
    return [{"image_id": image, "round_id": 2, "gt_relevance": [0.0, 1, 0.4]} for image in (7, 254080, 99)]


def test_val(tmp_path: Path) -> None:
    dialogs, dense = write(tmp_path / "val.json", val()), write(tmp_path / "dense.json", annotated())
    first, second = read_visdial(dialogs, dense, PATTERN, tmp_path / "images")
    assert (first.image_id, first.caption, second.image_id) == ("254080", "a 254080", "7")
    assert first.image.source == tmp_path / "images" / "VisualDialog_val2018_000000254080.jpg"
    # texts stay as they are, so candidates that differ by a space stay two
    assert first.rounds == (
        DialogRound(question="is it red", answer="yes ", options=("no", "yes ", "yes"), gt_index=1),
        DialogRound(question="how many", answer="no", options=("no", "yes", "2"), gt_index=0),
    )
    assert first.dense == DenseAnnotation(round_id=2, relevance=(0.0, 1.0, 0.4))
    assert [one.image_id for one in read_visdial(dialogs, dense, PATTERN, tmp_path, 1)] == ["254080"]


def test_in_test_only_the_last_round_has_options_and_no_answer_is_given_away(tmp_path: Path) -> None:
    content = val()
    asked = {"question": 1, "answer_options": [0, 1, 3]}
    answered = {"question": 0, "answer": 2}
    content["data"]["dialogs"][0]["dialog"] = [answered, answered, asked]
    content["data"]["dialogs"][1]["dialog"] = [asked]
    first, second = read_visdial(write(tmp_path / "test.json", content), None, PATTERN, tmp_path)
    assert [len(one.options) for one in first.rounds] == [0, 0, 3]
    assert [one.answer for one in first.rounds] == ["yes ", "yes ", None]
    assert [one.gt_index for one in (*first.rounds, *second.rounds)] == [None] * 4
    assert first.dense is second.dense is None


def test_the_real_dialogs(shared_fixtures: Path) -> None:
    folder = shared_fixtures / "visdial"
    dense = folder / "visdial_1.0_val_dense_annotations_crowdsourced.json"
    dialogs = read_visdial(folder / "visdial_1.0_val_crowdsourced.json", dense, PATTERN, Path("i"))
    assert len(dialogs) == 97
    rounds = [one for each in dialogs for one in each.rounds]
    assert {len(each.rounds) for each in dialogs} == {10}
    # the options of a round are 100 different texts; what a model makes of them may not be
    assert {len(set(one.options)) for one in rounds} == {100}
    assert all(one.gt_index is not None and one.options[one.gt_index] == one.answer for one in rounds)
    assert all(each.dense is not None and any(each.dense.relevance) for each in dialogs)
    assert dialogs[0].caption == "a nokia tablet pc in a keyboard dock"


Change = Callable[[Any, Any], Any]


def first_round(content: Any) -> Any:
    return content["data"]["dialogs"][0]["dialog"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content, dense: content.pop("data"), "'data' is"),
        (lambda content, dense: content["data"].pop("answers"), "has no 'answers'"),
        (lambda content, dense: content["data"]["answers"].append(3), "'answers' of 'data' holds something"),
        (lambda content, dense: content["data"]["dialogs"].clear(), "holds no dialog"),
        (lambda content, dense: content["data"]["dialogs"][1].update(image_id=254080), "image 254080 has two dialogs"),
        (lambda content, dense: content["data"]["dialogs"][1].update(image_id="x"), r"dialogs\[1\] .* not a number"),
        (lambda content, dense: content["data"]["dialogs"][1].pop("caption"), r"\(image 7\) has no 'caption'"),
        (
            lambda content, dense: first_round(content).update(question=9),
            "'question' of round 1 .* is 9, not a position",
        ),
        (lambda content, dense: first_round(content).update(answer=-1), "'answer' of round 1 .* is -1, not a position"),
        (lambda content, dense: first_round(content).pop("answer"), "names 'yes ', its answer is None"),
        (lambda content, dense: first_round(content).update(answer_options=[0, None]), "an option of round 1 .* None"),
        (lambda content, dense: first_round(content).update(gt_index=3), "'gt_index' of round 1 .* is 3, .* 3 options"),
        (lambda content, dense: first_round(content).update(gt_index=0), "names 'no', its answer is 'yes '"),
        (lambda content, dense: dense.pop(1), "no annotation of image 254080"),
        (lambda content, dense: dense.append(dense[0]), "image 7 is annotated twice"),
        (lambda content, dense: dense[1].update(round_id=0), r"entry 1 \(image 254080\) is 0, not a number from 1"),
        (lambda content, dense: dense[1].update(round_id=3), "has 2 rounds, and round 3 is annotated"),
        (lambda content, dense: dense[1]["gt_relevance"].pop(), "has 2 relevances for 3 options"),
        (lambda content, dense: dense[1].update(gt_relevance=[0, 0, 1.5]), "not a number from 0 to 1"),
        (lambda content, dense: dense[1].update(gt_relevance=[0, 0, "1"]), "not a number from 0 to 1"),
    ],
)
def test_what_would_give_wrong_numbers_is_refused(tmp_path: Path, change: Change, message: str) -> None:
    content, dense = val(), annotated()
    change(content, dense)
    files = write(tmp_path / "val.json", content), write(tmp_path / "dense.json", dense)
    with pytest.raises(DataError, match=message) as raised:
        read_visdial(*files, PATTERN, tmp_path)
    assert str(tmp_path) in raised.value.problem


def test_an_annotated_round_has_options(tmp_path: Path) -> None:
    content, dense = val(), annotated()
    told = content["data"]["dialogs"][0]["dialog"][0]
    del told["answer_options"], told["gt_index"]
    dense[1].update(round_id=1, gt_relevance=[])
    files = write(tmp_path / "val.json", content), write(tmp_path / "dense.json", dense)
    with pytest.raises(DataError, match="round 1 of image 254080 is annotated, and has no options"):
        read_visdial(*files, PATTERN, tmp_path)


def test_a_dialog_in_which_nothing_is_asked_is_refused(tmp_path: Path) -> None:
    content = val()
    content["data"]["dialogs"][0]["dialog"] = [{"question": 0, "answer": 1}]
    with pytest.raises(DataError, match=r"no round of .* \(image 254080\) has options"):
        read_visdial(write(tmp_path / "val.json", content), None, PATTERN, tmp_path)
