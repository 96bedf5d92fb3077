"""The rich client: dedup, cache, resume, batches, order, checks, failures, memory."""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evalkit.cache import ResponseCache
from evalkit.digests import ImageDigests
from evalkit.engine.local import LocalEngine
from evalkit.errors import CapabilityError, CheckpointError, ImageError, ModelOutputError, OutOfMemoryError
from evalkit.model import Model
from evalkit.progress import SilentProgress
from evalkit.types import (
    CAPABILITIES,
    CandidateScore,
    Decoding,
    Failure,
    FloatArray,
    GenerateRequest,
    Generation,
    ImageRef,
    MatchRequest,
    ModelCard,
    Preprocessing,
    ScoreRequest,
    Turn,
)

CARD = ModelCard(
    name="recorder", version=1, summary="", paper="", licence="", variants=(), batch_size=4, pairs_per_batch=6
)


class Recorder:
    """Answers from the content alone and writes down every batch."""

    def __init__(self, *, fits: int | None = None, spoil: Callable[[Any], Any] = lambda answers: answers) -> None:
        self.batches: list[tuple[str, list[Any]]] = []
        self.threads: set[int] = set()
        self._fits = fits
        self._spoil = spoil

    def _record(self, name: str, items: list[Any]) -> None:
        if self._fits is not None and len(items) > self._fits:
            raise MemoryError("too big")
        self.batches.append((name, items))

    def prepare_image(self, image: Image.Image) -> int:
        self.threads.add(threading.get_ident())
        assert image.mode == "RGB"
        pixel = image.getpixel((0, 0))
        assert isinstance(pixel, tuple)
        return int(pixel[0])

    def encode_image(self, images: Sequence[int]) -> FloatArray:
        self._record("encode_image", list(images))
        return self._spoil(np.array([[value, 1.0] for value in images], dtype=np.float32))  # type: ignore[no-any-return]

    def encode_text(self, texts: Sequence[str]) -> FloatArray:
        self._record("encode_text", list(texts))
        return np.array([[len(text), hash_of(text)] for text in texts], dtype=np.float32)

    def match(self, requests: Sequence[MatchRequest[int]]) -> list[FloatArray]:
        self._record("match", [(request.images, text) for request in requests for text in request.texts])
        return [
            np.array([sum(request.images) + hash_of(text) for text in request.texts], dtype=np.float32)
            for request in requests
        ]

    def generate(self, requests: Sequence[GenerateRequest[int]]) -> list[Generation]:
        self._record("generate", list(requests))
        return [
            Generation(text=f"{request.images} {request.turns[-1].text}", finish="stop", tokens=2)
            for request in requests
        ]

    def score_candidates(self, requests: Sequence[ScoreRequest[int]]) -> list[list[CandidateScore]]:
        self._record("score_candidates", [text for request in requests for text in request.candidates])
        return [
            [
                CandidateScore(logprob=-hash_of(text) - request.images[0] / 7, tokens=len(text))
                for text in request.candidates
            ]
            for request in requests
        ]

    def asked(self, name: str) -> list[Any]:
        return [item for kind, items in self.batches if kind == name for item in items]


def hash_of(text: str) -> float:
    return float(sum(text.encode()) % 97)


def image(value: int, id: str | None = None) -> ImageRef:
    stream = io.BytesIO()
    Image.new("RGB", (2, 2), (value, 0, 0)).save(stream, "PNG")
    return ImageRef(id=id or str(value), source=stream.getvalue())


def client(
    cache: ResponseCache,
    adapter: Recorder,
    *,
    batch_size: int | None = None,
    on_error: Any = "stop",
    capabilities: tuple[Any, ...] = CAPABILITIES,
    identity: bytes = b"weights",
) -> Model:
    return Model(
        card=CARD,
        capabilities=capabilities,
        preprocessing=Preprocessing(image="", text=""),
        identity=identity,
        engine=LocalEngine(lambda: adapter, model=CARD.name, on_error=on_error, threads=3),
        cache=cache,
        digests=ImageDigests(on_error=on_error, threads=2),
        progress=SilentProgress(),
        batch_size=batch_size,
    )


@pytest.fixture
def cache(tmp_path: Path) -> Any:
    with ResponseCache(tmp_path / "cache") as opened:
        yield opened


