"""A task in one file: which of five color words names a plain image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from evalkit.errors import CapabilityError
from evalkit.types import DataFile, DataSet, ImageRef, MetricValue, Prediction, Protocol, Route, Sample, TaskCard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from evalkit.model import Model
    from evalkit.task import ModelProfile
    from evalkit.types import Preprocessing

COLORS = {"red": (200, 20, 10), "green": (10, 190, 30), "blue": (20, 10, 210), "yellow": (220, 210, 20)}
ROUTE = Route(name="zero-shot", needs=("encode_image", "encode_text"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorSample(Sample):
    """An image of one color."""

    image: ImageRef
    color: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorPrediction(Prediction):
    """The word the model finds nearest."""

    answer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorOptions:
    """How it is asked."""

    prompt: str = "a {color} square"


class ColorNaming:
    """Zero-shot classification of four images made on the spot."""

    card: ClassVar[TaskCard] = TaskCard(
        name="third_party_task",
        version=1,
        summary="Names of plain colors.",
        paper="none",
        purpose="classification/colors",
        routes=(ROUTE,),
        main_metric="accuracy",
        dataset=DataSet(
            name="four colors",
            homepage="none",
            licence="CC0-1.0",
            files=(DataFile(path="colors", about="nothing", instructions="The images are made.", optional=True),),
        ),
    )
    options_type: ClassVar[type[ColorOptions]] = ColorOptions
    prediction_type: ClassVar[type[ColorPrediction]] = ColorPrediction

    def __init__(self, options: ColorOptions) -> None:
        self.options = options

    def samples(self, data_dir: Path, limit: int | None) -> list[ColorSample]:
        """One image a color; the bytes are in the sample."""
        return [
            ColorSample(id=color, cluster=color, image=ImageRef(id=color, source=_bitmap(rgb)), color=color)
            for color, rgb in list(COLORS.items())[:limit]
        ]

    def route(self, model: ModelProfile) -> Route:
        """Needs both embeddings."""
        if not set(ROUTE.needs) <= set(model.capabilities):
            raise CapabilityError("third_party_task needs encode_image and encode_text.", "Choose another model.")
        return ROUTE

    def notes(self, samples: Sequence[ColorSample], predictions: Sequence[ColorPrediction]) -> tuple[str, ...]:
        """Nothing to add."""
        return ()

    def assistants(self) -> tuple[str, ...]:
        """None."""
        return ()

    def protocols(
        self, samples: Sequence[ColorSample], route: Route, preprocessing: Preprocessing
    ) -> tuple[Protocol, ...]:
        """One."""
        return (
            Protocol(
                name="colors",
                version=self.card.version,
                route=route.name,
                prompt=self.options.prompt,
                preprocessing=preprocessing,
                decoding="",
                tie_rule="the first color",
            ),
        )

    def predict(
        self, model: Model, samples: Sequence[ColorSample], route: Route, assistants: Mapping[str, Model]
    ) -> list[ColorPrediction]:
        """The color whose prompt is nearest to each image."""
        images = model.encode_image([sample.image for sample in samples])
        texts = model.encode_text([self.options.prompt.format(color=color) for color in COLORS])
        best = (images.vectors @ texts.vectors.T).argmax(axis=1)
        return [
            ColorPrediction(
                sample_id=sample.id,
                failure=images.failures[row].reason if row in images.failures else None,
                answer=None if row in images.failures else list(COLORS)[best[row]],
            )
            for row, sample in enumerate(samples)
        ]

    def score(
        self, samples: Sequence[ColorSample], predictions: Sequence[ColorPrediction], protocols: Sequence[Protocol]
    ) -> tuple[MetricValue, ...]:
        """Share of images whose color was named, in percent; no failed image counts."""
        pairs = zip(samples, predictions, strict=True)
        hits = [sample.color == prediction.answer for sample, prediction in pairs if prediction.failure is None]
        accuracy = 100 * sum(hits) / len(hits) if hits else float("nan")
        return (
            MetricValue(
                metric="accuracy",
                split="all",
                protocol=protocols[0].id,
                value=accuracy,
                low=accuracy,
                high=accuracy,
                n=len(hits),
            ),
        )


def _bitmap(rgb: tuple[int, int, int], side: int = 8) -> bytes:
    """A plain image in the PPM format."""
    return f"P6 {side} {side} 255\n".encode() + bytes(rgb) * side * side
