"""The two stages of retrieval: what is asked of the models, and each image's prediction.

Imported by `evalkit.families.retrieval` inside the method that uses it, so it may import numpy and what needs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np  # noqa: TID253 # see above

from evalkit.errors import DataError
from evalkit.families.retrieval import RetrievalPrediction, RetrievalSample
from evalkit.metrics import eccv  # noqa: TID253 # see above
from evalkit.metrics.ranks import Ranks, fold_ranks, retrieval_ranks  # noqa: TID253 # see above
from evalkit.metrics.reranking import CandidatePairs  # noqa: TID253 # see above
from evalkit.metrics.tiles import IntArray  # noqa: TID253 # see above
from evalkit.metrics.top_lists import TopLists, top_k  # noqa: TID253 # see above
from evalkit.model import Model  # noqa: TID253 # see above
from evalkit.types import Failure, MatchRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evalkit.metrics.tiles import FloatArray
    from evalkit.types import Embeddings

Failures: TypeAlias = dict[int, str]
"""Position of an image -> why it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """What takes part: the images that have not failed, and their captions."""

    images: IntArray
    """(n,): positions in the split, ascending."""
    texts: IntArray
    """(m,): positions among the split's captions, ascending."""
    image_of_text: IntArray
    """(m,): rows of `images`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a stage gives, by rows of `Alive`."""

    ranks: Ranks
    lists: TopLists | None
    """None where they are neither re-ranked nor kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where one image and its captions stand in a stage; by positions, as in `RetrievalPrediction`."""

    i2t: int | None = None
    t2i: tuple[int, ...] = ()
    captions: tuple[int, ...] = ()
    images: tuple[tuple[int, ...], ...] = ()


NOWHERE = Placed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """How the two stages are run."""

    matcher: Model | None
    """None for the first stage alone."""
    rerank_k: int
    """Candidates a query that the matcher scores."""
    folds: int
    """Consecutive parts of the split that are also ranked by themselves; 1 for none."""
    keep_lists: bool
    """Whether predictions hold the lists that ECCV Caption and CxC are computed from."""

    def predict(self, model: Model, samples: Sequence[RetrievalSample], prompt: str) -> tuple[RetrievalPrediction, ...]:
        """Ask, rank, ask the matcher, rank again; one prediction a sample.

        An image that fails at any point is left out of both stages, so that their numbers are over the same images.

        Raises:
            DataError: Every image failed.
        """
        captions = [caption for sample in samples for caption in sample.captions]
        images = model.encode_image([sample.image for sample in samples])
        texts = model.encode_text([prompt.replace("{caption}", caption) for caption in captions])
        failures = _failed(samples, images, texts)
        while True:
            alive = _alive(samples, failures)
            vectors = images.vectors[alive.images], texts.vectors[alive.texts]
            first = self._first(samples, alive, *vectors)
            second, new = self._second(samples, captions, alive, first)
            if not new:
                break
            failures |= new  # and once more without them
        kept = self._kept(samples)
        stages = _placed(alive, first, kept), _placed(alive, second, kept)
        folds = _placed(alive, self._folds(len(samples), alive, *vectors), (0, 0))
        return tuple(
            _prediction(sample, failures.get(position), *(stage.get(position, NOWHERE) for stage in (*stages, folds)))
            for position, sample in enumerate(samples)
        )

    def _first(self, samples: Sequence[RetrievalSample], alive: Alive, images: FloatArray, texts: FloatArray) -> Stage:
        captions, others = self._kept(samples)
        if self.matcher is not None:
            captions, others = max(captions, self.rerank_k), max(others, self.rerank_k)
        return Stage(
            ranks=retrieval_ranks(images, texts, alive.image_of_text),
            lists=top_k(images, texts, texts_per_image=captions, images_per_text=others) if captions else None,
        )

    def _second(
        self, samples: Sequence[RetrievalSample], captions: Sequence[str], alive: Alive, first: Stage
    ) -> tuple[Stage | None, Failures]:
        """The second stage, or the images on which the matcher failed."""
        if self.matcher is None or first.lists is None:
            return None, {}
        pairs = CandidatePairs(first.lists, self.rerank_k)
        requests = [
            MatchRequest(
                images=(samples[image].image,), texts=tuple(captions[text] for text in alive.texts[texts].tolist())
            )
            for image, texts in zip(alive.images.tolist(), pairs.texts_of_images(), strict=True)
        ]
        logits: list[FloatArray] = []
        failures: Failures = {}
        for image, answer in zip(alive.images.tolist(), self.matcher.match(requests), strict=True):
            if isinstance(answer, Failure):
                failures[image] = answer.reason
            else:
                logits.append(answer)
        if failures:
            return None, failures
        reranked = pairs.rerank(logits, alive.image_of_text, first.ranks)
        return Stage(ranks=reranked.ranks, lists=reranked.lists), {}

    def _folds(self, images_in_split: int, alive: Alive, images: FloatArray, texts: FloatArray) -> Stage | None:
        if self.folds == 1:
            return None
        fold_of_image = alive.images * self.folds // images_in_split
        return Stage(ranks=fold_ranks(images, texts, alive.image_of_text, fold_of_image), lists=None)

    def _kept(self, samples: Sequence[RetrievalSample]) -> tuple[int, int]:
        """How many captions an image and images a caption the predictions hold."""
        if not self.keep_lists:
            return 0, 0
        # the captions beyond an image's fifth, which scoring takes out of a list, could all stand at its top
        extra = sum(max(0, len(sample.captions) - eccv.CAPTIONS_EACH) for sample in samples)
        return eccv.TEXTS_PER_IMAGE + extra, eccv.IMAGES_PER_TEXT


