"""Captions judged by cosines, where embeddings are missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evalkit.families.caption_judgements import cosines
from evalkit.families.caption_judging import Captioned
from evalkit.types import Embeddings, Failure, ImageRef

IMAGES = tuple(Captioned(image=ImageRef(id=name, source=name.encode()), captions=(name, f"{name}2")) for name in "ab")
TEXTS = [caption for one in IMAGES for caption in one.captions]


class Forgetful:
    """Embeds nothing of what is lost; where all is lost, there is no vector at all, as of a `Model`."""

    def __init__(self, *lost: str) -> None:
        self.lost = lost

    def encode_image(self, images: Sequence[ImageRef]) -> Embeddings:
        return self.encode_text([image.id for image in images])

    def encode_text(self, texts: Sequence[str]) -> Embeddings:
        failures = {row: Failure(sample=text, reason="gone") for row, text in enumerate(texts) if text in self.lost}
        shape = (len(texts),) if len(failures) == len(texts) else (len(texts), 2)
        return Embeddings(vectors=np.ones(shape, np.float32), failures=failures)


def judged(*lost: str) -> list[str | list[float]]:
    answers = cosines(Forgetful(*lost), IMAGES, TEXTS)  # type: ignore[arg-type] # a stand-in for `Model`
    return [answer.reason if isinstance(answer, Failure) else answer.tolist() for answer in answers]


def test_an_image_fails_with_any_of_its_captions() -> None:
    assert judged() == [[2.0, 2.0], [2.0, 2.0]]
    assert judged("b2") == [[2.0, 2.0], "gone"]


def test_where_everything_failed_each_image_says_why() -> None:
    assert judged("a", "b") == ["gone", "gone"]  # the images, and two captions
    assert judged(*TEXTS) == ["gone", "gone"]
