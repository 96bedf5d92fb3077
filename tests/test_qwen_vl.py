"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: the processor's own prompts and images, and the properties of every adapter."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_decoders import QWEN_CHAT_TEMPLATE, tiny_qwen2_vl, tiny_qwen3_vl, tiny_qwen25_vl
from transformers import Qwen2VLImageProcessorPil

from evalkit.checkpoints import resolve
from evalkit.errors import CheckpointError, DataError, ImageError
from evalkit.testing import AdapterConformance
from evalkit.testing.inputs import CONVERSATION, sample_images
from evalkit.types import Checkpoint, CheckpointRef, Decoding, GenerateRequest, Placement, ScoreRequest, Turn
from evalkit_adapters.qwen_vl import QwenVlAdapter

CPU = Placement(device="cpu", dtype="float32")
QUESTION = (Turn(role="user", text="What is it?"),)
MAKERS = {"qwen2_vl": tiny_qwen2_vl, "qwen2_5_vl": tiny_qwen25_vl, "qwen3_vl": tiny_qwen3_vl}


def checkpoint_of(folder: Path) -> Checkpoint:
    return resolve(CheckpointRef(source=str(folder)), "default")


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = MAKERS[name](tmp_path_factory.mktemp("qwen") / name)
        return made[name]

    return make


@pytest.fixture(scope="module", params=MAKERS)
def adapter(request: pytest.FixtureRequest, folder_of: Callable[[str], Path]) -> QwenVlAdapter:
    return QwenVlAdapter.load(checkpoint_of(folder_of(request.param)), CPU)


class TestQwen2Vl(AdapterConformance):
    adapter = QwenVlAdapter

    @pytest.fixture
    def checkpoint(self, folder_of: Callable[[str], Path]) -> Checkpoint:
        return checkpoint_of(folder_of("qwen2_vl"))


class TestQwen25Vl(AdapterConformance):
    adapter = QwenVlAdapter

    @pytest.fixture
    def checkpoint(self, folder_of: Callable[[str], Path]) -> Checkpoint:
        return checkpoint_of(folder_of("qwen2_5_vl"))


class TestQwen3Vl(AdapterConformance):
    adapter = QwenVlAdapter

    @pytest.fixture
    def checkpoint(self, folder_of: Callable[[str], Path]) -> Checkpoint:
        return checkpoint_of(folder_of("qwen3_vl"))


