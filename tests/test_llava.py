"""LLaVA: the official templates and images, the official tokens, and the properties of every adapter."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_decoders import tiny_llava, tiny_llava_next
from transformers import CLIPImageProcessorPil, LlavaImageProcessorPil, LlavaNextProcessor

from evalkit.checkpoints import resolve
from evalkit.errors import CheckpointError, DataError, ModelOutputError
from evalkit.testing import AdapterConformance
from evalkit.testing.inputs import sample_images
from evalkit.types import Checkpoint, CheckpointRef, Decoding, GenerateRequest, Placement, ScoreRequest, Turn
from evalkit_adapters._llava_images import pad_to_square
from evalkit_adapters.conversations import LLAVA_DIALECTS, split_at_images
from evalkit_adapters.llava import LlavaAdapter

CPU = Placement(device="cpu", dtype="float32")
QUESTION = (Turn(role="user", text="What is it?"),)
# after `get_prompt` of llava/conversation.py, with "<image>\n" before the first question
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. USER: <image>\nWhat is it? ASSISTANT:"
)
MISTRAL = "[INST] <image>\nWhat is it? [/INST]"
CHATML = (
    "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\n<image>\nWhat is it?<|im_end|>"
    "<|im_start|>assistant\n"
)


def checkpoint_of(folder: Path) -> Checkpoint:
    return resolve(CheckpointRef(source=str(folder)), "default")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava(tmp_path_factory.mktemp("llava") / "llava")


@pytest.fixture(scope="module")
def next_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava_next(tmp_path_factory.mktemp("llava") / "next")


@pytest.fixture(scope="module")
def adapter(folder: Path) -> LlavaAdapter:
    return LlavaAdapter.load(checkpoint_of(folder), CPU)


@pytest.fixture(scope="module")
def next_adapter(next_folder: Path) -> LlavaAdapter:
    return LlavaAdapter.load(checkpoint_of(next_folder), CPU)


class TestLlava15(AdapterConformance):
    adapter = LlavaAdapter

    @pytest.fixture
    def checkpoint(self, folder: Path) -> Checkpoint:
        return checkpoint_of(folder)


class TestLlava16(AdapterConformance):
    adapter = LlavaAdapter

    @pytest.fixture
    def checkpoint(self, next_folder: Path) -> Checkpoint:
        return checkpoint_of(next_folder)


# ---------------------------------------------------------------------------------------------------------- templates
@pytest.mark.parametrize(
    ("name", "expected"), [("vicuna_v1", VICUNA), ("mistral_instruct", MISTRAL), ("chatml_direct", CHATML)]
)
def test_templates_are_the_official_ones(name: str, expected: str) -> None:
    assert LLAVA_DIALECTS[name].render(QUESTION, 1) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vicuna_v1", "Be brief. USER: <image>\nOne? ASSISTANT: 1</s>USER: Two? ASSISTANT:"),
        ("mistral_instruct", "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n<image>\nOne? [/INST] 1 </s>[INST] Two? [/INST]"),
        (
            "chatml_direct",
            "<|im_start|>system\nBe brief.<|im_end|><|im_start|>user\n<image>\nOne?<|im_end|><|im_start|>assistant\n1"
            "<|im_end|><|im_start|>user\nTwo?<|im_end|><|im_start|>assistant\n",
        ),
    ],
)
def test_several_turns_and_a_system_text(name: str, expected: str) -> None:
    turns = (
        Turn(role="system", text="Be brief."),
        Turn(role="user", text="One?"),
        Turn(role="assistant", text="1"),
        Turn(role="user", text="Two?"),
    )
    assert LLAVA_DIALECTS[name].render(turns, 1) == expected


@pytest.mark.parametrize("name", ["vicuna_v1", "mistral_instruct", "chatml_direct"])
@pytest.mark.parametrize("place", [1, 2])
def test_a_second_system_text_and_a_late_one_are_refused(name: str, place: int) -> None:
    first = Turn(role="system" if place == 1 else "user", text="Be brief.")
    turns = [first, Turn(role="user", text="One?")]
    turns.insert(place, Turn(role="system", text="Be kind."))
    with pytest.raises(DataError, match="one system text, which opens the conversation"):
        LLAVA_DIALECTS[name].render(turns, 1)


@pytest.mark.parametrize(
    ("language", "name"), [("mistral", "mistral_instruct"), ("vicuna", "vicuna_v1"), ("yi", "chatml_direct")]
)
def test_the_template_follows_the_checkpoint(tmp_path: Path, language: str, name: str) -> None:
    checkpoint = checkpoint_of(tiny_llava_next(tmp_path / "next", language=language))
    assert f"template {name} " in LlavaAdapter.describe(checkpoint).text
    request = GenerateRequest(images=(), turns=QUESTION, decoding=Decoding(max_new_tokens=2))
    assert LlavaAdapter.load(checkpoint, CPU).generate([request])[0].tokens <= 2


@pytest.mark.parametrize("change", [{"text_config": {"model_type": "qwen2"}}, {"model_type": "clip"}])
def test_other_models_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = tiny_llava_next(tmp_path / "next")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | change), "utf-8")
    with pytest.raises(CheckpointError, match="Name a checkpoint"):
        LlavaAdapter.describe(checkpoint_of(folder))


def test_a_llama_3_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = tiny_llava_next(tmp_path / "next", language="vicuna")
    added = {"added_tokens_decoder": {"128006": {"content": "<|start_header_id|>"}}}
    (folder / "tokenizer_config.json").write_text(json.dumps(added), "utf-8")
    with pytest.raises(CheckpointError, match="not one of the released"):
        LlavaAdapter.describe(checkpoint_of(folder))


@pytest.mark.parametrize("text", ["Is <image> a word?", "<image>"])
def test_the_marker_of_an_image_in_a_question_is_refused(adapter: LlavaAdapter, text: str) -> None:
    request = GenerateRequest(images=(), turns=(Turn(role="user", text=text),), decoding=Decoding(max_new_tokens=2))
    with pytest.raises(DataError, match="stands for an image"):
        adapter.generate([request])


@pytest.mark.parametrize("turns", [(), (Turn(role="assistant", text="Yes."),)])
def test_a_conversation_ends_with_a_question(turns: tuple[Turn, ...]) -> None:
    with pytest.raises(DataError, match="end with the user's turn"):
        split_at_images(LLAVA_DIALECTS["vicuna_v1"], turns, 0)


# ------------------------------------------------------------------------------------------------------------- tokens
def official_tokens(prompt: str, tokenizer: Any, image: list[int]) -> list[int]:
    """`tokenizer_image_token` of llava/mm_utils.py, with the image's tokens in the place of its -200."""
    chunks = [tokenizer(chunk).input_ids for chunk in prompt.split("<image>")]
    ids = [chunks[0][0]]
    for place, chunk in enumerate(chunks):
        ids += ([] if place == 0 else image) + chunk[1:]
    return ids


