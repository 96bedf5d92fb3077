"""Files of evaluation servers against what the servers take: a good file passes, and each rule is broken once."""

from __future__ import annotations

import io
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalkit.datasets.visdial import DialogRound
from evalkit.errors import ConfigError, DataError
from evalkit.families.captioning import CaptionPrediction
from evalkit.families.dialog import DialogPrediction, DialogSample, RankedRound
from evalkit.families.question_answering import VqaPrediction
from evalkit.families.statements import StatementPrediction
from evalkit.report.server_checks import Expected, advice, check_server_file, expected_of, problems
from evalkit.report.server_files import empty_answers, server_file
from evalkit.types import ImageRef, Prediction, Sample

OPTIONS = 4


def samples(*ids: str) -> list[Sample]:
    return [Sample(id=one, cluster=one) for one in ids]


def dialog(number: str, rounds: int, *, only_last: bool = False) -> DialogSample:
    """Every round with candidates, as in val, or the last one alone, as in test."""
    asked = DialogRound(question="q", answer=None, options=("a",) * OPTIONS, gt_index=None)
    told = replace(asked, options=()) if only_last else asked
    image = ImageRef(id=number, source=Path(f"{number}.jpg"))
    all_rounds = (*[told] * (rounds - 1), asked)
    return DialogSample(id=number, cluster=number, image=image, caption="c", rounds=all_rounds, dense=None)


VQA = expected_of(VqaPrediction, samples("42001", "42000", "7"))
CAPTIONS = expected_of(CaptionPrediction, samples("0", "1"))
VAL = expected_of(DialogPrediction, [dialog("1", 2), dialog("2", 2)])
NLVR2 = expected_of(StatementPrediction, samples("dev-850-0-0", "dev-850-1-0"))

GOOD_VQA: list[Any] = [{"question_id": one, "answer": "yes"} for one in (7, 42000, 42001)]
GOOD_CAPTIONS: list[Any] = [{"image_id": 0, "caption": "a dog"}, {"image_id": 1, "caption": "wei\u00df"}]
GOOD_VAL: list[Any] = [
    {"image_id": image, "round_id": place, "ranks": [2, 1, 4, 3]} for image in (1, 2) for place in (1, 2)
]


def found(content: object, expected: Expected) -> list[str]:
    text = content if isinstance(content, str) else json.dumps(content)
    return problems(text.encode(), expected)


def test_good_files_in_any_order() -> None:
    assert found(GOOD_VQA, VQA) == []
    assert found(GOOD_CAPTIONS, CAPTIONS) == []
    assert found(json.dumps(GOOD_CAPTIONS, ensure_ascii=False), CAPTIONS) == []
    assert found(GOOD_VAL[::-1], VAL) == []
    assert found("dev-850-1-0,TRUE\ndev-850-0-0,unparsed\n", NLVR2) == []
    assert found("dev-850-1-0,True\r\ndev-850-0-0,False", NLVR2) == []
    assert found("dev-850-1-0,True\rdev-850-0-0,False\r", NLVR2) == []  # Python reads lines so
    check_server_file(json.dumps(GOOD_VQA).encode(), VQA, "the file")


def test_an_empty_answer_is_a_wrong_one_and_no_error() -> None:
    assert found([*GOOD_VQA[:2], {"question_id": 42001, "answer": ""}], VQA) == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[NaN]", "it is not JSON (NaN is no number of JSON)"),
        ({"answers": GOOD_VQA}, "it is not a JSON list"),
        ([*GOOD_VQA, 3], "entry 3 is not an object"),
        ([*GOOD_VQA[:2], {"question_id": 42001}], "entry 2 has the fields 'question_id', not 'question_id', 'answer'"),
        ([{**GOOD_VQA[0], "score": 1}, *GOOD_VQA[1:]], "entry 0 has the fields 'answer', 'question_id', 'score', not"),
        ([*GOOD_VQA[:2], {"question_id": "42001", "answer": "a"}], "question_id of entry 2 is '42001', which is not"),
        ([*GOOD_VQA[:2], {"question_id": 42001.0, "answer": "a"}], "question_id of entry 2 is 42001.0, which is not"),
        ([*GOOD_VQA[1:], {"question_id": True, "answer": "a"}], "question_id of entry 2 is True, which is not"),
        ([*GOOD_VQA[:2], {"question_id": 42001, "answer": None}], "answer of entry 2 is None, which is not a text"),
        ([*GOOD_VQA[:2], {"question_id": 42001, "answer": 2}], "answer of entry 2 is 2, which is not a text"),
        ([*GOOD_VQA[:2], {"question_id": 42001, "answer": "\ud800"}], "answer of entry 2 has a lone surrogate"),
        (GOOD_VQA[:1], "2 of 3 have no answer: question_id 42001, 42000"),
        ([*GOOD_VQA, GOOD_VQA[0]], "question_id 7 occurs 2 times"),
        ([*GOOD_VQA, {"question_id": 8, "answer": "a"}], "question_id 8 is not of this split"),
    ],
)
def test_what_is_wrong_with_answers(content: object, problem: str) -> None:
    told = found(content, VQA)
    assert told and told[0].startswith(problem), told
    with pytest.raises(DataError, match="x.json is not what the server takes: .*exporting.md"):
        check_server_file((content if isinstance(content, str) else json.dumps(content)).encode(), VQA, "x.json")


