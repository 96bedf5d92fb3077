"""How well a model tells true captions from wrong ones: the evaluation of BLIP's data filter (CapFilt).

Every caption with its image is a positive. Negatives are either captions of other images of the split, one a caption,
or a captioner's output on the same images (the COCO results file that `evalkit export` writes).
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from evalkit.datasets.coco_results import read_coco_results
from evalkit.errors import ConfigError, DataError, remedies_for
from evalkit.families.caption_judging import ITC, ITM, ROUTES, YES_NO, Captioned, judge, judging_route, prompt_of
from evalkit.families.captioned_photos import CaptionedPhotos, CaptionedSample
from evalkit.families.naming import texts_digest
from evalkit.options import STORED_AS, file_name
from evalkit.types import Assistant, Failure, Prediction, Protocol, Route

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evalkit.datasets.captioned import CaptionedImage
    from evalkit.model import Model
    from evalkit.task import ModelProfile
    from evalkit.types import MetricValue, Preprocessing, SampleViews

TIE_RULE = (
    "AUROC counts equal scores a half, AP takes them as one threshold; a caption is kept where its log-odds are above 0"
)
_CHOICES: Mapping[str, tuple[Route, ...]] = {"auto": ROUTES, **{route.name: (route,) for route in (ITM, YES_NO, ITC)}}
_SEED = "swapped captions 1"
_NO_WORDS = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class CapfiltSample(CaptionedSample):
    """One image with its captions, and wrong ones."""

    negatives: tuple[str, ...]
    """Swapped ones, one a caption; none where a captioner's are taken, which are read when a model is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapfiltOptions:
    """What is told apart, and how.

    Raises:
        ConfigError: A value that cannot be used.
    """

    negatives: str = "auto"
    """`swapped`: captions of other images; `machine`: those of `captions`; `auto`: `machine` where `captions` is given,
    else `swapped`."""
    captions: str = field(default="", metadata={STORED_AS: file_name})
    """A captioner's output as a COCO results file, `[{"image_id", "caption"}]`: `evalkit export` writes one."""
    route: str = "auto"
    """`auto`, `itm`, `yes-no`, `itc`."""
    prompt: str = ""
    """Of `yes-no` and `itc`, with {caption} in it; empty for the route's own."""

    def __post_init__(self) -> None:
        if self.negatives not in ("auto", "swapped", "machine"):
            raise ConfigError(f"negatives={self.negatives!r} is unknown.", "Give auto, swapped or machine.")
        if self.negatives == "machine" and not self.captions:
            raise ConfigError("negatives=machine needs a captioner's output.", "Name its file: -o captions=FILE.")
        if self.negatives == "swapped" and self.captions:
            raise ConfigError("negatives=swapped does not use captions.", "Leave out one of the two.")
        if self.route not in _CHOICES:
            raise ConfigError(f"route={self.route!r} is not a way to judge.", f"Give one of: {', '.join(_CHOICES)}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class CapfiltPrediction(Prediction):
    """How a model judges one image's captions."""

    scale: str = ""
    """`log-odds`, above 0 for a match, or `cosine`, which has no threshold."""
    scores: tuple[float, ...] = ()
    """One a caption."""
    negative_scores: tuple[float, ...] = ()
    """One a negative."""


class CaptionFilteringTask(CaptionedPhotos, ABC):
    """Filtering of captions; a subclass names its data."""

    options_type: ClassVar[type[CapfiltOptions]] = CapfiltOptions
    prediction_type: ClassVar[type[CapfiltPrediction]] = CapfiltPrediction
    kind = "capfilt-swapped"

    def __init__(self, options: CapfiltOptions) -> None:
        self.options = options
        self._made: dict[str, list[str]] = {}

    def samples(self, data_dir: Path, limit: int | None) -> tuple[CapfiltSample, ...]:
        """See `evalkit.task.Task`. Negatives are those of the whole split, whatever the limit."""
        images = self.read(data_dir, limit)
        wrong = [()] * len(images[:limit]) if self.options.captions else swapped(images, limit)
        return tuple(
            CapfiltSample(id=one.id, cluster=one.id, image=one.image, captions=one.captions, negatives=negatives)
            for one, negatives in zip(images[:limit], wrong, strict=True)
        )

    def negatives(self, samples: Sequence[CapfiltSample]) -> list[tuple[str, ...]]:
        """The wrong captions of each sample, one or more.

        Raises:
            DataError: The captioner's output cannot be read, or has none of an image.
        """
        if not self.options.captions:
            return [one.negatives for one in samples]
        self._made = self._made or self._read_made()
        if missing := [one.id for one in samples if one.id not in self._made]:
            raise DataError(
                f"{self.options.captions} has no caption of {len(missing)} of {len(samples)} images; the first is"
                f" {missing[0]}.",
                "Name the output of a captioner on the whole split.",
            )
        return [tuple(self._made[one.id]) for one in samples]

    def _read_made(self) -> dict[str, list[str]]:
        made: dict[str, list[str]] = {}
        with remedies_for(None):  # the file is the user's, not the benchmark's
            rows = read_coco_results(Path(self.options.captions).expanduser())
        for one in rows:
            made.setdefault(one.image_id, []).append(one.caption)
        return made

    def route(self, model: ModelProfile) -> Route:
        """See `evalkit.task.Task`. A captioner's output is read here, so that none is needed to score a stored run.

        Raises:
            DataError: It cannot be read.
        """
        route = judging_route(model, _CHOICES[self.options.route], self.options.prompt, self.card.name)
        if self.options.captions:
            self._made = self._read_made()
        return route

    def assistants(self) -> tuple[Assistant, ...]:
        """See `evalkit.task.Task`: there are none."""
        return ()

    def protocols(
        self, samples: Sequence[CapfiltSample], route: Route, preprocessing: Preprocessing
    ) -> tuple[Protocol, ...]:
        """See `evalkit.task.Task`. Machine-made captions are named by a digest of them."""
        kind = self.kind
        if self.options.captions:
            kind = _machine_kind(self.negatives(samples))
        return (
            Protocol(
                name=self.split_name(samples, kind),
                version=self.card.version,
                route=route.name,
                prompt=prompt_of(route),
                preprocessing=preprocessing,
                decoding="log P(Yes) - log P(No)" if route.name == YES_NO.name else "",
                tie_rule=TIE_RULE,
            ),
        )

    def predict(
        self, model: Model, samples: Sequence[CapfiltSample], route: Route, assistants: Mapping[str, Model]
    ) -> tuple[CapfiltPrediction, ...]:
        """See `evalkit.task.Task`."""
        asked = [
            Captioned(image=one.image, captions=one.captions + wrong)
            for one, wrong in zip(samples, self.negatives(samples), strict=True)
        ]
        scale = "cosine" if route.name == ITC.name else "log-odds"
        return tuple(
            CapfiltPrediction(sample_id=sample.id, failure=answer.reason)
            if isinstance(answer, Failure)
            else CapfiltPrediction(
                sample_id=sample.id,
                failure=None,
                scale=scale,
                scores=tuple(answer[: len(sample.captions)].tolist()),
                negative_scores=tuple(answer[len(sample.captions) :].tolist()),
            )
            for sample, answer in zip(samples, judge(model, asked, route), strict=True)
        )

    def score(
        self, samples: Sequence[CapfiltSample], predictions: Sequence[CapfiltPrediction], protocols: Sequence[Protocol]
    ) -> tuple[MetricValue, ...]:
        """See `evalkit.task.Task`.

        Raises:
            DataError: Every image failed.
        """
        from evalkit.families.caption_filtering_scores import score  # noqa: PLC0415 # imports numpy

        return score(samples, predictions, protocol=protocols[-1].id)

    def views(
        self,
        samples: Sequence[CapfiltSample],
        predictions: Sequence[CapfiltPrediction],
        protocols: Sequence[Protocol],
    ) -> SampleViews:
        """See `evalkit.task.ShowsSamples`: a view a caption."""
        from evalkit.families.caption_filtering_views import views  # noqa: PLC0415 # imports numpy

        negatives = self._known_negatives(samples, predictions, protocols[-1].name)
        return views(samples, predictions, negatives, machine=bool(self.options.captions))

    def _known_negatives(
        self, samples: Sequence[CapfiltSample], predictions: Sequence[CapfiltPrediction], protocol: str
    ) -> list[tuple[str, ...]] | None:
        """As `negatives`; None where a captioner's output is no longer there, or is another than the protocol names."""
        try:
            negatives = self.negatives(samples)
        except DataError:
            return None
        answered = [wrong for wrong, one in zip(negatives, predictions, strict=True) if one.failure is None]
        unknown = self.options.captions and _machine_kind(answered) not in protocol
        return None if unknown else negatives

    def notes(self, samples: Sequence[CapfiltSample], predictions: Sequence[CapfiltPrediction]) -> tuple[str, ...]:
        """See `evalkit.task.Task`."""
        true = sum(len(one.scores) for one in predictions)
        judged = true + sum(len(one.negative_scores) for one in predictions)
        notes = [f"By chance auroc is 50.0, and ap {100 * true / max(1, judged):.1f}: the share of true captions."]
        if any(one.scale == "cosine" for one in predictions):
            notes.append("A cosine has no threshold: accuracy and what is kept are measured with matchers only.")
        elif not any(score > 0 for one in predictions for score in (*one.scores, *one.negative_scores)):
            notes.append("No caption is kept, so what is kept has no precision.")
        if not self.options.captions:
            notes.append("A swapped caption can be true of the image by chance, so no model reaches 100.")
        elif same := sum(
            text in sample.captions
            for sample, made in zip(samples, self.negatives(samples), strict=True)
            for text in made
        ):
            notes.append(f"{same} machine-made captions are word for word one of the image's own.")
        return tuple(notes)


def _machine_kind(negatives: Sequence[Sequence[str]]) -> str:
    """What is done with the split: captions told from these machine-made ones, which a digest names."""
    return f"capfilt-machine-{texts_digest(text for wrong in negatives for text in wrong)}"


def swapped(images: Sequence[CaptionedImage], limit: int | None) -> list[tuple[str, ...]]:
    """For each caption one of another image, with other words than all of its own image's.

    All captions of the split stand in alphabetical order; a digest of the caption says where in it to begin, and the
    first fitting one from there on is taken. So it depends on the captions of the split, on neither their order nor
    the limit.

    Args:
        images: The whole split.
        limit: For how many images from the front; None for all.

    Raises:
        DataError: The images have no captions to swap.
    """
    written = sorted((caption for image in images for caption in image.captions), reverse=True)
    alphabet = sorted({_plain(caption): caption for caption in written}.items())
    chosen = []
    for image in images[:limit]:
        own = {_plain(caption) for caption in image.captions}
        if len(own) == len(alphabet):
            raise DataError(
                f"Image {image.id} has no captions of others to be swapped with: every other has the same words.",
                "Give more images with captions of their own.",
            )
        chosen.append(tuple(_other(caption, own, alphabet) for caption in image.captions))
    return chosen


def _other(caption: str, own: set[str], alphabet: Sequence[tuple[str, str]]) -> str:
    digest = hashlib.sha256(f"{_SEED}\n{_plain(caption)}".encode())
    place = int.from_bytes(digest.digest()[:8]) % len(alphabet)
    while alphabet[place][0] in own:
        place = (place + 1) % len(alphabet)
    return alphabet[place][1]


def _plain(caption: str) -> str:
    """What makes two captions the same: their letters and digits."""
    return _NO_WORDS.sub(" ", caption.casefold()).strip()