def test_equal_questions_are_asked_once_and_order_is_restored(cache: ResponseCache) -> None:
    adapter = Recorder()
    texts = ["bb", "a", "bb", "cccc", "a", "dd", "eee"]
    vectors = client(cache, adapter).encode_text(texts).vectors
    assert vectors.dtype == np.float32
    assert vectors.tolist() == [[len(text), hash_of(text)] for text in texts]
    assert sorted(adapter.asked("encode_text")) == sorted(set(texts))
    assert max(len(items) for _, items in adapter.batches) <= CARD.batch_size


def test_two_names_of_the_same_bytes_are_one_question(cache: ResponseCache) -> None:
    adapter = Recorder()
    vectors = client(cache, adapter).encode_image([image(7, "first"), image(9), image(7, "second")]).vectors
    assert vectors[:, 0].tolist() == [7, 9, 7]
    assert sorted(adapter.asked("encode_image")) == [7, 9]


def test_a_second_client_asks_nothing_and_loads_nothing(cache: ResponseCache) -> None:
    images, texts = [image(value) for value in range(9)], [f"text {value}" for value in range(9)]
    pairs = [MatchRequest(images=(ref,), texts=tuple(texts)) for ref in images]

    def ask(model: Model) -> Any:
        return (
            model.encode_image(images).vectors.tolist(),
            model.encode_text(texts).vectors.tolist(),
            [row.tolist() for row in model.match(pairs) if not isinstance(row, Failure)],
        )

    def load() -> Recorder:
        raise AssertionError("weights were loaded")

    first = ask(client(cache, Recorder()))
    again = client(cache, Recorder())
    again._engine = LocalEngine(load, model="recorder", on_error="stop", threads=1)
    assert ask(again) == first
    assert sum(again.asked.values()) == 0
    assert again.from_cache == {"encode_image": 9, "encode_text": 9, "match": 81}


def test_swapped_bytes_under_the_same_name_are_a_new_question(cache: ResponseCache, tmp_path: Path) -> None:
    file = tmp_path / "photo.png"
    answers = []
    for value in (1, 2):
        Image.new("RGB", (2, 2), (value, 0, 0)).save(file)
        answers.append(client(cache, Recorder()).encode_image([ImageRef(id="x", source=file)]).vectors[0, 0])
    assert answers == [1, 2]


def test_other_weights_are_other_questions(cache: ResponseCache) -> None:
    client(cache, Recorder(), identity=b"one").encode_text(["a"])
    adapter = Recorder()
    client(cache, adapter, identity=b"two").encode_text(["a"])
    assert adapter.asked("encode_text") == ["a"]


def test_each_batch_is_committed_before_the_next_is_asked(cache: ResponseCache) -> None:
    adapter = Recorder()
    seen: list[int] = []
    original = adapter.encode_text

    def encode_text(texts: Sequence[str]) -> FloatArray:
        (count,) = cache._connection.execute("SELECT count(*) FROM answers").fetchone()
        seen.append(count)
        return original(texts)

    adapter.encode_text = encode_text  # type: ignore[method-assign] # a spy
    client(cache, adapter).encode_text([f"{number:03}" for number in range(10)])
    assert seen == [0, 4, 8]


def test_a_continued_run_forms_the_batches_it_would_have_formed(tmp_path: Path) -> None:
    texts = [f"{'x' * (number % 5)} {number}" for number in range(22)]
    whole = Recorder()
    with ResponseCache(tmp_path / "whole") as cache:
        client(cache, whole).encode_text(texts)

    class Stopped(Recorder):
        def encode_text(self, texts: Sequence[str]) -> FloatArray:
            if len(self.batches) == 2:
                raise KeyboardInterrupt
            return super().encode_text(texts)

    first, second = Stopped(), Recorder()
    with ResponseCache(tmp_path / "cut") as cache:
        with pytest.raises(KeyboardInterrupt):
            client(cache, first).encode_text(texts)
        client(cache, second).encode_text(random.Random(0).sample(texts, len(texts)))
    assert first.batches + second.batches == whole.batches