def test_bytes_that_are_no_text() -> None:
    assert problems(b"[\xff]", VQA) == ["it is not UTF-8 (byte 1)"]


@pytest.mark.parametrize("character", ["\n", "\r", "\v", "\f", "\x85", "\u2028", "\u2029"])
def test_a_line_break_would_shift_the_captions_that_follow(character: str) -> None:
    rows = [{"image_id": 0, "caption": f"a dog{character}runs"}, GOOD_CAPTIONS[1]]
    assert found(rows, CAPTIONS) == ["caption of entry 0 has a line break in it"]
    # an answer to a question is not tokenized by lines
    assert found([*GOOD_VQA[:2], {"question_id": 42001, "answer": f"a{character}b"}], VQA) == []
    written = server_file([CaptionPrediction(sample_id="0", failure=None, text="", caption=f"a dog{character}runs")])
    assert json.loads(written) == [{"image_id": 0, "caption": "a dog runs"}]
    assert written.isascii()


@pytest.mark.parametrize(
    "ranks",
    [
        [1, 2, 3],  # one too few
        [1, 2, 3, 3],
        [0, 1, 2, 3],  # from 0
        [1, 2, 3, 5],
        [1, 2, 3, 4, 5],
        [1, 2, 3, 4, 4],
        [],
    ],
)
def test_ranks_that_are_no_permutation(ranks: list[int]) -> None:
    told = found([{**GOOD_VAL[0], "ranks": ranks}, *GOOD_VAL[1:]], VAL)
    assert told == ["ranks of entry 0 (image_id 1, round 1) is not each of 1 to 4 once"]


@pytest.mark.parametrize("ranks", [None, "1234", ["1", 2, 3, 4], [1.0, 2, 3, 4], [True, 2, 3, 4]])
def test_ranks_of_another_type(ranks: object) -> None:
    told = found([{**GOOD_VAL[0], "ranks": ranks}, *GOOD_VAL[1:]], VAL)
    assert told == ["ranks of entry 0 is not a list of whole numbers"]


def test_the_rounds_that_each_split_asks_for() -> None:
    from_zero = [{**row, "round_id": row["round_id"] - 1} for row in GOOD_VAL]
    assert found(from_zero, VAL)[0] == "image_id 1, round 0 is not of this split"
    assert found(GOOD_VAL[:3], VAL) == ["1 of 4 have no answer: image_id 2, round 2"]
    assert found([*GOOD_VAL, GOOD_VAL[0]], VAL) == ["image_id 1, round 1 occurs 2 times"]
    no_round = [{**GOOD_VAL[0], "round_id": None}, *GOOD_VAL[1:]]
    assert found(no_round, VAL)[0] == "round_id of entry 0 is None, which is not a whole number"
    # of a test dialog of seven rounds the last one alone is asked for
    test = expected_of(DialogPrediction, [dialog("5", 7, only_last=True)])
    assert dict(test.asked) == {(5, 7): OPTIONS}
    assert found([{"image_id": 5, "round_id": 7, "ranks": [4, 3, 2, 1]}], test) == []
    assert len(found([{"image_id": 5, "round_id": 1, "ranks": [4, 3, 2, 1]}], test)) == 2


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("dev-850-0-0,True\n", "1 of 2 have no answer: identifier dev-850-1-0"),
        ("dev-850-0-0,True\n" * 2 + "dev-850-1-0,True\n", "identifier dev-850-0-0 occurs 2 times"),
        ("dev-850-0-0,True\ndev-850-1-0,True\ndev-1-1-1,True\n", "identifier dev-1-1-1 is not of this split"),
        ("dev-850-0-0,1\ndev-850-1-0,True\n", "the verdict of dev-850-0-0 is '1', not True or False"),
        ("dev-850-0-0, True\ndev-850-1-0,True\n", "the verdict of dev-850-0-0 is ' True', not True or False"),
        ("dev-850-0-0,True ,x\ndev-850-1-0,True\n", "the verdict of dev-850-0-0 is 'True ', not True or False"),
        ("dev-850-0-0 ,True\ndev-850-1-0,True\n", "identifier dev-850-0-0  is not of this split"),
        ("dev-850-0-0\ndev-850-1-0,True\n", "line 1 is 'dev-850-0-0', not an identifier, a comma"),
        ("dev-850-0-0,True\n \ndev-850-1-0,True\n", "line 2 is '', not an identifier, a comma"),
        ("\ufeffdev-850-0-0,True\ndev-850-1-0,True\n", "it begins with a byte order mark"),
        ("dev-850-0-0,True\n\ndev-850-1-0,True\n", "line 2 is '', not an identifier, a comma"),
        ("identifier,prediction\n", "the verdict of identifier is 'prediction', not True or False"),
    ],
)
def test_what_is_wrong_with_verdicts(content: str, problem: str) -> None:
    told = found(content, NLVR2)
    assert told and told[0].startswith(problem), told


