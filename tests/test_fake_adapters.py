"""The fake adapters that tests of tasks and of the client use: counts, faults, likeness."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from evalkit.checkpoints import checkpoint_ref, resolve
from evalkit.testing import FakeEncoder, FakeEverything, FakeMatcher, Faults, fake_adapter
from evalkit.testing.inputs import sample_images
from evalkit.types import Decoding, GenerateRequest, MatchRequest, Placement, ScoreRequest, Turn


def load(adapter: type[FakeEncoder]) -> Any:
    checkpoint = resolve(checkpoint_ref(adapter.card, None, "x"), "x")
    return adapter.load(checkpoint, Placement(device="cpu", dtype="float32"))


def test_counts_are_of_each_fake_adapters_own() -> None:
    one, other = fake_adapter(FakeEverything, name="one"), fake_adapter(FakeEverything)
    assert one.card.name == "one"
    assert other.card.name == "fake_everything"
    loaded = load(one)
    image = loaded.prepare_image(sample_images()[0])
    loaded.encode_image([image, image])
    loaded.encode_text(["a", "b", "c"])
    loaded.encode_text(["a"])
    loaded.encode_query(["a", "b"])
    loaded.match([MatchRequest(images=(image,), texts=("a", "b")), MatchRequest(images=(image,), texts=("a",))])
    turns = (Turn(role="user", text="?"),)
    loaded.generate([GenerateRequest(images=(image,), turns=turns, decoding=Decoding(max_new_tokens=3))])
    loaded.score_candidates([ScoreRequest(images=(image,), turns=turns, candidates=("yes", "no"))])
    assert one.calls.loads == 1
    assert one.calls.images_prepared == 1
    assert one.calls.batches == {
        "encode_image": [2],
        "encode_text": [3, 1],
        "encode_query": [2],
        "match": [3],
        "generate": [1],
        "score_candidates": [2],
    }
    assert one.calls.asked["encode_text"] == 4
    assert not other.calls.batches


def test_texts_that_share_words_are_close() -> None:
    dog, dogs, car = load(FakeEncoder).encode_text(["a brown dog runs", "a brown dog sleeps", "cars in traffic"])
    assert dog @ dogs > 0.5 > dog @ car


def test_a_query_is_near_its_text_and_another_vector() -> None:
    loaded, texts = load(FakeEverything), ["a brown dog runs", "cars in traffic"]
    scores = loaded.encode_query(texts) @ loaded.encode_text(texts).T
    assert (scores.argmax(axis=1) == [0, 1]).all()
    assert scores.max() < 0.99


def test_a_fake_adapter_runs_out_of_memory_as_torch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(fake_adapter(FakeMatcher, faults=Faults(oom_above=2)))
    assert len(loaded.encode_text(["a", "b"])) == 2
    with pytest.raises(torch.OutOfMemoryError, match="a batch of 3, and 2 fit"):
        loaded.encode_text(["a", "b", "c"])
    image = loaded.prepare_image(sample_images()[0])
    with pytest.raises(torch.OutOfMemoryError):
        loaded.match([MatchRequest(images=(image,), texts=("a", "b", "c"))])
    monkeypatch.delitem(sys.modules, "torch")
    with pytest.raises(MemoryError):
        loaded.encode_text(["a", "b", "c"])


def test_a_fake_adapter_is_slow_and_keeps_a_log(tmp_path: Path) -> None:
    loaded = load(fake_adapter(FakeEncoder, faults=Faults(seconds=0.05, log=tmp_path / "log")))
    start = time.perf_counter()
    loaded.encode_text(["a", "b"])
    assert time.perf_counter() - start >= 0.05
    loaded.encode_text(["a"])
    assert (tmp_path / "log").read_text("utf-8") == "encode_text 2\nencode_text 1\n"


def test_counting_in_threads_loses_nothing() -> None:
    adapter = fake_adapter(FakeEncoder)
    loaded, image = load(adapter), sample_images()[0]
    threads = [threading.Thread(target=lambda: [loaded.prepare_image(image) for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert adapter.calls.images_prepared == 400


def test_a_fake_matcher_heeds_context_and_scoring() -> None:
    loaded = load(FakeMatcher)
    request = MatchRequest(images=(loaded.prepare_image(sample_images()[0]),), texts=("a", "b", "c"))
    asked = [request, replace(request, context="a dog"), replace(request, scoring="log_odds")]
    plain, told, odds = ([float(value) for value in answer] for answer in loaded.match(asked))
    assert all(len(set(values)) == 3 for values in (plain, told, odds))
    assert all(len(set(values)) == 3 for values in zip(plain, told, odds, strict=True))
