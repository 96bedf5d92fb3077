"""Image-text retrieval: embed both sides and rank (ITC), then let a matcher score the best candidates again (ITM).

Both numbers come out of one run, each under its own protocol: `coco-karpathy-5k/itc`, `coco-karpathy-5k/itc+itm@256`.
The second stage is the official two-stage protocol of BLIP (https://arxiv.org/abs/2201.12086, section 4.1): in each
direction the k best by embedding get the score matcher logit + cosine, and what is not re-ranked never outranks them.
A pair that is a candidate in both directions is matched once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from evalkit.errors import CapabilityError, ConfigError, DataError, install_extra
from evalkit.families import naming
from evalkit.types import Assistant, ImageRef, Prediction, Protocol, Route, Sample, TaskCard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from evalkit.datasets.captioned import CaptionedImage
    from evalkit.model import Model
    from evalkit.task import ModelProfile
    from evalkit.types import MetricValue, Preprocessing, SampleViews

EMBEDDED = Route(name="itc", needs=("encode_image", "encode_text"))
ROUTES = (Route(name="itc+itm", needs=("encode_image", "encode_text", "match")), EMBEDDED)
TIE_RULE = "pessimistic: an item of another image with an equal score counts against"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalSample(Sample):
    """One image with its captions."""

    image: ImageRef
    captions: tuple[str, ...]
    caption_ids: tuple[str, ...] = field(
        metadata={"fingerprint": False}
    )  # files of the same data number them differently


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalOptions:
    """How retrieval is done.

    Raises:
        ConfigError: A value that cannot be used.
    """

    rerank_with: str = "auto"
    """`auto`: the model's own matcher where it has one; `itm`: the model's own matcher, required; `none`; or the name
    of another registered model, whose matcher is used."""
    rerank_k: int = 0
    """Candidates a query that are re-ranked; 0 for the task's own number (COCO 256, Flickr30k 128)."""
    prompt: str = "{caption}"
    """Template of the embedded text; `a photo of {caption}` is the CLIP paper's. A matcher gets the bare caption."""

    def __post_init__(self) -> None:
        if "{caption}" not in self.prompt:
            raise ConfigError(f"prompt={self.prompt!r} has no place for the caption.", "Write {caption} where it goes.")
        if self.rerank_k < 0:
            raise ConfigError(
                f"rerank_k={self.rerank_k} is below 0.", "Give a number of candidates, or 0 for the default."
            )
        if not self.rerank_with:
            raise ConfigError("rerank_with is empty.", "Give auto, itm, none or the name of a model.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalPrediction(Prediction):
    """Where one image and its captions rank. Ranks are 0-based; positions count the split's images or captions from 0.

    A failed image and its captions are neither queries nor in the gallery: its ranks are None and its lists empty.
    """

    i2t_rank: int | None = None
    t2i_ranks: tuple[int, ...] = ()
    """One a caption, as are the following."""
    fold_i2t_rank: int | None = None
    """Within the image's fold; None where the task has none, or the data is not the whole split."""
    fold_t2i_ranks: tuple[int, ...] = ()
    top_captions: tuple[int, ...] = ()
    """Positions of the best captions, best first, as deep as ECCV Caption looks; empty but on the whole of COCO."""
    top_images: tuple[tuple[int, ...], ...] = ()
    reranked_i2t_rank: int | None = None
    """By the second stage, as are the following; None and empty where there is none."""
    reranked_t2i_ranks: tuple[int, ...] = ()
    reranked_top_captions: tuple[int, ...] = ()
    reranked_top_images: tuple[tuple[int, ...], ...] = ()


class RetrievalTask(ABC):
    """A retrieval benchmark; a subclass names its data.

    The five-fold numbers are those of the first stage only: the official second stage re-ranks within the whole
    gallery, and nobody reports a fold's. ECCV Caption and CxC numbers appear on the whole COCO test split where the
    extra `eccv-caption` is installed; `missing_measures` says why they do not.
    """

    card: ClassVar[TaskCard]
    options_type: ClassVar[type[RetrievalOptions]] = RetrievalOptions
    prediction_type: ClassVar[type[RetrievalPrediction]] = RetrievalPrediction
    expected_images: ClassVar[int]
    expected_captions: ClassVar[int]
    """With fewer or more of either, the protocol's name says that this is not the whole split."""
    default_rerank_k: ClassVar[int]
    coco_measures: ClassVar[bool] = False
    fold_protocol_name: ClassVar[str] = ""
    """Of the mean over the folds: `coco-karpathy-1k-5-fold`."""
    folds: ClassVar[int] = 1
    """How many consecutive parts of equal size the whole split is also evaluated in."""

    def __init__(self, options: RetrievalOptions) -> None:
        self.options = options

    @abstractmethod
    def captioned_images(self, data_dir: Path) -> tuple[CaptionedImage, ...]:
        """Read the whole split, official order.

        Raises:
            DataError: Missing or malformed data.
        """

    def samples(self, data_dir: Path, limit: int | None) -> tuple[RetrievalSample, ...]:
        """See `evalkit.task.Task`."""
        samples = tuple(
            RetrievalSample(
                id=image.id,
                cluster=image.id,
                image=image.image,
                captions=image.captions,
                caption_ids=image.caption_ids,
            )
            for image in self.captioned_images(data_dir)[:limit]
        )
        if not samples:
            raise DataError(f"{self.card.name}: no image of the split is left.", "Give a --limit of 1 or more.")
        return samples

    def route(self, model: ModelProfile) -> Route:
        """See `evalkit.task.Task`."""
        wanted = {"auto": ROUTES, "itm": ROUTES[:1], "none": ROUTES[1:]}.get(
            self.options.rerank_with, (Route(name=f"itc+{self.options.rerank_with}", needs=EMBEDDED.needs),)
        )
        for route in wanted:
            if set(route.needs) <= set(model.capabilities):
                return route
        missing = [need for need in wanted[-1].needs if need not in model.capabilities]
        remedy = "Choose a model that can: `evalkit list`."
        if missing == ["match"]:
            remedy = "Use --rerank-with none, or name another model's matcher: --rerank-with blip."
        raise CapabilityError(f"{self.card.name} needs {' and '.join(missing)}, which the model does not have.", remedy)

    def assistants(self) -> tuple[Assistant, ...]:
        """See `evalkit.task.Task`."""
        name = self.options.rerank_with
        if name in ("auto", "itm", "none"):
            return ()
        return (Assistant(name=name, role="matcher", needs=("match",), purpose=self.card.purpose),)

    def protocols(
        self, samples: Sequence[RetrievalSample], route: Route, preprocessing: Preprocessing
    ) -> tuple[Protocol, ...]:
        """See `evalkit.task.Task`. Another model's matcher is part of the second stage's protocol."""
        first = Protocol(
            name=self.split_name(samples),
            version=self.card.version,
            route=EMBEDDED.name,
            prompt=self.options.prompt,
            preprocessing=preprocessing,
            decoding="",
            tie_rule=TIE_RULE,
        )
        protocols = [first]
        if self.folds > 1 and self.whole(samples):
            protocols.insert(0, replace(first, name=self.fold_protocol_name))
        if route.name != EMBEDDED.name:
            matched = replace(preprocessing, details=(*preprocessing.details, *route.assistants))
            second = f"{route.name}@{self._effective_k(samples)}"
            protocols.append(replace(first, route=second, preprocessing=matched))
        return tuple(protocols)

    def predict(
        self, model: Model, samples: Sequence[RetrievalSample], route: Route, assistants: Mapping[str, Model]
    ) -> tuple[RetrievalPrediction, ...]:
        """See `evalkit.task.Task`.

        Raises:
            CapabilityError: The assistant has no matcher.
            DataError: Every image failed.
        """
        from evalkit.families.retrieval_stages import Stages  # noqa: PLC0415 # it is not needed to list the task

        matcher = None if route.name == EMBEDDED.name else assistants.get(self.options.rerank_with, model)
        if matcher is not None and "match" not in matcher.capabilities:
            raise CapabilityError(f"{self.options.rerank_with!r} has no matcher.", "Name a model that can match.")
        whole = self.whole(samples)
        return Stages(
            matcher=matcher,
            rerank_k=self._rerank_k,
            folds=self.folds if whole else 1,
            keep_lists=self.coco_measures and whole,
        ).predict(model, samples, self.options.prompt)

    def score(
        self,
        samples: Sequence[RetrievalSample],
        predictions: Sequence[RetrievalPrediction],
        protocols: Sequence[Protocol],
    ) -> tuple[MetricValue, ...]:
        """See `evalkit.task.Task`.

        Raises:
            DataError: Every image failed.
        """
        from evalkit.families.retrieval_scores import score  # noqa: PLC0415 # it is not needed to list the task
        from evalkit.metrics import eccv

        folder = eccv.data_folder() if self.coco_measures and not self.missing_measures(samples, predictions) else None
        return score(
            samples,
            predictions,
            protocols,
            folds=(self.folds, self.fold_protocol_name),
            extended=eccv.read_extended_coco(folder) if folder else None,
        )

    def views(
        self,
        samples: Sequence[RetrievalSample],
        predictions: Sequence[RetrievalPrediction],
        protocols: Sequence[Protocol],
    ) -> SampleViews:
        """See `evalkit.task.ShowsSamples`: with the last protocol's ranks, the second stage's where there is one."""
        from evalkit.families.retrieval_views import views  # noqa: PLC0415 # it is not needed to list the task

        return views(samples, predictions, reranked=protocols[-1].route != EMBEDDED.name)

    def notes(self, samples: Sequence[RetrievalSample], predictions: Sequence[RetrievalPrediction]) -> tuple[str, ...]:
        """See `evalkit.task.Task`."""
        reason = self.missing_measures(samples, predictions)
        return (reason,) if reason else ()

    def missing_measures(
        self, samples: Sequence[RetrievalSample], predictions: Sequence[RetrievalPrediction]
    ) -> str | None:
        """Why a COCO task gives no ECCV Caption and CxC numbers; None where it does, and for other data."""
        from evalkit.metrics import eccv

        if not self.coco_measures:
            return None
        if not self.whole(samples):
            return f"ECCV Caption and CxC are defined on the whole test split; these are {len(samples)} images of it."
        if failed := sum(prediction.failure is not None for prediction in predictions):
            return f"ECCV Caption and CxC are defined on the whole test split; {failed} images of it failed."
        if (folder := eccv.data_folder()) is None:
            return f"ECCV Caption and CxC need an extra: {install_extra('eccv-caption')}."
        official = eccv.read_extended_coco(folder).image_ids
        if [sample.id for sample in samples] != [str(image) for image in official]:
            return "ECCV Caption and CxC go by Karpathy's order of the test images; this data has another."
        return None

    def split_name(self, samples: Sequence[RetrievalSample]) -> str:
        """The protocol's name: a part of the split never carries the whole one's."""
        return naming.split_name(self.card.protocol, len(samples), whole=self.whole(samples))

    def whole(self, samples: Sequence[RetrievalSample]) -> bool:
        """Whether the samples are the whole official split, and so may carry its name."""
        captions = sum(len(sample.captions) for sample in samples)
        return (len(samples), captions) == (self.expected_images, self.expected_captions)

    @property
    def _rerank_k(self) -> int:
        return self.options.rerank_k or self.default_rerank_k

    def _effective_k(self, samples: Sequence[RetrievalSample]) -> str:
        """Captions an image and images a caption that are re-ranked: `256`, or `255:51` where a gallery has no more."""
        captions = min(self._rerank_k, sum(len(sample.captions) for sample in samples))
        images = min(self._rerank_k, len(samples))
        return str(captions) if captions == images else f"{captions}:{images}"
