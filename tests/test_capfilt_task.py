"""True captions told from wrong ones: which negatives, by which route, with which numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captioned_world import CAPTIONS, install, photos, run_task, values

from evalkit.errors import CapabilityError, ConfigError, DataError
from evalkit.families.caption_filtering import CapfiltOptions, CapfiltSample
from evalkit.families.caption_judging import OWN_RECIPE, QUESTION, ROUTES, judging_route, prompt_of
from evalkit.metrics.binary import auroc
from evalkit.reopening import rescore
from evalkit.task import ModelProfile
from evalkit.testing.fake import FakeEncoder, FakeEverything, FakeMatcher, fake_adapter
from evalkit.types import (
    CandidateScore,
    Capability,
    Decoding,
    ImageRef,
    MatchKind,
    ModelCard,
    Preprocessing,
    Recipe,
    Variant,
)
from evalkit_tasks.capfilt import Capfilt


def samples(data: Path, limit: int | None = None, **options: str) -> tuple[CapfiltSample, ...]:
    return Capfilt(CapfiltOptions(**options)).samples(data, limit)


def profile(
    *capabilities: Capability,
    matches: tuple[MatchKind, ...] = ("caption",),
    scorings: tuple[str, ...] = ("loglikelihood",),
    recipe: str = "",
) -> ModelProfile:
    recipes = {"vqa": Recipe(prompt=recipe, decoding=Decoding(max_new_tokens=5), source="")} if recipe else {}
    only = Variant(name="only", checkpoints={})
    card = ModelCard(
        name="some",
        version=1,
        summary="",
        paper="",
        licence="",
        variants=(only,),
        matches=matches,
        scorings=scorings,
        recipes=recipes,
    )
    return ModelProfile(card=card, variant=only, capabilities=capabilities)


def route(model: ModelProfile, prompt: str = "") -> Any:
    return judging_route(model, ROUTES, prompt, "capfilt")


# -- swapped captions --------------------------------------------------------------------------------------------------
def test_every_caption_gets_one_of_another_image(tmp_path: Path) -> None:
    everything = {caption for captions in CAPTIONS.values() for caption in captions}
    for sample in samples(photos(tmp_path)):
        assert len(sample.negatives) == len(sample.captions)
        assert set(sample.negatives) <= everything - set(sample.captions)


def test_swaps_depend_on_neither_order_nor_limit(tmp_path: Path) -> None:
    given = {one.id: one.negatives for one in samples(photos(tmp_path / "one"))}
    assert {one.id: one.negatives for one in samples(tmp_path / "one", 3)} == dict(list(given.items())[:3])
    other = dict(reversed(CAPTIONS.items()))
    assert {one.id: one.negatives for one in samples(photos(tmp_path / "two", other))} == given
    assert len({text for negatives in given.values() for text in negatives}) > 5  # no favourites


def test_the_same_words_are_no_swap(tmp_path: Path) -> None:
    data = photos(tmp_path, {"a": ("A dog!", "a  dog"), "b": ("a dog.", "A cat")})
    assert [one.negatives for one in samples(data, 1)] == [("A cat", "A cat")]
    with pytest.raises(DataError, match="Image b has no captions of others"):
        samples(data)


# -- machine-made captions ---------------------------------------------------------------------------------------------
def made(file: Path, captions: Sequence[tuple[str, str]]) -> str:
    file.write_text(json.dumps([{"image_id": image, "caption": text} for image, text in captions]), "utf-8")
    return str(file)


def machine_made(data: Path, file: str, limit: int | None = None) -> list[tuple[str, ...]]:
    task = Capfilt(CapfiltOptions(captions=file))
    return task.negatives(task.samples(data, limit))


def test_machine_made_captions_are_the_negatives(tmp_path: Path) -> None:
    data = photos(tmp_path)
    file = made(tmp_path / "made.json", [(image, f"made of {image}") for image in CAPTIONS] + [("a", "another")])
    assert machine_made(data, file)[:2] == [("made of a", "another"), ("made of b",)]
    few = made(tmp_path / "few.json", [("a", "x")])
    with pytest.raises(DataError, match="no caption of 6 of 7 images; the first is b"):
        machine_made(data, few)
    assert machine_made(data, few, 1) == [("x",)]


def test_options_that_do_not_go_together() -> None:
    for options, problem in (
        ({"negatives": "machine"}, "needs a captioner's output"),
        ({"negatives": "swapped", "captions": "f"}, "does not use captions"),
        ({"negatives": "other"}, "unknown"),
        ({"route": "other"}, "not a way to judge"),
    ):
        with pytest.raises(ConfigError, match=problem):
            CapfiltOptions(**options)


# -- routes ------------------------------------------------------------------------------------------------------------
def test_the_best_route() -> None:
    assert route(profile("match", "encode_image", "encode_text", "score_candidates")).name == "itm"
    assert route(profile("match", "score_candidates", matches=("pair",))).name == "yes-no"
    assert route(profile("encode_image", "encode_text", "match", matches=("dialog",))).name == "itc"
    assert route(profile("score_candidates", "encode_image", "encode_text", scorings=("rank",))).name == "itc"
    with pytest.raises(CapabilityError, match="needs match for captions, or score_candidates, or encode_image and"):
        route(profile("generate"))


def test_the_question_is_asked_in_the_models_own_way() -> None:
    asked = route(profile("score_candidates", recipe="Question: {question} Answer:"))
    assert prompt_of(asked) == f"Question: {QUESTION} Answer:"
    assert asked.purpose == "vqa/capfilt"
    assert route(profile("score_candidates")).recipe == OWN_RECIPE
    assert prompt_of(route(profile("score_candidates"), "Is it {caption}?")) == "Is it {caption}?"
    assert prompt_of(route(profile("encode_image", "encode_text"))) == "{caption}"


def test_prompts_that_cannot_be_used() -> None:
    with pytest.raises(ConfigError, match="no place for the caption"):
        route(profile("match"), "x")
    with pytest.raises(ConfigError, match="does not use prompt"):
        route(profile("match"), "{caption}")


# -- runs --------------------------------------------------------------------------------------------------------------
def test_by_a_matcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, fake_adapter(FakeMatcher))
    result, predictions = run_task("capfilt", "fake_matcher", photos(tmp_path), tmp_path)
    (protocol,) = result.protocols
    assert protocol.name.startswith("karpathy-layout-7-")
    assert protocol.name.endswith("-capfilt-swapped")
    assert (protocol.route, protocol.decoding) == ("itm", "")
    pairs = [(score, True) for one in predictions for score in one.scores]  # type: ignore[attr-defined]
    pairs += [(score, False) for one in predictions for score in one.negative_scores]  # type: ignore[attr-defined]
    scores, labels = np.array([one[0] for one in pairs]), np.array([one[1] for one in pairs])
    kept = scores > 0
    found = values(result)
    assert found["auroc"] == pytest.approx(100 * auroc(scores, labels))
    assert found["accuracy"] == pytest.approx(100 * (kept == labels).mean())
    assert found["kept_precision"] == pytest.approx(100 * labels[kept].mean())
    assert found["kept_recall"] == pytest.approx(100 * kept[labels].mean())
    assert found["kept_negatives"] == pytest.approx(100 * kept[~labels].mean())
    assert {one.metric: one.n for one in result.metrics} == {
        "auroc": 26,
        "ap": 26,
        "accuracy": 26,
        "kept_precision": kept.sum(),
        "kept_recall": 13,
        "kept_negatives": 13,
    }
    assert all(one.low <= one.value <= one.high for one in result.metrics)
    assert any("by chance" in note for note in result.notes)


def test_log_odds_are_asked_for_and_each_image_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Watched(FakeMatcher):
        card = FakeMatcher.card
        calls = FakeMatcher.calls

        def match(self, requests: Any) -> Any:
            asked.extend(requests)
            return super().match(requests)

    install(monkeypatch, Watched)
    run_task("capfilt", "fake_matcher", photos(tmp_path), tmp_path)
    assert {request.scoring for request in asked} == {"log_odds"}
    assert len(asked) == 7


def test_by_a_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, fake_adapter(FakeEverything))
    result, predictions = run_task("capfilt", "fake_everything", photos(tmp_path), tmp_path, route="yes-no")
    assert result.protocols[0].route == "yes-no"
    assert result.protocols[0].prompt == QUESTION
    assert "accuracy" in values(result)
    assert len({score for one in predictions for score in one.scores}) > 5  # type: ignore[attr-defined]


class Honest(FakeEverything):
    """Says Yes to what is true, No to what is wrong, and of a bird neither more than the other."""

    card = replace(FakeEverything.card, name="honest")

    def score_candidates(self, requests: Any) -> list[list[CandidateScore]]:
        answers = []
        for request in requests:
            text = request.turns[-1].text
            odds = {"bird": 0.0, "wrong": -3.0}.get(text.split('"')[1], 3.0)
            answers.append(
                [CandidateScore(logprob=odds if one == "Yes" else 0.0, tokens=1) for one in request.candidates]
            )
        return answers


def test_yes_is_for_true_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Honest)
    file = made(tmp_path / "made.json", [(image, "wrong") for image in CAPTIONS])
    options = {"route": "yes-no", "captions": file}
    result, predictions = run_task("capfilt", "honest", photos(tmp_path), tmp_path, **options)
    assert [one.scores for one in predictions if one.sample_id in "be"] == [(3.0, 3.0, 3.0), (3.0, 0.0)]  # type: ignore[attr-defined]
    assert {one.negative_scores for one in predictions} == {(-3.0,)}  # type: ignore[attr-defined]
    found = values(result)
    assert found["auroc"] == found["ap"] == found["kept_precision"] == 100.0
    assert found["kept_negatives"] == 0.0
    # neither Yes nor No is no Yes: at exactly 0 a caption is dropped
    assert found["kept_recall"] == pytest.approx(100 * 12 / 13)
    assert found["accuracy"] == pytest.approx(100 * 19 / 20)
    assert "By chance auroc is 50.0, and ap 65.0: the share of true captions." in result.notes


@pytest.mark.parametrize(
    ("images", "captions", "name"),
    [
        (5000, 25010, "coco-karpathy-capfilt-swapped"),
        (5000, 25009, "coco-karpathy-capfilt-swapped-subset-5000"),
        (4999, 25010, "coco-karpathy-capfilt-swapped-subset-4999"),
    ],
)
def test_the_whole_split_is_known_by_images_and_captions(images: int, captions: int, name: str) -> None:
    given = [
        CapfiltSample(
            id=str(number),
            cluster=str(number),
            image=ImageRef(id=str(number), source=b""),
            captions=("x",) * (captions // images + (number < captions % images)),
            negatives=(),
        )
        for number in range(images)
    ]
    assert sum(len(one.captions) for one in given) == captions
    (protocol,) = Capfilt(CapfiltOptions()).protocols(given, ROUTES[0], Preprocessing(image="", text=""))
    assert protocol.name == name


def test_a_run_is_scored_again_from_anywhere_and_without_the_captioners_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, fake_adapter(FakeMatcher))
    made(tmp_path / "made.json", [(image, "wrong") for image in CAPTIONS])
    data = photos(tmp_path)
    monkeypatch.chdir(tmp_path)
    result, _ = run_task("capfilt", "fake_matcher", data, tmp_path, captions="made.json")
    assert result.options["captions"] == str(tmp_path / "made.json")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "made.json").unlink()
    assert rescore(tmp_path / "runs" / result.run_id, data) == result.metrics
    with pytest.raises(DataError, match=r"made.json: there is no such file. Correct its name") as refused:
        run_task("capfilt", "fake_matcher", tmp_path / "no-data", tmp_path, captions="../made.json")
    assert "no such file" in refused.value.problem  # before the data is looked for


def test_by_cosine_there_is_no_threshold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, fake_adapter(FakeEncoder))
    result, _ = run_task("capfilt", "fake_encoder", photos(tmp_path), tmp_path)
    assert result.protocols[0].route == "itc"
    assert set(values(result)) == {"auroc", "ap"}
    assert any("no threshold" in note for note in result.notes)


def test_machine_made_captions_name_the_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, fake_adapter(FakeEncoder))
    names = []
    for text in ("one", "two"):
        file = made(tmp_path / f"{text}.json", [(image, text) for image in CAPTIONS] + [("e", "bird")])
        result, _ = run_task("capfilt", "fake_encoder", photos(tmp_path), tmp_path, captions=file)
        names.append(result.protocols[0].name)
        assert any("1 machine-made captions are word for word" in note for note in result.notes)
        assert {metric.n for metric in result.metrics} == {13 + 8}
    assert all("-capfilt-machine-" in name for name in names)
    assert names[0] != names[1]


@pytest.mark.parametrize("base", [FakeEncoder, FakeMatcher])
def test_a_failed_image_is_counted_and_in_no_number(
    base: type[FakeEncoder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, fake_adapter(base))
    data = photos(tmp_path)
    (data / "val2014" / "b.png").write_bytes(b"no image")
    result, predictions = run_task("capfilt", base.card.name, data, tmp_path, on_error="skip")
    assert [one.sample_id for one in predictions if one.failure] == ["b"]
    assert result.counts.failed == 1
    assert next(one.n for one in result.metrics if one.metric == "auroc") == 2 * (13 - 3)
    assert result.protocols[0].name.startswith("karpathy-layout-6-")


def test_coco_comes_before_own_data_and_a_part_is_named_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, fake_adapter(FakeEncoder))
    data = photos(tmp_path, name="dataset_coco.json")
    (data / "dataset_other.json").write_text("{}")
    result, _ = run_task("capfilt", "fake_encoder", data, tmp_path, limit=2)
    assert result.protocols[0].name == "coco-karpathy-capfilt-swapped-subset-2"


def test_two_files_of_own_data_are_one_too_many(tmp_path: Path) -> None:
    data = photos(tmp_path)
    (data / "dataset_two.json").write_text("{}")
    with pytest.raises(DataError, match=r"holds: dataset_mine.json, dataset_two.json"):
        samples(data)
    with pytest.raises(DataError, match="looked for"):
        samples(tmp_path / "val2014")
