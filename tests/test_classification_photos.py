"""Real weights on real photos: classes are made of what the captions of the photos agree on."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from evalkit import store
from evalkit.progress import SilentProgress
from evalkit.registry import adapter_names, load_adapter, missing_extra
from evalkit.reopening import rescore
from evalkit.runner import RunConfig, run

THINGS = {
    "bathroom": r"bathrooms?|restroom|washroom|toilets?|shower",
    "bed": r"beds?|bedroom",
    "bicycle": r"bicycles?|bikes?",
    "boat": r"boats?|ferries",
    "bus": r"bus",
    "cake": r"cake|candle",
    "cat": r"cats?",
    "cow": r"cows?|cattle",
    "pizza": r"pizzas?",
    "stop_sign": r"stop signs?",
    "train": r"trains?",
}
GROUPS = {
    "animal": r"cats?|dogs?|cows?|cattle|elephants?|birds?|peacocks?",
    "bathroom": THINGS["bathroom"],
    "food": r"cakes?|pizzas?|hot dogs?|food|bowl",
    "vehicle": r"bus|trains?|boats?|ferries|airplanes?|planes?|jetliner|airliner|cars|trucks",
}
"""Fewer and larger: a neighbour has to be there."""


def labelled(fixtures: Path, words: dict[str, str]) -> dict[str, list[Path]]:
    """A photo is of a class if three of its five captions have a word of it, and of no other class."""
    found = defaultdict(list)
    root = fixtures / "photos"
    for entry in json.loads((root / "dataset_coco.json").read_text("utf-8"))["images"]:
        captions = [sentence["raw"].lower() for sentence in entry["sentences"]]
        classes = [
            name
            for name, word in words.items()
            if sum(re.search(rf"\b({word})\b", caption) is not None for caption in captions) >= 3
        ]
        if len(classes) == 1:
            found[classes[0]].append(root / entry["filepath"] / entry["filename"])
    assert sorted(found) == sorted(words)
    return dict(found)


def folder_of(root: Path, photos: dict[str, list[Path]]) -> Path:
    for name, files in photos.items():
        (root / name).mkdir(parents=True)
        for file in files:
            (root / name / file.name).symlink_to(file)
    return root


Evaluate = Callable[..., Path]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def evaluate(tmp_path: Path, cache: Path) -> Evaluate:
    def numbers(model: str, task: str, data: Path, **options: str) -> Path:
        if model not in adapter_names() or missing_extra(load_adapter(model).card) is not None:
            if os.environ.get("CI") == "true":
                pytest.fail(f"{model} is not installed, and CI must not skip its tests")
            pytest.skip(f"{model} is not installed")
        config = RunConfig(
            model=model,
            task=task,
            data_dir=data,
            cache_dir=cache,
            runs_dir=tmp_path / "runs",
            device="cpu",
            options=options,
        )
        return run(config, SilentProgress())

    return numbers


def values_of(directory: Path) -> dict[str, float]:
    return {value.metric: value.value for value in store.read_run(directory).metrics}


def test_zero_shot_on_photos(shared_fixtures: Path, evaluate: Evaluate, tmp_path: Path) -> None:
    photos = labelled(shared_fixtures, THINGS)
    assert sum(map(len, photos.values())) == 34
    data = folder_of(tmp_path / "data", photos)
    directory = evaluate("conse", "imagefolder_zeroshot", data)
    result = store.read_run(directory)
    values = {value.metric: value for value in result.metrics}
    # at chance: 9, 45, 9; had every photo been called a bathroom: 38, 38, 9
    assert values["acc1"].value > 65
    assert values["acc1"].low > 45
    assert values["acc5"].value > 85
    assert values["mean_per_class_recall"].value > 50
    assert rescore(directory, data) == result.metrics


@pytest.mark.parametrize("model", ["conse", "efficientnet_lite"])
def test_neighbours_on_photos(shared_fixtures: Path, evaluate: Evaluate, tmp_path: Path, model: str) -> None:
    """Every other photo of a class votes for the rest."""
    photos = labelled(shared_fixtures, GROUPS)
    for part, start in (("train", 0), ("val", 1)):
        folder_of(tmp_path / part, {name: files[start::2] for name, files in photos.items()})
    for k in (1, 3):
        result = store.read_run(evaluate(model, "imagefolder_knn", tmp_path, k=str(k)))
        values = {value.metric: value.value for value in result.metrics}
        # at chance: 25, 25; had every photo been called a bathroom: 40, 25
        assert values["acc1"] > 65
        assert values["mean_per_class_recall"] > 50
