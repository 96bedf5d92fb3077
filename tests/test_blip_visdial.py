"""BLIP's visual-dialog network: against the formulas of this project's reading of the paper, and what it refuses."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blip_formulas import Weights, attend_by, attend_itself, embed, feed_forward, image_states, linear, norm
from blip_reference import inputs_of, load, narrowed, original_name
from safetensors.torch import load_file
from tiny_checkpoints import randomize, tiny_blip_retrieval, tiny_blip_visdial
from transformers import BlipConfig

from evalkit.checkpoints import resolve
from evalkit.errors import CapabilityError, CheckpointError
from evalkit.testing import AdapterConformance
from evalkit.types import Checkpoint, CheckpointRef, MatchRequest
from evalkit_adapters._blip_checkpoint import check_architecture
from evalkit_adapters._blip_visdial import BlipForVisdial
from evalkit_adapters.blip import BlipAdapter
from evalkit_adapters.blip_inputs import WordPieces, dialog_ids

CAPTION = "Two dogs (brown) on a beach."
HISTORY = "is it day? yes. how many dogs are there? 2. "
DIALOGS = tuple(f"{HISTORY}what color are they? {answer}" for answer in ("brown", "i can't tell", "both are brown", ""))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shared_fixtures: Path) -> Path:
    return tiny_blip_visdial(tmp_path_factory.mktemp("visdial") / "blip", shared_fixtures / "tokenizers" / "bert")


@pytest.fixture(scope="module")
def adapter(folder: Path) -> BlipAdapter:
    return load(folder, "visdial")


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.standard_normal((3, 32, 32), dtype=np.float32) for _ in range(2)]


def asked(image: Any, *texts: str, caption: str = CAPTION, scoring: Any = "logit") -> MatchRequest[Any]:
    return MatchRequest(images=(image,), texts=texts, context=caption, scoring=scoring)


def by_formula(weights: Weights, image: np.ndarray, caption: Sequence[int], dialog: Sequence[int]) -> torch.Tensor:
    """(2,) logits: one image, one caption, one candidate, nothing batched."""
    words = embed(weights, caption)
    for number in range(2):
        name = f"text_encoder.encoder.layer.{number}"
        words = feed_forward(weights, name, attend_itself(weights, name, words))
    memory = torch.cat([image_states(weights, torch.from_numpy(image).double(), layers=2), words])
    hidden = embed(weights, dialog)
    for number in range(2):
        name = f"text_encoder.encoder.layer.{number}"
        hidden = attend_itself(weights, name, hidden)
        output = f"{name}.crossattention.output"
        seen = linear(weights, f"{output}.dense", attend_by(weights, f"{name}.crossattention.self", hidden, memory))
        hidden = feed_forward(weights, name, norm(weights, f"{output}.LayerNorm", seen + hidden, 1e-12))
    return linear(weights, "itm_head", hidden[0])


def pieces(adapter: BlipAdapter, text: str) -> tuple[int, ...]:
    """[CLS] words [SEP] of a cleaned text, by this test's own hand but for the word pieces."""
    cleaned = text.lower()
    for mark in '.!"()*#:;~':
        cleaned = cleaned.replace(mark, " ")
    found: tuple[int, ...] = adapter.network._word_pieces.encode(" ".join(cleaned.split()))
    return found


# ---------------------------------------------------------------------------------------------------------- formulas
def test_logits_and_log_odds_are_those_of_the_formulas(
    folder: Path, adapter: BlipAdapter, images: list[np.ndarray]
) -> None:
    exact = {name: tensor.double() for name, tensor in load_file(folder / "model.safetensors").items()}
    about = [(image, caption) for image in images for caption in (CAPTION, "a red bus")]
    expected = torch.stack(
        [
            by_formula(exact, image, pieces(adapter, caption), (30523, *pieces(adapter, text)[1:]))
            for image, caption in about
            for text in DIALOGS
        ]
    )
    logits = np.concatenate(adapter.match([asked(image, *DIALOGS, caption=caption) for image, caption in about]))
    np.testing.assert_allclose(logits, expected[:, 1], atol=1e-5)
    double = load(folder, "visdial")
    double.network.model.double()
    for scoring, wanted in (("logit", expected[:, 1]), ("log_odds", expected[:, 1] - expected[:, 0])):
        requests = [asked(image, *DIALOGS, caption=caption, scoring=scoring) for image, caption in about]
        np.testing.assert_allclose(np.concatenate(double.match(requests)), wanted, atol=1e-6)
    # image, caption and candidate make far more of a difference than the tolerance
    table = logits.reshape(len(images), 2, len(DIALOGS))
    assert all(np.ptp(table, axis=axis).min() > 1e-3 for axis in range(3))


def test_keys_and_values_are_computed_once_for_all_rounds_and_candidates(
    folder: Path, images: list[np.ndarray]
) -> None:
    fresh = load(folder, "visdial")
    model = fresh.network.model
    rounds = [asked(images[0], *DIALOGS), asked(images[1], "a"), asked(images[0], "is it day? yes", "is it day? no")]
    with (
        inputs_of(model.vision_model) as seen,
        inputs_of(model.text_encoder.encoder.layer[0].crossattention.self.key) as keys,
    ):
        together = fresh.match(rounds)
    assert seen == [(2, 3, 32, 32)]
    assert keys == [(17 + len(pieces(fresh, CAPTION)), 64)] * 2
    for one, among in zip(rounds, together, strict=True):
        np.testing.assert_allclose(fresh.match([one])[0], among, atol=1e-5)