def inputs_of(
    adapter: QwenVlAdapter, folder: Path, *images: Image.Image, said: Sequence[Turn] = ()
) -> dict[str, torch.Tensor]:
    """What `Qwen2VLProcessor` does with pictures and a question; the class itself asks for torchvision."""
    tokenizer: Any = adapter.model._tokenizer
    messages: list[dict[str, Any]] = [
        {"role": turn.role, "content": [{"type": "text", "text": turn.text}]} for turn in (*said, *QUESTION)
    ]
    first = next(message for message in messages if message["role"] == "user")
    first["content"] = [{"type": "image"}] * len(images) + first["content"]
    text = tokenizer.apply_chat_template(
        messages, chat_template=QWEN_CHAT_TEMPLATE, add_generation_prompt=True, tokenize=False
    )
    found = Qwen2VLImageProcessorPil.from_pretrained(folder)(list(images), return_tensors="pt")
    for grid in found["image_grid_thw"]:
        text = text.replace("<|image_pad|>", "<|placeholder|>" * (int(grid.prod()) // 4), 1)
    ids = tokenizer(text.replace("<|placeholder|>", "<|image_pad|>"), return_tensors="pt").input_ids
    types = (ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")).int()
    return {**found, "input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": types}


# ------------------------------------------------------------------------------------------- prompts, images, positions
def test_the_whole_path_is_that_of_transformers(adapter: QwenVlAdapter, folder_of: Callable[[str], Path]) -> None:
    network: Any = adapter.model.network.model
    folder = folder_of(network.config.model_type)
    for image in sample_images()[:3]:
        inputs = inputs_of(adapter, folder, image)
        prepared = adapter.prepare_image(image)
        prompt = adapter.model.prompt(QUESTION, (prepared,))
        assert [*prompt.head, *prompt.tail] == inputs["input_ids"][0].tolist()
        assert np.array_equal(prepared.inputs["pixel_values"], inputs["pixel_values"].numpy())
        output = network.generate(**inputs, max_new_tokens=7, do_sample=False)
        tokens = output[0, inputs["input_ids"].shape[1] :].tolist()
        expected = adapter.model._text([token for token in tokens if token not in adapter.model.network.ends])
        request = GenerateRequest(images=(prepared,), turns=QUESTION, decoding=Decoding(max_new_tokens=7))
        assert adapter.generate([request])[0].text == expected


@pytest.mark.parametrize("images", [1, 2, 3])
def test_a_conversation_about_images_is_that_of_transformers(
    adapter: QwenVlAdapter, folder_of: Callable[[str], Path], images: int
) -> None:
    network: Any = adapter.model.network.model
    shown = sample_images()[:images]
    said = CONVERSATION[:-1]
    inputs = inputs_of(adapter, folder_of(network.config.model_type), *shown, said=said)
    prepared = tuple(adapter.prepare_image(image) for image in shown)
    prompt = adapter.model.prompt((*said, *QUESTION), prepared)
    assert [*prompt.head, *prompt.tail] == inputs["input_ids"][0].tolist()
    assert len(prompt.rounds) == 2
    output = network.generate(**inputs, max_new_tokens=7, do_sample=False)
    tokens = output[0, inputs["input_ids"].shape[1] :].tolist()
    request = GenerateRequest(images=prepared, turns=(*said, *QUESTION), decoding=Decoding(max_new_tokens=7))
    assert adapter.generate([request])[0].text == adapter.model._text(tokens)

    asked = ScoreRequest(images=prepared, turns=(*said, *QUESTION), candidates=("yes", "a brown dog"))
    (scores,) = adapter.score_candidates([asked])
    for candidate, score in zip(asked.candidates, scores, strict=True):
        added: Any = adapter.model._tokenizer(candidate, return_tensors="pt").input_ids
        with torch.inference_mode():
            logits = network(
                input_ids=torch.cat([inputs["input_ids"], added], dim=1),
                mm_token_type_ids=torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(added, dtype=torch.int)], 1),
                **{name: inputs[name] for name in ("pixel_values", "image_grid_thw")},
            ).logits
        each = logits[:, -added.shape[1] - 1 : -1].log_softmax(dim=-1).gather(2, added[:, :, None])
        assert (score.logprob, score.tokens) == (pytest.approx(float(each.sum()), abs=1e-4), added.shape[1])


def test_scores_use_the_positions_of_the_grid(adapter: QwenVlAdapter) -> None:
    """With the positions of plain text the scores would be others: the test would not notice a dropped grid."""
    network: Any = adapter.model.network.model
    image = adapter.prepare_image(sample_images()[4])
    prompt = adapter.model.prompt(QUESTION, (image,))
    ids = torch.tensor([[*prompt.head, *prompt.tail]])
    inputs = adapter.model.network.image_inputs((image,))
    grid = adapter.model.network.positions(ids, inputs)
    assert grid.shape == (3, 1, ids.shape[1])
    assert int(grid.max()) + 1 < ids.shape[1], "an image takes fewer positions than tokens"
    with torch.inference_mode():
        flat = network(input_ids=ids, position_ids=torch.arange(ids.shape[1])[None], **inputs).logits[0, -1]
        right = network(input_ids=ids, position_ids=grid, **inputs).logits[0, -1]
    candidates = [(token,) for token in (3, 4, 5)]
    scores = adapter.model._decoder.score(prompt, candidates)
    assert scores == pytest.approx(right.log_softmax(dim=-1)[[3, 4, 5]].tolist(), abs=1e-5)
    assert scores != pytest.approx(flat.log_softmax(dim=-1)[[3, 4, 5]].tolist(), abs=1e-3)


@pytest.mark.parametrize("file", ["chat_template.json", "chat_template.jinja", "tokenizer_config.json"])
def test_the_chat_template_is_found_wherever_it_is(tmp_path: Path, file: str) -> None:
    folder = tiny_qwen2_vl(tmp_path / "qwen")
    (folder / "chat_template.json").unlink()
    with pytest.raises(CheckpointError, match="no chat template"):
        QwenVlAdapter.describe(checkpoint_of(folder))
    settings = json.loads((folder / file).read_text("utf-8")) if (folder / file).is_file() else {}
    content = json.dumps(settings | {"chat_template": QWEN_CHAT_TEMPLATE})
    (folder / file).write_text(QWEN_CHAT_TEMPLATE if file.endswith("jinja") else content, "utf-8")
    adapter = QwenVlAdapter.load(checkpoint_of(folder), CPU)
    rendered = adapter.model._dialect.render(QUESTION, 1)
    assert rendered == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "<|vision_start|><|image_pad|><|vision_end|>What is it?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_template_without_images_is_refused(tmp_path: Path) -> None:
    folder = tiny_qwen2_vl(tmp_path / "qwen")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "nothing"}), "utf-8")
    adapter = QwenVlAdapter.load(checkpoint_of(folder), CPU)
    image = adapter.prepare_image(sample_images()[0])
    request = GenerateRequest(images=(image,), turns=QUESTION, decoding=Decoding(max_new_tokens=1))
    with pytest.raises(CheckpointError, match="puts 0 images into a prompt with 1"):
        adapter.generate([request])


