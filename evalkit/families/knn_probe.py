"""The nearest-neighbour probe: how well an image's class follows from the labelled images most similar to it.

It needs image embeddings alone and trains nothing. The vote is that of DINO's evaluation
(https://arxiv.org/abs/2104.14294, section 4.1): the k nearest training images by cosine, each with the weight
exp(cosine / temperature); k = 20 and temperature 0.07 are its defaults.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from evalkit.errors import ConfigError, DataError
from evalkit.families.classification import ClassificationTask
from evalkit.families.naming import texts_digest
from evalkit.types import Protocol, Route

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from evalkit.datasets.imagefolder import LabelledImage
    from evalkit.families.classification import ClassifiedSample, ClassPrediction
    from evalkit.model import Model
    from evalkit.types import ImageRef, Preprocessing

KNN = Route(name="knn", needs=("encode_image",))
TIE_RULE = "equal cosines: the training image that comes first; equal votes: the class that comes first"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnnOptions:
    """How neighbours vote.

    Raises:
        ConfigError: A value that cannot be used.
    """

    k: int = 20
    """Training images that vote; all of them, where there are fewer."""
    temperature: float = 0.07
    """The larger it is, the more alike the votes of near and far neighbours weigh."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"k={self.k} is no number of neighbours.", "Give 1 or more.")
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(f"temperature={self.temperature} cannot divide a cosine.", "Give a number above 0.")


class KnnTask(ClassificationTask):
    """A nearest-neighbour probe; a subclass names its data.

    Numbers hang on the training images, so these are in the protocol: how many, and a digest of what they show and of
    their labels.
    """

    options_type: ClassVar[type[KnnOptions]] = KnnOptions

    def __init__(self, options: KnnOptions) -> None:
        super().__init__()
        self.options = options
        self.training: tuple[LabelledImage, ...] = ()
        """Known once the samples are read."""
        self._unusable: tuple[str, ...] = ()
        self._shown = ""
        """A digest of what the training images that vote show; known once they were asked about."""
        self._twins = 0

    @abstractmethod
    def training_images(self, data_dir: Path) -> tuple[LabelledImage, ...]:
        """Read the images that vote.

        Raises:
            DataError: Missing or malformed data.
        """

    def samples(self, data_dir: Path, limit: int | None) -> tuple[ClassifiedSample, ...]:
        """See `evalkit.task.Task`. A limit leaves the training images as they are.

        Raises:
            DataError: A class that no training image is of.
        """
        self.training = self.training_images(data_dir)
        samples = super().samples(data_dir, limit)
        known = {image.label for image in self.training}
        for sample in samples:
            if sample.label not in known:
                raise DataError(
                    f"{sample.image.name} is of the class {sample.label}, and no training image is, so it cannot be"
                    " voted for.",
                    "Add training images of that class, or take its images out.",
                )
        return samples

    def further_images(self) -> tuple[ImageRef, ...]:
        """The training images; see `evalkit.task.ShowsMoreImages`."""
        return tuple(one.image for one in self.training)

    def protocols(
        self, samples: Sequence[ClassifiedSample], route: Route, preprocessing: Preprocessing
    ) -> tuple[Protocol, ...]:
        """See `evalkit.task.Task`. Training images that failed are no part of what was measured."""
        failed = set(self._unusable)
        used = [image for image in self.training if image.id not in failed]
        k = min(self.options.k, len(used))
        digest = texts_digest([self._shown, *(image.label for image in used)])
        return (
            Protocol(
                name=self.split_name(len(samples)),
                version=self.card.version,
                route=f"{route.name}@{k}",
                prompt="",
                preprocessing=preprocessing,
                decoding=f"vote of the {k} nearest of {len(used):,} training images (list {digest}), temperature"
                f" {self.options.temperature:g}; of several vectors an image, their normalised mean",
                tie_rule=TIE_RULE,
            ),
        )

    def predict(
        self, model: Model, samples: Sequence[ClassifiedSample], route: Route, assistants: Mapping[str, Model]
    ) -> tuple[ClassPrediction, ...]:
        """See `evalkit.task.Task`.

        Raises:
            DataError: Every training image failed.
        """
        from evalkit.families.classification_vectors import by_neighbours  # noqa: PLC0415 # it imports numpy

        probe = by_neighbours(
            model, samples, self.training, self.classes, k=self.options.k, temperature=self.options.temperature
        )
        self._unusable, self._twins = probe.unusable, probe.twins
        self._shown = model.images_digest([one.image for one in self.training if one.id not in set(probe.unusable)])
        return probe.predictions

    def notes(self, samples: Sequence[ClassifiedSample], predictions: Sequence[ClassPrediction]) -> tuple[str, ...]:
        """See `evalkit.task.Task`."""
        notes = list(super().notes(samples, predictions))
        if self._unusable:
            notes.append(f"{len(self._unusable):,} training images failed and did not vote: {self._unusable[0]}, ...")
        if self._twins:
            notes.append(
                f"{self._twins:,} images have the same embedding as a training image: where they are the same photo,"
                " the numbers are too good."
            )
        return tuple(notes)