@pytest.mark.parametrize("images", [1, 2])
def test_tokens_are_those_of_the_official_code(adapter: LlavaAdapter, images: int) -> None:
    prepared = [adapter.prepare_image(image) for image in sample_images()[:images]]
    prompt = adapter.model.prompt(QUESTION, prepared)
    token = adapter.model.network.image_token
    text = VICUNA.replace("<image>\n", "<image>\n" * images)
    assert [*prompt.head, *prompt.tail] == official_tokens(text, adapter.model._tokenizer, [token] * 16)
    assert prompt.head[-1] == token and token not in prompt.tail


ROUNDS = (*(Turn(role=role, text=text) for role, text in (("user", "One?"), ("assistant", "1"))), *QUESTION)


def test_a_conversation_is_that_of_the_official_code(adapter: LlavaAdapter) -> None:
    network: Any = adapter.model.network.model
    tokenizer: Any = adapter.model._tokenizer
    image = adapter.prepare_image(sample_images()[0])
    text = VICUNA.replace("What is it? ASSISTANT:", "One? ASSISTANT: 1</s>USER: What is it? ASSISTANT:")
    ids = torch.tensor([official_tokens(text, tokenizer, [adapter.model.network.image_token] * 16)])
    assert tokenizer.eos_token_id in ids, "what ends an answer is the token"
    prompt = adapter.model.prompt(ROUNDS, (image,))
    assert [*prompt.head, *prompt.tail] == ids[0].tolist()
    shown = {"pixel_values": torch.from_numpy(image.inputs["pixel_values"])}
    output = network.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=7, do_sample=False, **shown
    )
    request = GenerateRequest(images=(image,), turns=ROUNDS, decoding=Decoding(max_new_tokens=7))
    assert adapter.generate([request])[0].text == adapter.model._text(output[0, ids.shape[1] :].tolist())
    (scores,) = adapter.score_candidates([ScoreRequest(images=(image,), turns=ROUNDS, candidates=("yes", "a dog"))])
    for candidate, score in zip(("yes", "a dog"), scores, strict=True):
        whole = torch.tensor(
            [official_tokens(f"{text} {candidate}", tokenizer, [adapter.model.network.image_token] * 16)]
        )
        added = whole[:, ids.shape[1] :]
        with torch.inference_mode():
            logits = network(input_ids=whole, **shown).logits[:, -added.shape[1] - 1 : -1]
        each = logits.log_softmax(dim=-1).gather(2, added[:, :, None])
        assert (score.logprob, score.tokens) == (pytest.approx(float(each.sum()), abs=1e-4), added.shape[1])


