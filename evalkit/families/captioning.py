"""Captioning: a model describes each image, and its captions are compared with people's.

Numbers are those of pycocoevalcap times 100, as papers print them. An image on which the model failed is counted, shown
and left out of every number, so that idf and means are over the others; a caption that came out empty is an answer, is
scored as one, and is shown in the row `empty`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from evalkit.errors import ConfigError, DataError
from evalkit.families.generation import (
    STRIPPED,
    GeneratedPrediction,
    GenerationOptions,
    Splits,
    decoding_in_words,
    first_possible,
)
from evalkit.types import (
    Decoding,
    Failure,
    GenerateRequest,
    ImageRef,
    Protocol,
    Recipe,
    Route,
    Sample,
    TaskCard,
    Turn,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from evalkit.datasets.coco_captions import CaptionedPhoto
    from evalkit.model import Model
    from evalkit.task import ModelProfile
    from evalkit.types import MetricValue, Preprocessing, SampleViews

GENERATE = Route(name="generate", needs=("generate",))
ROUTES = (GENERATE,)
OWN_RECIPE = Recipe(
    prompt="Provide a one-sentence caption for the provided image.",
    decoding=Decoding(max_new_tokens=64),
    source="by the field's usage; the model's family names no prompt",
)
BACKENDS = ("native", "pycocoevalcap")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionSample(Sample):
    """One image and people's captions of it."""

    image: ImageRef
    references: tuple[str, ...]
    """Empty in a split whose references are not public."""
    domain: str | None
    """nocaps: `in`, `near`, `out`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionOptions(GenerationOptions):
    """How captions are asked for and scored.

    Raises:
        ConfigError: A value that cannot be used.
    """

    backend: str = "native"
    """What tokenizes and scores: `native`, or `pycocoevalcap` (Java), with equal numbers."""
    meteor: bool = False
    """Also METEOR; needs Java."""
    spice: bool = False
    """Also SPICE; needs Java and SPICE's models."""

    def __post_init__(self) -> None:
        # `super()` without arguments does not know the class that `slots` makes
        GenerationOptions.__post_init__(self)
        if self.backend not in BACKENDS:
            raise ConfigError(f"backend={self.backend!r} is not a caption back end.", f"Give {' or '.join(BACKENDS)}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionPrediction(GeneratedPrediction):
    """A model's caption of one image."""

    caption: str = ""
    """What is scored."""


class CaptionTask(Splits, ABC):
    """A captioning benchmark; a subclass names its data.

    `cider` and `rouge_l` are means over images, and their intervals are over resampled images with each image's own
    score fixed: the idf of CIDEr stays that of the whole set. `bleu_1` to `bleu_4` are corpus measures, computed again
    from the summed counts of the resampled images. Where the images have domains, `cider_in`, `cider_near` and
    `cider_out` are means over each with the idf of the whole set, as the nocaps server behaves, and `cider_subset_in`
    and so on are scored on the domain alone.
    """

    card: ClassVar[TaskCard]
    options_type: ClassVar[type[CaptionOptions]] = CaptionOptions
    prediction_type: ClassVar[type[CaptionPrediction]] = CaptionPrediction

    def __init__(self, options: CaptionOptions) -> None:
        super().__init__(options)
        self.options = options

    @abstractmethod
    def photos(self, data_dir: Path, limit: int | None) -> Sequence[CaptionedPhoto]:
        """Read the split, official order; a reader that can may stop after `limit` images.

        Raises:
            DataError: Missing or malformed data.
        """

    def samples(self, data_dir: Path, limit: int | None) -> tuple[CaptionSample, ...]:
        """See `evalkit.task.Task`."""
        samples = tuple(
            CaptionSample(
                id=photo.id, cluster=photo.id, image=photo.image, references=photo.references, domain=photo.domain
            )
            for photo in self.photos(data_dir, limit)[:limit]
        )
        if not samples:
            raise DataError(f"{self.card.name}: no image of the split is left.", "Give a --limit of 1 or more.")
        return samples

    def route(self, model: ModelProfile) -> Route:
        """See `evalkit.task.Task`."""
        possible = first_possible(self.card.routes, model, self.card.name)
        if self.options.backend != "native" or self.options.meteor or self.options.spice:
            from evalkit.metrics.captions.java import require_java  # imports numpy

            require_java()  # before any caption is asked for
        recipe = self.options.applied_to(model.recipe(self.card.purpose) or OWN_RECIPE)
        return Route(name=possible.name, needs=possible.needs, recipe=recipe)

    def protocols(
        self, samples: Sequence[CaptionSample], route: Route, preprocessing: Preprocessing
    ) -> tuple[Protocol, ...]:
        """See `evalkit.task.Task`."""
        recipe = route.recipe or OWN_RECIPE
        return (
            Protocol(
                name=self.protocol_name(samples),
                version=self.card.version,
                route=route.name,
                prompt=recipe.prompt,
                preprocessing=preprocessing,
                decoding=decoding_in_words(recipe.decoding),
                tie_rule="",
            ),
        )

    def predict(
        self, model: Model, samples: Sequence[CaptionSample], route: Route, assistants: Mapping[str, Model]
    ) -> tuple[CaptionPrediction, ...]:
        """See `evalkit.task.Task`."""
        recipe = route.recipe or OWN_RECIPE
        turns = (Turn(role="user", text=recipe.prompt),)
        requests = [GenerateRequest(images=(one.image,), turns=turns, decoding=recipe.decoding) for one in samples]
        return tuple(
            CaptionPrediction(sample_id=sample.id, failure=answer.reason)
            if isinstance(answer, Failure)
            else CaptionPrediction(
                sample_id=sample.id,
                failure=None,
                text=answer.text,
                rule=STRIPPED,
                finish=answer.finish,
                tokens=answer.tokens,
                caption=answer.text.strip(),
            )
            for sample, answer in zip(samples, model.generate(requests), strict=True)
        )

    def score(
        self, samples: Sequence[CaptionSample], predictions: Sequence[CaptionPrediction], protocols: Sequence[Protocol]
    ) -> tuple[MetricValue, ...]:
        """See `evalkit.task.Task`. No number where the split's references are not public.

        Raises:
            DataError: Every image failed.
        """
        from evalkit.families.caption_scores import score  # noqa: PLC0415 # it is not needed to list the task

        return score(samples, predictions, protocol=protocols[-1].id, split=self.split, options=self.options)

    def views(
        self,
        samples: Sequence[CaptionSample],
        predictions: Sequence[CaptionPrediction],
        protocols: Sequence[Protocol],
    ) -> SampleViews:
        """See `evalkit.task.ShowsSamples`."""
        from evalkit.families.caption_views import views  # noqa: PLC0415 # it is not needed to list the task

        return views(samples, predictions)
