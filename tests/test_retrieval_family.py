"""The flow of a retrieval task, driven by a model that is a table of numbers."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from evalkit.datasets.captioned import CaptionedImage
from evalkit.errors import CapabilityError, ConfigError, DataError
from evalkit.families.retrieval import (
    ROUTES,
    RetrievalOptions,
    RetrievalPrediction,
    RetrievalSample,
    RetrievalTask,
)
from evalkit.metrics import eccv
from evalkit.metrics.ranks import retrieval_ranks
from evalkit.task import ModelProfile
from evalkit.types import (
    Capability,
    DataSet,
    Embeddings,
    Failure,
    ImageRef,
    MatchRequest,
    MetricValue,
    ModelCard,
    Preprocessing,
    Route,
    TaskCard,
    Variant,
)

PREPROCESSING = Preprocessing(image="squash", text="raw")
ITM, ITC = ROUTES
ENCODERS: tuple[Capability, ...] = ("encode_image", "encode_text")


def profile(capabilities: Sequence[Capability]) -> ModelProfile:
    """A model that can do this and nothing else."""
    only = Variant(name="only", checkpoints={})
    card = ModelCard(name="table", version=1, summary="", paper="", licence="", variants=(only,))
    return ModelProfile(card=card, variant=only, capabilities=tuple(capabilities))


class TableModel:
    """Answers with given vectors and logits, and counts what it is asked."""

    def __init__(
        self,
        images: Mapping[str, np.ndarray],
        texts: Mapping[str, np.ndarray],
        logits: Mapping[tuple[str, str], float] | None = None,
        *,
        unreadable: Sequence[str] = (),
        unmatchable: Sequence[str] = (),
    ) -> None:
        self.images, self.texts, self.logits = images, texts, logits
        self.unreadable, self.unmatchable = unreadable, unmatchable
        self.capabilities: tuple[Capability, ...] = ENCODERS if logits is None else (*ENCODERS, "match")
        self.matched: Counter[tuple[str, str]] = Counter()
        self.requests: list[MatchRequest[ImageRef]] = []
        self.encoded: list[str] = []

    def encode_image(self, images: Sequence[ImageRef]) -> Embeddings:
        vectors = np.stack([self.images[image.id] for image in images])
        failed = {row: image for row, image in enumerate(images) if image.id in self.unreadable}
        vectors[list(failed)] = 0
        failures = {row: Failure(sample=image.name, reason=f"{image.name} is damaged") for row, image in failed.items()}
        return Embeddings(vectors=vectors, failures=failures)

    def encode_text(self, texts: Sequence[str]) -> Embeddings:
        self.encoded += texts
        return Embeddings(vectors=np.stack([self.texts[text] for text in texts]), failures={})

    def match(self, requests: Sequence[MatchRequest[ImageRef]]) -> list[np.ndarray | Failure]:
        assert self.logits is not None
        answers: list[np.ndarray | Failure] = []
        for request in requests:
            (image,) = request.images
            self.requests.append(request)
            self.matched.update((image.id, text) for text in request.texts)
            if image.id in self.unmatchable:
                answers.append(Failure(sample=image.name, reason=f"{image.name} is too large"))
            else:
                answers.append(np.array([self.logits[image.id, text] for text in request.texts], np.float32))
        return answers


class SmallRetrieval(RetrievalTask):
    card: ClassVar[TaskCard] = TaskCard(
        name="small_retrieval",
        version=3,
        summary="",
        paper="",
        purpose="retrieval",
        protocol="small-12",
        routes=ROUTES,
        main_metric="mean_recall",
        dataset=DataSet(name="", homepage="", licence="", files=()),
    )
    expected_images = 12
    expected_captions = 30
    default_rerank_k = 4
    folds = 3
    fold_protocol_name = "small-4-3-fold"

    def captioned_images(self, data_dir: Path) -> tuple[CaptionedImage, ...]:
        return tuple(
            CaptionedImage(
                id=str(image),
                image=ImageRef(id=str(image), source=data_dir / f"{image}.jpg"),
                captions=tuple(f"caption {image}.{number}" for number in range(1 + image % 4)),
                caption_ids=tuple(f"{image}#{number}" for number in range(1 + image % 4)),
            )
            for image in range(12)
        )[: self.expected_images]


class WholeCoco(SmallRetrieval):
    card = replace(SmallRetrieval.card, protocol="coco-karpathy-5k")
    expected_images = 5000
    expected_captions = 25_010
    coco_measures = True
    folds = 5
    fold_protocol_name = "coco-karpathy-1k-5-fold"
    extra_captions = 10
    """Images with a sixth caption, at the front."""

    def captioned_images(self, data_dir: Path) -> tuple[CaptionedImage, ...]:
        folder = eccv.data_folder()
        if folder is None:
            pytest.skip("the extra eccv-caption is not installed")
        ids = eccv.read_extended_coco(folder).image_ids
        return tuple(
            CaptionedImage(
                id=str(image),
                image=ImageRef(id=str(image), source=data_dir / f"{image}.jpg"),
                captions=tuple(f"{image} {number}" for number in range(5 + (position < self.extra_captions))),
                caption_ids=tuple(f"{image}#{number}" for number in range(5 + (position < self.extra_captions))),
            )
            for position, image in enumerate(ids)
        )


def table_for(samples: Sequence[RetrievalSample], *, matcher: bool = True, size: int = 6, **failing: Any) -> TableModel:
    rng = np.random.default_rng(0)
    images = {sample.id: rng.standard_normal(size).astype(np.float32) for sample in samples}
    texts = {
        caption: (images[sample.id] + rng.standard_normal(size)).astype(np.float32)
        for sample in samples
        for caption in sample.captions
    }
    logits = None
    if matcher:
        logits = {(image, text): float(rng.integers(-2, 3)) for image in images for text in texts}
    return TableModel(images, texts, logits, **failing)


def run(
    task: RetrievalTask, model: TableModel, samples: Sequence[RetrievalSample], **assistants: TableModel
) -> tuple[tuple[RetrievalPrediction, ...], tuple[MetricValue, ...], list[str]]:
    route = task.route(profile(model.capabilities))
    predictions = task.predict(model, samples, route, assistants)  # type: ignore[arg-type] # a stand-in for `Model`
    answered = [one for one, got in zip(samples, predictions, strict=True) if got.failure is None]
    protocols = task.protocols(answered, route, PREPROCESSING)
    return predictions, task.score(samples, predictions, protocols), [protocol.id for protocol in protocols]


def expected_second_stage(
    model: TableModel, matcher: TableModel, samples: Sequence[RetrievalSample], k: int
) -> tuple[list[int], list[list[int]]]:
    """Image by image and caption by caption, as the official code does it, with ties against."""
    assert matcher.logits is not None
    names = [sample.id for sample in samples]
    texts = [caption for sample in samples for caption in sample.captions]
    owner = {caption: sample.id for sample in samples for caption in sample.captions}
    cosine = {(i, t): np.float32(model.images[i].astype(np.float64) @ model.texts[t]) for i in names for t in texts}

    def rank(candidates: list[tuple[str, str]], right: set[tuple[str, str]]) -> int:
        ranked = sorted(candidates, key=lambda pair: -cosine[pair])
        fused = {pair: np.float32(matcher.logits[pair]) + cosine[pair] for pair in ranked[:k]}  # type: ignore[index] # asserted above
        if own := right & fused.keys():
            best = max(fused[pair] for pair in own)
            return sum(score >= best for pair, score in fused.items() if pair not in right)
        best = max(cosine[pair] for pair in right)
        return sum(cosine[pair] >= best for pair in ranked if pair not in right)

    i2t = [rank([(i, t) for t in texts], {(i, t) for t in texts if owner[t] == i}) for i in names]
    t2i = [[rank([(i, t) for i in names], {(sample.id, t)}) for t in sample.captions] for sample in samples]
    return i2t, t2i


# -- the flow ----------------------------------------------------------------------------------------------------------
def test_one_run_gives_both_stages_each_under_its_own_protocol(tmp_path: Path) -> None:
    task = SmallRetrieval(RetrievalOptions())
    samples = task.samples(tmp_path, None)
    model = table_for(samples)
    predictions, values, protocols = run(task, model, samples)
    assert protocols == ["small-4-3-fold/itc", "small-12/itc", "small-12/itc+itm@4"]

    images = np.stack([model.images[sample.id] for sample in samples])
    texts = np.stack([model.texts[caption] for sample in samples for caption in sample.captions])
    owners = np.repeat(np.arange(12), [len(sample.captions) for sample in samples])
    first = retrieval_ranks(images, texts, owners)
    assert [prediction.i2t_rank for prediction in predictions] == first.i2t.tolist()
    assert [rank for prediction in predictions for rank in prediction.t2i_ranks] == first.t2i.tolist()
    i2t, t2i = expected_second_stage(model, model, samples, 4)
    assert [prediction.reranked_i2t_rank for prediction in predictions] == i2t
    assert [list(prediction.reranked_t2i_ranks) for prediction in predictions] == t2i
    assert i2t != first.i2t.tolist()

    numbers = {(value.protocol, value.split, value.metric): value for value in values}
    assert len(numbers) == len(values) == 11 + 7 + 11
    for protocol, ranks in (("small-12/itc", first.i2t), ("small-12/itc+itm@4", np.array(i2t))):
        assert numbers[protocol, "test", "i2t_r@1"].value == pytest.approx(100 * (ranks < 1).mean())
        assert numbers[protocol, "test", "i2t_mean_rank"].value == pytest.approx(ranks.mean() + 1)
        assert numbers[protocol, "test", "mean_recall"].n == 12 + 30
    assert {split for _, split, _ in numbers} == {"test"}
    assert sum(protocol == "small-4-3-fold/itc" for protocol, _, _ in numbers) == 7


def test_each_pair_of_both_directions_is_matched_once_and_each_image_asked_about_once(tmp_path: Path) -> None:
    task = SmallRetrieval(RetrievalOptions())
    samples = task.samples(tmp_path, None)
    model = table_for(samples)
    run(task, model, samples)
    names, texts = list(model.images), list(model.texts)
    scores = np.array([[model.images[i].astype(np.float64) @ model.texts[t] for t in texts] for i in names])
    i2t = {(names[i], texts[t]) for i, row in enumerate(scores) for t in np.argsort(-row)[:4]}
    t2i = {(names[i], texts[t]) for t, row in enumerate(scores.T) for i in np.argsort(-row)[:4]}
    assert set(model.matched) == i2t | t2i
    assert set(model.matched.values()) == {1}
    assert len(i2t & t2i) > 0
    assert len(model.requests) == 12


def test_the_order_of_the_samples_changes_no_rank(tmp_path: Path) -> None:
    task = SmallRetrieval(RetrievalOptions())
    samples = task.samples(tmp_path, None)
    model = table_for(samples)
    ranks = {
        each.sample_id: (each.i2t_rank, each.t2i_ranks, each.reranked_i2t_rank, each.reranked_t2i_ranks)
        for each in run(task, model, samples)[0]
    }
    for each in run(task, model, samples[::-1])[0]:
        assert ranks[each.sample_id] == (
            each.i2t_rank,
            each.t2i_ranks,
            each.reranked_i2t_rank,
            each.reranked_t2i_ranks,
        )


def test_fold_ranks_are_within_consecutive_folds_of_the_whole_split(tmp_path: Path) -> None:
    task = SmallRetrieval(RetrievalOptions(rerank_with="none"))
    samples = task.samples(tmp_path, None)
    model = table_for(samples)
    folded = run(task, model, samples)[0]
    for first in (0, 4, 8):
        part = samples[first : first + 4]
        alone = run(task, model, part)[0]
        assert [each.fold_i2t_rank for each in folded[first : first + 4]] == [each.i2t_rank for each in alone]
        assert [each.fold_t2i_ranks for each in folded[first : first + 4]] == [each.t2i_ranks for each in alone]
        assert {each.fold_i2t_rank for each in alone} == {None}


def test_the_prompt_is_for_the_embedding_and_the_matcher_gets_the_bare_caption(tmp_path: Path) -> None:
    task = SmallRetrieval(RetrievalOptions(prompt="a {photo} of {caption}"))
    samples = task.samples(tmp_path, 3)
    model = table_for(samples)
    model.texts = {f"a {{photo}} of {text}": vector for text, vector in model.texts.items()}
    run(task, model, samples)
    captions = [caption for sample in samples for caption in sample.captions]
    assert model.encoded == [f"a {{photo}} of {caption}" for caption in captions]
    assert {text for _, text in model.matched} == set(captions)
    itc, itm = task.protocols(samples, ITM, PREPROCESSING)
    assert itc.prompt == itm.prompt == "a {photo} of {caption}"


def test_the_matcher_of_another_model(tmp_path: Path) -> None:
    task = SmallRetrieval(RetrievalOptions(rerank_with="blip", rerank_k=3))
    samples = task.samples(tmp_path, None)
    model, blip = table_for(samples), table_for(samples)
    blip.images = blip.texts = {}
    assert [(each.name, each.role) for each in task.assistants()] == [("blip", "matcher")]
    predictions, _, protocols = run(task, model, samples, blip=blip)
    assert protocols == ["small-4-3-fold/itc", "small-12/itc", "small-12/itc+blip@3"]
    route = replace(task.route(profile(model.capabilities)), assistants=(("matcher blip", "weights 1"),))
    *_, first, second = task.protocols(samples, route, PREPROCESSING)
    assert ("matcher blip", "weights 1") in second.preprocessing.details
    assert first.preprocessing == PREPROCESSING
    assert not model.matched
    assert [each.reranked_i2t_rank for each in predictions] == expected_second_stage(model, blip, samples, 3)[0]
    with pytest.raises(CapabilityError, match="'blip' has no matcher"):
        run(task, model, samples, blip=table_for(samples, matcher=False))


def test_one_image_alone(tmp_path: Path) -> None:
    task = SmallRetrieval(RetrievalOptions())
    samples = task.samples(tmp_path, 1)
    predictions, values, protocols = run(task, table_for(samples), samples)
    assert protocols == ["small-12-subset-1/itc", "small-12-subset-1/itc+itm@1"]
    assert (predictions[0].i2t_rank, predictions[0].t2i_ranks) == (0, (0,))
    assert (predictions[0].reranked_i2t_rank, predictions[0].reranked_t2i_ranks) == (0, (0,))
    assert {(value.value, value.low, value.high) for value in values if value.unit == "%"} == {(100, 100, 100)}
    assert {(value.value, value.low, value.high) for value in values if value.unit == "rank"} == {(1, 1, 1)}


# -- failures ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["unreadable", "unmatchable"])
def test_a_failed_image_is_out_of_queries_and_gallery_and_says_why(tmp_path: Path, kind: str) -> None:
    task = SmallRetrieval(RetrievalOptions())
    samples = task.samples(tmp_path, None)
    predictions, values, protocols = run(task, table_for(samples, **{kind: ["3", "7"]}), samples)
    # what is left is not the whole split, and is not called so
    assert protocols == ["small-12-subset-10/itc", "small-12-subset-10/itc+itm@4"]
    for position in (3, 7):
        failed = predictions[position]
        assert failed.failure is not None
        assert f"{position}.jpg" in failed.failure
        assert failed == RetrievalPrediction(sample_id=str(position), failure=failed.failure)
    rest = [sample for sample in samples if sample.id not in ("3", "7")]
    without = SmallRetrieval(RetrievalOptions())
    expected = run(without, table_for(samples), rest)[0]
    kept = [each for each in predictions if each.failure is None]
    for name in ("i2t_rank", "t2i_ranks", "reranked_i2t_rank", "reranked_t2i_ranks"):
        assert [getattr(each, name) for each in kept] == [getattr(each, name) for each in expected]
    assert {value.n for value in values if value.metric == "i2t_r@1"} == {10}
    folds = [each.fold_i2t_rank for each in kept]
    assert None not in folds


def test_when_every_image_fails_the_first_reason_is_told(tmp_path: Path) -> None:
    task = SmallRetrieval(RetrievalOptions())
    samples = task.samples(tmp_path, 2)
    with pytest.raises(DataError, match=r"0\.jpg is damaged"):
        run(task, table_for(samples, unreadable=["0", "1"]), samples)
    with pytest.raises(DataError, match=r"0\.jpg is too large"):
        run(task, table_for(samples, unmatchable=["0", "1"]), samples)
    failed = [RetrievalPrediction(sample_id=sample.id, failure="gone") for sample in samples]
    with pytest.raises(DataError, match="nothing to score"):
        task.score(samples, failed, task.protocols(samples, ITC, PREPROCESSING))


# -- routes, options, protocols ----------------------------------------------------------------------------------------
def test_routes(tmp_path: Path) -> None:
    both: tuple[Capability, ...] = (*ENCODERS, "match")
    assert SmallRetrieval(RetrievalOptions()).route(profile(both)) == ITM
    assert SmallRetrieval(RetrievalOptions()).route(profile(ENCODERS)) == ITC
    assert SmallRetrieval(RetrievalOptions(rerank_with="none")).route(profile(both)) == ITC
    assert SmallRetrieval(RetrievalOptions(rerank_with="itm")).route(profile(both)) == ITM
    with_blip = SmallRetrieval(RetrievalOptions(rerank_with="blip")).route(profile(both))
    assert with_blip == Route(name="itc+blip", needs=ENCODERS)
    for kind in ("auto", "itm", "none"):
        assert SmallRetrieval(RetrievalOptions(rerank_with=kind)).assistants() == ()


@pytest.mark.parametrize(
    ("rerank_with", "capabilities", "message"),
    [
        ("itm", ENCODERS, "small_retrieval needs match, .* Use --rerank-with none"),
        ("auto", ("generate",), "needs encode_image and encode_text"),
        ("none", ("encode_text",), "needs encode_image, "),
        ("blip", ("encode_image",), "needs encode_text, "),
    ],
)
def test_a_model_that_cannot_is_refused(rerank_with: str, capabilities: tuple[Capability, ...], message: str) -> None:
    with pytest.raises(CapabilityError, match=message):
        SmallRetrieval(RetrievalOptions(rerank_with=rerank_with)).route(profile(capabilities))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": "a photo"}, "no place for the caption"),
        ({"rerank_k": -1}, "rerank_k=-1 is below 0"),
        ({"rerank_with": ""}, "rerank_with is empty"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RetrievalOptions(**options)


def test_protocols_say_what_was_measured(tmp_path: Path) -> None:
    task = SmallRetrieval(RetrievalOptions(rerank_k=20))
    whole = task.samples(tmp_path, None)
    _, itc, itm = task.protocols(whole, ITM, PREPROCESSING)
    assert (itc.id, itm.id) == ("small-12/itc", "small-12/itc+itm@20:12")  # 30 captions, 12 images
    assert itc.version == 3
    assert itc.preprocessing == PREPROCESSING
    assert itc.tie_rule.startswith("pessimistic")
    assert [each.id for each in task.protocols(whole, ITC, PREPROCESSING)] == ["small-4-3-fold/itc", "small-12/itc"]
    part = task.samples(tmp_path, 5)
    assert [each.id for each in task.protocols(part, ITM, PREPROCESSING)] == [
        "small-12-subset-5/itc",
        "small-12-subset-5/itc+itm@11:5",
    ]
    wide = SmallRetrieval(RetrievalOptions(rerank_k=1000))
    assert wide.protocols(part, ITM, PREPROCESSING)[1].route == "itc+itm@11:5"
    assert SmallRetrieval(RetrievalOptions()).protocols(whole, ITM, PREPROCESSING)[-1].route == "itc+itm@4"


def test_reranking_everything_gives_what_its_protocol_says(tmp_path: Path) -> None:
    task = SmallRetrieval(RetrievalOptions(rerank_k=1000))
    samples = task.samples(tmp_path, None)
    model = table_for(samples)
    predictions, _, protocols = run(task, model, samples)
    assert protocols[-1] == "small-12/itc+itm@30:12"
    assert len(model.matched) == 12 * 30
    assert [each.reranked_i2t_rank for each in predictions] == expected_second_stage(model, model, samples, 1000)[0]


def test_samples_come_from_the_front_and_none_is_an_error(tmp_path: Path) -> None:
    task = SmallRetrieval(RetrievalOptions())
    samples = task.samples(tmp_path, 2)
    assert [(sample.id, sample.cluster) for sample in samples] == [("0", "0"), ("1", "1")]
    assert samples[1].captions == ("caption 1.0", "caption 1.1")
    with pytest.raises(DataError, match="no image of the split is left"):
        task.samples(tmp_path, 0)


# -- the whole of COCO -------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def coco_run(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[
    WholeCoco, TableModel, tuple[RetrievalSample, ...], tuple[RetrievalPrediction, ...], tuple[MetricValue, ...]
]:
    task = WholeCoco(RetrievalOptions(rerank_with="none"))
    samples = task.samples(tmp_path_factory.mktemp("data"), None)
    model = table_for(samples, matcher=False, size=4)
    predictions, values, protocols = run(task, model, samples)
    assert protocols == ["coco-karpathy-1k-5-fold/itc", "coco-karpathy-5k/itc"]
    return task, model, samples, predictions, values


def test_on_the_whole_of_coco_there_are_the_extended_measures_and_the_folds(coco_run: Any) -> None:
    task, _, samples, predictions, values = coco_run
    assert task.missing_measures(samples, predictions) is None
    by_protocol: dict[str, set[str]] = {}
    for value in values:
        by_protocol.setdefault(value.protocol, set()).add(value.metric)
    assert set(by_protocol) == {"coco-karpathy-5k/itc", "coco-karpathy-1k-5-fold/itc"}
    assert len(by_protocol["coco-karpathy-1k-5-fold/itc"]) == 7
    whole = by_protocol["coco-karpathy-5k/itc"]
    assert len({name for name in whole if name.startswith(("eccv", "cxc"))}) == 12
    assert len(whole) == 11 + 12
    assert all(0 < value.low <= value.value <= value.high for value in values)


def test_extra_captions_are_ranked_but_not_in_the_extended_measures(coco_run: Any) -> None:
    _, model, samples, predictions, values = coco_run
    assert len(predictions[0].t2i_ranks) == 6
    assert len(predictions[0].top_captions) == eccv.TEXTS_PER_IMAGE + 10
    assert len(predictions[0].top_images) == 6
    folder = eccv.data_folder()
    assert folder is not None
    coco = eccv.read_extended_coco(folder)
    texts = np.stack([model.texts[caption] for sample in samples for caption in sample.captions[:5]])
    hits = []
    for image, right in coco.eccv.i2t.items():
        scores = texts.astype(np.float64) @ model.images[samples[image].id]
        hits.append(int(np.argmax(scores)) in right)
    (value,) = [value for value in values if value.metric == "eccv_i2t_r@1"]
    assert value.value == pytest.approx(100 * np.mean(hits))
    assert value.n == 1261


def test_a_stored_run_scores_the_same_again_and_says_why_measures_are_absent(
    coco_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, _, samples, predictions, values = coco_run
    protocols = task.protocols(samples, ITC, PREPROCESSING)
    assert task.score(samples, predictions, protocols) == values
    one_failed = (RetrievalPrediction(sample_id=samples[0].id, failure="gone"), *predictions[1:])
    assert "1 images of it failed" in task.missing_measures(samples, one_failed)
    assert task.notes(samples, one_failed) == (task.missing_measures(samples, one_failed),)
    assert "these are 7 images" in task.missing_measures(samples[:7], predictions[:7])
    swapped = (samples[1], samples[0], *samples[2:])
    assert "another" in task.missing_measures(swapped, predictions)
    monkeypatch.setattr(eccv, "PACKAGE", "evalkit_no_such_package")
    assert "pip install -c constraints.txt -e '.[eccv-caption]'" in task.missing_measures(samples, predictions)
    without = task.score(samples, predictions, protocols)
    assert [value for value in values if not value.metric.startswith(("eccv", "cxc"))] == list(without)


def test_other_data_lacks_nothing(tmp_path: Path) -> None:
    task = SmallRetrieval(RetrievalOptions())
    assert task.missing_measures(task.samples(tmp_path, 1), ()) is None


# -- what it is made of ------------------------------------------------------------------------------------------------
def test_predictions_hold_only_what_a_table_can() -> None:
    allowed = (int, float, str, bool, type(None))

    def plain(kind: Any) -> bool:
        if get_origin(kind) is tuple:
            item, ellipsis = get_args(kind)
            return ellipsis is Ellipsis and plain(item)
        return kind in allowed or (bool(get_args(kind)) and all(plain(each) for each in get_args(kind)))

    hints = get_type_hints(RetrievalPrediction)
    assert len(hints) == 12
    assert [name for name, kind in hints.items() if not plain(kind)] == []


def test_importing_the_family_imports_nothing_heavy() -> None:
    code = "import sys, evalkit.families.retrieval; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(loaded).isdisjoint({"numpy", "torch", "transformers", "pandas", "pyarrow", "PIL", "scipy", "rich"})
