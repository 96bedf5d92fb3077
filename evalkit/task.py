"""What a task looks like: a card, and three methods of which only one sees a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, TypeVar

from evalkit.types import Prediction, Sample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from evalkit.model import Model
    from evalkit.types import Capability, MetricValue, Preprocessing, Route, TaskCard
    from evalkit.types import Protocol as EvalProtocol

SampleT = TypeVar("SampleT", bound=Sample)
PredictionT = TypeVar("PredictionT", bound=Prediction)


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

    def route(self, capabilities: Sequence[Capability]) -> Route:
        """The best route that a model with these capabilities can take, given the options.

        Raises:
            CapabilityError: There is none.
        """
        ...

    def assistants(self) -> tuple[str, ...]:
        """Names of further models that the options ask for (`--rerank-with blip`)."""
        ...

    def protocols(
        self, samples: Sequence[SampleT], route: Route, preprocessing: Preprocessing
    ) -> tuple[EvalProtocol, ...]:
        """The protocol of each set of numbers that this run gives, main one last."""
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


TaskClass: TypeAlias = type[Any]
"""A class that satisfies `Task`."""