def test_the_marker_in_a_question_is_refused(adapter: QwenVlAdapter) -> None:
    turns = (Turn(role="user", text="What is <|image_pad|>?"),)
    with pytest.raises(DataError, match="stands for an image"):
        adapter.score_candidates([ScoreRequest(images=(), turns=turns, candidates=("yes",))])


def test_a_candidate_that_merges_with_the_prompt_is_tokenized_by_itself(adapter: QwenVlAdapter) -> None:
    tokenizer: Any = adapter.model._tokenizer
    texts = ("yes", "\nyes")
    assert adapter.model.candidates(QUESTION, 1, texts) == [tuple(tokenizer(text).input_ids) for text in texts]


def test_a_very_slim_image_is_refused(adapter: QwenVlAdapter) -> None:
    with pytest.raises(ImageError, match="402 x 2 pixels"):
        adapter.prepare_image(Image.new("RGB", (402, 2)))
    assert adapter.prepare_image(Image.new("RGB", (400, 2))).text


@pytest.mark.parametrize("name", MAKERS)
def test_describe_names_the_bounds(folder_of: Callable[[str], Path], name: str) -> None:
    found = QwenVlAdapter.describe(checkpoint_of(folder_of(name)))
    assert found.image == "sides to multiples of 8, 256 to 2048 pixels, aspect ratio kept, bicubic (PIL)"
    details = dict(found.details)
    assert (details["architecture"], details["min_pixels"], details["max_pixels"]) == (name, "256", "2048")
    assert details["attention"] == "sdpa"


def test_the_bounds_hold(adapter: QwenVlAdapter) -> None:
    counts = [len(adapter.prepare_image(image).inputs["pixel_values"]) for image in sample_images()]
    assert max(counts) * 16 <= 2048 and min(counts) * 16 >= 256
    assert len(set(counts)) > 2, "unlike images take unlike numbers of patches"


def test_settings_that_are_missing_are_named(tmp_path: Path) -> None:
    folder = tiny_qwen2_vl(tmp_path / "qwen")
    settings = json.loads((folder / "preprocessor_config.json").read_text("utf-8"))
    del settings["max_pixels"]
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), "utf-8")
    with pytest.raises(CheckpointError, match=r"lack size\.longest_edge"):
        QwenVlAdapter.describe(checkpoint_of(folder))


def test_recipes() -> None:
    captions = QwenVlAdapter.card.recipes["captioning"]
    assert (captions.prompt, captions.decoding) == ("Describe the image in English:", Decoding(max_new_tokens=30))
    assert "{question}" in QwenVlAdapter.card.recipes["vqa"].prompt
