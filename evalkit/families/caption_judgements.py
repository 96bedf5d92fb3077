"""Captions judged by what a model says or embeds, in numbers.

Imported by `evalkit.families.caption_judging` inside the function that uses it, so it may import numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253 # see above

from evalkit.families.caption_judging import question_of
from evalkit.metrics.tiles import checked, exact_scores  # noqa: TID253 # see above
from evalkit.types import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.families.caption_judging import Captioned
    from evalkit.model import Model
    from evalkit.types import FloatArray


def log_odds(model: Model, images: Sequence[Captioned], texts: Sequence[str]) -> list[FloatArray | Failure]:
    """For each image log P(yes) - log P(no), one a question in order.

    Args:
        model: Scores candidates.
        images: The images.
        texts: The questions about all of them, one after the other.
    """
    owners = [one.image for one in images for _ in one.captions]
    answers = iter(model.score_candidates([question_of(*each) for each in zip(owners, texts, strict=True)]))
    judged: list[FloatArray | Failure] = []
    for one in images:
        scores: list[float] = []
        failure: Failure | None = None
        for _ in one.captions:
            answer = next(answers)
            if isinstance(answer, Failure):
                failure = answer
            else:
                yes, no = answer
                scores.append(yes.logprob - no.logprob)
        judged.append(failure or np.array(scores, np.float32))
    return judged


def cosines(model: Model, images: Sequence[Captioned], texts: Sequence[str]) -> list[FloatArray | Failure]:
    """For each image the cosine of its embedding and each text's; an image of several vectors counts by its nearest.

    Args:
        model: Embeds images and texts.
        images: The images.
        texts: The texts of all of them, one after the other.
    """
    left = model.encode_image([one.image for one in images])
    right = model.encode_text(texts)
    owners = np.repeat(np.arange(len(images)), [len(one.captions) for one in images])
    scores = np.zeros(len(texts), np.float32)
    if len(left.failures) < len(images) and len(right.failures) < len(texts):  # else there is no vector at all
        scores = exact_scores(*checked(left.vectors, right.vectors), owners, np.arange(len(texts)))
    judged: list[FloatArray | Failure] = []
    start = 0
    for row, one in enumerate(images):
        end = start + len(one.captions)
        failed = next((right.failures[text] for text in range(start, end) if text in right.failures), None)
        judged.append(left.failures.get(row) or failed or scores[start:end])
        start = end
    return judged
