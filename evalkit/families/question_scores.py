"""Answers to numbers: a pure function of what a run stores.

Imported by `evalkit.families.question_answering` inside the method that uses it, so it may import numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253 # see above

from evalkit.errors import DataError
from evalkit.families.generation_scores import Clustered, can_be_scored, generation_values
from evalkit.metrics.vqa import VqaQuestion, vqa_scores  # noqa: TID253 # see above

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.families.question_answering import VqaPrediction, VqaSample
    from evalkit.metrics.vqa import VqaScores
    from evalkit.types import MetricValue

_TYPES = ("yes/no", "number", "other")


def score(
    samples: Sequence[VqaSample],
    predictions: Sequence[VqaPrediction],
    *,
    protocol: str,
    split: str,
    question_types: bool,
) -> tuple[MetricValue, ...]:
    """The official accuracy over all questions and by answer type, in percent and not rounded; then what was generated.

    Args:
        samples: The split.
        predictions: One a sample, in order. Failed ones are left out of every number, and of its `n`.
        protocol: `Protocol.id`.
        split: The split's name.
        question_types: Also by question type, under the split `<split>/question-type`.

    Raises:
        DataError: Every question failed.
    """
    answered = [(sample, one) for sample, one in zip(samples, predictions, strict=True) if one.failure is None]
    if not answered:
        raise DataError("Every question failed, so there is nothing to score.", "Run the evaluation again.")
    over = Clustered([sample.cluster for sample, _ in answered], protocol=protocol, split=split)
    told = generation_values([one for _, one in answered], [one.answer for _, one in answered], over)
    without = [sample.id for sample, _ in answered if not sample.answers]
    if not can_be_scored(without, len(answered), "questions have no annotators' answers"):
        return told
    questions = [sample for sample, _ in answered]
    scores = accuracies(answered)
    each = np.array(scores.per_question)
    values = [over.mean("accuracy", each, value=scores.overall)]
    found = dict.fromkeys(one.answer_type for one in questions)
    for name in sorted(found, key=lambda name: (_TYPES.index(name) if name in _TYPES else len(_TYPES), name)):
        members = np.array([one.answer_type == name for one in questions])
        values.append(over.mean(f"accuracy_{name}", each, members, value=scores.per_answer_type[name]))
    if question_types:
        apart = over.under(f"{split}/question-type")
        for name in sorted(scores.per_question_type):
            members = np.array([one.question_type == name for one in questions])
            values.append(apart.mean(name, each, members, value=scores.per_question_type[name]))
    return (*values, *told)


def accuracies(answered: Sequence[tuple[VqaSample, VqaPrediction]]) -> VqaScores:
    """The official accuracies of questions with public answers, one or more."""
    questions = [
        VqaQuestion(answers=one.answers, answer_type=one.answer_type, question_type=one.question_type)
        for one, _ in answered
    ]
    return vqa_scores(questions, [one.answer for _, one in answered])
