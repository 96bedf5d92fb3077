"""VQA accuracy against the official evaluation's values."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evalkit.metrics import vqa, vqa_normalise
from evalkit.metrics.vqa import AnswerMatcher, VqaQuestion, vqa_scores
from evalkit.metrics.vqa_normalise import normalise_answer, strip_answer


@pytest.mark.parametrize("module", [vqa, vqa_normalise])
def test_doctests(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def _load(folder: Path, name: str) -> Any:
    return json.loads((folder / "vqav2" / name).read_text("utf-8"))


def test_every_normalisation_pair_is_exact(shared_fixtures: Path) -> None:
    pairs = _load(shared_fixtures, "expected_normalisation.json")
    assert len(pairs) == 997
    assert [pair for pair in pairs if normalise_answer(pair[0]) != pair[1]] == []


@pytest.mark.parametrize("name", ["majority", "messy_majority_seed0", "always_yes"])
def test_official_evaluation_is_exact(shared_fixtures: Path, name: str) -> None:
    expected = _load(shared_fixtures, "expected_vqaEval.json")[name]
    annotations = _load(shared_fixtures, "smallval_annotations.json")["annotations"]
    given = {row["question_id"]: row["answer"] for row in _load(shared_fixtures, f"pred_{name}.json")}
    questions = [
        VqaQuestion(
            answers=[answer["answer"] for answer in row["answers"]],
            answer_type=row["answer_type"],
            question_type=row["question_type"],
        )
        for row in annotations
    ]
    scores = vqa_scores(questions, [given[row["question_id"]] for row in annotations]).rounded(4)
    assert scores.overall == expected["overall"]
    assert scores.per_answer_type == expected["perAnswerType"]
    assert scores.per_question_type == expected["perQuestionType"]
    per_question = {str(row["question_id"]): value for row, value in zip(annotations, scores.per_question, strict=True)}
    assert per_question == {key: round(value, 4) for key, value in expected["perQuestion"].items()}


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("." * 40, "." * 8),  # 32 periods at most
        ("1.5.", "1.5"),
        ("a/b", "b"),  # the mark becomes a space, and the article goes
        ("a/b, c", "b c"),
        ("3,5-a", "35a"),  # a comma between digits deletes every mark
        ("somebody'd", "somebodyd"),
        ("Im", "im"),  # the table's "Im" never meets a lower-case word
        ("none", "0"),
        ("eleven", "eleven"),
        ("The An A", ""),
    ],
)
def test_quirks(text: str, normalised: str) -> None:
    assert normalise_answer(text) == normalised


def test_identical_answers_switch_normalisation_off() -> None:
    assert AnswerMatcher().accuracy("The cat", ["cat"] * 10) == 0
    assert AnswerMatcher().accuracy("The cat", ["cat"] * 9 + ["dog"]) == 1
    assert AnswerMatcher().accuracy("cat\n", [" cat"] * 5 + ["cat\t"] * 5) == 1  # the same after the outer white space
    assert strip_answer("a\nb\tc ") == "a b c"


def test_without_answers_there_is_no_accuracy() -> None:
    with pytest.raises(ValueError, match="without answers"):
        AnswerMatcher().accuracy("x", [])
    with pytest.raises(ValueError, match="0 questions and 0 predictions"):
        vqa_scores([], [])


def test_the_evaluate_module_opens_offline_and_agrees(
    shared_fixtures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import json, sys, evaluate\n"
        "from pathlib import Path\n"
        "from evalkit.evaluate_modules import module\n"
        "folder = Path(sys.argv[1])\n"
        "rows = json.loads((folder / 'smallval_annotations.json').read_text())['annotations']\n"
        "given = json.loads((folder / 'pred_messy_majority_seed0.json').read_text())\n"
        "by_id = {row['question_id']: row['answer'] for row in given}\n"
        "print(json.dumps(evaluate.load(str(module('vqa_accuracy'))).compute(\n"
        "    predictions=[by_id[row['question_id']] for row in rows],\n"
        "    references=[[answer['answer'] for answer in row['answers']] for row in rows],\n"
        "    answer_types=[row['answer_type'] for row in rows], digits=4)))\n"
    )
    pytest.importorskip("datasets")
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(shared_fixtures / "vqav2")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = _load(shared_fixtures, "expected_vqaEval.json")["messy_majority_seed0"]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"accuracy": expected["overall"], "per_answer_type": expected["perAnswerType"]}


def test_importing_evalkit_imports_no_evaluate() -> None:
    script = "import sys, evalkit.metrics.vqa, evalkit.evaluate_modules; sys.exit('evaluate' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
