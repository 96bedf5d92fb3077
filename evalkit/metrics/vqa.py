"""VQA accuracy as the official evaluation computes it, in whole numbers so that no order of adding up can show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from evalkit.metrics.vqa_normalise import normalise_answer, strip_answer

if TYPE_CHECKING:
    from collections.abc import Iterable

_FULL_MARKS = 3
"""So many of the other annotators must have given an answer for it to count as right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VqaQuestion:
    """A question's ground truth."""

    answers: Sequence[str]
    """One an annotator, ten in the official data, as they stand in the file."""
    answer_type: str
    """`yes/no`, `number`, `other`."""
    question_type: str
    """`what color is the`; from the annotation file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VqaScores:
    """Accuracies in percent, not rounded."""

    overall: float
    per_answer_type: Mapping[str, float]
    per_question_type: Mapping[str, float]
    per_question: tuple[float, ...]
    """In the order given."""

    def rounded(self, digits: int = 2) -> VqaScores:
        """As the official evaluation prints them."""
        return VqaScores(
            overall=round(self.overall, digits),
            per_answer_type={name: round(value, digits) for name, value in self.per_answer_type.items()},
            per_question_type={name: round(value, digits) for name, value in self.per_question_type.items()},
            per_question=tuple(round(value, digits) for value in self.per_question),
        )


class AnswerMatcher:
    """Accuracy of answers to many questions: remembers what it normalised, for most answers occur again and again."""

    def __init__(self) -> None:
        self._normalised: dict[str, str] = {}

    def accuracy(self, prediction: str, answers: Sequence[str]) -> Fraction:
        """Mean over annotators of min(1, equal answers among the other annotators / 3); ties do not occur.

        Where all annotators' answers are the same text, neither side is normalised beyond newlines, tabs and outer
        white space; otherwise both are. An annotator is one entry of `answers`, however often its text occurs.

        Args:
            prediction: The answer to judge.
            answers: The annotators' answers, at least one.

        Raises:
            ValueError: There are no answers.

        Example:
            >>> AnswerMatcher().accuracy("Two.", ["2", "2", "two", "three"])
            Fraction(3, 4)
            >>> AnswerMatcher().accuracy("Yes", ["yes"] * 10)
            Fraction(0, 1)
        """
        if not answers:
            raise ValueError("a question without answers has no accuracy")
        given, truth = strip_answer(prediction), [strip_answer(answer) for answer in answers]
        if len(set(truth)) > 1:
            given, truth = self._normalise(given), [self._normalise(answer) for answer in truth]
        total, equal = len(truth), truth.count(given)
        # an annotator who said the same is compared with the others only
        marks = equal * min(_FULL_MARKS, equal - 1) + (total - equal) * min(_FULL_MARKS, equal)
        return Fraction(marks, _FULL_MARKS * total) if equal else Fraction(0)

    def _normalise(self, answer: str) -> str:
        known = self._normalised.get(answer)
        if known is None:
            known = self._normalised[answer] = normalise_answer(answer)
        return known


def vqa_scores(questions: Sequence[VqaQuestion], predictions: Sequence[str]) -> VqaScores:
    """Means of the questions' accuracies: over all, by answer type and by question type, in percent; no ties.

    Args:
        questions: At least one.
        predictions: One a question, in order.

    Raises:
        ValueError: No questions, or another number of predictions.

    Example:
        >>> asked = VqaQuestion(answers=["cat"] * 2 + ["dog"] * 8, answer_type="other", question_type="what is the")
        >>> vqa_scores([asked], ["A cat."]).rounded().overall
        60.0
    """
    if not questions or len(questions) != len(predictions):
        raise ValueError(f"{len(questions)} questions and {len(predictions)} predictions")
    matcher = AnswerMatcher()
    exact = [matcher.accuracy(given, asked.answers) for asked, given in zip(questions, predictions, strict=True)]
    by_answer: dict[str, list[Fraction]] = defaultdict(list)
    by_question: dict[str, list[Fraction]] = defaultdict(list)
    for asked, value in zip(questions, exact, strict=True):
        by_answer[asked.answer_type].append(value)
        by_question[asked.question_type].append(value)
    return VqaScores(
        overall=_percent(exact),
        per_answer_type={name: _percent(values) for name, values in by_answer.items()},
        per_question_type={name: _percent(values) for name, values in by_question.items()},
        per_question=tuple(float(100 * value) for value in exact),
    )


def _percent(values: Sequence[Fraction]) -> float:
    return float(100 * _exact_sum(values) / len(values))


def _exact_sum(values: Iterable[Fraction]) -> Fraction:
    """Fractions of few denominators are added up a denominator at a time, which is quicker than one by one."""
    numerators: dict[int, int] = defaultdict(int)
    for value in values:
        numerators[value.denominator] += value.numerator
    return sum((Fraction(numerator, denominator) for denominator, numerator in numerators.items()), Fraction(0))