@pytest.mark.parametrize("batch_size", [None, 1, 3, 64])
def test_match_is_right_for_every_batch_size_and_asks_each_pair_once(
    cache: ResponseCache, batch_size: int | None
) -> None:
    adapter = Recorder()
    requests = [
        MatchRequest(images=(image(value),), texts=tuple(f"t{value % 3} {number}" for number in range(value)))
        for value in (5, 1, 9, 2, 0)
    ]
    requests.append(MatchRequest(images=(image(9),), texts=("extra", "t0 1")))
    answers = client(cache, adapter, batch_size=batch_size).match(requests)
    for request, answer in zip(requests, answers, strict=True):
        value = int(request.images[0].id)
        assert not isinstance(answer, Failure)
        assert answer.dtype == np.float32
        assert answer.tolist() == [value + hash_of(text) for text in request.texts]
    asked = adapter.asked("match")
    assert len(asked) == len(set(asked)) == 5 + 1 + 9 + 2 + 1


def test_two_images_are_matched_as_a_pair(cache: ResponseCache) -> None:
    left, right = image(3), image(4)
    requests = [MatchRequest(images=(left, right), texts=("a",)), MatchRequest(images=(right, left), texts=("a",))]
    adapter = Recorder()
    client(cache, adapter).match(requests)
    assert sorted(images for images, _ in adapter.asked("match")) == [(3, 4), (4, 3)]


def test_generate_and_score_go_through_the_same_client(cache: ResponseCache) -> None:
    decoding = Decoding(max_new_tokens=5)
    turns = (Turn(role="user", text="what?"),)
    generations = [GenerateRequest(images=(image(value),), turns=turns, decoding=decoding) for value in (2, 1, 2)]
    scores = [ScoreRequest(images=(image(value),), turns=turns, candidates=("yes", "no", "yes")) for value in (1, 2)]
    for adapter in (Recorder(), Recorder()):
        model = client(cache, adapter)
        answers = model.generate(generations)
        assert [a.text for a in answers if isinstance(a, Generation)] == ["(2,) what?", "(1,) what?", "(2,) what?"]
        rows = model.score_candidates(scores)
        assert rows[1] == tuple(
            CandidateScore(logprob=-hash_of(text) - 2 / 7, tokens=len(text)) for text in ("yes", "no", "yes")
        )
    assert adapter.batches == []


def test_other_decoding_is_another_question(cache: ResponseCache) -> None:
    adapter = Recorder()
    turns = (Turn(role="user", text="what?"),)
    for beams in (1, 3):
        request = GenerateRequest(images=(image(1),), turns=turns, decoding=Decoding(max_new_tokens=5, num_beams=beams))
        client(cache, adapter).generate([request])
    assert len(adapter.asked("generate")) == 2


def test_what_the_adapter_cannot_do_is_refused_before_weights_load(cache: ResponseCache) -> None:
    def load() -> Recorder:
        raise AssertionError("weights were loaded")

    model = client(cache, Recorder(), capabilities=("encode_image",))
    model._engine = LocalEngine(load, model="recorder", on_error="stop", threads=1)
    with pytest.raises(CapabilityError, match="'recorder' cannot match: it can encode_image"):
        model.match([MatchRequest(images=(image(1),), texts=("a",))])


def test_more_images_or_turns_than_the_card_allows_are_refused_before_anything_is_asked(cache: ResponseCache) -> None:
    adapter = Recorder()
    question, answer = Turn(role="user", text="what?"), Turn(role="assistant", text="a dog")
    plain = ScoreRequest(images=(image(1),), turns=(question,), candidates=("yes",))
    several, talk = replace(plain, images=(image(1), image(2))), replace(plain, turns=(question, answer, question))
    model = client(cache, adapter)
    for request, match in ((several, "takes at most 1 images a request, and was given 2"), (talk, "a conversation")):
        with pytest.raises(CapabilityError, match=match):
            model.score_candidates([plain, request])
        generate = GenerateRequest(images=request.images, turns=request.turns, decoding=Decoding(max_new_tokens=5))
        with pytest.raises(CapabilityError, match=match):
            model.generate([generate])
    assert adapter.batches == []
    model.card = replace(CARD, max_images=2, conversations=True)
    assert len(model.score_candidates([plain, several, talk])) == 3


def test_images_are_prepared_in_loader_threads(cache: ResponseCache) -> None:
    adapter = Recorder()
    client(cache, adapter).encode_image([image(value) for value in range(12)])
    assert threading.get_ident() not in adapter.threads


