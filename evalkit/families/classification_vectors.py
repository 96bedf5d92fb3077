"""From embeddings to the classes of images: by the class names' vectors, or by labelled images.

Imported by the families inside the methods that use it, so it may import numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253 # see above

from evalkit.datasets.imagefolder import fill
from evalkit.errors import DataError, ModelOutputError
from evalkit.families.classification import BEST, ClassPrediction
from evalkit.metrics.classification import nearest, neighbour_votes  # noqa: TID253 # see above
from evalkit.metrics.top_lists import top_k  # noqa: TID253 # see above
from evalkit.types import FloatArray

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evalkit.datasets.imagefolder import ImageClass, LabelledImage
    from evalkit.families.classification import ClassifiedSample
    from evalkit.model import Model
    from evalkit.types import ImageRef

_IMAGES_AT_ONCE = 8192
"""Images a call of `encode_image`: 268 MB of BLIP-2's 32 vectors an image."""
_TEXTS_AT_ONCE = 16384
_TWIN = 1 - 1e-6
"""The cosine of an image with itself is 1, up to float32 rounding."""


def by_names(
    model: Model, samples: Sequence[ClassifiedSample], classes: Sequence[ImageClass], templates: Sequence[str]
) -> tuple[ClassPrediction, ...]:
    """Each image's five nearest classes; the similarity of q vectors an image is the largest of theirs.

    Raises:
        ModelOutputError: A class's text got no embedding.
    """
    vectors = class_vectors(model, classes, templates)
    predictions: list[ClassPrediction] = []
    for start in range(0, len(samples), _IMAGES_AT_ONCE):
        part = samples[start : start + _IMAGES_AT_ONCE]
        images = model.encode_image([sample.image for sample in part])
        named: dict[int, ClassPrediction] = {}
        alive = [row for row in range(len(part)) if row not in images.failures]
        if alive:
            best = top_k(images.vectors[alive], vectors, texts_per_image=BEST, images_per_text=1).i2t
            rows = zip(alive, best.indices.tolist(), best.scores.tolist(), strict=True)
            named = {row: _prediction(part[row], classes, *found) for row, *found in rows}
        predictions += [
            named.get(row) or _failed(sample, images.failures[row].reason) for row, sample in enumerate(part)
        ]
    return tuple(predictions)


def class_vectors(model: Model, classes: Sequence[ImageClass], templates: Sequence[str]) -> FloatArray:
    """(classes, d) float32: the mean of the normalised embeddings of a class's names in all templates, normalised.

    Raises:
        ModelOutputError: A text got no embedding.
    """
    texts = [[fill(template, name) for name in each.names for template in templates] for each in classes]
    means = []
    for part in _parts(texts):
        answer = model.encode_text([text for own in part for text in own])
        for failure in answer.failures.values():
            raise ModelOutputError(f"A class name got no embedding: {failure.reason}", "Run it again.")
        ends = np.cumsum([len(own) for own in part])
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            mean = answer.vectors[start:end].mean(axis=0, dtype=np.float64)
            means.append(mean / np.sqrt(mean @ mean))
    return np.stack(means).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What the nearest-neighbour probe found."""

    predictions: tuple[ClassPrediction, ...]
    unusable: tuple[str, ...] = ()
    """Ids of the training images that failed."""
    twins: int = 0
    """Images with the same embedding as a training image."""


def by_neighbours(
    model: Model,
    samples: Sequence[ClassifiedSample],
    training: Sequence[LabelledImage],
    classes: Sequence[ImageClass],
    *,
    k: int,
    temperature: float,
) -> Probe:
    """The five classes that an image's nearest training images vote for; see `evalkit.metrics.classification`.

    Training images are embedded and compared a part at a time: memory does not grow with their number.

    Raises:
        DataError: Every training image failed.
    """
    embedded = list(_embedded(model, [sample.image for sample in samples]))
    reasons = {row: reason for part in embedded for row, reason in part.failures.items()}
    if len(reasons) == len(samples):
        return Probe(predictions=tuple(_failed(one, reasons[row]) for row, one in enumerate(samples)))
    used: list[int] = []
    unusable: list[int] = []

    def parts() -> Iterator[FloatArray]:
        for part in _embedded(model, [each.image for each in training]):
            used.extend(part.rows)
            unusable.extend(part.failures)
            if part.rows:
                yield part.vectors
        if not used:
            raise DataError(f"Every training image failed; the first: {training[0].id}.", "Check the training images.")

    found = nearest(np.concatenate([part.vectors for part in embedded if part.rows]), parts(), k)
    numbers = {each.id: number for number, each in enumerate(classes)}
    labels = np.array([numbers[training[row].label] for row in used])
    votes = neighbour_votes(found, labels, temperature=temperature, best=BEST)
    alive = [row for part in embedded for row in part.rows]
    rows = zip(alive, votes.classes.tolist(), votes.scores.tolist(), strict=True)
    named = {row: _prediction(samples[row], classes, *best) for row, *best in rows}
    return Probe(
        predictions=tuple(named.get(row) or _failed(one, reasons[row]) for row, one in enumerate(samples)),
        unusable=tuple(training[row].id for row in unusable),
        twins=int(np.count_nonzero(found.similarities[:, 0] > _TWIN)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Some of the images that were asked for."""

    vectors: FloatArray
    """One vector an image; of q vectors their mean, normalised."""
    rows: tuple[int, ...]
    """Which image each vector is of."""
    failures: Mapping[int, str]
    """Row -> why that image has none."""


def _embedded(model: Model, images: Sequence[ImageRef]) -> Iterator[_Part]:
    for start in range(0, len(images), _IMAGES_AT_ONCE):
        part = images[start : start + _IMAGES_AT_ONCE]
        answer = model.encode_image(part)
        kept = [row for row in range(len(part)) if row not in answer.failures]
        vectors = answer.vectors[kept]
        if vectors.ndim == 3:
            means = vectors.mean(axis=1, dtype=np.float64)
            vectors = (means / np.sqrt(np.vecdot(means, means))[:, None]).astype(np.float32)
        yield _Part(
            vectors=vectors,
            rows=tuple(start + row for row in kept),
            failures={start + row: failure.reason for row, failure in answer.failures.items()},
        )


def _failed(sample: ClassifiedSample, reason: str) -> ClassPrediction:
    return ClassPrediction(sample_id=sample.id, failure=reason)


def _prediction(
    sample: ClassifiedSample, classes: Sequence[ImageClass], numbers: list[int], scores: list[float]
) -> ClassPrediction:
    count = sum(number >= 0 for number in numbers)  # the places that no class has are the last
    return ClassPrediction(
        sample_id=sample.id,
        failure=None,
        classes=tuple(classes[number].id for number in numbers[:count]),
        scores=tuple(scores[:count]),
    )


def _parts(texts: Sequence[list[str]]) -> Iterator[list[list[str]]]:
    """Classes whose texts together are few enough for one call."""
    part: list[list[str]] = []
    for own in texts:
        if part and sum(map(len, part)) + len(own) > _TEXTS_AT_ONCE:
            yield part
            part = []
        part.append(own)
    if part:
        yield part