def _failed(samples: Sequence[RetrievalSample], images: Embeddings, texts: Embeddings) -> Failures:
    failures = {position: failure.reason for position, failure in images.failures.items()}
    owners = [position for position, sample in enumerate(samples) for _ in sample.captions]
    for text, failure in texts.failures.items():
        failures.setdefault(owners[text], failure.reason)
    return failures


def _alive(samples: Sequence[RetrievalSample], failures: Failures) -> Alive:
    if len(failures) == len(samples):
        first = min(failures)
        raise DataError(
            f"Every image failed; the first, {samples[first].image.name}: {failures[first]}",
            "Check the images and the model's matcher.",
        )
    takes_part = np.array([position not in failures for position in range(len(samples))])
    owners = np.repeat(np.arange(len(samples)), [len(sample.captions) for sample in samples])
    texts = np.flatnonzero(takes_part[owners])
    images = np.flatnonzero(takes_part)
    return Alive(images=images, texts=texts, image_of_text=np.searchsorted(images, owners[texts]))


def _placed(alive: Alive, stage: Stage | None, kept: tuple[int, int]) -> dict[int, Placed]:
    """Position of an image -> its part of a stage, with lists of at most `kept` captions and images."""
    if stage is None:
        return {}
    captions, images, lists = np.empty((0, 0), np.int64), np.empty((0, 0), np.int64), stage.lists
    if lists is not None and kept != (0, 0):
        captions = alive.texts[lists.i2t.indices[:, : kept[0]]]
        images = alive.images[lists.t2i.indices[:, : kept[1]]]
    ends = np.searchsorted(alive.image_of_text, np.arange(len(alive.images) + 1)).tolist()
    return {
        position: Placed(
            i2t=int(stage.ranks.i2t[row]),
            t2i=tuple(stage.ranks.t2i[ends[row] : ends[row + 1]].tolist()),
            captions=tuple(captions[row].tolist()) if captions.size else (),
            images=tuple(tuple(each) for each in images[ends[row] : ends[row + 1]].tolist()),
        )
        for row, position in enumerate(alive.images.tolist())
    }


def _prediction(
    sample: RetrievalSample, failure: str | None, first: Placed, second: Placed, folds: Placed
) -> RetrievalPrediction:
    return RetrievalPrediction(
        sample_id=sample.id,
        failure=failure,
        i2t_rank=first.i2t,
        t2i_ranks=first.t2i,
        top_captions=first.captions,
        top_images=first.images,
        reranked_i2t_rank=second.i2t,
        reranked_t2i_ranks=second.t2i,
        reranked_top_captions=second.captions,
        reranked_top_images=second.images,
        fold_i2t_rank=folds.i2t,
        fold_t2i_ranks=folds.t2i,
    )