def test_torch_adds_up_in_the_threads_asked_for_whoever_loads_the_adapter(cache: ResponseCache) -> None:
    """Loaded in a loader thread, an adapter computes in another, whose count torch keeps apart."""
    counts = []

    class Counting(Recorder):
        def encode_image(self, images: Sequence[Any]) -> Any:
            counts.append(torch.get_num_threads())
            return super().encode_image(images)

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        model = client(cache, Recorder())
        model._engine = LocalEngine(Counting, model=CARD.name, on_error="stop", threads=2, torch_threads=1)
        model.encode_image([image(value) for value in range(3)])
    finally:
        torch.set_num_threads(before)
    assert set(counts) == {1}


def test_a_truncated_image_stops_by_name_or_is_skipped_and_said(cache: ResponseCache, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    data = image(1).source
    assert isinstance(data, bytes)
    broken.write_bytes(data[:40])
    refs = [image(3), ImageRef(id="b", source=broken), ImageRef(id="m", source=tmp_path / "missing.png"), image(4)]
    with pytest.raises(ImageError, match=r"missing\.png"):
        client(cache, Recorder()).encode_image(refs)
    with pytest.raises(ImageError, match=r"broken\.png"):
        client(cache, Recorder()).encode_image(refs[:2])
    answer = client(cache, Recorder(), on_error="skip").encode_image(refs)
    assert sorted(answer.failures) == [1, 2]
    assert "broken.png" in answer.failures[1].sample
    assert "missing.png" in answer.failures[2].sample
    assert answer.vectors[[0, 3], 0].tolist() == [3, 4]
    rows = client(cache, Recorder(), on_error="skip").match([MatchRequest(images=(ref,), texts=("a",)) for ref in refs])
    assert [isinstance(row, Failure) for row in rows] == [False, True, True, False]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: np.full_like(a, np.nan), "encode_image gave NaN or infinity for inline image"),
        (lambda a: a[:-1], "gave 3 answers for 4 questions"),
        (lambda a: a.astype(np.float64), "float64"),
        (lambda a: [1.0] * len(a), "not a float32 vector"),
        (lambda a: [a[0], *(row[:1] for row in a[1:])], "shape"),
    ],
)
def test_malformed_answers_are_refused_and_not_stored(cache: ResponseCache, spoil: Any, message: str) -> None:
    with pytest.raises(ModelOutputError, match=message) as error:
        client(cache, Recorder(spoil=spoil)).encode_image([image(value) for value in range(4)])
    assert "'recorder'" in str(error.value)
    assert cache._connection.execute("SELECT count(*) FROM answers").fetchone() == (0,)


def test_out_of_memory_halves_the_batch_and_remembers(cache: ResponseCache) -> None:
    adapter = Recorder(fits=3)
    texts = [f"{number:02}" for number in range(16)]
    model = client(cache, adapter, batch_size=8)
    assert model.encode_text(texts).vectors[:, 1].tolist() == [hash_of(text) for text in texts]
    assert [len(items) for _, items in adapter.batches] == [2] * 8
    requests = [MatchRequest(images=(image(1),), texts=tuple(texts)), MatchRequest(images=(image(2),), texts=("a",))]
    rows = model.match(requests)
    assert [list(row) for row in rows] == [[1 + hash_of(text) for text in texts], [2 + hash_of("a")]]


def test_one_request_that_does_not_fit_is_an_error(cache: ResponseCache) -> None:
    with pytest.raises(OutOfMemoryError, match="one request of encode_text does not fit"):
        client(cache, Recorder(fits=0)).encode_text(["a"])


def test_weights_that_cannot_be_loaded_are_tried_once(cache: ResponseCache) -> None:
    tried = []

    def load() -> Recorder:
        tried.append(1)
        raise CheckpointError("broken.pth cannot be read.", "Get it again.")

    model = client(cache, Recorder())
    model._engine = LocalEngine(load, model=CARD.name, on_error="stop", threads=3)
    with pytest.raises(CheckpointError, match=r"broken\.pth"):
        model.encode_image([image(value) for value in range(6)])
    assert tried == [1]


def test_a_plain_runtime_error_is_not_taken_for_memory(cache: ResponseCache) -> None:
    class Broken(Recorder):
        def encode_text(self, texts: Sequence[str]) -> FloatArray:
            raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        client(cache, Broken()).encode_text(["a"])


def test_no_question_gives_no_answer(cache: ResponseCache) -> None:
    model = client(cache, Recorder())
    assert len(model.encode_text([]).vectors) == 0
    assert model.match([]) == []
