"""The official VQA accuracy as a metric of the library `evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import datasets  # noqa: TID253 # this script is imported by `evaluate` alone
import evaluate  # noqa: TID253 # as above

from evalkit.metrics.vqa import VqaQuestion, vqa_scores  # noqa: TID253 # as above

if TYPE_CHECKING:
    from collections.abc import Sequence

_CITATION = "Antol et al., VQA: Visual Question Answering, https://arxiv.org/abs/1505.00468"
_USAGE = """
Args:
    predictions: One answer a question.
    references: The annotators' answers of each question, ten in the official data.
    answer_types: The answer type of each question (`yes/no`, `number`, `other`), where wanted.
    question_types: The question type of each question, where wanted.
    digits: To how many decimals percentages are rounded; officially 2.

Returns:
    `accuracy`, and `per_answer_type` and `per_question_type` where these are given.

Example:
    >>> import evaluate
    >>> from evalkit.evaluate_modules import module
    >>> metric = evaluate.load(str(module("vqa_accuracy")))
    >>> metric.compute(predictions=["A cat."], references=[["cat"] * 2 + ["dog"] * 8])
    {'accuracy': 60.0}
"""


class VqaAccuracy(evaluate.Metric):  # type: ignore[misc] # `evaluate` ships no types
    """VQA accuracy."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Mean over annotators of min(1, equal answers among the others / 3), normalised officially.",
            citation=_CITATION,
            inputs_description=_USAGE,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Sequence(datasets.Value("string"))}
            ),
            homepage="https://visualqa.org/evaluation.html",
        )

    def _compute(
        self,
        predictions: Sequence[str],
        references: Sequence[Sequence[str]],
        answer_types: Sequence[str] | None = None,
        question_types: Sequence[str] | None = None,
        digits: int = 2,
    ) -> dict[str, Any]:
        unknown = [""] * len(predictions)
        questions = [
            VqaQuestion(answers=answers, answer_type=answer_type, question_type=question_type)
            for answers, answer_type, question_type in zip(
                references, answer_types or unknown, question_types or unknown, strict=True
            )
        ]
        scores = vqa_scores(questions, predictions).rounded(digits)
        result: dict[str, Any] = {"accuracy": scores.overall}
        if answer_types is not None:
            result["per_answer_type"] = dict(scores.per_answer_type)
        if question_types is not None:
            result["per_question_type"] = dict(scores.per_question_type)
        return result