def test_a_candidate_is_the_rest_of_the_answered_prompt(adapter: LlavaAdapter) -> None:
    tokenizer: Any = adapter.model._tokenizer
    (ids,) = adapter.model.candidates(QUESTION, 1, ("yes",))
    assert tokenizer.convert_ids_to_tokens(ids) == ["▁yes"]
    tail = "\nWhat is it? ASSISTANT:"
    assert tokenizer(f"{tail} yes", add_special_tokens=False).input_ids == [
        *tokenizer(tail, add_special_tokens=False).input_ids,
        *ids,
    ]


def test_an_empty_candidate_is_refused(adapter: LlavaAdapter) -> None:
    with pytest.raises(DataError, match="is empty"):
        adapter.score_candidates([ScoreRequest(images=(), turns=QUESTION, candidates=("yes", " "))])


# ------------------------------------------------------------------------------------------------------------- images
@pytest.mark.parametrize("size", [(64, 48), (48, 64), (61, 37), (33, 33)])
def test_images_are_padded_to_a_square_as_in_the_official_code(adapter: LlavaAdapter, size: tuple[int, int]) -> None:
    image = next(image for image in sample_images() if image.size == size)
    square = Image.new("RGB", (max(size), max(size)), (122, 116, 104))  # `expand2square` with CLIP's mean
    square.paste(image, ((max(size) - size[0]) // 2, (max(size) - size[1]) // 2))
    settings = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    official = CLIPImageProcessorPil(**settings)(square, return_tensors="np")["pixel_values"]
    prepared = adapter.prepare_image(image)
    np.testing.assert_allclose(prepared.inputs["pixel_values"], official, atol=1e-6)
    theirs = LlavaImageProcessorPil(**settings, do_pad=True)(image, return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(prepared.inputs["pixel_values"], theirs, atol=1e-6)
    assert prepared.text == "<image>" * 16
    assert pad_to_square(image, (122, 116, 104)).size == square.size


def test_nothing_is_cut_off(adapter: LlavaAdapter) -> None:
    image = Image.new("RGB", (96, 32), (122, 116, 104))
    plain = adapter.prepare_image(image).inputs["pixel_values"]
    image.paste((255, 0, 0), (0, 0, 6, 32))  # the left edge, which a crop would drop
    assert np.abs(adapter.prepare_image(image).inputs["pixel_values"] - plain).max() > 1


def test_tiles_and_tokens_are_those_of_transformers(next_adapter: LlavaAdapter, next_folder: Path) -> None:
    from transformers import LlavaNextImageProcessorPil

    kind: Any = LlavaNextProcessor
    processor = kind(
        image_processor=LlavaNextImageProcessorPil.from_pretrained(next_folder),
        tokenizer=next_adapter.model._tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    counts = set()
    for image in sample_images():
        theirs = processor(images=image, text="<image>", return_tensors="np")
        prepared = next_adapter.prepare_image(image)
        assert np.array_equal(prepared.inputs["pixel_values"], theirs["pixel_values"][0])
        assert np.array_equal(prepared.inputs["image_sizes"], theirs["image_sizes"])
        count = int((theirs["input_ids"] == next_adapter.model.network.image_token).sum())
        assert prepared.text == "<image>" * count
        counts.add(count)
    assert len(counts) > 2, "unlike images take unlike numbers of tokens"


def test_describe_names_what_is_done(folder: Path, next_folder: Path) -> None:
    padded, tiled = (LlavaAdapter.describe(checkpoint_of(path)) for path in (folder, next_folder))
    assert padded.image == "32x32 whole after padding to a square with the mean color, bicubic (PIL)"
    assert tiled.image == "32x32 whole and in tiles of 32x32 (anyres), bicubic (PIL)"
    assert ("attention", "sdpa") in padded.details and ("attention", "sdpa") in tiled.details
    assert dict(tiled.details)["image_grid_pinpoints"] == "[[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]"


# ------------------------------------------------------------------------------------------------------------ answers
def test_recipes_are_the_published_ones() -> None:
    vqa, caption = (LlavaAdapter.card.recipes[name] for name in ("vqa", "captioning"))
    assert vqa.prompt == "{question}\nAnswer the question using a single word or phrase."
    assert (vqa.decoding, caption.decoding) == (Decoding(max_new_tokens=128), Decoding(max_new_tokens=64))
    assert caption.prompt == "Provide a one-sentence caption for the provided image."


def test_a_stop_string_ends_the_answer_before_it(adapter: LlavaAdapter) -> None:
    image = adapter.prepare_image(sample_images()[1])
    request = GenerateRequest(images=(image,), turns=QUESTION, decoding=Decoding(max_new_tokens=12))
    whole = adapter.generate([request])[0]
    assert whole.finish == "length" and whole.tokens == 12 and len(whole.text) > 6
    stop = whole.text[3:5]
    decoding = replace(request.decoding, stop=("never in there", stop))
    cut = adapter.generate([replace(request, decoding=decoding)])[0]
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish == "stop" and cut.tokens < whole.tokens
    beamed = adapter.generate([replace(request, decoding=replace(decoding, num_beams=2))])[0]
    assert stop not in beamed.text


def test_the_end_token_ends_the_answer_and_is_not_counted(adapter: LlavaAdapter) -> None:
    image = adapter.prepare_image(sample_images()[1])
    request = GenerateRequest(images=(image,), turns=QUESTION, decoding=Decoding(max_new_tokens=12))
    tokens = adapter.model._decoder.generate(
        [adapter.model.prompt(QUESTION, (image,))], [request.decoding], lambda _number, _tokens: False
    )[0][0]
    fourth = next(place for place in range(3, 12) if tokens[place] not in tokens[:place])
    original = adapter.model._decoder._network
    adapter.model._decoder._network = replace(original, ends=frozenset({tokens[fourth]}))
    try:
        answer = adapter.generate([request])[0]
    finally:
        adapter.model._decoder._network = original
    assert (answer.finish, answer.tokens) == ("stop", fourth)


def test_sampling_settings_of_the_checkpoint_are_not_used(tmp_path: Path, folder: Path) -> None:
    other = tiny_llava(tmp_path / "llava")
    settings = {"do_sample": True, "temperature": 5.0, "repetition_penalty": 1.5, "eos_token_id": [2, 7]}
    (other / "generation_config.json").write_text(json.dumps(settings), "utf-8")
    adapter = LlavaAdapter.load(checkpoint_of(other), CPU)
    assert adapter.model.network.ends == {2, 7}
    image = adapter.prepare_image(sample_images()[0])
    request = GenerateRequest(images=(image,), turns=QUESTION, decoding=Decoding(max_new_tokens=8))
    assert adapter.generate([request]) == LlavaAdapter.load(checkpoint_of(folder), CPU).generate([request])
    beams = replace(request, decoding=Decoding(max_new_tokens=8, num_beams=2))
    assert adapter.generate([beams]) == adapter.generate([beams])


@pytest.mark.parametrize("content", ["[]", "null", "[" * 100_000], ids=["a list", "null", "deep"])
def test_generation_settings_of_no_known_form_are_named(tmp_path: Path, content: str) -> None:
    other = tiny_llava(tmp_path / "llava")
    (other / "generation_config.json").write_text(content, "utf-8")
    with pytest.raises(CheckpointError, match=r"generation_config\.json (holds no|is not JSON)"):
        LlavaAdapter.load(checkpoint_of(other), CPU)


def test_settings_that_are_nested_too_deeply_are_named(tmp_path: Path) -> None:
    other = tiny_llava(tmp_path / "llava")
    (other / "config.json").write_text("[" * 100_000, "utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json is not JSON"):
        LlavaAdapter.describe(checkpoint_of(other))


def test_a_prompt_beyond_the_models_positions_is_refused(adapter: LlavaAdapter) -> None:
    turns = (Turn(role="user", text="x" * 3000),)
    with pytest.raises(DataError, match="and the model takes 2048"):
        adapter.generate([GenerateRequest(images=(), turns=turns, decoding=Decoding(max_new_tokens=1))])


def test_an_answer_beyond_the_models_positions_is_refused(adapter: LlavaAdapter) -> None:
    """Rotary positions have no end: the network would answer, and score, what it was not trained for."""
    turns = (Turn(role="user", text="x"),)
    prompt = adapter.model.prompt(turns, ())
    length = len(prompt.head) + len(prompt.tail)
    for beams in (1, 2):
        allowed = Decoding(max_new_tokens=2048 - length + 2, num_beams=beams)
        with pytest.raises(DataError, match=rf"{length} tokens .* up to {2048 - length + 2}, .*-o max_new_tokens=N"):
            adapter.generate([GenerateRequest(images=(), turns=turns, decoding=allowed)])
    (tokens,) = adapter.model.candidates(turns, 0, ["x" * 3000])
    with pytest.raises(DataError, match=rf"an answer up to {len(tokens)}, and the model takes 2048"):
        adapter.score_candidates([ScoreRequest(images=(), turns=turns, candidates=("x", "x" * 3000))])


def test_an_answer_may_reach_the_models_last_position(adapter: LlavaAdapter) -> None:
    prompt = adapter.model.prompt((Turn(role="user", text="x"),), ())
    length = len(prompt.head) + len(prompt.tail)
    assert adapter.model.prompt((Turn(role="user", text="x"),), (), 2048 - length + 1) == prompt


def test_a_network_that_gives_nan_is_reported(folder: Path) -> None:
    adapter = LlavaAdapter.load(checkpoint_of(folder), CPU)
    with torch.no_grad():
        adapter.model.network.model.lm_head.weight.fill_(torch.nan)
    request = GenerateRequest(images=(), turns=QUESTION, decoding=Decoding(max_new_tokens=3))
    with pytest.raises(ModelOutputError, match="NaN after 0 tokens"):
        adapter.generate([request])


def test_weights_of_another_vocabulary_are_refused(tmp_path: Path) -> None:
    folder = tiny_llava(tmp_path / "llava")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"image_token_id": 5}), "utf-8")
    with pytest.raises(CheckpointError, match="the weights want 5"):
        LlavaAdapter.load(checkpoint_of(folder), CPU)


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    folder = tiny_llava(tmp_path / "llava")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(CheckpointError, match="no tokenizer"):
        LlavaAdapter.load(checkpoint_of(folder), CPU)


@pytest.mark.parametrize(("file", "match"), [("config.json", "no config.json"), ("preprocessor_config.json", "has no")])
def test_missing_files_are_named(tmp_path: Path, file: str, match: str) -> None:
    folder = tiny_llava(tmp_path / "llava")
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=match):
        LlavaAdapter.describe(checkpoint_of(folder))


def test_dtype_is_the_one_asked_for(folder: Path) -> None:
    adapter = LlavaAdapter.load(checkpoint_of(folder), Placement(device="cpu", dtype="bfloat16"))
    assert {parameter.dtype for parameter in adapter.model.network.model.parameters()} == {torch.bfloat16}
