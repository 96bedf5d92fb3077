"""Image classification: every image has one class, and a model names its best five.

Zero-shot, as CLIP does it (https://arxiv.org/abs/2103.00020, section 3.1): each class name is put into each template, a
class's vector is the mean of the L2-normalised embeddings of its texts, normalised again, and the nearest class wins.
The other way, `evalkit.families.knn_probe`, needs labelled images and no texts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from evalkit.datasets.imagefolder import has_slot, read_templates
from evalkit.errors import ConfigError, DataError
from evalkit.families.generation import first_possible
from evalkit.families.naming import texts_digest
from evalkit.options import STORED_AS, file_name
from evalkit.types import ImageRef, Prediction, Protocol, Route, Sample, TaskCard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evalkit.datasets.imagefolder import ImageClass, LabelledImage
    from evalkit.model import Model
    from evalkit.task import ModelProfile
    from evalkit.types import Assistant, MetricValue, Preprocessing, SampleViews

ZERO_SHOT = Route(name="zero-shot", needs=("encode_image", "encode_text"))
TIE_RULE = "equal similarities: the class that comes first"
IMAGENET = ("ImageNet-1k", "ImageNet-21k")
"""What many image classifiers were trained on, and zero-shot models were not: see `TaskCard.unseen`."""
BEST = 5
"""Classes that a prediction names at most."""
INDEPENDENT = "Every image is a cluster of its own: the intervals treat all images as independent of each other."


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifiedSample(Sample):
    """One image and its class."""

    image: ImageRef
    label: str
    """The id of its class: a folder's name, a WordNet id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassPrediction(Prediction):
    """The best classes of one image, best first."""

    classes: tuple[str, ...] = ()
    """Their ids; five, or fewer where no more are known or voted for."""
    scores: tuple[float, ...] = ()
    """The similarity of each, or of nearest neighbours its share of the vote."""


class ClassificationTask(ABC):
    """What zero-shot classification and the nearest-neighbour probe share; numbers are acc1, acc5, mean recall."""

    card: ClassVar[TaskCard]
    prediction_type: ClassVar[type[ClassPrediction]] = ClassPrediction
    split: str = "val"
    """As numbers name it; where the data has a folder a split, set when samples are read."""

    def __init__(self) -> None:
        self.classes: tuple[ImageClass, ...] = ()
        """All that can be named, in order; known once the samples are read."""

    @abstractmethod
    def labelled_images(self, data_dir: Path) -> Sequence[LabelledImage]:
        """Read the whole split, and set `classes`.

        Raises:
            DataError: Missing or malformed data.
        """

    @abstractmethod
    def split_name(self, images: int) -> str:
        """The protocol's name for so many images: a part of a split never carries the whole one's."""

    def samples(self, data_dir: Path, limit: int | None) -> tuple[ClassifiedSample, ...]:
        """See `evalkit.task.Task`."""
        images = self.labelled_images(data_dir)
        if len(self.classes) < 2:
            raise DataError(
                f"{self.card.name}: there is one class, so every image is right.", "Add images of another class."
            )
        samples = tuple(
            ClassifiedSample(id=each.id, cluster=each.id, image=each.image, label=each.label) for each in images[:limit]
        )
        if not samples:
            raise DataError(f"{self.card.name}: no image of the split is left.", "Give a --limit of 1 or more.")
        return samples

    def route(self, model: ModelProfile) -> Route:
        """See `evalkit.task.Task`."""
        return first_possible(self.card.routes, model, self.card.name)

    def assistants(self) -> tuple[Assistant, ...]:
        """No further model takes part."""
        return ()

    def score(
        self, samples: Sequence[ClassifiedSample], predictions: Sequence[ClassPrediction], protocols: Sequence[Protocol]
    ) -> tuple[MetricValue, ...]:
        """See `evalkit.task.Task`.

        Raises:
            DataError: Every image failed.
        """
        from evalkit.families.classification_scores import score  # noqa: PLC0415 # it is not needed to list the task

        return score(samples, predictions, protocol=protocols[-1].id, split=self.split, five=len(self.classes) >= BEST)

    def views(
        self,
        samples: Sequence[ClassifiedSample],
        predictions: Sequence[ClassPrediction],
        protocols: Sequence[Protocol],
    ) -> SampleViews:
        """See `evalkit.task.ShowsSamples`; `samples` was called before."""
        from evalkit.families.classification_views import views  # noqa: PLC0415 # it is not needed to list the task

        return views(samples, predictions, self.classes)

    def notes(self, samples: Sequence[ClassifiedSample], predictions: Sequence[ClassPrediction]) -> tuple[str, ...]:
        """See `evalkit.task.Task`."""
        notes = [INDEPENDENT]
        if len(self.classes) < BEST:
            notes.append(f"acc5 is left out: there are {len(self.classes)} classes.")
        present = {sample.label for sample, one in zip(samples, predictions, strict=True) if one.failure is None}
        if len(present) < len(self.classes):
            notes.append(
                f"mean_per_class_recall is over the {len(present):,} of {len(self.classes):,} classes"
                " that the images are of."
            )
        return tuple(notes)


