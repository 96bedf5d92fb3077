"""Recalls and ranks as papers print them, and ECCV Caption and CxC as the official package computes them."""

from __future__ import annotations

import doctest
import importlib
import importlib.metadata
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit.errors import DataError
from evalkit.metrics import eccv
from evalkit.metrics import retrieval as retrieval_module
from evalkit.metrics.bootstrap import Table
from evalkit.metrics.ranks import Ranks, fold_ranks, retrieval_ranks
from evalkit.metrics.retrieval import mean_rank, mean_recall, median_rank, recall_at_k, retrieval_values
from evalkit.metrics.top_lists import top_k

TABLE = Table(protocol="split/itc", split="test")


@pytest.fixture(scope="module")
def coco() -> eccv.ExtendedCoco:
    folder = eccv.data_folder()
    if folder is None:
        pytest.skip("the extra eccv-caption is not installed")
    return eccv.read_extended_coco(folder)


@pytest.fixture(scope="module")
def official() -> Any:
    """The official package's `Metrics`."""
    if eccv.data_folder() is None:
        pytest.skip("the extra eccv-caption is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it wants ujson and tqdm, and does without
        return importlib.import_module("eccv_caption").Metrics()


# -- recalls and ranks -------------------------------------------------------------------------------------------------
def test_the_six_recalls_their_mean_and_the_ranks() -> None:
    ranks = Ranks(i2t=np.array([0, 1, 9, 30]), t2i=np.array([0, 0, 4, 5, 10, 99]))
    values = {value.metric: value for value in retrieval_values(ranks, np.array([0, 0, 1, 2, 3, 3]), TABLE)}
    assert {name: round(value.value, 10) for name, value in values.items()} == {
        "i2t_r@1": 25.0,
        "i2t_r@5": 50.0,
        "i2t_r@10": 75.0,
        "t2i_r@1": pytest.approx(100 / 3),
        "t2i_r@5": 50.0,
        "t2i_r@10": pytest.approx(200 / 3),
        "mean_recall": pytest.approx((25 + 50 + 75 + 100 / 3 + 50 + 200 / 3) / 6),
        "i2t_median_rank": 6.0,
        "i2t_mean_rank": 11.0,
        "t2i_median_rank": 5.5,
        "t2i_mean_rank": pytest.approx(118 / 6 + 1),
    }
    assert {value.n for name, value in values.items() if name.startswith("i2t")} == {4}
    assert {value.n for name, value in values.items() if name.startswith("t2i")} == {6}
    assert values["mean_recall"].n == 10
    for name, value in values.items():
        assert value.unit == ("rank" if name.endswith("rank") else "%")
        assert value.higher_is_better is not name.endswith("rank")
        assert value.low <= value.value <= value.high
        assert (value.protocol, value.split) == ("split/itc", "test")


def test_a_fold_recall_is_the_mean_over_the_folds_however_many_captions_each_has() -> None:
    ranks = Ranks(i2t=np.array([0, 5, 0]), t2i=np.array([0, 0, 0, 0, 9]))
    owners, folds = np.array([0, 0, 1, 1, 2]), np.array([0, 0, 1])
    values = {value.metric: value for value in retrieval_values(ranks, owners, TABLE, folds)}
    assert values["i2t_r@1"].value == (50 + 100) / 2
    assert values["t2i_r@1"].value == (100 + 0) / 2
    assert values["t2i_r@1"].low == values["t2i_r@1"].high == 50
    assert set(values) == {f"{way}_r@{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)} | {"mean_recall"}


@pytest.mark.parametrize("measure", [lambda ranks: recall_at_k(ranks, 1), median_rank, mean_rank])
def test_no_query_is_no_measure(measure: Any) -> None:
    with pytest.raises(ValueError, match="no query"):
        measure(np.array([], np.int64))


def test_recall_is_a_share_of_whole_numbers_so_it_is_exact() -> None:
    ranks = np.array([0] * 622 + [1] * 378)
    assert recall_at_k(ranks, 1) == 62.2
    assert mean_recall([62.2] * 6) == pytest.approx(62.2, rel=1e-15)


# -- ECCV Caption and CxC ----------------------------------------------------------------------------------------------
def random_lists(
    rng: np.random.Generator, coco: eccv.ExtendedCoco
) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Ranked lists that hold right answers at all depths, about half of them."""

    def ranked(right: list[int], others: int, depth: int) -> list[int]:
        chosen = [item for item in right if item >= 0 and rng.random() < 0.7]
        wrong = [item for item in rng.permutation(others)[: 2 * depth].tolist() if item not in right]
        return rng.permutation((chosen + wrong)[:depth]).tolist()

    images, texts = len(coco.image_ids), len(coco.caption_ids)
    own = {image: list(range(5 * image, 5 * image + 5)) for image in range(images)}
    i2t = {
        image: ranked(sorted({*own[image], *coco.eccv.i2t.get(image, ())}), texts, eccv.TEXTS_PER_IMAGE)
        for image in range(images)
    }
    t2i = {
        text: ranked(sorted({text // 5, *coco.eccv.t2i.get(text, ())}), images, eccv.IMAGES_PER_TEXT)
        for text in range(texts)
    }
    return i2t, t2i


def official_values(
    official: Any,
    coco: eccv.ExtendedCoco,
    i2t: dict[int, list[int]],
    t2i: dict[int, list[int]],
    targets: tuple[str, ...],
) -> dict[str, dict[str, float]]:
    images, texts = coco.image_ids, coco.caption_ids
    scores: dict[str, dict[str, float]] = official.compute_all_metrics(
        {images[image]: [texts[text] for text in ranked] for image, ranked in i2t.items()},
        {texts[text]: [images[image] for image in ranked] for text, ranked in t2i.items()},
        target_metrics=targets,
        Ks=(1, 5, 10),
        verbose=False,
    )
    return scores


def test_eccv_and_cxc_are_the_packages_own_on_the_same_lists(coco: eccv.ExtendedCoco, official: Any) -> None:
    i2t, t2i = random_lists(np.random.default_rng(0), coco)
    targets = ("eccv_map_at_r", "eccv_rprecision", "eccv_r1", "cxc_recalls")
    expected = official_values(official, coco, i2t, t2i, targets)
    names = {
        "eccv_map_at_r": "eccv_{}_map@r",
        "eccv_rprecision": "eccv_{}_rprecision",
        "eccv_r1": "eccv_{}_r@1",
        **{f"cxc_r{k}": f"cxc_{{}}_r@{k}" for k in (1, 5, 10)},
    }
    values = {value.metric: value for value in eccv.extended_values(i2t, t2i, coco, TABLE)}
    got = {name: {way: values[ours.format(way)].value / 100 for way in ("i2t", "t2i")} for name, ours in names.items()}
    assert set(expected) == set(names)
    for name, both in expected.items():
        assert 0.05 < both["i2t"] < 0.95
        assert got[name] == pytest.approx({way: float(value) for way, value in both.items()}, rel=1e-12)
    assert len(values) == 12
    assert {values[f"eccv_{way}_map@r"].n for way in ("i2t", "t2i")} == {1261, 1332}
    assert (values["cxc_i2t_r@1"].n, values["cxc_t2i_r@1"].n) == (5000, 24_972)
    assert all(value.low < value.value < value.high for value in values.values())


def test_coco_5k_and_1k_are_the_packages_own_on_the_same_embeddings(coco: eccv.ExtendedCoco, official: Any) -> None:
    rng = np.random.default_rng(1)
    owners = np.repeat(np.arange(5000), 5)
    images = rng.standard_normal((5000, 12)).astype(np.float32)
    texts = (images[owners] + rng.standard_normal((25_000, 12)) * 0.3).astype(np.float32)
    folds = np.arange(5000) // 1000
    ranks, within = retrieval_ranks(images, texts, owners), fold_ranks(images, texts, owners, folds)
    top = top_k(images, texts, texts_per_image=10, images_per_text=10)
    i2t, t2i = dict(enumerate(top.i2t.indices.tolist())), dict(enumerate(top.t2i.indices.tolist()))
    five = official_values(official, coco, i2t, t2i, ("coco_5k_recalls",))
    # the package drops what is not in the fold, so lists of the fold are what is left of whole ones
    i2t, t2i = {}, {}
    for fold in range(5):
        first, texts_from = 1000 * fold, 5000 * fold
        part = top_k(
            images[first : first + 1000],
            texts[texts_from : texts_from + 5000],
            texts_per_image=10,
            images_per_text=10,
        )
        i2t |= dict(enumerate((part.i2t.indices + texts_from).tolist(), first))
        t2i |= dict(enumerate((part.t2i.indices + first).tolist(), texts_from))
    one = official_values(official, coco, i2t, t2i, ("coco_1k_recalls",))

    whole = {value.metric: value.value for value in retrieval_values(ranks, owners, TABLE)}
    folded = {value.metric: value.value for value in retrieval_values(within, owners, TABLE, folds)}
    for k in (1, 5, 10):
        for way in ("i2t", "t2i"):
            assert whole[f"{way}_r@{k}"] == pytest.approx(100 * float(five[f"coco_5k_r{k}"][way]), rel=1e-12)
            assert folded[f"{way}_r@{k}"] == pytest.approx(100 * float(one[f"coco_1k_r{k}"][way]), rel=1e-12)
    assert 20 < whole["t2i_r@1"] < folded["t2i_r@1"] < 95


def test_lists_from_the_embedding_fixture_give_the_packages_own_numbers(
    shared_fixtures: Path, coco: eccv.ExtendedCoco, official: Any
) -> None:
    """200 images of the split, asked about in its gallery of 200; the rest gets lists that hold no right answer."""
    data = np.load(shared_fixtures / "retrieval" / "coco200_minilm_fp16.npz")
    image_at = {image: position for position, image in enumerate(coco.image_ids)}
    text_at = {text: position for position, text in enumerate(coco.caption_ids)}
    images = np.array([image_at[image] for image in data["img_ids"].tolist()])
    texts = np.array([text_at[text] for text in data["cap_ids"].tolist()])
    assert [int(text) // 5 for text in texts] == [image_at[image] for image in data["cap_img"].tolist()]
    top = top_k(data["I"].astype(np.float32), data["T"].astype(np.float32), texts_per_image=48, images_per_text=19)
    i2t = {image: [-1 - depth for depth in range(48)] for image in range(5000)}
    t2i = {text: [-1 - depth for depth in range(19)] for text in range(25_000)}
    i2t |= {int(image): texts[row].tolist() for image, row in zip(images, top.i2t.indices, strict=True)}
    t2i |= {int(text): images[row].tolist() for text, row in zip(texts, top.t2i.indices, strict=True)}
    asked = eccv.Positives(
        i2t={image: right for image, right in coco.eccv.i2t.items() if image in set(images.tolist())},
        t2i={text: right for text, right in coco.eccv.t2i.items() if text in set(texts.tolist())},
    )
    assert len(asked.i2t) > 20
    assert len(asked.t2i) > 20
    # the official functions on the same queries
    functions = importlib.import_module("eccv_caption._metrics")
    for lists, positives in ((i2t, asked.i2t), (t2i, asked.t2i)):
        expected = functions.compute_eccv_metrics(lists, {query: list(right) for query, right in positives.items()})
        measures = eccv.list_measures(lists, positives)
        assert measures.map_at_r.mean() == pytest.approx(float(expected["eccv_map_at_r"]), rel=1e-12)
        assert measures.r_precision.mean() == pytest.approx(float(expected["eccv_rprecision"]), rel=1e-12)
        assert measures.r_at_1.mean() == pytest.approx(float(expected["eccv_r1"]), rel=1e-12)
        assert 0 < measures.map_at_r.mean() < 1


def test_captions_go_by_their_position_in_karpathys_order(shared_fixtures: Path, coco: eccv.ExtendedCoco) -> None:
    """BLIP's file has no ids; its `_gt` file and COCO's own caption file do."""
    folder = shared_fixtures / "coco"
    records = json.loads((folder / "coco_karpathy_test.json").read_text())
    assert [int(record["image"].split("_")[-1][:-4]) for record in records] == list(coco.image_ids)
    by_image: dict[int, list[tuple[int, str]]] = {}
    for annotation in json.loads((folder / "coco_karpathy_test_gt.json").read_text())["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append((annotation["id"], annotation["caption"]))
    for position, (image, record) in enumerate(zip(coco.image_ids, records, strict=True)):
        annotations = by_image[image]
        assert [caption for _, caption in annotations] == record["caption"]
        assert [number for number, _ in annotations[:5]] == list(coco.caption_ids[5 * position : 5 * position + 5])
    official_file = json.loads((folder / "captions_val2017.json").read_text())["annotations"]
    text_at = {text: position for position, text in enumerate(coco.caption_ids)}
    shared = [annotation for annotation in official_file if annotation["id"] in text_at]
    assert len(shared) > 1000
    for annotation in shared:
        image, number = divmod(text_at[annotation["id"]], 5)
        assert annotation["caption"].strip() == records[image]["caption"][number].strip()


def test_the_package_has_the_positives_of_the_fixture(shared_fixtures: Path, coco: eccv.ExtendedCoco) -> None:
    assert eccv.read_extended_coco(shared_fixtures / "retrieval" / "eccv_caption") == coco


def test_lists_are_as_deep_as_the_positives_need(coco: eccv.ExtendedCoco) -> None:
    assert max(len(right) for right in coco.eccv.i2t.values()) == eccv.TEXTS_PER_IMAGE
    assert max(len(right) for right in coco.eccv.t2i.values()) == eccv.IMAGES_PER_TEXT
    outside = [text for right in coco.eccv.i2t.values() for text in right if text < 0]
    assert len(outside) == 2  # captions beyond an image's fifth: counted in R, in nobody's list
    assert len(coco.image_ids) == eccv.IMAGES
    assert len(coco.caption_ids) == eccv.IMAGES * eccv.CAPTIONS_EACH


def test_a_list_that_is_too_short_is_an_error_and_not_a_lower_number() -> None:
    with pytest.raises(ValueError, match="too short for R = 2"):
        eccv.list_measures({0: [1]}, {0: frozenset({1, 2})})
    with pytest.raises(ValueError, match="has 1 answers"):
        eccv.hits_at_k({0: [1]}, {0: frozenset({1})}, 5)


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign"])
def test_damaged_positives_are_named(tmp_path: Path, coco: eccv.ExtendedCoco, damage: str) -> None:
    source = eccv.data_folder()
    assert source is not None
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    victim = tmp_path / "eccv_image_to_caption.json"
    if damage == "missing":
        victim.unlink()
    elif damage == "truncated":
        victim.write_text(victim.read_text()[:1000])
    else:
        victim.write_text('{"1": [2]}')
    with pytest.raises(DataError, match="positives of ECCV Caption cannot be read") as caught:
        eccv.read_extended_coco(tmp_path)
    (pinned,) = (each for each in importlib.metadata.requires("evalkit") or () if each.startswith("eccv-caption"))
    requirement = pinned.partition(";")[0].strip()
    assert caught.value.remedy == f"Install them again: pip install --force-reinstall --no-deps {requirement}"


def test_the_packages_caption_ids_are_cocos_annotation_ids(coco: eccv.ExtendedCoco, shared_fixtures: Path) -> None:
    """On the images of the split that COCO moved to its val set of 2017."""
    owners = {text: coco.image_ids[at // eccv.CAPTIONS_EACH] for at, text in enumerate(coco.caption_ids)}
    content = json.loads((shared_fixtures / "coco" / "captions_val2017.json").read_text("utf-8"))
    images = {each["id"]: each["image_id"] for each in content["annotations"] if each["id"] in owners}
    assert len(images) == 2965
    assert images.items() <= owners.items()


def test_the_package_may_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eccv, "PACKAGE", "evalkit_no_such_package")
    assert eccv.data_folder() is None


@pytest.mark.parametrize("module", [retrieval_module, eccv], ids=lambda module: module.__name__)
def test_examples_in_docstrings(module: Any) -> None:
    failed, tried = doctest.testmod(module)
    assert tried > 0
    assert failed == 0
