"""Two runs over the same samples are resampled alike, in every family, and a resample is what it says it is.

Each is checked by making a resample by hand: the drawn images' samples as often as they were drawn, scored anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from evalkit.datasets.visdial import DenseAnnotation, DialogRound
from evalkit.families import caption_scores, dialog_scores, question_scores, retrieval_scores, statement_scores
from evalkit.families.captioning import CaptionOptions, CaptionPrediction, CaptionSample
from evalkit.families.dialog import DialogPrediction, DialogSample, RankedRound
from evalkit.families.question_answering import VqaPrediction, VqaSample
from evalkit.families.retrieval import RetrievalPrediction, RetrievalSample
from evalkit.families.statements import StatementPrediction, StatementSample
from evalkit.metrics.bootstrap import RESAMPLES, ClusterBootstrap
from evalkit.metrics.captions import score_captions
from evalkit.types import ImageRef, MetricValue, Preprocessing, Protocol

IMAGES = 24
PROTOCOL = Protocol(
    name="p",
    version=1,
    route="itc",
    prompt="",
    preprocessing=Preprocessing(image="", text=""),
    decoding="",
    tie_rule="",
)


def image(number: int) -> ImageRef:
    return ImageRef(id=str(number), source=b"%d" % number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Samples, the predictions of two models, and how they are scored."""

    samples: Sequence[Any]
    models: Sequence[Sequence[Any]]
    score: Callable[[Sequence[Any], Sequence[Any]], tuple[MetricValue, ...]]


def retrieval() -> Family:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 7, IMAGES).tolist()
    samples = [
        RetrievalSample(id=str(one), cluster=str(one), image=image(one), captions=("c",) * count, caption_ids=())
        for one, count in enumerate(counts)
    ]

    def model() -> list[RetrievalPrediction]:
        return [
            RetrievalPrediction(
                sample_id=sample.id,
                failure=None,
                i2t_rank=int(rng.geometric(0.3)) - 1,
                t2i_ranks=tuple((rng.geometric(0.2, len(sample.captions)) - 1).tolist()),
            )
            for sample in samples
        ]

    def score(drawn: Sequence[Any], predictions: Sequence[Any]) -> tuple[MetricValue, ...]:
        return retrieval_scores.score(drawn, predictions, [PROTOCOL], folds=(1, "folds"), extended=None)

    return Family(samples=samples, models=[model(), model()], score=score)


def captioning() -> Family:
    rng = np.random.default_rng(1)
    words = np.array("a the red blue dog cat bus runs sits on street bed".split())

    def text() -> str:
        return " ".join(rng.choice(words, rng.integers(5, 9)))

    samples = [
        CaptionSample(
            id=str(one),
            cluster=str(one),
            image=image(one),
            references=tuple(text() for _ in range(rng.integers(1, 6))),
            domain=None,
        )
        for one in range(IMAGES)
    ]

    def model() -> list[CaptionPrediction]:
        return [CaptionPrediction(sample_id=one.id, failure=None, caption=text(), finish="stop") for one in samples]

    def score(drawn: Sequence[Any], predictions: Sequence[Any]) -> tuple[MetricValue, ...]:
        return caption_scores.score(drawn, predictions, protocol="p", split="s", options=CaptionOptions())

    return Family(samples=samples, models=[model(), model()], score=score)


def questions() -> Family:
    rng = np.random.default_rng(2)
    answers = np.array(["yes", "no", "2", "red"])
    kinds = ("yes/no", "number", "other")
    samples = [
        VqaSample(
            id=f"{one}-{place}",
            cluster=str(one),
            image=image(one),
            question="q",
            answers=tuple(rng.choice(answers, 10).tolist()),
            # every image has one of each, so that no resample lacks a type
            answer_type=kinds[place % 3],
            question_type="what",
        )
        for one in range(IMAGES)
        for place in range(rng.integers(3, 7))
    ]

    def model() -> list[VqaPrediction]:
        return [
            VqaPrediction(
                sample_id=one.id,
                failure=None,
                answer=str(rng.choice([*answers, ""])),
                finish=rng.choice(["stop", "length"]),
            )
            for one in samples
        ]

    def score(drawn: Sequence[Any], predictions: Sequence[Any]) -> tuple[MetricValue, ...]:
        return question_scores.score(drawn, predictions, protocol="p", split="s", question_types=True)

    return Family(samples=samples, models=[model(), model()], score=score)


