"""BLIP's NLVR2 network: against its formulas, what it refuses, and its weights in both layouts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blip_formulas import Weights, attend_by, attend_itself, embed, feed_forward, image_states, linear, norm
from blip_reference import inputs_of, load, narrowed, original_name
from safetensors.torch import load_file, save_file
from tiny_checkpoints import randomize, tiny_blip_nlvr2
from transformers import BlipConfig

from evalkit.checkpoints import resolve
from evalkit.errors import CapabilityError, CheckpointError
from evalkit.testing import AdapterConformance
from evalkit.types import Checkpoint, CheckpointRef, MatchRequest
from evalkit_adapters._blip_nlvr2 import BlipForNlvr2
from evalkit_adapters.blip import BlipAdapter

STATEMENTS = (
    "There are exactly two dogs in the left image.",
    "dog",
    'One "image" shows (at least) #3 birds; the other... none!',
    "",
    "word " * 60,
)
LAYERS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shared_fixtures: Path) -> Path:
    return tiny_blip_nlvr2(tmp_path_factory.mktemp("nlvr2") / "blip", shared_fixtures / "tokenizers" / "bert")


@pytest.fixture(scope="module")
def adapter(folder: Path) -> BlipAdapter:
    return load(folder, "nlvr2")


@pytest.fixture(scope="module")
def weights(folder: Path) -> Weights:
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.standard_normal((3, 32, 32), dtype=np.float32) for _ in range(3)]


def asked(left: Any, right: Any, *texts: str, scoring: Any = "logit") -> MatchRequest[Any]:
    return MatchRequest(images=(left, right), texts=texts, scoring=scoring)


def by_formula(weights: Weights, left: np.ndarray, right: np.ndarray, token_ids: Sequence[int]) -> torch.Tensor:
    """(2,) logits: one statement, two images, nothing batched."""
    states = [image_states(weights, torch.from_numpy(image).double(), layers=2) for image in (left, right)]
    hidden = embed(weights, token_ids)
    for number in range(LAYERS):
        name = f"text_encoder.encoder.layer.{number}"
        hidden = attend_itself(weights, name, hidden)
        output = f"{name}.crossattention.output"
        one, other = (
            linear(
                weights, f"{output}.dense{side}", attend_by(weights, f"{name}.crossattention.self{side}", hidden, state)
            )
            for side, state in enumerate(states)
        )
        if number < 6:
            both = (one + other) / 2
        else:
            both = linear(weights, f"{output}.merge_layer", torch.cat([one, other], dim=1))
        hidden = norm(weights, f"{output}.LayerNorm", both + hidden, 1e-12)
        hidden = feed_forward(weights, name, hidden)
    return linear(weights, "cls_head.2", linear(weights, "cls_head.0", hidden[0]).relu())


def ids_of(adapter: BlipAdapter, statement: str) -> list[int]:
    """[ENC] words [SEP], at most 40 words: by this test's own hand but for the word pieces."""
    cleaned = statement.lower()
    for mark in '.!"()*#:;~':
        cleaned = cleaned.replace(mark, " ")
    words = cleaned.split()[:40]
    return [30523, *adapter.network._word_pieces.encode(" ".join(words))[1:]]


# ---------------------------------------------------------------------------------------------------------- formulas
def test_logits_and_log_odds_are_those_of_the_formulas(
    folder: Path, adapter: BlipAdapter, weights: Weights, images: list[np.ndarray]
) -> None:
    pairs = [(0, 1), (1, 0), (1, 2), (2, 2)]
    exact = {name: tensor.double() for name, tensor in weights.items()}
    expected = torch.stack(
        [by_formula(exact, images[a], images[b], ids_of(adapter, text)) for a, b in pairs for text in STATEMENTS]
    )
    requests = [(images[a], images[b], *STATEMENTS) for a, b in pairs]
    logits = np.concatenate(adapter.match([asked(*request) for request in requests]))
    np.testing.assert_allclose(logits, expected[:, 1], atol=1e-5)
    # in double precision, where rounding explains nothing
    double = load(folder, "nlvr2")
    double.network.model.double()
    for scoring, wanted in (("logit", expected[:, 1]), ("log_odds", expected[:, 1] - expected[:, 0])):
        answers = np.concatenate(double.match([asked(*request, scoring=scoring) for request in requests]))
        np.testing.assert_allclose(answers, wanted, atol=1e-6)
    # images, their order, and texts make far more of a difference than the tolerance
    by_pair = logits.reshape(len(pairs), len(STATEMENTS))
    assert np.ptp(by_pair, axis=0).min() > 1e-2
    assert np.ptp(by_pair, axis=1).min() > 1e-2
    assert np.abs(by_pair[0] - by_pair[1]).min() > 1e-3


