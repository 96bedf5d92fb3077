"""Retrieval within and across modalities, and how similarity agrees with people's ratings of pairs.

Four modes, by what is searched with and what is found: `i2t`, `t2i`, `i2i`, `t2t`; and three correlations with ratings
of pairs: `sits` (image and text), `sis` (two images), `sts` (two texts). This is what Crisscrossed Captions measures
(Parekh et al., EACL 2021, https://arxiv.org/abs/2004.15020). A model takes part in what it can embed:

- `all`: images and texts;
- `image`: images alone, `i2i` and `sis`;
- `text`: texts alone, `t2t` and `sts`; no image is read, nor need there be any.

What is right for a query, where there are ratings: in `i2t` and `t2i` the pairs rated 3 or more; in `i2i` the image
pairs rated 3 or more, in either order; in `t2t` the captions of the same image, and the caption pairs rated 3 or more,
in either order. Without ratings an image goes with its own captions, and no image with another. A query without a right
answer is not asked. In `i2i` and `t2t` the query is no part of its own gallery.

Texts that are searched with are embedded by the model's `encode_query`, where it has one. Between two images with
several vectors each (BLIP-2) similarity is the largest cosine over all pairs of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from evalkit.errors import CapabilityError, ConfigError, DataError
from evalkit.families import naming
from evalkit.families.crossmodal_pairs import Members
from evalkit.families.generation import first_possible
from evalkit.types import ImageRef, Prediction, Protocol, Route, Sample, TaskCard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from evalkit.datasets.cxc import RatedImages, RatedPair
    from evalkit.model import Model
    from evalkit.task import ModelProfile
    from evalkit.types import Assistant, MetricValue, Preprocessing, SampleViews

ALL = Route(name="all", needs=("encode_image", "encode_text"))
IMAGE = Route(name="image", needs=("encode_image",), part="i2i")
TEXT = Route(name="text", needs=("encode_text",), part="t2t")
ROUTES = (ALL, IMAGE, TEXT)
MODES = {ALL.name: ("i2t", "t2i", "i2i", "t2t"), IMAGE.name: ("i2i",), TEXT.name: ("t2t",)}
"""The modes of retrieval that a route looks at, whether or not there is anything to measure."""
TIE_RULE = (
    "pessimistic: a wrong item with an equal score counts against; in correlations equal scores share their mean rank"
)

Rated: TypeAlias = tuple[tuple[str, float], ...]
"""What an item was rated with (an image's file name or a caption's id), and the rating, 0 to 5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossmodalSample(Sample):
    """One image with its captions, and the ratings of pairs in which it or a caption of it stands first."""

    image: ImageRef | None
    """None where only texts are embedded."""
    name: str = field(metadata={"fingerprint": False})
    """The image's file name, which ratings call it by."""
    captions: tuple[str, ...]
    caption_ids: tuple[str, ...] = field(metadata={"fingerprint": False})
    rated_captions: Rated
    """Any image's captions."""
    rated_images: Rated
    rated_texts: tuple[Rated, ...]
    """One a caption: other captions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossmodalOptions:
    """What is searched, and what counts as right.

    Raises:
        ConfigError: A value that cannot be used.
    """

    modes: str = "auto"
    """`auto`: what the model can embed; `all`, `image`, `text`: that, required."""
    ratings: str = "cxc"
    """`cxc`: the public ratings of COCO's images and captions; `none`: an image goes with its own captions, which is
    all that is known of one's own photos."""
    split: str = ""
    """One of the task's splits; empty for its first."""
    prompt: str = "{caption}"
    """Template of every embedded text: `a photo of {caption}`."""

    def __post_init__(self) -> None:
        known = {"modes": ("auto", *(route.name for route in ROUTES)), "ratings": ("cxc", "none")}
        for name, values in known.items():
            if (value := getattr(self, name)) not in values:
                raise ConfigError(f"{name}={value!r} is not known.", f"Give one of: {', '.join(values)}.")
        if "{caption}" not in self.prompt:
            raise ConfigError(f"prompt={self.prompt!r} has no place for the caption.", "Write {caption} where it goes.")


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossmodalPrediction(Prediction):
    """Where the right answers to one image and its captions rank, and how alike the rated pairs are to the model.

    For each right answer of a query: how many wrong ones score at least as much, ascending. For each rated pair of the
    sample, in order, both of whose items were embedded: their cosine. Empty where the route does not measure it, and
    where nothing is right or rated. A failed image and its captions take no part, in nobody's gallery.
    """

    i2t: tuple[int, ...] = ()
    i2i: tuple[int, ...] = ()
    t2i: tuple[tuple[int, ...], ...] = ()
    """One a caption."""
    t2t: tuple[tuple[int, ...], ...] = ()
    sits: tuple[float, ...] = ()
    sis: tuple[float, ...] = ()
    sts: tuple[float, ...] = ()
    """Those of the first caption, of the second, and so on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedSplit:
    """A split's official size; with fewer or more of anything, the protocol's name says that it is not whole."""

    protocol: str
    images: int
    captions: int
    pairs: int
    """Rated pairs of all three kinds."""


class CrossmodalTask(ABC):
    """Retrieval in every mode; a subclass names its data."""

    card: ClassVar[TaskCard]
    options_type: ClassVar[type[CrossmodalOptions]] = CrossmodalOptions
    prediction_type: ClassVar[type[CrossmodalPrediction]] = CrossmodalPrediction
    splits: ClassVar[Mapping[str, RatedSplit]]
    """By name; the first is the default."""

    def __init__(self, options: CrossmodalOptions) -> None:
        self.options = options
        self.split = options.split or next(iter(self.splits))
        if self.split not in self.splits:
            raise ConfigError(
                f"{self.card.name} has no split {self.split!r}.", f"Give -o split=, one of: {', '.join(self.splits)}."
            )
        self._route: Route | None = None
        """None before `route` is asked for: a stored run is scored without it, and without images."""

    @abstractmethod
    def rated_split(self, data_dir: Path, *, need_images: bool) -> RatedImages:
        """Read the whole split, official order.

        Args:
            data_dir: The data root.
            need_images: Whether it is an error that the images' folder is not there.

        Raises:
            DataError: Missing or malformed data.
        """

    def samples(self, data_dir: Path, limit: int | None) -> tuple[CrossmodalSample, ...]:
        """See `evalkit.task.Task`. On the route `text` samples have no image, so that none need be there."""
        unread = self._route == TEXT
        data = self.rated_split(data_dir, need_images=self._route is not None and not unread)
        ratings = data.ratings
        captions, images, texts = (
            _by_item(pairs)
            for pairs in (
                # an image is the query: the pair's second, though it stands second in the file
                [(pair.second, pair.first, pair) for pair in ratings.image_text] if ratings else [],
                [(pair.first, pair.second, pair) for pair in ratings.image_image] if ratings else [],
                [(pair.first, pair.second, pair) for pair in ratings.text_text] if ratings else [],
            )
        )
        rated = data.captions_are_rated
        samples = []
        for each in data.images[:limit]:
            name = each.image.name.rpartition("/")[2]
            samples.append(
                CrossmodalSample(
                    id=each.id,
                    cluster=each.id,
                    image=None if unread else each.image,
                    name=name,
                    captions=each.captions,
                    caption_ids=each.caption_ids,
                    rated_captions=captions.get(name, ()) if rated else (),
                    rated_images=images.get(name, ()),
                    rated_texts=tuple(texts.get(caption, ()) if rated else () for caption in each.caption_ids),
                )
            )
        if not samples:
            raise DataError(f"{self.card.name}: no image of the split is left.", "Give a --limit of 1 or more.")
        if self._route is not None and not _modes_with_an_answer(samples, self._route):
            raise DataError(
                f"None of {len(samples):,} images and their captions has a right answer among the others, so there is"
                " nothing to measure.",
                "Use more of the data, or a model that embeds images and texts.",
            )
        return tuple(samples)

    def route(self, model: ModelProfile) -> Route:
        """See `evalkit.task.Task`.

        Raises:
            CapabilityError: There is none; or there are only images, of which none goes with another without ratings.
        """
        wanted = [route for route in ROUTES if self.options.modes in ("auto", route.name)]
        route = first_possible(wanted, model, self.card.name)
        if route == IMAGE and self.options.ratings == "none":
            raise CapabilityError(
                f"{self.card.name} without ratings knows which captions are an image's, and of no image that it goes"
                f" with another: with {model.card.name}'s embeddings of images alone there is nothing to measure.",
                "Choose a model that embeds texts too, with -o modes=auto; or leave out -o ratings=none.",
            )
        self._route = route
        return route

    def assistants(self) -> tuple[Assistant, ...]:
        """See `evalkit.task.Task`."""
        return ()

    def protocols(
        self, samples: Sequence[CrossmodalSample], route: Route, preprocessing: Preprocessing
    ) -> tuple[Protocol, ...]:
        """See `evalkit.task.Task`."""
        return (
            Protocol(
                name=self.split_name(samples) + _in_name(_modes_with_an_answer(samples, route)),
                version=self.card.version,
                route=route.name,
                prompt=self.options.prompt if "encode_text" in route.needs else "",
                preprocessing=preprocessing,
                decoding="",
                tie_rule=TIE_RULE,
            ),
        )

    def predict(
        self, model: Model, samples: Sequence[CrossmodalSample], route: Route, assistants: Mapping[str, Model]
    ) -> tuple[CrossmodalPrediction, ...]:
        """See `evalkit.task.Task`.

        Raises:
            DataError: Every image failed.
        """
        from evalkit.families.crossmodal_search import search  # noqa: PLC0415 # it is not needed to list the task

        return search(model, samples, route.needs, self.options.prompt)

    def score(
        self,
        samples: Sequence[CrossmodalSample],
        predictions: Sequence[CrossmodalPrediction],
        protocols: Sequence[Protocol],
    ) -> tuple[MetricValue, ...]:
        """See `evalkit.task.Task`.

        Raises:
            DataError: Every image failed, or no query has a right answer.
        """
        from evalkit.families.crossmodal_scores import score  # noqa: PLC0415 # it is not needed to list the task

        return score(samples, predictions, protocols[-1], self.split)

    def views(
        self,
        samples: Sequence[CrossmodalSample],
        predictions: Sequence[CrossmodalPrediction],
        protocols: Sequence[Protocol],
    ) -> SampleViews:
        """See `evalkit.task.ShowsSamples`."""
        from evalkit.families.crossmodal_views import views  # noqa: PLC0415 # it is not needed to list the task

        return views(samples, predictions, route=protocols[-1].route)

    def notes(
        self, samples: Sequence[CrossmodalSample], predictions: Sequence[CrossmodalPrediction]
    ) -> tuple[str, ...]:
        """What was rated and is left out, and which numbers are absent for it."""
        from evalkit.families.crossmodal_scores import notes  # noqa: PLC0415 # it is not needed to list the task

        found = list(notes(samples, predictions))
        if self.options.ratings == "none":
            found.insert(
                0,
                "No ratings were used: an image goes with its own captions, no image with another, and nothing is"
                " compared with people's judgement.",
            )
        elif not any(sample.rated_captions for sample in samples):
            found.insert(
                0,
                "The captions are not those that CxC rated (another image has their ids, or none has): an image goes"
                " with its own captions, and of the correlations there is sis alone.",
            )
        return tuple(found)

    def split_name(self, samples: Sequence[CrossmodalSample]) -> str:
        """The protocol's name: a part of the split, or other captions, never carry the whole one's."""
        captions = [caption for sample in samples for caption in sample.captions]
        if self.options.ratings == "none":
            return f"karpathy-layout-{len(samples)}-{naming.texts_digest(captions)}"
        split = self.splits[self.split]
        pairs = sum(
            len(sample.rated_captions) + len(sample.rated_images) + sum(map(len, sample.rated_texts))
            for sample in samples
        )
        whole = (len(samples), len(captions), pairs) == (split.images, split.captions, split.pairs)
        name = naming.split_name(split.protocol, len(samples), whole=whole)
        return name if whole or any(sample.rated_captions for sample in samples) else f"{name}-own-captions"


def _modes_with_an_answer(samples: Sequence[CrossmodalSample], route: Route) -> tuple[str, ...]:
    """The modes of a route in which a query has a right answer: what `mean_recall` is over."""
    members = Members(samples)
    return tuple(mode for mode in MODES[route.name] if any(members.positives(mode)))


def _in_name(modes: Sequence[str]) -> str:
    """What a protocol's name says of the modes: means over others than all four are not comparable with those."""
    return "" if modes == MODES[ALL.name] else "".join(f"-{mode}" for mode in modes)


def _by_item(pairs: Sequence[tuple[str, str, RatedPair]]) -> dict[str, Rated]:
    grouped: dict[str, list[tuple[str, float]]] = {}
    for query, item, pair in pairs:
        grouped.setdefault(query, []).append((item, pair.rating))
    return {query: tuple(items) for query, items in grouped.items()}
