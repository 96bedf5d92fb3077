"""Sentences and the images that illustrate them: paragraphs, ranks, assignment, numbers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captioned_world import CAPTIONS, install, photos, run_task, values

from evalkit.errors import CapabilityError, ConfigError, DataError
from evalkit.families.illustration import (
    IllustrationOptions,
    IllustrationPrediction,
    IllustrationSample,
    chosen_caption,
)
from evalkit.families.illustration_scores import illustrated, score
from evalkit.metrics.assignment import assign, assigned_to_own
from evalkit.registry import profile
from evalkit.testing.fake import FakeEncoder, fake_adapter
from evalkit.types import Embeddings, Failure, ImageRef
from evalkit_tasks.illustrate import Illustrate

EYE = np.eye(8, dtype=np.float32)


def told(count: int, by: int) -> list[IllustrationSample]:
    return [
        IllustrationSample(
            id=f"i{number}",
            cluster=f"i{number - number % by}",
            image=ImageRef(id=f"i{number}", source=b"%d" % number),
            captions=(f"t{number}",),
            sentence=f"t{number}",
        )
        for number in range(count)
    ]


class Vectors:
    """Image i is the i-th unit vector; texts are as given."""

    def __init__(self, texts: Any, broken: tuple[int, ...] = ()) -> None:
        self.texts, self.broken = np.asarray(texts, np.float32), broken

    def encode_image(self, images: Any) -> Embeddings:
        failures = {row: Failure(sample="x", reason=f"broken {row}") for row in self.broken}
        return Embeddings(vectors=EYE[: len(images)], failures=failures)

    def encode_text(self, texts: Any) -> Embeddings:
        return Embeddings(vectors=self.texts[: len(texts)], failures={})


def predicted(model: Any, samples: list[IllustrationSample]) -> tuple[IllustrationPrediction, ...]:
    return illustrated(model, samples, "{caption}")


# -- paragraphs --------------------------------------------------------------------------------------------------------
def test_consecutive_images_make_a_paragraph(tmp_path: Path) -> None:
    found = Illustrate(IllustrationOptions(sentences=3)).samples(photos(tmp_path), None)
    assert [one.cluster for one in found] == ["a", "a", "a", "d", "d", "d", "g"]
    assert all(one.sentence in CAPTIONS[one.id] for one in found)
    again = Illustrate(IllustrationOptions(sentences=3)).samples(tmp_path, 2)
    assert again == found[:2]


def test_the_caption_is_chosen_by_content() -> None:
    chosen = [chosen_caption([f"{number} {place}" for place in range(5)]) for number in range(200)]
    counts = [sum(one.endswith(f" {place}") for one in chosen) for place in range(5)]
    assert min(counts) > 20
    assert chosen == [chosen_caption([f"{number} {place}" for place in range(5)]) for number in range(200)]


# -- assignment --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(5))
def test_the_assignment_of_the_highest_sum(seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(4, 5))
    best = max(itertools.permutations(range(5), 4), key=lambda chosen: sum(scores[range(4), chosen]))
    assert tuple(assign(scores)) == best


def test_more_texts_than_images() -> None:
    assert assign(np.array([[0.5], [0.9], [0.1]])).tolist() == [-1, 0, -1]


def test_a_tie_counts_against() -> None:
    assert not np.any(assigned_to_own(np.ones((5, 5), np.float32)) == np.arange(5))
    clear = np.ones((3, 3), np.float32)
    clear[np.arange(3), np.arange(3)] = np.nextafter(np.float32(1), np.float32(2))
    assert assigned_to_own(clear).tolist() == [0, 1, 2]


# -- ranks and numbers -------------------------------------------------------------------------------------------------
def test_each_sentence_is_ranked_among_all_and_assigned_in_its_paragraph() -> None:
    texts = 0.1 * EYE[:5]
    texts[0, 4] = 0.9  # beaten by an image of another paragraph
    texts[1, 0] = 0.15  # beaten by one of its own, which the first sentence needs more
    texts[0, 0] = 0.8
    result = predicted(Vectors(texts), told(5, 2))
    assert [one.rank for one in result] == [1, 1, 0, 0, 0]
    assert [one.assigned for one in result] == ["i0", "i1", "i2", "i3", None]
    numbers = {one.metric: one for one in score(told(5, 2), result, protocol="p")}
    assert (numbers["r@1"].value, numbers["r@1"].n) == (60.0, 5)
    assert (numbers["r@5"].value, numbers["r@10"].value) == (100.0, 100.0)
    assert (numbers["assignment"].value, numbers["assignment"].n) == (100.0, 4)
    assert (numbers["paragraphs"].value, numbers["paragraphs"].n) == (100.0, 2)


def test_a_paragraph_counts_as_right_only_whole() -> None:
    texts = EYE[:6].copy()
    texts[[0, 1]] = EYE[[1, 0]]
    samples = told(6, 3)
    numbers = {one.metric: one for one in score(samples, predicted(Vectors(texts), samples), protocol="p")}
    assert numbers["assignment"].value == pytest.approx(100 * 4 / 6)
    assert (numbers["paragraphs"].value, numbers["paragraphs"].n) == (50.0, 2)
    assert (numbers["paragraphs"].low, numbers["paragraphs"].high) == (0.0, 100.0)


def test_equal_images_are_no_hit() -> None:
    flat = np.full((4, 8), 8**-0.5)
    result = predicted(Vectors(flat), told(4, 4))
    assert [one.rank for one in result] == [3] * 4
    assert all(one.assigned != one.sample_id for one in result)


def test_a_failed_image_is_in_no_gallery() -> None:
    samples = told(4, 2)
    result = predicted(Vectors(EYE[:4], broken=(1,)), samples)
    assert [one.failure for one in result] == [None, "broken 1", None, None]
    assert [one.assigned for one in result] == [None, None, "i2", "i3"]
    numbers = {one.metric: one.n for one in score(samples, result, protocol="p")}
    assert numbers == {"r@1": 3, "r@5": 3, "r@10": 3, "assignment": 2, "paragraphs": 1}
    with pytest.raises(DataError, match="Every image failed; the first: broken 0"):
        predicted(Vectors(EYE[:2], broken=(0, 1)), told(2, 2))


def test_one_image_alone_has_no_assignment() -> None:
    samples = told(1, 2)
    assert {one.metric for one in score(samples, predicted(Vectors(EYE), samples), protocol="p")} == {
        "r@1",
        "r@5",
        "r@10",
    }


def test_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, fake_adapter(FakeEncoder))
    result, _ = run_task(
        "illustrate", "fake_encoder", photos(tmp_path), tmp_path, sentences="2", prompt="see {caption}"
    )
    assert result.protocols[0].name.endswith("-illustrate-by-2")
    assert result.protocols[0].prompt == "see {caption}"
    assert set(values(result)) == {"r@1", "r@5", "r@10", "assignment", "paragraphs"}


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least two"):
        IllustrationOptions(sentences=1)
    with pytest.raises(ConfigError, match="no place for the caption"):
        IllustrationOptions(prompt="x")
    mute = type("Mute", (), {"card": FakeEncoder.card, "encode_image": FakeEncoder.encode_image})
    with pytest.raises(CapabilityError, match="needs encode_image and encode_text; fake_encoder has encode_image"):
        Illustrate(IllustrationOptions()).route(profile(mute, None))