def test_both_ways_of_merging_are_there_and_count(adapter: BlipAdapter) -> None:
    """As officially, whatever the depth: layers 0 to 5 take the mean, layer 6 is the first with a merging layer."""
    outputs = [layer.crossattention.output for layer in adapter.network.model.text_encoder.encoder["layer"]]
    assert [output.merge_layer is not None for output in outputs] == [False] * 6 + [True] * 2
    assert outputs[6].merge_layer.weight.shape == (64, 128)


def test_statements_are_cut_at_40_words_not_30(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    words = [*"abcdefghijklmnopqrstuvwxyz", *"0123456789", *"dog cat man boy red tree sky car bus".split()]
    texts = [" ".join(words[:count]) for count in (30, 39, 40, 41, 45)]
    (logits,) = adapter.match([asked(images[0], images[1], *texts)])
    assert logits[2] == pytest.approx(logits[3], abs=1e-6) == pytest.approx(logits[4], abs=1e-6)
    assert abs(logits[0] - logits[2]) > 1e-3
    assert abs(logits[1] - logits[2]) > 1e-3


def test_each_image_is_encoded_once_and_its_keys_once_a_side(
    adapter: BlipAdapter, folder: Path, images: list[np.ndarray]
) -> None:
    fresh = load(folder, "nlvr2")
    layer = fresh.network.model.text_encoder.encoder["layer"][0]
    requests = [asked(images[0], images[1], *STATEMENTS), asked(images[2], images[1], "a")]
    with (
        inputs_of(fresh.network.model.vision_model) as seen,
        inputs_of(layer.crossattention.self0.key) as left,
        inputs_of(layer.crossattention.self1.value) as right,
        inputs_of(fresh.network.model.text_encoder.encoder["layer"][-1].intermediate) as last,
    ):
        fresh.match(requests[:2])
    assert seen == [(3, 3, 32, 32)]
    assert left == [(2, 17, 64)]
    assert right == [(1, 17, 64)]
    assert last == [(len(STATEMENTS) + 1, 1, 64)]  # the first position alone


def test_a_request_without_texts_gets_an_empty_answer(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    answers = adapter.match([asked(images[0], images[1]), asked(images[0], images[1], "a dog")])
    assert [len(answer) for answer in answers] == [0, 1]


# ----------------------------------------------------------------------------------------------------------- refusals
def test_other_requests_are_refused(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    for count in (1, 3):
        with pytest.raises(CapabilityError, match=f"takes two images with a statement, and was given {count}"):
            adapter.match([MatchRequest(images=tuple(images[:count]), texts=("a",))])
    with pytest.raises(CapabilityError, match=r"nlvr2 network takes no context .*'a caption'"):
        adapter.match([MatchRequest(images=(images[0], images[1]), texts=("a",), context="a caption")])
    with pytest.raises(CapabilityError, match="blip was loaded for nlvr2, and encode_text needs"):
        adapter.encode_text(["a"])


# ------------------------------------------------------------------------------------------------------------ weights
def original_state(model: BlipForNlvr2) -> dict[str, torch.Tensor]:
    """All that `BLIP_NLVR` of `salesforce/BLIP` saves."""
    state = {original_name(name): tensor for name, tensor in model.state_dict().items()}
    positions = model.config.text_config.max_position_embeddings
    return {**state, "text_encoder.embeddings.position_ids": torch.arange(positions)[None]}


@pytest.fixture(scope="module")
def model() -> BlipForNlvr2:
    """Like BLIP in what an original file does not say: 64 dimensions a head, 384 pixels."""
    made = BlipForNlvr2(
        BlipConfig(
            text_config={
                "hidden_size": 128,
                "intermediate_size": 96,
                "num_hidden_layers": 7,
                "num_attention_heads": 2,
                "max_position_embeddings": 64,
            },
            vision_config={
                "hidden_size": 128,
                "intermediate_size": 80,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 384,
                "patch_size": 96,
            },
        )
    )
    randomize(made, seed=5)
    return made.eval()


@pytest.fixture
def original(model: BlipForNlvr2, tmp_path: Path, shared_fixtures: Path) -> Path:
    file = tmp_path / "model_base_nlvr.pth"
    torch.save({"model": original_state(model), "epoch": 5, "config": {"vit": "base"}}, file)
    shutil.copyfile(shared_fixtures / "tokenizers" / "bert" / "vocab.txt", tmp_path / "vocab.txt")
    return file


def test_the_original_names_are_those_of_the_official_code(model: BlipForNlvr2) -> None:
    names = set(original_state(model))
    for name in (
        "visual_encoder.cls_token",
        "visual_encoder.pos_embed",
        "visual_encoder.patch_embed.proj.weight",
        "visual_encoder.blocks.0.attn.qkv.bias",
        "visual_encoder.norm.weight",
        "text_encoder.embeddings.word_embeddings.weight",
        "text_encoder.embeddings.position_ids",
        "text_encoder.encoder.layer.0.attention.self.query.weight",
        "text_encoder.encoder.layer.0.attention.output.LayerNorm.bias",
        "text_encoder.encoder.layer.0.crossattention.self0.key.weight",
        "text_encoder.encoder.layer.5.crossattention.self1.value.bias",
        "text_encoder.encoder.layer.5.crossattention.output.dense0.weight",
        "text_encoder.encoder.layer.5.crossattention.output.dense1.weight",
        "text_encoder.encoder.layer.5.crossattention.output.LayerNorm.weight",
        "text_encoder.encoder.layer.6.crossattention.output.merge_layer.bias",
        "text_encoder.encoder.layer.6.intermediate.dense.weight",
        "text_encoder.encoder.layer.6.output.dense.weight",
        "cls_head.0.weight",
        "cls_head.2.bias",
    ):
        assert name in names
    assert not any("layer.5.crossattention.output.merge_layer" in name for name in names)
    assert not any(".self.query" in name and "crossattention" in name for name in names)


def test_an_original_file_is_loaded_to_the_bit(original: Path, model: BlipForNlvr2) -> None:
    ours = load(original, "nlvr2").network.model
    assert ours.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=0, atol=0)
    norms = [module for module in ours.vision_model.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-6}


@pytest.mark.parametrize(
    ("change", "name", "named"),
    [
        ("remove", "cls_head.2.weight", "missing cls_head.2.weight"),
        ("remove", "text_encoder.encoder.layer.6.crossattention.output.merge_layer.bias", "output.merge_layer.bias"),
        (
            "remove",
            "text_encoder.encoder.layer.3.crossattention.self1.key.weight",
            "missing text_encoder.encoder.layer",
        ),
        ("remove", "visual_encoder.pos_embed", "no vision_model.embeddings.position_embedding"),
        ("add", "itm_head.weight", "unexpected itm_head.weight"),
        (
            "add",
            "text_encoder.encoder.layer.0.crossattention.self.key.weight",
            "unexpected text_encoder.encoder.layer.0",
        ),
        ("cut", "cls_head.0.weight", "of the wrong shape cls_head.0.weight"),
    ],
)
def test_an_original_file_must_be_complete(change: str, name: str, named: str, original: Path) -> None:
    state = torch.load(original, weights_only=True)["model"]
    if change == "remove":
        del state[name]
    else:
        state[name] = torch.zeros(1) if change == "add" else state[name][:-1]
    torch.save({"model": state}, original)
    with pytest.raises(CheckpointError) as caught:
        load(original, "nlvr2")
    assert named in caught.value.problem
    assert str(original) in caught.value.problem
    assert "NLVR2" in caught.value.problem


def test_a_folder_must_be_complete(folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["another.weight"] = weights.pop("cls_head.0.bias")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing cls_head\.0\.bias; unexpected another\.weight"):
        load(broken, "nlvr2")


def test_the_head_rounds_no_logit_to_half_precision(folder: Path, images: list[np.ndarray]) -> None:
    texts = tuple(f"there are {number} dogs" for number in range(60))
    (scores,) = load(folder, "nlvr2", "bfloat16").match([asked(images[0], images[1], *texts)])
    assert (torch.from_numpy(scores).bfloat16().float().numpy() != scores).mean() > 0.9


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"exactly the weights of BLIP's retrieval model: missing itm_head\.bias"):
        load(folder, "retrieval")


def test_preprocessing_says_what_is_done(folder: Path, adapter: BlipAdapter) -> None:
    checkpoint = Checkpoint(source="x", revision=None, paths=(folder,), digest="x", purpose="nlvr2")
    described = BlipAdapter.describe(checkpoint)
    assert described.text == "BLIP caption cleaning, 40 words"
    assert dict(described.details)["first_token"] == "[ENC]"
    assert "beam_search" not in dict(described.details)
    assert "position_embeddings" not in dict(described.details)


@pytest.mark.parametrize("purpose", ["nlvr2", "visdial", "vqa"])
def test_preprocessing_says_that_positions_are_resampled(purpose: str, folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(folder / name, tmp_path)
    file = tmp_path / "preprocessor_config.json"
    settings = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps({**settings, "size": {"height": 64, "width": 64}}), "utf-8")
    checkpoint = Checkpoint(source="x", revision=None, paths=(tmp_path,), digest="x", purpose=purpose)
    told = dict(BlipAdapter.describe(checkpoint).details)["position_embeddings"]
    assert told == "stored for 32 pixels, resampled (bicubic)"


def test_the_card_knows_the_official_file() -> None:
    assert BlipAdapter.card.variants[0].checkpoints["nlvr2"] == CheckpointRef(
        source="https://storage.googleapis.com/sfr-vision-language-research/BLIP/models/model_base_nlvr.pth"
    )
    assert BlipAdapter.card.matches == ("caption", "pair", "dialog")


# -------------------------------------------------------------------------------------------------------- conformance
class TestConformance(AdapterConformance):
    adapter = narrowed("match")
    purpose = "nlvr2"
    images_per_request = 2

    @pytest.fixture
    def checkpoint(self, folder: Path) -> Checkpoint:
        return resolve(CheckpointRef(source=str(folder)), self.purpose)
