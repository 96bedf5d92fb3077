"""Answering by similarity: the answer whose text is nearest to the image.

Imported by `evalkit.families.question_answering` inside the method that uses it, so it may import numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253 # see above

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.families.question_answering import VqaSample
    from evalkit.model import Model
    from evalkit.types import Failure, ImageRef

_TEXTS_AT_ONCE = 65_536
"""Texts embedded a call: 128 MB of vectors of 512 numbers."""


def nearest_answers(
    model: Model, samples: Sequence[VqaSample], template: str, answers: Sequence[str]
) -> list[str | Failure]:
    """For each sample the answer whose filled-in text has the highest cosine with the image; the first of equal ones.

    Args:
        model: Embeds images and texts; an image of several vectors counts by its nearest one.
        samples: The questions.
        template: With `{question}` and `{answer}`.
        answers: The list to choose from.
    """
    rows: dict[ImageRef, int] = {}
    for sample in samples:
        rows.setdefault(sample.image, len(rows))
    images = model.encode_image(list(rows))
    by_question: dict[str, list[int]] = {}
    for place, sample in enumerate(samples):
        by_question.setdefault(sample.question, []).append(place)
    chosen: list[str | Failure] = [""] * len(samples)
    questions = list(by_question)
    step = max(1, _TEXTS_AT_ONCE // len(answers))
    for start in range(0, len(questions), step):
        part = questions[start : start + step]
        texts = [_fill(template, question, answer) for question in part for answer in answers]
        embedded = model.encode_text(texts)
        for number, question in enumerate(part):
            own = range(number * len(answers), (number + 1) * len(answers))
            vectors = embedded.vectors[own.start : own.stop]
            failure = next((embedded.failures[text] for text in own if text in embedded.failures), None)
            for place in by_question[question]:
                row = rows[samples[place].image]
                if failed := images.failures.get(row) or failure:
                    chosen[place] = failed
                    continue
                cosines = vectors @ np.atleast_2d(images.vectors[row]).T  # (answers, vectors an image)
                chosen[place] = answers[int(np.argmax(cosines.max(axis=1)))]
    return chosen


def _fill(template: str, question: str, answer: str) -> str:
    # the answer first: a question may well contain "{answer}", no answer of a list contains "{question}"
    return template.replace("{answer}", answer).replace("{question}", question)
