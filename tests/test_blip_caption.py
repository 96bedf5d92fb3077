"""BLIP's captions: the official beam search, batched and cached, against the plain one, and each trap on the way."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from blip_reference import beam_search, inputs_of, load, narrowed, original_name
from safetensors.torch import load_file, save_file
from tiny_checkpoints import randomize, tiny_blip_caption, tiny_blip_retrieval, tiny_blip_vqa
from transformers import BlipConfig, BlipForConditionalGeneration

from evalkit.errors import CapabilityError, CheckpointError
from evalkit.testing.conformance import AdapterConformance
from evalkit.types import Checkpoint, Decoding, GenerateRequest, Generation, MatchRequest, ScoreRequest, Turn
from evalkit_adapters._blip_beam import Search
from evalkit_adapters.blip import BlipAdapter
from evalkit_adapters.blip_card import RECIPES

COCO, NOCAPS = RECIPES["captioning"], RECIPES["captioning/nocaps"]
PROMPT = (30522, 1037, 3861, 1997)  # [DEC] a picture of
DECODINGS = {
    "coco": COCO.decoding,
    "nocaps": NOCAPS.decoding,
    "greedy": Decoding(max_new_tokens=12),
    "short": Decoding(max_new_tokens=9, num_beams=4, length_penalty=-1.0),
    "long": Decoding(max_new_tokens=9, num_beams=2, length_penalty=2.0, min_new_tokens=4, repetition_penalty=1.3),
    "one": Decoding(max_new_tokens=1, num_beams=3),
}


@pytest.fixture(scope="module")
def tokenizer(shared_fixtures: Path) -> Path:
    return shared_fixtures / "tokenizers" / "bert"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Path) -> Path:
    return tiny_blip_caption(tmp_path_factory.mktemp("caption"), tokenizer)


@pytest.fixture(scope="module")
def adapter(folder: Path) -> BlipAdapter:
    return load(folder, "captioning/coco")


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.standard_normal((3, 32, 32), dtype=np.float32) for _ in range(24)]


def asked(image: np.ndarray, decoding: Decoding = COCO.decoding, text: str = COCO.prompt) -> GenerateRequest:
    return GenerateRequest(images=(image,), turns=(Turn(role="user", text=text),), decoding=decoding)


@torch.inference_mode()
def states_of(adapter: BlipAdapter, image: np.ndarray) -> torch.Tensor:
    return adapter.network.model.vision_model(pixel_values=torch.from_numpy(image)[None]).last_hidden_state


# ------------------------------------------------------------------------------------------------- official and plain
@pytest.mark.parametrize("name", DECODINGS)
def test_captions_are_those_of_the_plain_search(name: str, adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    decoding = DECODINGS[name]
    generations = adapter.generate([asked(image, decoding) for image in images])
    for image, generation in zip(images, generations, strict=True):
        decoder = adapter.network.model.text_decoder
        ids, ended = beam_search(decoder, states_of(adapter, image), PROMPT, decoding)
        # the text as officially: decode all, then cut as many characters as the prompt has
        text = adapter.network._word_pieces.decode((*PROMPT, *ids))[len(COCO.prompt) :]
        assert generation == Generation(
            text=text, finish="stop" if ended else "length", tokens=len(ids) + (1 if ended else 0)
        )
    assert len({generation.text for generation in generations}) > len(images) / 2
    if decoding.max_new_tokens > 1:
        assert {generation.finish for generation in generations} == {"stop", "length"}
        assert len({generation.tokens for generation in generations}) >= 4


def test_nocaps_and_coco_decode_differently(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    coco, nocaps = ([asked(image, recipe.decoding) for image in images] for recipe in (COCO, NOCAPS))
    assert adapter.generate(coco) != adapter.generate(nocaps)


def transformers_texts(adapter: BlipAdapter, images: list[np.ndarray], length_penalty: float) -> list[str]:
    """By `generate` of transformers 5, whose beams are scored by the number of new tokens."""
    decoder = adapter.network.model.text_decoder
    texts = []
    for image in images:
        states = states_of(adapter, image)
        ids = decoder.generate(
            input_ids=torch.tensor([PROMPT]),
            attention_mask=torch.ones(1, len(PROMPT), dtype=torch.long),
            encoder_hidden_states=states,
            encoder_attention_mask=torch.ones(states.shape[:2], dtype=torch.long),
            num_beams=3,
            do_sample=False,
            max_new_tokens=16,
            min_new_tokens=1,
            length_penalty=length_penalty,
            eos_token_id=102,
            pad_token_id=0,
        )
        texts.append(adapter.network._word_pieces.decode(ids[0].tolist())[len(COCO.prompt) :])
    return texts


def test_where_length_does_not_count_transformers_5_agrees(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    decoding = dataclasses.replace(COCO.decoding, length_penalty=0.0)
    ours = adapter.generate([asked(image, decoding) for image in images])
    assert [generation.text for generation in ours] == transformers_texts(adapter, images, 0.0)


def test_where_length_counts_transformers_5_chooses_others(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    ours = adapter.generate([asked(image) for image in images])
    assert [generation.text for generation in ours] != transformers_texts(adapter, images, 1.0)


def test_length_counts_the_prompt() -> None:
    # -1.0 over 5 and -1.3 over 7 tokens: the longer wins; without the prompt's 4, -1.0 over 1 against -1.3 over 3 too,
    # but -1.0 over 5 against -1.45 over 7 is won by the shorter, which new tokens alone would not give
    for longer, wins in ((-1.3, True), (-1.45, False)):
        search = Search(prompt=4, decoding=Decoding(max_new_tokens=16, num_beams=2), beams=[PROMPT], scores=[0.0])
        search.advance([(-0.1, 0, 7), (-0.2, 0, 8), (-9.0, 0, 9), (-9.1, 0, 10)])
        search.advance([(-1.0, 0, 102), (-1.1, 1, 9), (-1.2, 1, 10), (-9.1, 0, 10)])
        search.advance([(-1.2, 0, 9), (-1.25, 1, 10), (-9.0, 0, 11), (-9.1, 0, 12)])
        search.advance([(longer, 0, 102), (longer - 5, 1, 9), (longer - 5, 1, 10), (longer - 6, 0, 10)])
        assert search.best().ids == ((8, 9, 9) if wins else (7,))
        assert search.best().ended


def test_equal_scores_go_to_the_last_found() -> None:
    search = Search(prompt=1, decoding=Decoding(max_new_tokens=2, num_beams=2), beams=[(30522,)], scores=[0.0])
    search.advance([(-1.0, 0, 7), (-1.0, 0, 8), (-2.0, 0, 9), (-2.0, 0, 10)])
    search.stop()
    assert search.best().ids == (8,)


def test_an_end_that_is_no_beam_of_its_own_is_dropped() -> None:
    search = Search(prompt=1, decoding=Decoding(max_new_tokens=2, num_beams=2), beams=[(30522,)], scores=[0.0])
    search.advance([(-1.0, 0, 7), (-2.0, 0, 8), (-2.5, 0, 102), (-3.0, 0, 10)])
    assert search.finished == []
    assert search.beams == [(30522, 7), (30522, 8)]


# ------------------------------------------------------------------------------------------------------------ batches
def test_company_and_order_change_no_caption(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    requests = [
        asked(image, DECODINGS[name], text)
        for image, name, text in zip(
            images, list(DECODINGS) * 4, [COCO.prompt, "", "a photo of two ", "it's a dog, "] * 6, strict=True
        )
    ]
    together = adapter.generate(requests)
    assert [adapter.generate([request])[0] for request in requests] == together
    assert adapter.generate(requests[::-1])[::-1] == together


def test_finished_images_leave_the_batch(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    first = adapter.network.model.text_decoder.bert.encoder.layer[0]
    with inputs_of(first.intermediate) as shapes:
        adapter.generate([asked(image) for image in images])
    rows = [shape[0] * shape[1] for shape in shapes]
    assert rows[0] == len(images) * len(PROMPT)
    assert rows[1] == len(images) * 3
    assert sorted(rows[1:], reverse=True) == rows[1:]
    assert rows[-1] < rows[1]


def test_a_batch_takes_the_steps_of_its_longest_search(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    def steps(*batch: np.ndarray) -> int:
        with inputs_of(adapter.network.model.text_decoder.cls) as shapes:
            adapter.generate([asked(image) for image in batch])
        return len(shapes)

    alone = [steps(image) for image in images]
    early = [number for number, taken in enumerate(alone) if taken < 16]
    assert early
    assert steps(*(images[number] for number in early)) == max(alone[number] for number in early)


def test_an_images_keys_and_values_are_computed_once(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    for layer in adapter.network.model.text_decoder.bert.encoder.layer:
        with inputs_of(layer.crossattention.self.key) as keys, inputs_of(layer.crossattention.self.value) as values:
            adapter.generate([asked(image) for image in images[:4]])
        assert keys == values == [(4, 17, 64)]


def test_an_image_is_encoded_once(folder: Path, images: list[np.ndarray]) -> None:
    adapter = load(folder, "captioning")
    with inputs_of(adapter.network.model.vision_model) as seen:
        first = adapter.generate([asked(images[0], text="a "), asked(images[1]), asked(images[0], text="two ")])
        assert seen == [(2, 3, 32, 32)]
        again = adapter.generate([asked(images[0], text="two ")])
        assert len(seen) == 1
        adapter.generate([asked(images[1], text="two ")])
        assert len(seen) == 2
    assert again[0] == first[2]


# -------------------------------------------------------------------------------------------------------------- traps
def test_the_prompt_is_dec_and_words_without_sep(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    seen = []
    hook = adapter.network.model.text_decoder.bert.embeddings.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].tolist())
    )
    try:
        adapter.generate([asked(images[0], Decoding(max_new_tokens=1))])
    finally:
        hook.remove()
    assert seen == [[list(PROMPT)]]


def test_a_stop_text_cuts_the_caption(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    whole = max(adapter.generate([asked(image) for image in images]), key=lambda generation: len(generation.text))
    image = next(image for image in images if adapter.generate([asked(image)])[0] == whole)
    stop = whole.text.split(" ")[2]
    cut = adapter.generate([asked(image, dataclasses.replace(COCO.decoding, stop=("?!", stop)))])[0]
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish == "stop"


def test_a_prompt_beyond_the_positions_is_refused(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    with pytest.raises(CapabilityError, match=r"at most 64 tokens.*prompt of 61"):
        adapter.generate([asked(images[0], Decoding(max_new_tokens=4), "dog " * 60)])


def test_what_a_captioning_checkpoint_cannot_do_is_refused(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    turns = (Turn(role="user", text="a dog?"),)
    for call, batch in (
        (adapter.encode_image, images[:1]),
        (adapter.encode_text, ["a dog"]),
        (adapter.match, [MatchRequest(images=(images[0],), texts=("a dog",))]),
        (adapter.score_candidates, [ScoreRequest(images=(images[0],), turns=turns, candidates=("yes",))]),
    ):
        with pytest.raises(CapabilityError, match=rf"loaded for captioning, and {call.__name__} needs"):
            call(batch)


def test_conversations_and_pairs_of_images_are_refused(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    request = asked(images[0])
    with pytest.raises(CapabilityError, match="2 turns"):
        adapter.generate([dataclasses.replace(request, turns=request.turns * 2)])
    with pytest.raises(CapabilityError, match="one image"):
        adapter.generate([dataclasses.replace(request, images=request.images * 2)])


def test_half_precision_captions_too(folder: Path, images: list[np.ndarray]) -> None:
    generations = load(folder, "captioning", "bfloat16").generate([asked(image) for image in images[:4]])
    assert all(generation.tokens >= 1 for generation in generations)


# ------------------------------------------------------------------------------------------------------------ weights
def test_an_original_file_gives_the_captions_of_the_folder(
    folder: Path, images: list[np.ndarray], tokenizer: Path, tmp_path: Path
) -> None:
    # 64 dimensions a head, which an original file leaves unsaid: one head here
    edited = shutil.copytree(folder, tmp_path / "folder")
    config = (edited / "config.json").read_text("utf-8")
    (edited / "config.json").write_text(config.replace('"num_attention_heads": 4', '"num_attention_heads": 1'), "utf-8")
    weights = load_file(edited / "model.safetensors")
    weights["text_decoder.cls.predictions.decoder.weight"] = weights[
        "text_decoder.bert.embeddings.word_embeddings.weight"
    ]
    weights["text_decoder.cls.predictions.decoder.bias"] = weights["text_decoder.cls.predictions.bias"]
    state = {original_name(name): tensor for name, tensor in weights.items()}
    state["text_decoder.bert.embeddings.position_ids"] = torch.arange(64)[None]
    (tmp_path / "original").mkdir()
    file = tmp_path / "original" / "model_base_caption_capfilt_large.pth"
    torch.save({"model": state, "epoch": 4}, file)
    shutil.copyfile(tokenizer / "vocab.txt", file.parent / "vocab.txt")
    original = load(file, "captioning/nocaps")
    # an original is for 384 pixels; these 32 do for the comparison
    assert original.network.model.config.vision_config.image_size == 384
    from_folder = load(edited, "captioning/nocaps")
    large = [np.random.default_rng(seed).standard_normal((3, 384, 384), dtype=np.float32) for seed in range(3)]
    positions = original.network.model.vision_model.embeddings.position_embedding
    from_folder.network.model.vision_model.embeddings.position_embedding = positions
    requests = [asked(image, NOCAPS.decoding) for image in large]
    assert original.generate(requests) == from_folder.generate(requests)


def test_an_original_file_tells_the_widths_of_both_towers(tokenizer: Path, tmp_path: Path) -> None:
    # BLIP large: the image is wider than the text
    config = BlipConfig(
        text_config={
            "hidden_size": 64,
            "intermediate_size": 80,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "vocab_size": 30524,
            "max_position_embeddings": 40,
        },
        vision_config={
            "hidden_size": 128,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 384,
            "patch_size": 96,
        },
    )
    model = BlipForConditionalGeneration(config)
    randomize(model, seed=3)
    model.eval()
    file = tmp_path / "model_large_caption.pth"
    torch.save({"model": {original_name(name): value for name, value in model.state_dict().items()}}, file)
    shutil.copyfile(tokenizer / "vocab.txt", tmp_path / "vocab.txt")
    adapter = load(file, "captioning")
    image = np.random.default_rng(0).standard_normal((3, 384, 384), dtype=np.float32)
    for layer in adapter.network.model.vision_model.encoder.layers:
        assert layer.layer_norm1.eps == 1e-6
    ids, _ = beam_search(adapter.network.model.text_decoder, states_of(adapter, image), PROMPT, DECODINGS["long"])
    text = adapter.network._word_pieces.decode((*PROMPT, *ids))[len(COCO.prompt) :]
    assert adapter.generate([asked(image, DECODINGS["long"])])[0].text == text


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (tiny_blip_retrieval, r"missing text_decoder\..*unexpected itm_head"),
        (tiny_blip_vqa, r"unexpected text_encoder"),
    ],
)
def test_other_weights_are_refused(make: object, problem: str, tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=problem) as caught:
        load(make(tmp_path / "other", tokenizer), "captioning")
    assert "captioning" in caught.value.problem
    assert "captioning" in caught.value.remedy


def test_missing_weights_are_named(folder: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    weights = load_file(damaged / "model.safetensors")
    del weights["text_decoder.cls.predictions.transform.dense.bias"]
    save_file(weights, damaged / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing text_decoder\.cls\.predictions\.transform\.dense\.bias"):
        load(damaged, "captioning")


def test_a_purpose_without_a_network_is_refused(folder: Path) -> None:
    with pytest.raises(CapabilityError, match="no network for 'classification'"):
        load(folder, "classification")


# ------------------------------------------------------------------------------------------------------------- recipes
def test_recipes_are_the_official_settings() -> None:
    for recipe in (COCO, NOCAPS):
        assert recipe.prompt == "a picture of "
        decoding = recipe.decoding
        # max_length 20 and min_length 5 count the 4 tokens of the prompt
        assert (decoding.max_new_tokens + 4, decoding.min_new_tokens + 4, decoding.num_beams) == (20, 5, 3)
        assert decoding.length_penalty == 1
    assert (COCO.decoding.repetition_penalty, NOCAPS.decoding.repetition_penalty) == (1.0, 1.1)


def test_the_description_says_what_is_done(folder: Path) -> None:
    checkpoint = Checkpoint(source="x", revision=None, paths=(folder,), digest="d", purpose="captioning/coco")
    described = BlipAdapter.describe(checkpoint)
    assert described.image == "32x32 squash, bicubic (PIL)"
    assert ("first_token", "[DEC]") in described.details


class TestConformance(AdapterConformance):
    adapter = narrowed("generate")
    purpose = "captioning"

    @pytest.fixture
    def checkpoint(self, folder: Path) -> Checkpoint:
        return Checkpoint(source=str(folder), revision=None, paths=(folder,), digest="sha256:0", purpose=self.purpose)