def official_score(content: str, labels: dict[str, str]) -> float:
    """What `nlvr2/eval/metrics.py` does with a file; other entries, which it overlooks, are an error here."""
    predictions = {}
    for line in io.StringIO(content, newline=None).readlines():
        fields = line.strip().split(",")
        predictions[fields[0]] = fields[1]
    if set(predictions) != set(labels):
        raise KeyError
    return sum(predictions[one].lower() == label.lower() for one, label in labels.items()) / len(labels)


BLANKS = ("", " ", "\t", "\r", "\xa0", "\ufeff")
LINES = [
    f"{before}dev-850-0-0{left},{right}{verdict}{after}{rest}"
    for before, left, right, after in itertools.product(BLANKS, repeat=4)
    for verdict in ("True", "true", "FALSE", "yes", "")
    for rest in ("", ",", ",0.9", ", False")
] + ["", " ", ",", "dev-850-0-0", "dev-850-0-0;True", '"dev-850-0-0","True"']


def test_verdicts_pass_where_the_official_script_reads_what_stands_there() -> None:
    """Of two lines the second one is right: what is scored as it looks passes, and nothing else."""
    passed = 0
    for line in LINES:
        content = f"{line}\ndev-850-1-0,True\n"
        seen = next((one for one in ("true", "false") if one in line.lower().partition(",")[2].split(",")[0]), "")
        try:
            scores = {
                label: official_score(content, {"dev-850-0-0": label, "dev-850-1-0": "True"})
                for label in ("True", "False")
            }
        except (KeyError, IndexError):
            scores = {}
        as_it_looks = bool(seen) and scores.get(seen.capitalize()) == 1
        accepted = not found(content, NLVR2)
        assert accepted == as_it_looks, repr(line)
        passed += accepted
    assert 0 < passed < len(LINES)


def test_a_name_that_occurs_twice_in_an_object() -> None:
    twice = '[{"question_id": 100, "answer": "no", "answer": "yes"}]'
    assert found(twice, VQA) == ["it is not JSON ('answer' occurs twice in one object)"]
    assert found("\ufeff[]", VQA) == ["it begins with a byte order mark, which no official code expects"]


def test_many_problems_are_counted_and_the_first_are_told() -> None:
    rows = [{"question_id": one, "answer": "a"} for one in range(100, 109)]
    with pytest.raises(DataError, match=r"question_id 100 is not of this split; .*; and 5 more\."):
        check_server_file(json.dumps(rows).encode(), VQA, "x.json")


def test_what_no_server_can_expect() -> None:
    with pytest.raises(DataError, match="question_id 1 occurs twice"):
        expected_of(VqaPrediction, samples("1", "01"))
    with pytest.raises(DataError, match="'a1' is none"):
        expected_of(CaptionPrediction, samples("a1"))
    with pytest.raises(DataError, match="'\u0663' is none"):  # a digit, and no number of JSON
        expected_of(CaptionPrediction, samples("\u0663"))
    with pytest.raises(DataError, match="not an official identifier"):
        expected_of(StatementPrediction, samples("dev-850-0-s1"))
    with pytest.raises(ConfigError, match="No server takes"):
        expected_of(Prediction, samples("1"))


def test_what_is_written_passes() -> None:
    ranked = RankedRound(round_id=1, answer="a", rank=None, scores=(0.5, 0.5, -1.0, 2.0))
    told = [DialogPrediction(sample_id=one, failure=None, rounds=(ranked, replace(ranked, round_id=2))) for one in "12"]
    assert problems(server_file(told), VAL) == []
    said = [StatementPrediction(sample_id=one, failure=None, answer="") for one in ("dev-850-1-0", "dev-850-0-0")]
    assert problems(server_file(said), NLVR2) == []
    assert empty_answers(said) == 2
    blank = [CaptionPrediction(sample_id=one, failure=None, text="", caption=one) for one in (" ", "", "a")]
    assert empty_answers([*blank, *told]) == 2


def test_failed_samples_are_named() -> None:
    answers = [VqaPrediction(sample_id=str(one), failure="gone", text="", answer="") for one in range(13)]
    with pytest.raises(
        DataError, match="13 of 13 .* first is 0: gone. Others: 1, 2, 3, 4, 5, 6, 7, 8, 9 and 3 more[.] The"
    ):
        server_file(answers)


def test_what_to_know_before_sending() -> None:
    assert "test-std" in advice("vqav2-test-dev")
    assert "test2014" in advice("coco-karpathy-caption-subset-200")
    assert advice("nocaps-test") == ""
