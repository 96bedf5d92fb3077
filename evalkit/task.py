"""What a task looks like: a card, and three methods of which only one sees a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, TypeVar, runtime_checkable

from evalkit.types import Capability, ModelCard, Prediction, Sample, Variant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from evalkit.model import Model
    from evalkit.types import (
        Assistant,
        CheckpointRef,
        ImageRef,
        MetricValue,
        Preprocessing,
        Recipe,
        Route,
        SampleViews,
        TaskCard,
    )
    from evalkit.types import Protocol as EvalProtocol

SampleT = TypeVar("SampleT", bound=Sample)
PredictionT = TypeVar("PredictionT", bound=Prediction)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """What is known of a model before anything of it is loaded."""

    card: ModelCard
    variant: Variant
    capabilities: tuple[Capability, ...]

    def recipe(self, purpose: str) -> Recipe | None:
        """How this model is officially asked for a purpose; None where neither its variant nor its family says.

        The variant's recipes come first. In each, a purpose is looked up as given (`vqa/vqav2`), then without its last
        `/part` (`vqa`), then as `default`.
        """
        for recipes in (self.variant.recipes, self.card.recipes):
            for key in (purpose, purpose.rpartition("/")[0], "default"):
                if key in recipes:
                    return recipes[key]
        return None

    def seen(self, task: TaskCard) -> tuple[str, ...]:
        """The data sets whose labels the variant's own weights learnt, though the task takes them for unseen."""
        return tuple(name for name in self.variant.trained_on if name in task.unseen)

    def checkpoint(self, purpose: str) -> CheckpointRef | None:
        """The variant's pinned weights for a purpose, looked up likewise; None where there are none."""
        known = self.variant.checkpoints
        return next((known[key] for key in (purpose, purpose.rpartition("/")[0], "default") if key in known), None)


class Task(Protocol[SampleT, PredictionT]):
    """A benchmark. The entry point names the class; an instance is made with one value of its options type.

    The class's `__init__` takes exactly one argument, `options`.
    """

    card: ClassVar[TaskCard]
    options_type: ClassVar[type[Any]]
    """A frozen dataclass with a default for every field; each field is an option on the command line."""
    prediction_type: ClassVar[type[Any]]
    """The `Prediction` subclass that `predict` gives, for reading stored runs."""

    def samples(self, data_dir: Path, limit: int | None) -> Sequence[SampleT]:
        """Read the split, official order.

        Args:
            data_dir: The data root.
            limit: How many samples from the front; None for all.

        Raises:
            DataError: Missing, malformed or empty data; names the file and the command that gets it.
        """
        ...

    def route(self, model: ModelProfile) -> Route:
        """The best route that a model can take, given the options; with the recipe it is asked by, where there is one.

        Raises:
            CapabilityError: There is none.
        """
        ...

    def assistants(self) -> tuple[Assistant, ...]:
        """Further models that the options ask for (`--rerank-with blip`)."""
        ...

    def protocols(
        self, samples: Sequence[SampleT], route: Route, preprocessing: Preprocessing
    ) -> tuple[EvalProtocol, ...]:
        """The protocol of each set of numbers that this run gives, main one last.

        Args:
            samples: Those that were answered: what failed is no part of what was measured.
            route: As `route` gave it, with the assistants filled in.
            preprocessing: The model's.
        """
        ...

    def predict(
        self, model: Model, samples: Sequence[SampleT], route: Route, assistants: Mapping[str, Model]
    ) -> Sequence[PredictionT]:
        """Ask the model; one prediction a sample, in order."""
        ...

    def score(
        self,
        samples: Sequence[SampleT],
        predictions: Sequence[PredictionT],
        protocols: Sequence[EvalProtocol],
    ) -> tuple[MetricValue, ...]:
        """Turn predictions into numbers: a pure function, so a stored run can be scored again."""
        ...

    def notes(self, samples: Sequence[SampleT], predictions: Sequence[PredictionT]) -> tuple[str, ...]:
        """What a reader of the numbers should know: measures that are absent and why, contaminated data."""
        ...


@runtime_checkable
class ShowsMoreImages(Protocol):
    """What a task has that shows a model images of no sample: the training images of a nearest-neighbour probe."""

    def further_images(self) -> Sequence[ImageRef]:
        """Those images; `samples` was called before."""
        ...


@runtime_checkable
class ShowsSamples(Protocol):
    """What a task has whose samples can be looked at one by one: in a report, in a comparison of two runs."""

    def views(
        self, samples: Sequence[Any], predictions: Sequence[Any], protocols: Sequence[EvalProtocol]
    ) -> SampleViews:
        """Pure, as `Task.score`; no image is read."""
        ...


TaskClass: TypeAlias = type[Any]
"""A class that satisfies `Task`."""