# --------------------------------------------------------------------------------------------------------------- texts
def test_a_long_dialog_loses_its_beginning_and_keeps_its_candidate(shared_fixtures: Path) -> None:
    vocabulary = (shared_fixtures / "tokenizers" / "bert" / "vocab.txt").read_text("utf-8").split("\n")
    word_pieces = WordPieces({word: number for number, word in enumerate(vocabulary) if word})
    dog, cat, red = (vocabulary.index(word) for word in ("dog", "cat", "red"))
    text = "cat " * 5 + "dog " * 5 + "RED!"
    assert dialog_ids(text, word_pieces, 100) == (30523, *[cat] * 5, *[dog] * 5, red, 102)
    assert dialog_ids(text, word_pieces, 13) == (30523, *[cat] * 5, *[dog] * 5, red, 102)
    assert dialog_ids(text, word_pieces, 12) == (30523, *[cat] * 4, *[dog] * 5, red, 102)
    assert dialog_ids(text, word_pieces, 5) == (30523, dog, dog, red, 102)


def test_a_dialog_has_as_many_tokens_as_there_are_positions(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    long = "dog " * 62  # 64 with [ENC] and [SEP]
    (logits,) = adapter.match([asked(images[0], long, f"cat {long}", f"cat {long} cat")])
    assert logits[0] == pytest.approx(logits[1], abs=1e-6)
    assert abs(logits[0] - logits[2]) > 1e-3


# ----------------------------------------------------------------------------------------------------------- refusals
def test_an_empty_caption_is_a_caption_without_words(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    """As one of punctuation alone is: one such dialog must not end a run."""
    empty, marks, told = (adapter.match([asked(images[0], *DIALOGS, caption=it)])[0] for it in ("", "...", "a dog"))
    np.testing.assert_array_equal(empty, marks)
    assert np.abs(empty - told).min() > 1e-4


def test_other_requests_are_refused(adapter: BlipAdapter, images: list[np.ndarray]) -> None:
    with pytest.raises(CapabilityError, match="takes one image with a text, and was given 2"):
        adapter.match([MatchRequest(images=(images[0], images[1]), texts=("a",), context="b")])
    with pytest.raises(CapabilityError, match="blip was loaded for visdial, and generate needs"):
        adapter.generate([])


def test_a_retrieval_network_takes_no_context(tmp_path: Path, shared_fixtures: Path, images: list[np.ndarray]) -> None:
    folder = tiny_blip_retrieval(tmp_path / "itm", shared_fixtures / "tokenizers" / "bert")
    with pytest.raises(CapabilityError, match=r"retrieval network takes no context .*'Two dogs"):
        load(folder, "retrieval/coco").match([asked(images[0], "a")])
    # whose weights are not those of the dialog network, though they would fill it
    with pytest.raises(CheckpointError, match=r"visual-dialog model: unexpected text_proj\.bias") as caught:
        load(folder, "visdial")
    assert "zero-shot" in caught.value.remedy


def test_a_dialog_network_loaded_for_captions_says_which_route_it_is_for(
    folder: Path, original: Path, tmp_path: Path
) -> None:
    """`evalkit run --model blip --checkpoint VISDIAL --task visdial`, which takes the route `itm`."""
    for path in (folder, original):
        with pytest.raises(CheckpointError, match=r"text_proj") as caught:
            load(path, "retrieval/coco")
        assert "-o route=match" in caught.value.remedy


# ------------------------------------------------------------------------------------------------------------- weights
@pytest.fixture(scope="module")
def model() -> BlipForVisdial:
    """Like BLIP in what an original file does not say: 64 dimensions a head, 384 pixels."""
    sizes = {"hidden_size": 128, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
    made = BlipForVisdial(
        BlipConfig(
            text_config={**sizes, "max_position_embeddings": 64},
            vision_config={**sizes, "image_size": 384, "patch_size": 96},
        )
    )
    randomize(made, seed=3)
    return made


@pytest.fixture(scope="module")
def original(model: BlipForVisdial, tmp_path_factory: pytest.TempPathFactory, shared_fixtures: Path) -> Path:
    place = tmp_path_factory.mktemp("original")
    state = {original_name(name): tensor for name, tensor in model.state_dict().items()}
    torch.save({"model": state}, place / "visdial.pth")
    shutil.copyfile(shared_fixtures / "tokenizers" / "bert" / "vocab.txt", place / "vocab.txt")
    return place / "visdial.pth"


def test_an_original_file_is_loaded_to_the_bit(model: BlipForVisdial, original: Path) -> None:
    state = torch.load(original, weights_only=True)["model"]
    assert {name.partition(".")[0] for name in state} == {"visual_encoder", "text_encoder", "itm_head"}
    ours = load(original, "visdial").network.model.state_dict()
    assert ours.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=0)


def test_towers_of_two_widths_cannot_be_concatenated() -> None:
    config = BlipConfig(
        text_config={"num_attention_heads": 12}, vision_config={"hidden_size": 1024, "num_attention_heads": 16}
    )
    with pytest.raises(CheckpointError, match=r"text_config\.hidden_size is 768, must be that of vision_config, 1024"):
        check_architecture(config, 384, Path("blip"), "visual-dialog")


# --------------------------------------------------------------------------------------------------------- conformance
class TestConformance(AdapterConformance):
    adapter = narrowed("match")
    purpose = "visdial"
    context = CAPTION

    @pytest.fixture
    def checkpoint(self, folder: Path) -> Checkpoint:
        return resolve(CheckpointRef(source=str(folder)), self.purpose)