def _template_or_file(text: str) -> str:
    return text if has_slot(text) else file_name(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroShotOptions:
    """How class names become texts."""

    templates: str = field(default="", metadata={STORED_AS: _template_or_file})
    """A JSON file with a list of templates; or one template, with `{c}` where the name goes; empty for the data's."""


class ZeroShotTask(ClassificationTask):
    """Zero-shot classification; a subclass names its data. A matcher would have to judge every class of every image."""

    options_type: ClassVar[type[ZeroShotOptions]] = ZeroShotOptions
    templates_key: ClassVar[str] = ""
    """Which list of a template file with several is meant; see `read_templates`."""

    def __init__(self, options: ZeroShotOptions) -> None:
        super().__init__()
        self.options = options
        self._templates: tuple[str, ...] = ()

    @abstractmethod
    def own_templates(self, data_dir: Path) -> tuple[str, ...]:
        """The data's templates.

        Raises:
            DataError: Missing or malformed.
        """

    @property
    def templates(self) -> tuple[str, ...]:
        """How class names become texts; `samples` was called before.

        Raises:
            ConfigError: The option `templates` is neither a template nor a file.
        """
        if not self._templates:
            self._templates = self._given_templates()
        return self._templates

    def route(self, model: ModelProfile) -> Route:
        """See `evalkit.task.Task`. A file of templates is read here, so that none is needed to score a stored run.

        Raises:
            ConfigError: As `templates`.
        """
        route = super().route(model)
        if self.options.templates:
            self._templates = self._given_templates()
        return route

    def samples(self, data_dir: Path, limit: int | None) -> tuple[ClassifiedSample, ...]:
        """See `evalkit.task.Task`."""
        if not self.options.templates:
            self._templates = self.own_templates(data_dir)
        return super().samples(data_dir, limit)

    def _given_templates(self) -> tuple[str, ...]:
        given = self.options.templates
        if has_slot(given):
            return (given,)
        file = Path(given).expanduser()
        if not file.is_file():
            raise ConfigError(
                f"templates={given!r} is no file, and no template: it has no {{c}} where the class's name goes.",
                "Name a JSON list of templates, or write one: -o templates='a photo of a {c}.'",
            )
        return read_templates(file, self.templates_key)

    def protocols(
        self, samples: Sequence[ClassifiedSample], route: Route, preprocessing: Preprocessing
    ) -> tuple[Protocol, ...]:
        """See `evalkit.task.Task`."""
        first, *more = self.templates
        listed = f"{len(self.templates)} templates (list {texts_digest(self.templates)}), the first: {first}"
        return (
            Protocol(
                name=self.split_name(len(samples)),
                version=self.card.version,
                route=route.name,
                prompt=listed if more else first,
                preprocessing=preprocessing,
                decoding=f"the nearest of {len(self.classes):,} classes (names {names_digest(self.classes)}), each the"
                " normalised mean of its texts' normalised embeddings; of several vectors an image, the nearest counts",
                tie_rule=TIE_RULE,
            ),
        )

    def predict(
        self, model: Model, samples: Sequence[ClassifiedSample], route: Route, assistants: Mapping[str, Model]
    ) -> tuple[ClassPrediction, ...]:
        """See `evalkit.task.Task`.

        Raises:
            ModelOutputError: A class's texts got no embedding.
        """
        from evalkit.families.classification_vectors import by_names  # noqa: PLC0415 # it imports numpy

        return by_names(model, samples, self.classes, self.templates)


def names_digest(classes: Sequence[ImageClass]) -> str:
    """Six hex digits that tell one list of classes and their names from another."""
    return texts_digest("\t".join((each.id, *each.names)) for each in classes)
