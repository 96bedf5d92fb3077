"""The files of evaluation servers."""

from __future__ import annotations

import json

import pytest

from evalkit.errors import ConfigError, DataError
from evalkit.families.captioning import CaptionPrediction
from evalkit.families.question_answering import VqaPrediction
from evalkit.families.statements import StatementPrediction
from evalkit.report.server_files import server_file
from evalkit.types import Prediction


def answer(sample: str, text: str, failure: str | None = None) -> VqaPrediction:
    return VqaPrediction(sample_id=sample, failure=failure, text=f" {text}\n", answer=text)


def caption(sample: str, text: str) -> CaptionPrediction:
    return CaptionPrediction(sample_id=sample, failure=None, text=f" {text}\n", caption=text)


def test_shapes() -> None:
    vqa = server_file([answer("42001", "wei\u00df"), answer("42000", "")], "vqa")
    assert json.loads(vqa) == [{"question_id": 42001, "answer": "wei\u00df"}, {"question_id": 42000, "answer": ""}]
    captions = [{"image_id": 0, "caption": "a dog"}]
    for format in ("auto", "nocaps", "coco"):
        assert json.loads(server_file([caption("0", "a dog")], format)) == captions


@pytest.mark.parametrize(
    "predictions", [[Prediction(sample_id="1", failure=None)], [answer("1", "a"), caption("2", "b")]]
)
def test_answers_that_no_server_takes(predictions: list[Prediction]) -> None:
    with pytest.raises(ConfigError, match="No server takes"):
        server_file(predictions)


def test_what_a_server_would_refuse() -> None:
    with pytest.raises(ConfigError, match="no coco file"):
        server_file([answer("1", "a")], "coco")
    with pytest.raises(DataError, match="1 of 2 samples have no answer, the first is 2: gone"):
        server_file([answer("1", "a"), answer("2", "", "gone")])
    with pytest.raises(DataError, match="'a1' is none"):
        server_file([answer("a1", "a")])
    with pytest.raises(DataError, match="question_id 1 occurs twice"):
        server_file([answer("1", "a"), answer("01", "b")])


def verdict(sample: str, answer: str) -> StatementPrediction:
    return StatementPrediction(sample_id=sample, failure=None, answer=answer)


def test_verdicts_are_the_lines_that_the_official_script_reads() -> None:
    told = [verdict("dev-850-0-0", "True"), verdict("dev-850-1-0", "False"), verdict("dev-850-1-1", "")]
    for format in ("auto", "nlvr2"):
        assert server_file(told, format) == b"dev-850-0-0,True\ndev-850-1-0,False\ndev-850-1-1,unparsed\n"
    with pytest.raises(DataError, match="'dev-850-0-s1' is not an official identifier"):
        server_file([*told, verdict("dev-850-0-s1", "True")])
    with pytest.raises(DataError, match="identifier dev-850-0-0 occurs twice"):
        server_file([*told, told[0]])
    with pytest.raises(ConfigError, match="no vqa file.*Give --format nlvr2"):
        server_file(told, "vqa")
