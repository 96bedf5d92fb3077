"""The adapter for OpenAI-compatible servers: naming, requests and answers, against a real HTTP server."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from chat_server import MODEL, ChatServer, Fault, chat_serving, completion, error_body
from PIL import Image
from served_adapter import QUICK, VARIABLES, adapter_of, ask, checkpoint_of, picture, texts

from evalkit.cache import ResponseCache
from evalkit.checkpoints import resolve
from evalkit.digests import ImageDigests
from evalkit.engine.local import LocalEngine
from evalkit.errors import CapabilityError, CheckpointError, ConfigError, DataError, ModelOutputError
from evalkit.model import Model, fingerprint
from evalkit.progress import SilentProgress
from evalkit.served import read_served
from evalkit.testing import AdapterConformance
from evalkit.types import (
    Checkpoint,
    CheckpointRef,
    Decoding,
    GenerateRequest,
    Generation,
    ImageRef,
    ModelCard,
    Placement,
    Turn,
)
from evalkit_adapters.openai import LARGEST_PNG, OpenAIAdapter
from evalkit_adapters.openai_client import TRIES

CPU = Placement(device="cpu", dtype="float32")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_serving() as state:
        yield state


# ------------------------------------------------------------------------------------------------------- conformance
@pytest.fixture(scope="module")
def suite_server() -> Iterator[ChatServer]:
    with chat_serving() as state:
        yield state


class TestConformance(AdapterConformance):
    adapter = OpenAIAdapter
    purpose = "captioning/coco"

    @pytest.fixture
    def checkpoint(self, suite_server: ChatServer) -> Checkpoint:
        return resolve(CheckpointRef(source=suite_server.source), self.purpose)


class TestConformanceWithTwoImages(AdapterConformance):
    adapter = OpenAIAdapter
    images_per_request = 2

    @pytest.fixture
    def checkpoint(self, suite_server: ChatServer) -> Checkpoint:
        return resolve(CheckpointRef(source=suite_server.source), self.purpose)


# ---------------------------------------------------------------------------------------------- naming a served model
@pytest.mark.parametrize(
    ("source", "url", "model"),
    [
        ("http://127.0.0.1:8000/v1#org/name", "http://127.0.0.1:8000/v1", "org/name"),
        ("HTTPS://API.Example.com/v1/#gpt-4o:latest@2", "https://api.example.com/v1", "gpt-4o:latest@2"),
        ("http://[::1]:30000/v1#m", "http://[::1]:30000/v1", "m"),
        ("http://host#/models/llava#fine", "http://host", "/models/llava#fine"),
    ],
)
def test_a_served_model_is_named_by_url_and_model(source: str, url: str, model: str) -> None:
    served = read_served(source)
    assert (served.url, served.model) == (url, model)
    found = resolve(CheckpointRef(source=source), "vqa")
    assert (found.digest, found.paths, found.revision) == (f"served:{url}#{model}", (), None)


def test_a_label_of_the_users_is_part_of_the_identity() -> None:
    found = resolve(CheckpointRef(source="http://h/v1#m", revision="weights-of-2026-11-01"), "vqa")
    assert found.digest == "served:http://h/v1#m@weights-of-2026-11-01"
    assert found.revision == "weights-of-2026-11-01"
    with pytest.raises(CheckpointError, match="is a label"):
        resolve(CheckpointRef(source="http://h/v1#m", revision="two words"), "vqa")


@pytest.mark.parametrize("source", ["http://", "https://"])
def test_there_is_no_default_server(source: str) -> None:
    with pytest.raises(CheckpointError, match=r"no default checkpoint\. Give --checkpoint URL#MODEL, for example"):
        resolve(CheckpointRef(source=source), "vqa")


@pytest.mark.parametrize(
    "source",
    ["http://#m", "http://host/v1", "http://host/v1#", "http://host:port/v1#m", "http://[::1/v1#m", "http://h/v 1#m"],
)
def test_a_malformed_address_says_the_form(source: str) -> None:
    with pytest.raises(CheckpointError, match=r"does not name a server and one of its models\. Give --checkpoint URL#"):
        resolve(CheckpointRef(source=source), "vqa")


@pytest.mark.parametrize(
    "source",
    [
        "http://user:s3cret@host/v1#m",
        "http://user:s3cret@host:port/v1#m",
        "http://user:s3/cret@host/v1#m",
        "http://user:s3#cret@host/v1#m",
        "https://host/v1?key=s3cret#m",
    ],
)
def test_a_credential_in_the_address_is_refused_and_not_repeated(source: str) -> None:
    with pytest.raises(CheckpointError) as failure:
        resolve(CheckpointRef(source=source), "vqa")
    assert "s3" not in str(failure.value)
    assert "cret" not in str(failure.value).replace("credential", "")


# -------------------------------------------------------------------------------------------------- what is sent
def test_images_reach_the_server_pixel_for_pixel(server: ChatServer) -> None:
    adapter = adapter_of(server)
    sent = [picture(1), picture(2, (640, 480)), picture(3, (1, 1))]
    adapter.generate([ask("what?", *(adapter.prepare_image(image) for image in sent))])
    assert [image.format for image in server.images] == ["PNG"] * 3
    for image, arrived in zip(sent, server.images, strict=True):
        assert arrived.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(arrived), np.asarray(image))


def test_a_large_image_is_sent_as_a_fine_jpeg(server: ChatServer) -> None:
    adapter = adapter_of(server)
    width = LARGEST_PNG // 1000
    gradient = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8)[None, :, None], (1001, width, 3))
    at_limit, above = Image.fromarray(gradient[:1000]), Image.fromarray(gradient)
    adapter.generate([ask("what?", adapter.prepare_image(at_limit), adapter.prepare_image(above))])
    assert [image.format for image in server.images] == ["PNG", "JPEG"]
    arrived = server.images[1]
    assert arrived.size == above.size
    assert int(np.abs(np.asarray(arrived).astype(int) - np.asarray(above)).max()) <= 3
    assert arrived.layer[0][1:3] == arrived.layer[1][1:3] == (1, 1)  # type: ignore[attr-defined] # of a JPEG: 4:4:4


def test_nothing_but_pixels_is_sent(server: ChatServer) -> None:
    image = picture()
    image.info |= {"icc_profile": b"profile " * 20, "transparency": (1, 2, 3), "exif": b"Exif\0\0", "comment": "me"}
    adapter = adapter_of(server)
    prepared = adapter.prepare_image(image)
    assert prepared == adapter.prepare_image(picture())
    assert image.info["comment"] == "me"
    adapter.generate([ask("what?", prepared)])
    assert server.images[0].info == {}


def test_the_request_says_greedy_and_nothing_else(server: ChatServer) -> None:
    adapter = adapter_of(server)
    first, second = adapter.prepare_image(picture(1)), adapter.prepare_image(picture(2))
    turns = (
        Turn(role="system", text="Be brief."),
        Turn(role="user", text="What is it?"),
        Turn(role="assistant", text="A cat."),
        Turn(role="user", text="Sure?"),
    )
    decoding = Decoding(max_new_tokens=7, stop=("\n", "."))
    adapter.generate([GenerateRequest(images=(first, second), turns=turns, decoding=decoding)])
    assert server.paths == ["/v1/chat/completions"]
    assert server.asked == [
        {
            "model": MODEL,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": first}},
                        {"type": "image_url", "image_url": {"url": second}},
                        {"type": "text", "text": "What is it?"},
                    ],
                },
                {"role": "assistant", "content": "A cat."},
                {"role": "user", "content": "Sure?"},
            ],
            "max_tokens": 7,
            "temperature": 0,
            "seed": 0,
            "stop": ["\n", "."],
        }
    ]


def test_without_images_content_is_text_and_without_text_it_is_the_image(server: ChatServer) -> None:
    adapter = adapter_of(server, settings=replace(QUICK, concurrency=1))
    image = adapter.prepare_image(picture())
    adapter.generate([ask("hello"), ask("", image)])
    contents = [asked["messages"][0]["content"] for asked in server.asked]
    assert contents == ["hello", [{"type": "image_url", "image_url": {"url": image}}]]
    assert all("stop" not in asked for asked in server.asked)


@pytest.mark.parametrize(
    "settings",
    [{"num_beams": 3}, {"min_new_tokens": 1}, {"length_penalty": 0.0}, {"repetition_penalty": 1.1}],
    ids=lambda it: next(iter(it)),
)
def test_decoding_that_the_protocol_does_not_have_is_refused_before_anything_is_sent(
    server: ChatServer, settings: dict[str, Any]
) -> None:
    ((name, value),) = settings.items()
    with pytest.raises(CapabilityError, match=rf"its protocol has no {name}={value}\. Leave"):
        adapter_of(server).generate([ask("fine"), ask("not", **settings)])
    assert server.asked == []


def test_a_conversation_ends_with_the_user(server: ChatServer) -> None:
    turns = (Turn(role="user", text="a"), Turn(role="assistant", text="b"))
    request: GenerateRequest[str] = GenerateRequest(images=(), turns=turns, decoding=Decoding(max_new_tokens=2))
    with pytest.raises(DataError, match="must end with the user's turn"):
        adapter_of(server).generate([request])


def test_recipes_are_in_the_protocol(server: ChatServer) -> None:
    recipes = OpenAIAdapter.card.recipes
    assert set(recipes) == {"captioning", "vqa"}
    requests = [replace(ask(recipe.prompt), decoding=recipe.decoding) for recipe in recipes.values()]
    assert len(adapter_of(server).generate(requests)) == 2
    assert sorted(asked["max_tokens"] for asked in server.asked) == [64, 128]


def test_a_precision_is_the_servers(server: ChatServer) -> None:
    with pytest.raises(ConfigError, match="bfloat16 was asked for"):
        OpenAIAdapter.load(checkpoint_of(server), Placement(device="cpu", dtype="bfloat16"))


# ------------------------------------------------------------------------------------------------ what is understood
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (completion("yes", "stop", 2), Generation(text="yes", finish="stop", tokens=2)),
        (completion(" Two\ncats. ", "length", 20), Generation(text=" Two\ncats. ", finish="length", tokens=20)),
        (completion(None, "stop", 0), Generation(text="", finish="stop", tokens=0)),
        (completion("yes", "eos_token", None), Generation(text="yes", finish="stop", tokens=0)),
        (completion("", "content_filter", 3), Generation(text="", finish="filtered", tokens=3)),
        (completion("A ma", "content_filter", 3), Generation(text="A ma", finish="filtered", tokens=3)),
    ],
    ids=["plain", "cut off", "no text", "other words", "filtered", "filtered midway"],
)
def test_answers_are_kept_as_they_come(server: ChatServer, body: bytes, expected: Generation) -> None:
    server.faults = [Fault(body=body)]
    assert adapter_of(server).generate([ask("?")]) == [expected]


@pytest.mark.parametrize("code", ["content_filter", "content_policy_violation"])
def test_a_prompt_the_server_will_never_answer_is_a_filtered_answer(server: ChatServer, code: str) -> None:
    server.faults_of = {"bad": [Fault(status=400, body=error_body("filtered", code))]}
    empty, other = adapter_of(server).generate([ask("bad"), ask("good")])
    assert empty == Generation(text="", finish="filtered", tokens=0)
    assert other.text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"choices": [{"mess', "is not JSON"),
        (b"<html>hello</html>", r"is not JSON: '<html>hello</html>'"),
        (b"\xff\xfe", "is not JSON"),
        (b"[]", "is not a chat completion"),
        (b'{"choices": []}', "is not a chat completion"),
        (b'{"choices": [{"text": "hi", "finish_reason": "stop"}]}', "is not a chat completion"),
        (b'{"choices": [{"message": {"content": ["a"]}, "finish_reason": "stop"}]}', "content is not text"),
        (completion("hi", None, 1), "ended for the reason None"),
        (completion("hi", "abort", 1), "ended for the reason 'abort', which is neither stop nor length"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_an_answer_that_is_none_is_named(server: ChatServer, body: bytes, said: str) -> None:
    server.faults = [Fault(body=body)]
    with pytest.raises(ModelOutputError, match=said) as failure:
        adapter_of(server).generate([ask("?")])
    assert server.url in failure.value.problem
    assert MODEL in failure.value.problem
    assert len(str(failure.value)) < 900
    assert len(server.asked) == 1


def test_a_server_that_knows_only_the_other_name_of_the_limit(server: ChatServer) -> None:
    server.only_completion_limit = True
    adapter = adapter_of(server, settings=replace(QUICK, concurrency=1))
    answers = adapter.generate([ask("a"), ask("b", max_new_tokens=1), ask("c")])
    assert len(texts(answers)) == 3
    # asked once the old way, then the new way only
    assert [("max_tokens" in one, one.get("max_completion_tokens")) for one in server.asked] == [
        (True, None), (False, 20), (False, 1), (False, 20)
    ]  # fmt: skip


def test_any_other_400_is_not_asked_again(server: ChatServer) -> None:
    server.faults = [Fault(status=400, body=error_body("max_tokens is too large: 20"))]
    with pytest.raises(ModelOutputError, match=r'answered 400 and said "max_tokens is too large: 20"\. Correct'):
        adapter_of(server).generate([ask("a")])
    assert len(server.asked) == 1


# ------------------------------------------------------------------------------------------ through the rich client
def model_over(
    server: ChatServer, cache: ResponseCache, *, batch: int = 4, on_error: Literal["stop", "skip"] = "stop"
) -> Model:
    checkpoint = checkpoint_of(server)
    card: ModelCard = OpenAIAdapter.card
    preprocessing = OpenAIAdapter.describe(checkpoint)
    return Model(
        card=card,
        capabilities=("generate",),
        preprocessing=preprocessing,
        identity=fingerprint(card, checkpoint, preprocessing, "float32"),
        engine=LocalEngine(lambda: adapter_of(server), model="openai", on_error=on_error, threads=2),
        cache=cache,
        digests=ImageDigests(on_error=on_error, threads=2),
        progress=SilentProgress(),
        batch_size=batch,
    )


def stored(number: int) -> ImageRef:
    data = io.BytesIO()
    picture(number).save(data, "PNG")
    return ImageRef(id=str(number), source=data.getvalue())


def questions(count: int) -> list[GenerateRequest[ImageRef]]:
    images = [stored(number) for number in range(math.ceil(count / 3))]
    return [
        GenerateRequest(
            images=(images[number // 3],),
            turns=(Turn(role="user", text=f"question {number}"),),
            decoding=Decoding(max_new_tokens=20),
        )
        for number in range(count)
    ]


def test_a_run_that_failed_continues_where_it_was(server: ChatServer, tmp_path: Path) -> None:
    requests = questions(24)
    with ResponseCache(tmp_path / "whole") as cache:
        expected = model_over(server, cache).generate(requests)
    order = [asked["messages"][0]["content"][1]["text"] for asked in server.asked]
    server.asked.clear()
    server.faults_of = {order[-1]: [Fault(status=503)] * TRIES}
    with ResponseCache(tmp_path / "cache") as cache:
        with pytest.raises(ModelOutputError, match="the same command continues"):
            model_over(server, cache).generate(requests)
    server.asked.clear()
    with ResponseCache(tmp_path / "cache") as cache:
        model = model_over(server, cache)
        assert model.generate(requests) == expected
        assert model.from_cache["generate"] == 20
    assert len(server.asked) == 4
    with ResponseCache(tmp_path / "cache") as cache:
        assert model_over(server, cache).generate(requests) == expected
    assert len(server.asked) == 4


def test_a_defect_of_a_photo_is_skipped_as_with_any_model(server: ChatServer, tmp_path: Path) -> None:
    requests = questions(3)
    broken = replace(requests[0], images=(ImageRef(id="x", source=b"no image"),))
    with ResponseCache(tmp_path / "cache") as cache:
        model = model_over(server, cache, on_error="skip")
        first, *rest = model.generate([broken, *requests])
    assert "not an image" in str(first)
    assert all(isinstance(answer, Generation) for answer in rest)