def statements() -> Family:
    rng = np.random.default_rng(3)
    samples = [
        StatementSample(
            id=f"{one}-{sentence}-{pair}",
            cluster=str(one),
            images=(image(one), image(one)),
            statement="s",
            label=str(rng.choice(["True", "False"])),
            group=f"{one}-{sentence}",
            subset=("balanced", "unbalanced")[sentence],
        )
        for one in range(IMAGES)
        for sentence in range(2)
        for pair in range(rng.integers(1, 5))
    ]

    def model() -> list[StatementPrediction]:
        return [
            StatementPrediction(
                sample_id=one.id, failure=None, answer=one.label if rng.random() < 0.8 else "", finish="stop", text="t"
            )
            for one in samples
        ]

    def score(drawn: Sequence[Any], predictions: Sequence[Any]) -> tuple[MetricValue, ...]:
        return statement_scores.score(drawn, predictions, protocol="p", split="s")

    return Family(samples=samples, models=[model(), model()], score=score)


def dialogs() -> Family:
    rng = np.random.default_rng(4)
    options = tuple("abcdefgh")
    samples = [
        DialogSample(
            id=str(one),
            cluster=str(one),
            image=image(one),
            caption="c",
            rounds=tuple(
                DialogRound(question="q", answer="a", options=options, gt_index=int(rng.integers(8)))
                for _ in range(rng.integers(2, 5))
            ),
            dense=DenseAnnotation(round_id=1, relevance=(*tuple(rng.choice([0.0, 0.5, 1.0], 7).tolist()), 1.0)),
        )
        for one in range(IMAGES)
    ]

    def model() -> list[DialogPrediction]:
        return [
            DialogPrediction(
                sample_id=one.id,
                failure=None,
                rounds=tuple(
                    RankedRound(round_id=place + 1, answer="a", rank=None, scores=tuple(rng.random(8).tolist()))
                    for place in range(len(one.rounds))
                ),
            )
            for one in samples
        ]

    def score(drawn: Sequence[Any], predictions: Sequence[Any]) -> tuple[MetricValue, ...]:
        return dialog_scores.score(drawn, predictions, protocol="p", split="s")

    return Family(samples=samples, models=[model(), model()], score=score)


FAMILIES = {one.__name__: one for one in (retrieval, captioning, questions, statements, dialogs)}
OWN_IDF = ("cider",)
"""What is not the number of the resample as a set of its own: each image keeps the score it has in the whole set."""


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]()


def drawn_by_hand(family: Family, predictions: Sequence[Any], row: int) -> tuple[list[Any], list[Any]]:
    """The samples of a resample, each copy with names of its own."""
    times = ClusterBootstrap(IMAGES).times_drawn[row].astype(int)
    samples, answers = [], []
    for number, count in enumerate(times.tolist()):
        for copy in range(count):
            for sample, answer in zip(family.samples, predictions, strict=True):
                if sample.cluster != str(number):
                    continue
                names = {"id": f"{sample.id}/{copy}", "cluster": f"{sample.cluster}/{copy}"}
                if isinstance(sample, StatementSample):
                    names["group"] = f"{sample.group}/{copy}"
                samples.append(replace(sample, **names))
                answers.append(replace(answer, sample_id=names["id"]))
    return samples, answers


def test_a_resample_is_the_number_of_the_drawn_samples(family: Family) -> None:
    """For both models by the same draws, which is what makes the difference of two runs a paired one."""
    for predictions in family.models:
        values = family.score(family.samples, predictions)
        assert len(values) >= 2
        for row in (0, 1, 500, RESAMPLES - 1):
            by_hand = {one.metric: one.value for one in family.score(*drawn_by_hand(family, predictions, row))}
            for one in values:
                if one.metric not in OWN_IDF:
                    assert one.resampled[row] == pytest.approx(by_hand[one.metric], rel=1e-7, abs=1e-7), one.metric


def test_cider_keeps_each_images_score() -> None:
    family = captioning()
    for predictions in family.models:
        (cider,) = (one for one in family.score(family.samples, predictions) if one.metric == "cider")
        scores = score_captions(
            {one.id: one.references for one in family.samples},
            {one.sample_id: one.caption for one in predictions},
            "native",
            metrics=("cider",),
        )
        times = ClusterBootstrap(IMAGES).times_drawn
        by_hand = 100 * times @ scores.metrics["cider"].per_item / IMAGES
        np.testing.assert_allclose(cider.resampled, by_hand, rtol=1e-7)


def test_the_interval_is_of_the_resamples(family: Family) -> None:
    for one in family.score(family.samples, family.models[0]):
        assert len(one.resampled) == RESAMPLES
        assert one.clusters == IMAGES
        low, high = np.percentile(one.resampled, [2.5, 97.5])
        assert (one.low, one.high) == pytest.approx((low, high), abs=1e-8), one.metric


def test_the_same_predictions_have_the_same_resamples(family: Family) -> None:
    once, again = (family.score(family.samples, family.models[0]) for _ in range(2))
    assert [one.resampled for one in once] == [one.resampled for one in again]
