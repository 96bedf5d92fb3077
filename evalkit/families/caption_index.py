"""Retrieval by captions: a model turns every image into a caption, and text retrieval searches those.

That is how a text-only index finds images (the convert-to-text way of multimodal retrieval-augmented generation). A
text is looked for among the generated captions, each of which leads to its image (`t2i`); a generated caption among
people's captions of all images (`i2t`). The captions are those of the captioning task: same weights, prompt, cache.
"""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from evalkit.errors import ConfigError
from evalkit.families.captioned_photos import CaptionedPhotos, CaptionedSample
from evalkit.families.captioning import GENERATE, OWN_RECIPE
from evalkit.families.generation import (
    CHOOSE_ANOTHER,
    STRIPPED,
    GeneratedPrediction,
    GenerationOptions,
    decoding_in_words,
    first_possible,
)
from evalkit.types import Assistant, Failure, GenerateRequest, Generation, Protocol, Route, Turn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from evalkit.model import Model
    from evalkit.task import ModelProfile
    from evalkit.types import MetricValue, Preprocessing, SampleViews

OWN = "own"
TIE_RULE = "pessimistic: an item of another image with an equal score counts against"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionIndexOptions(GenerationOptions):
    """How images are turned into captions, and what searches those.

    Raises:
        ConfigError: A value that cannot be used.
    """

    index_with: str = "sentence"
    """A registered model that embeds texts; `own` for the captioning model itself, where it embeds texts."""

    def __post_init__(self) -> None:
        # `super()` without arguments does not know the class that `slots` makes
        GenerationOptions.__post_init__(self)
        if not self.index_with:
            raise ConfigError("index_with is empty.", "Give own, or the name of a model that embeds texts: sentence.")
        if self.split not in ("", "test"):
            raise ConfigError(f"There is no split {self.split!r}.", "Leave out split: it is test.")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionIndexPrediction(GeneratedPrediction):
    """What one image was turned into, and where it and its captions rank; ranks are 0-based."""

    caption: str = ""
    """What is searched."""
    i2t_rank: int | None = None
    """None where the image failed: it is then neither a query nor in the index."""
    t2i_ranks: tuple[int, ...] = ()
    """One a caption of people's."""


class CaptionIndexTask(CaptionedPhotos, ABC):
    """Retrieval by captions; a subclass names its data."""

    options_type: ClassVar[type[CaptionIndexOptions]] = CaptionIndexOptions
    prediction_type: ClassVar[type[CaptionIndexPrediction]] = CaptionIndexPrediction
    kind = "caption-index"

    def __init__(self, options: CaptionIndexOptions) -> None:
        self.options = options

    def samples(self, data_dir: Path, limit: int | None) -> tuple[CaptionedSample, ...]:
        """See `evalkit.task.Task`."""
        return tuple(
            CaptionedSample(id=one.id, cluster=one.id, image=one.image, captions=one.captions)
            for one in self.read(data_dir, limit)[:limit]
        )

    def route(self, model: ModelProfile) -> Route:
        """See `evalkit.task.Task`."""
        route = replace(GENERATE, name=f"{GENERATE.name}+{self.options.index_with}")
        needed, remedy = route, CHOOSE_ANOTHER
        if self.options.index_with == OWN:
            needed = replace(route, needs=(*GENERATE.needs, "encode_text"))
            if set(GENERATE.needs) <= set(model.capabilities):
                remedy = "Name another model's text embeddings: -o index_with=sentence."
        first_possible([needed], model, self.card.name, remedy)
        recipe = self.options.applied_to(model.recipe(self.card.purpose) or OWN_RECIPE)
        return replace(route, recipe=recipe)

    def assistants(self) -> tuple[Assistant, ...]:
        """See `evalkit.task.Task`."""
        name = self.options.index_with
        if name == OWN:
            return ()
        return (Assistant(name=name, role="text index", needs=("encode_text",), purpose="retrieval/coco"),)

    def protocols(
        self, samples: Sequence[CaptionedSample], route: Route, preprocessing: Preprocessing
    ) -> tuple[Protocol, ...]:
        """See `evalkit.task.Task`. The model that searches is part of it."""
        recipe = route.recipe or OWN_RECIPE
        return (
            Protocol(
                name=self.split_name(samples),
                version=self.card.version,
                route=route.name,
                prompt=recipe.prompt,
                preprocessing=replace(preprocessing, details=(*preprocessing.details, *route.assistants)),
                decoding=decoding_in_words(recipe.decoding),
                tie_rule=TIE_RULE,
            ),
        )

    def predict(
        self, model: Model, samples: Sequence[CaptionedSample], route: Route, assistants: Mapping[str, Model]
    ) -> tuple[CaptionIndexPrediction, ...]:
        """See `evalkit.task.Task`.

        Raises:
            DataError: Every image failed.
        """
        from evalkit.families.caption_index_scores import placed  # noqa: PLC0415 # imports numpy

        recipe = route.recipe or OWN_RECIPE
        turns = (Turn(role="user", text=recipe.prompt),)
        answers = model.generate(
            [GenerateRequest(images=(one.image,), turns=turns, decoding=recipe.decoding) for one in samples]
        )
        made = [_made(*each) for each in zip(samples, answers, strict=True)]
        return placed(assistants.get(self.options.index_with, model), samples, made)

    def score(
        self,
        samples: Sequence[CaptionedSample],
        predictions: Sequence[CaptionIndexPrediction],
        protocols: Sequence[Protocol],
    ) -> tuple[MetricValue, ...]:
        """See `evalkit.task.Task`.

        Raises:
            DataError: Every image failed.
        """
        from evalkit.families.caption_index_scores import score  # noqa: PLC0415 # imports numpy

        return score(predictions, protocol=protocols[-1].id)

    def views(
        self,
        samples: Sequence[CaptionedSample],
        predictions: Sequence[CaptionIndexPrediction],
        protocols: Sequence[Protocol],
    ) -> SampleViews:
        """See `evalkit.task.ShowsSamples`."""
        from evalkit.families.caption_index_views import views  # noqa: PLC0415 # it is not needed to list the task

        return views(samples, predictions)

    def notes(
        self, samples: Sequence[CaptionedSample], predictions: Sequence[CaptionIndexPrediction]
    ) -> tuple[str, ...]:
        """See `evalkit.task.Task`: nothing beyond the numbers."""
        return ()


def _made(sample: CaptionedSample, answer: Generation | Failure) -> CaptionIndexPrediction:
    if isinstance(answer, Failure):
        return CaptionIndexPrediction(sample_id=sample.id, failure=answer.reason)
    return CaptionIndexPrediction(
        sample_id=sample.id,
        failure=None,
        text=answer.text,
        rule=STRIPPED,
        finish=answer.finish,
        tokens=answer.tokens,
        caption=answer.text.strip(),
    )
