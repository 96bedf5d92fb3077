"""What weights are known to have learnt, told beside the numbers that it spoils."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from captioned_world import install, picture

from evalkit import store
from evalkit.progress import SilentProgress
from evalkit.runner import RunConfig, run
from evalkit.testing.fake import FakeEncoder, fake_adapter
from evalkit.types import Variant

NOTE = "These weights learnt the labels of ImageNet-1k: numbers on its images and classes are too high."
PUPIL = fake_adapter(FakeEncoder, name="pupil")
PUPIL.card = replace(
    PUPIL.card, variants=tuple(replace(one, trained_on=("ImageNet-1k",)) for one in PUPIL.card.variants)
)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install(monkeypatch, PUPIL, FakeEncoder)
    for number, name in enumerate(("train/cat/1.png", "train/dog/2.png", "val/cat/3.png", "val/dog/4.png")):
        picture(tmp_path / name, number)
    return tmp_path


def notes(data: Path, model: str, task: str = "imagefolder_knn", checkpoint: str | None = None) -> tuple[str, ...]:
    folder = data / "made"
    config = RunConfig(
        model=model,
        task=task,
        data_dir=data,
        cache_dir=folder / "cache",
        runs_dir=folder / "runs",
        device="cpu",
        checkpoint=checkpoint,
    )
    return store.read_run(run(config, SilentProgress())).notes


@pytest.mark.parametrize("task", ["imagefolder_knn", "imagefolder_zeroshot"])
def test_a_run_with_weights_that_learnt_the_labels_says_so(data: Path, task: str) -> None:
    if task == "imagefolder_zeroshot":
        (data / "classes.json").write_text('{"cat": "cat", "dog": "dog"}')
    assert notes(data, "pupil", task)[-1] == NOTE
    assert NOTE not in notes(data, FakeEncoder.card.name, task)


def test_nothing_is_said_of_weights_that_the_card_does_not_know(data: Path) -> None:
    weights = data / "weights"
    weights.mkdir()
    (weights / "model.bin").write_bytes(b"1")
    assert NOTE not in notes(data, "pupil", checkpoint=str(weights))
    assert notes(data, "pupil", checkpoint="package:evalkit")[-1] == NOTE


def test_a_variant_knows_nothing_by_default() -> None:
    assert Variant(name="base", checkpoints={}).trained_on == ()
