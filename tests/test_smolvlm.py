"""SmolVLM and SmolVLM2: transformers' prompts and tiles, and the properties of every adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_decoders import SMOLVLM_CHAT_TEMPLATE, tiny_smolvlm
from transformers import Idefics3ImageProcessorPil, Idefics3Processor

from evalkit.checkpoints import resolve
from evalkit.testing import AdapterConformance
from evalkit.testing.inputs import CONVERSATION, sample_images
from evalkit.types import Checkpoint, CheckpointRef, Decoding, GenerateRequest, Placement, ScoreRequest, Turn
from evalkit_adapters.smolvlm import SmolVlmAdapter

CPU = Placement(device="cpu", dtype="float32")
QUESTION = (Turn(role="user", text="What is it?"),)


def checkpoint_of(folder: Path) -> Checkpoint:
    return resolve(CheckpointRef(source=str(folder)), "default")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_smolvlm(tmp_path_factory.mktemp("smolvlm") / "one")


@pytest.fixture(scope="module")
def second_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_smolvlm(tmp_path_factory.mktemp("smolvlm") / "two", model_type="smolvlm")


class TestSmolVlm(AdapterConformance):
    adapter = SmolVlmAdapter

    @pytest.fixture
    def checkpoint(self, folder: Path) -> Checkpoint:
        return checkpoint_of(folder)


class TestSmolVlm2(AdapterConformance):
    adapter = SmolVlmAdapter

    @pytest.fixture
    def checkpoint(self, second_folder: Path) -> Checkpoint:
        return checkpoint_of(second_folder)


def processor_of(folder: Path, adapter: SmolVlmAdapter) -> Any:
    kind: Any = Idefics3Processor
    return kind(
        image_processor=Idefics3ImageProcessorPil.from_pretrained(folder),
        tokenizer=adapter.model._tokenizer,
        image_seq_len=4,
        chat_template=SMOLVLM_CHAT_TEMPLATE,
    )


def test_the_whole_path_is_that_of_transformers(folder: Path) -> None:
    adapter = SmolVlmAdapter.load(checkpoint_of(folder), CPU)
    network: Any = adapter.model.network.model
    processor = processor_of(folder, adapter)
    for image in sample_images():
        messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]
        text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        inputs = processor(text=[text], images=[[image]], return_tensors="pt")
        prepared = adapter.prepare_image(image)
        prompt = adapter.model.prompt(QUESTION, (prepared,))
        assert [*prompt.head, *prompt.tail] == inputs["input_ids"][0].tolist()
        assert np.array_equal(prepared.inputs["pixel_values"], inputs["pixel_values"][0].numpy())
        output = network.generate(**inputs, max_new_tokens=7, do_sample=False)
        tokens = output[0, inputs["input_ids"].shape[1] :].tolist()
        expected = adapter.model._text([token for token in tokens if token not in adapter.model.network.ends])
        request = GenerateRequest(images=(prepared,), turns=QUESTION, decoding=Decoding(max_new_tokens=7))
        assert adapter.generate([request])[0].text == expected


@pytest.mark.parametrize("images", [1, 2])
def test_a_conversation_about_images_is_that_of_transformers(folder: Path, images: int) -> None:
    adapter = SmolVlmAdapter.load(checkpoint_of(folder), CPU)
    network: Any = adapter.model.network.model
    shown = sample_images()[:images]
    messages: list[dict[str, Any]] = [
        {"role": turn.role, "content": [{"type": "text", "text": turn.text}]} for turn in CONVERSATION
    ]
    messages[1]["content"] = [{"type": "image"}] * images + messages[1]["content"]
    processor = processor_of(folder, adapter)
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    inputs = processor(text=[text], images=[shown], return_tensors="pt")
    prepared = tuple(adapter.prepare_image(image) for image in shown)
    prompt = adapter.model.prompt(CONVERSATION, prepared)
    assert [*prompt.head, *prompt.tail] == inputs["input_ids"][0].tolist()
    assert len(prompt.rounds) == 2
    output = network.generate(**inputs, max_new_tokens=7, do_sample=False)
    tokens = output[0, inputs["input_ids"].shape[1] :].tolist()
    request = GenerateRequest(images=prepared, turns=CONVERSATION, decoding=Decoding(max_new_tokens=7))
    assert adapter.generate([request])[0].text == adapter.model._text(tokens)

    asked = ScoreRequest(images=prepared, turns=CONVERSATION, candidates=("yes", "a brown dog"))
    (scores,) = adapter.score_candidates([asked])
    for candidate, score in zip(asked.candidates, scores, strict=True):
        added: Any = adapter.model._tokenizer(f" {candidate}", return_tensors="pt").input_ids
        with torch.inference_mode():
            logits = network(
                input_ids=torch.cat([inputs["input_ids"], added], dim=1),
                **{name: inputs[name] for name in ("pixel_values", "pixel_attention_mask")},
            ).logits
        each = logits[:, -added.shape[1] - 1 : -1].log_softmax(dim=-1).gather(2, added[:, :, None])
        assert (score.logprob, score.tokens) == (pytest.approx(float(each.sum()), abs=1e-4), added.shape[1])


def test_describe_names_the_tiles(folder: Path, second_folder: Path) -> None:
    one, two = (SmolVlmAdapter.describe(checkpoint_of(path)) for path in (folder, second_folder))
    assert one.image.startswith("32x32 whole, and in tiles of 32x32 after resizing the longest side to 64")
    assert (dict(one.details)["architecture"], dict(two.details)["architecture"]) == ("idefics3", "smolvlm")
