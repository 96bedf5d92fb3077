"""Illustration: for each sentence of a paragraph, the image that shows it.

Paragraphs are made of annotated captions: consecutive images of the split, one caption each. Every sentence is looked
for among all images (recall), and the images of a paragraph are given out to its sentences, each once (assignment).
"""

from __future__ import annotations

import hashlib
from abc import ABC
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from evalkit.errors import ConfigError
from evalkit.families.captioned_photos import CaptionedPhotos, CaptionedSample
from evalkit.families.generation import first_possible
from evalkit.types import Assistant, Prediction, Protocol, Route

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from evalkit.model import Model
    from evalkit.task import ModelProfile
    from evalkit.types import MetricValue, Preprocessing, SampleViews

EMBEDDED = Route(name="itc", needs=("encode_image", "encode_text"))
ROUTES = (EMBEDDED,)
TIE_RULE = "pessimistic: another image with an equal score counts against, and so does another assignment of equal sum"


@dataclass(frozen=True, slots=True, kw_only=True)
class IllustrationSample(CaptionedSample):
    """One image, and the sentence that is told of it. The cluster is the paragraph's first image."""

    sentence: str
    """One of the captions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IllustrationOptions:
    """How paragraphs are made.

    Raises:
        ConfigError: A value that cannot be used.
    """

    sentences: int = 5
    """Of a paragraph; the last one of the split has what is left."""
    prompt: str = "{caption}"
    """Template of the embedded sentence."""

    def __post_init__(self) -> None:
        if self.sentences < 2:
            raise ConfigError(f"sentences={self.sentences}: a paragraph has at least two.", "Give 2 or more.")
        if "{caption}" not in self.prompt:
            raise ConfigError(f"prompt={self.prompt!r} has no place for the caption.", "Write {caption} where it goes.")


@dataclass(frozen=True, slots=True, kw_only=True)
class IllustrationPrediction(Prediction):
    """What illustrates one sentence."""

    rank: int | None = None
    """0-based, of the sentence's own image among all; None where that failed, which is in no gallery then."""
    assigned: str | None = None
    """The id of the paragraph's image that the sentence was given; None where its image is alone in the paragraph."""


class IllustrationTask(CaptionedPhotos, ABC):
    """Illustration; a subclass names its data."""

    options_type: ClassVar[type[IllustrationOptions]] = IllustrationOptions
    prediction_type: ClassVar[type[IllustrationPrediction]] = IllustrationPrediction
    kind = "illustrate-by-5"

    def __init__(self, options: IllustrationOptions) -> None:
        self.options = options

    def samples(self, data_dir: Path, limit: int | None) -> tuple[IllustrationSample, ...]:
        """See `evalkit.task.Task`."""
        images = self.read(data_dir, limit)[:limit]
        return tuple(
            IllustrationSample(
                id=one.id,
                cluster=images[position - position % self.options.sentences].id,
                image=one.image,
                captions=one.captions,
                sentence=chosen_caption(one.captions),
            )
            for position, one in enumerate(images)
        )

    def route(self, model: ModelProfile) -> Route:
        """See `evalkit.task.Task`."""
        return first_possible(ROUTES, model, self.card.name)

    def assistants(self) -> tuple[Assistant, ...]:
        """See `evalkit.task.Task`: there are none."""
        return ()

    def protocols(
        self, samples: Sequence[IllustrationSample], route: Route, preprocessing: Preprocessing
    ) -> tuple[Protocol, ...]:
        """See `evalkit.task.Task`."""
        return (
            Protocol(
                name=self.split_name(samples, f"illustrate-by-{self.options.sentences}"),
                version=self.card.version,
                route=route.name,
                prompt=self.options.prompt,
                preprocessing=preprocessing,
                decoding="",
                tie_rule=TIE_RULE,
            ),
        )

    def predict(
        self, model: Model, samples: Sequence[IllustrationSample], route: Route, assistants: Mapping[str, Model]
    ) -> tuple[IllustrationPrediction, ...]:
        """See `evalkit.task.Task`.

        Raises:
            DataError: Every image failed.
        """
        from evalkit.families.illustration_scores import illustrated  # noqa: PLC0415 # imports numpy

        return illustrated(model, samples, self.options.prompt)

    def score(
        self,
        samples: Sequence[IllustrationSample],
        predictions: Sequence[IllustrationPrediction],
        protocols: Sequence[Protocol],
    ) -> tuple[MetricValue, ...]:
        """See `evalkit.task.Task`.

        Raises:
            DataError: Every image failed.
        """
        from evalkit.families.illustration_scores import score  # noqa: PLC0415 # imports numpy

        return score(samples, predictions, protocol=protocols[-1].id)

    def views(
        self,
        samples: Sequence[IllustrationSample],
        predictions: Sequence[IllustrationPrediction],
        protocols: Sequence[Protocol],
    ) -> SampleViews:
        """See `evalkit.task.ShowsSamples`."""
        from evalkit.families.illustration_views import views  # noqa: PLC0415 # it is not needed to list the task

        return views(samples, predictions)

    def notes(
        self, samples: Sequence[IllustrationSample], predictions: Sequence[IllustrationPrediction]
    ) -> tuple[str, ...]:
        """See `evalkit.task.Task`: nothing beyond the numbers."""
        return ()


def chosen_caption(captions: Sequence[str]) -> str:
    """One of an image's captions, by a digest of them all: the same whatever else the split holds."""
    digest = hashlib.sha256("\n".join(("illustrate 1", *captions)).encode()).digest()
    return captions[int.from_bytes(digest[:8]) % len(captions)]
