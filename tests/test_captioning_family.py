"""The flow of a captioning task: recipes, extraction, the official numbers and their intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from evalkit.datasets.coco_captions import CaptionedPhoto
from evalkit.errors import CapabilityError, ConfigError, DataError
from evalkit.families.captioning import (
    OWN_RECIPE,
    ROUTES,
    CaptionOptions,
    CaptionPrediction,
    CaptionSample,
    CaptionTask,
)
from evalkit.families.generation import Split
from evalkit.task import ModelProfile
from evalkit.types import (
    Capability,
    DataSet,
    Decoding,
    Failure,
    GenerateRequest,
    Generation,
    ImageRef,
    MetricValue,
    ModelCard,
    Preprocessing,
    Recipe,
    TaskCard,
    Variant,
)

PREPROCESSING = Preprocessing(image="squash", text="raw")
RECIPE = Recipe(
    prompt="a picture of ", decoding=Decoding(max_new_tokens=16, min_new_tokens=1, num_beams=3), source="paper"
)


class SmallCaptions(CaptionTask):
    """Four images."""

    card: ClassVar[TaskCard] = TaskCard(
        name="small_caption",
        version=1,
        summary="",
        paper="",
        purpose="captioning/small",
        routes=ROUTES,
        main_metric="cider",
        dataset=DataSet(name="", homepage="", licence="", files=()),
    )
    splits: ClassVar[Mapping[str, Split]] = {
        "val": Split(protocol="small-val", size=4),
        "test": Split(protocol="small-test", size=4),
    }

    def photos(self, data_dir: Path, limit: int | None) -> tuple[CaptionedPhoto, ...]:
        references = ("a dog on a red mat", "a red dog"), ("two cats",), ("a bus in the street",), ("a man", "a woman")
        return tuple(
            CaptionedPhoto(
                id=str(number),
                image=ImageRef(id=str(number), source=b"%d" % number),
                references=() if self.split == "test" else of_image,
                domain=("in", "near", "near", "out")[number],
            )
            for number, of_image in enumerate(references)
        )


class Speaker:
    """Says what it is told to."""

    def __init__(self, *answers: Generation | Failure) -> None:
        self.answers = answers
        self.requests: list[GenerateRequest[ImageRef]] = []

    def generate(self, requests: list[GenerateRequest[ImageRef]]) -> list[Generation | Failure]:
        self.requests = requests
        return list(self.answers[: len(requests)])


def profile(capabilities: tuple[Capability, ...] = ("generate",), recipe: Recipe | None = None) -> ModelProfile:
    only = Variant(name="only", checkpoints={})
    card = ModelCard(
        name="says",
        version=1,
        summary="",
        paper="",
        licence="",
        variants=(only,),
        recipes={"captioning": recipe} if recipe else {},
    )
    return ModelProfile(card=card, variant=only, capabilities=capabilities)


SAID = (
    Generation(text=" a red dog on a mat\n", finish="stop", tokens=6),
    Generation(text="two cats", finish="length", tokens=16),
    Generation(text="\n", finish="stop", tokens=1),
    Failure(sample="3", reason="gone"),
)


def run(
    options: CaptionOptions, tmp_path: Path, *said: Generation | Failure
) -> tuple[tuple[CaptionPrediction, ...], dict[str, MetricValue], str]:
    task, model = SmallCaptions(options), Speaker(*said)
    samples = task.samples(tmp_path, None)
    route = task.route(profile(recipe=RECIPE))
    protocols = task.protocols(samples, route, PREPROCESSING)
    predictions = task.predict(model, samples, route, {})  # type: ignore[arg-type] # a stand-in for `Model`
    assert all(request.turns[0].text == "a picture of " for request in model.requests)
    values = task.score(samples, predictions, protocols)
    return predictions, {value.metric: value for value in values}, protocols[0].id


def test_captions_are_kept_raw_and_what_went_wrong_is_counted(tmp_path: Path) -> None:
    predictions, values, protocol = run(CaptionOptions(), tmp_path, *SAID)
    assert protocol == "small-val/generate"
    first = predictions[0]
    assert (first.text, first.caption, first.rule) == (" a red dog on a mat\n", "a red dog on a mat", "stripped")
    assert (predictions[3].failure, predictions[3].finish) == ("gone", None)
    assert values["cider"].n == 3
    assert values["empty"].value == pytest.approx(100 / 3)
    assert values["cut_off"].value == pytest.approx(100 / 3)
    assert {name: value.n for name, value in values.items() if name.startswith("cider_")} == {
        "cider_in": 1,
        "cider_near": 2,
        "cider_subset_in": 1,
        "cider_subset_near": 2,
    }
    assert values["cider_subset_in"].value == 0  # one image has no idf
    assert values["cider_in"].value > 0
    assert all(value.low <= value.value <= value.high for value in values.values())


def test_a_split_without_references_has_no_caption_number(tmp_path: Path) -> None:
    _, values, protocol = run(CaptionOptions(split="test"), tmp_path, *SAID)
    assert protocol == "small-test/generate"
    assert sorted(values) == ["cut_off", "empty"]


def test_images_without_references_among_others_are_an_error(tmp_path: Path) -> None:
    task = SmallCaptions(CaptionOptions())
    samples = list(task.samples(tmp_path, None))
    samples[1] = replace(samples[1], references=())
    predictions = [CaptionPrediction(sample_id=one.id, failure=None, text="a", caption="a") for one in samples]
    protocols = task.protocols(samples, task.route(profile(recipe=RECIPE)), PREPROCESSING)
    with pytest.raises(DataError, match=f"1 images have no reference captions.*{samples[1].id}"):
        task.score(samples, predictions, protocols)


def test_java_is_asked_for_before_any_caption(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setenv("PATH", "")
    for options in (CaptionOptions(backend="pycocoevalcap"), CaptionOptions(meteor=True), CaptionOptions(spice=True)):
        with pytest.raises(ConfigError, match="needs Java"):
            SmallCaptions(options).route(profile(recipe=RECIPE))


def test_everything_failed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Every image failed"):
        run(CaptionOptions(), tmp_path, *[SAID[3]] * 4)


def test_recipes_and_options() -> None:
    def recipe(options: CaptionOptions, known: Recipe | None = None) -> Recipe | None:
        return SmallCaptions(options).route(profile(recipe=known)).recipe

    assert recipe(CaptionOptions()) == OWN_RECIPE
    assert recipe(CaptionOptions(), RECIPE) == RECIPE
    unprompted = recipe(CaptionOptions(prompt="none"), RECIPE)
    assert unprompted == replace(RECIPE, prompt="", source="paper; changed by options")
    with pytest.raises(CapabilityError, match="small_caption needs generate; says has match"):
        SmallCaptions(CaptionOptions()).route(profile(("match",)))
    with pytest.raises(ConfigError, match="backend='java'"):
        CaptionOptions(backend="java")
    with pytest.raises(ConfigError, match="no split 'train'"):
        SmallCaptions(CaptionOptions(split="train"))


def official(task: CaptionTask, references: Mapping[str, list[str]], captions: Mapping[str, str]) -> dict[str, Any]:
    samples = [
        CaptionSample(id=one, cluster=one, image=ImageRef(id=one, source=b""), references=tuple(texts), domain=None)
        for one, texts in references.items()
    ]
    predictions = [
        CaptionPrediction(sample_id=one, failure=None, caption=captions[one], text=captions[one], finish="stop")
        for one in references
    ]
    protocols = task.protocols(samples, task.route(profile()), PREPROCESSING)
    return {value.metric: value for value in task.score(samples, predictions, protocols)}


def test_the_family_gives_the_official_numbers(shared_fixtures: Path) -> None:
    folder = shared_fixtures / "captions"
    expected = json.loads((folder / "expected_pycocoevalcap.json").read_text())["vinvl_100"]["official"]
    references: dict[str, list[str]] = {}
    for row in json.loads((folder / "vinvl_100_gt_coco_format.json").read_text())["annotations"]:
        references.setdefault(str(row["image_id"]), []).append(row["caption"])
    results = json.loads((folder / "vinvl_100_results.json").read_text())
    captions = {str(row["image_id"]): row["caption"] for row in results}
    values = official(SmallCaptions(CaptionOptions()), references, captions)
    names = {"CIDEr": "cider", "ROUGE_L": "rouge_l", **{f"Bleu_{n}": f"bleu_{n}" for n in range(1, 5)}}
    for name, ours in names.items():
        assert values[ours].value == pytest.approx(100 * expected[name], abs=1e-7), name
        assert values[ours].low < values[ours].value < values[ours].high
        assert values[ours].n == 100
