"""The SigLIP adapter against transformers' own processor and model, and each trap that changes its scores.

SigLIP's own vocabulary is not among the fixtures: T5's, of the same kind, size and corpus, stands in for it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_checkpoints import tiny_siglip
from transformers import SiglipImageProcessorPil, SiglipModel, SiglipProcessor, SiglipTokenizer

from evalkit.checkpoints import resolve
from evalkit.errors import CheckpointError
from evalkit.testing import AdapterConformance
from evalkit.types import Checkpoint, CheckpointRef, Placement
from evalkit_adapters.hub_folder import ImageTransform, read_image_transform
from evalkit_adapters.siglip import SiglipAdapter

CPU = Placement(device="cpu", dtype="float32")
TEXTS = ["a dog", "a man rides a brown horse on the beach", "two dogs"]


@pytest.fixture(scope="module")
def folder(shared_fixtures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_siglip(tmp_path_factory.mktemp("siglip"), shared_fixtures / "tokenizers" / "t5")


@pytest.fixture(scope="module")
def adapter(folder: Path) -> SiglipAdapter:
    return load(folder)


@pytest.fixture(scope="module")
def photos(shared_fixtures: Path) -> list[Image.Image]:
    files = sorted((shared_fixtures / "photos" / "val2014").glob("*.jpg"))
    assert len(files) == 51
    return [Image.open(file).convert("RGB") for file in files]


@pytest.fixture(scope="module")
def captions(shared_fixtures: Path) -> list[str]:
    images = json.loads((shared_fixtures / "photos" / "dataset_coco.json").read_text("utf-8"))["images"]
    return [sentence["raw"] for image in images[:4] for sentence in image["sentences"]]


def checkpoint(folder: Path) -> Checkpoint:
    return resolve(CheckpointRef(source=str(folder)), "retrieval")


def load(folder: Path) -> SiglipAdapter:
    return SiglipAdapter.load(checkpoint(folder), CPU)


def edited(folder: Path, target: Path, file: str, change: Any) -> Path:
    """A copy of a checkpoint folder with one JSON file changed; None removes it."""
    target.mkdir()
    for source in folder.iterdir():
        (target / source.name).write_bytes(source.read_bytes())
    if change is None:
        (target / file).unlink()
    else:
        content = json.loads((target / file).read_text("utf-8"))
        change(content)
        (target / file).write_text(json.dumps(content), "utf-8")
    return target


class TestConformance(AdapterConformance):
    adapter = SiglipAdapter
    purpose = "retrieval"

    @pytest.fixture
    def checkpoint(self, folder: Path) -> Checkpoint:
        return checkpoint(folder)


# ----------------------------------------------------------------------------------------------------- the reference
def test_embeddings_are_those_of_transformers(
    folder: Path, adapter: SiglipAdapter, photos: list[Image.Image], captions: list[str]
) -> None:
    """One photo and one caption at a time through SiglipProcessor and SiglipModel."""
    processor = SiglipProcessor(
        SiglipImageProcessorPil.from_pretrained(folder), SiglipTokenizer.from_pretrained(folder)
    )
    model = SiglipModel.from_pretrained(folder, dtype=torch.float32).eval()
    expected_images, expected_texts = [], []
    for photo, caption in zip(photos[: len(captions)], captions, strict=True):
        inputs = processor(text=[caption], images=[photo], padding="max_length", max_length=64, return_tensors="pt")
        assert set(inputs) == {"input_ids", "pixel_values"}
        with torch.inference_mode():
            output = model(**inputs)
        expected_images.append(output.image_embeds.numpy()[0])
        expected_texts.append(output.text_embeds.numpy()[0])
    assert len(expected_texts) == 20
    images = adapter.encode_image([adapter.prepare_image(photo) for photo in photos[: len(captions)]])
    np.testing.assert_allclose(images, np.stack(expected_images), rtol=0, atol=1e-5)
    np.testing.assert_allclose(adapter.encode_text(captions), np.stack(expected_texts), rtol=0, atol=1e-5)


def test_images_are_squashed_as_pillow_does_it(photos: list[Image.Image]) -> None:
    """At the real size, on real photos: transformers' Pillow processor, not its torchvision one."""
    transform = ImageTransform(size=224, crop=None, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    processor = SiglipImageProcessorPil()
    for image in photos:
        expected = processor(image, return_tensors="np")["pixel_values"][0]
        np.testing.assert_allclose(transform.apply(image), expected, rtol=0, atol=1e-6)


class Spy:
    """A network that only remembers what it was given."""

    device = torch.device("cpu")
    dtype = torch.float32
    ids: list[list[int]]
    mask: torch.Tensor | None

    def get_text_features(self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> Any:
        self.ids, self.mask = input_ids.tolist(), attention_mask
        return type("Output", (), {"pooler_output": torch.ones(len(input_ids), 2)})

    def get_image_features(self, *, pixel_values: torch.Tensor) -> Any:
        raise NotImplementedError


def seen_by_network(folder: Path, texts: list[str]) -> Spy:
    network = Spy()
    tokenizer = SiglipTokenizer.from_pretrained(folder)
    SiglipAdapter(network, tokenizer, read_image_transform(folder), 64).encode_text(texts)
    return network


# ----------------------------------------------------------------------------------------------------------- traps
def test_texts_are_padded_to_64_and_the_padding_is_not_masked(folder: Path) -> None:
    """Trained that way; the embedding is that of the last position."""
    network = seen_by_network(folder, ["a photo of a cat", "Hello"])
    assert network.ids == [[3, 9, 1202, 13, 3, 9, 1712] + [1] * 57, [21820] + [1] * 63]
    assert network.mask is None


def test_padding_to_the_longest_would_be_another_model(folder: Path, adapter: SiglipAdapter) -> None:
    model = SiglipModel.from_pretrained(folder, dtype=torch.float32).eval()
    short = SiglipTokenizer.from_pretrained(folder)(TEXTS, padding="longest", return_tensors="pt")
    with torch.inference_mode():
        wrong = torch.nn.functional.normalize(model.get_text_features(short["input_ids"]).pooler_output, dim=-1)
    assert np.abs(wrong.numpy() - adapter.encode_text(TEXTS)).max() > 1e-2


def test_a_long_text_is_cut_at_64_tokens_and_keeps_its_end_token(folder: Path) -> None:
    (ids,) = seen_by_network(folder, ["dog " * 99]).ids
    assert len(ids) == 64
    assert ids[:-1] == [1782] * 63
    assert ids[-1] == 1


def test_case_and_punctuation_do_not_count(adapter: SiglipAdapter) -> None:
    same = adapter.encode_text(["a man's dog on the beach", "A MANS dog,  on the Beach!"])
    np.testing.assert_allclose(same[0], same[1], rtol=0, atol=1e-6)
    assert np.abs(np.subtract(*adapter.encode_text(["a dog", "a cat"]))).max() > 1e-3


@pytest.mark.parametrize(
    "change",
    [{"do_lower_case": False}, {"padding_side": "left"}, {"model_input_names": ["input_ids", "attention_mask"]}],
)
def test_settings_in_the_tokenizers_file_do_not_turn_a_trap_on(
    folder: Path, adapter: SiglipAdapter, tmp_path: Path, change: dict[str, object]
) -> None:
    wrong = edited(folder, tmp_path / "wrong", "tokenizer_config.json", lambda it: it.update(change))
    texts = ["A Dog", *TEXTS]
    np.testing.assert_array_equal(load(wrong).encode_text(texts), adapter.encode_text(texts))


def test_a_model_of_16_tokens_gets_16(folder: Path, tmp_path: Path) -> None:
    def shorter(config: dict[str, Any]) -> None:
        config["text_config"]["max_position_embeddings"] = 16

    short = edited(folder, tmp_path / "short", "config.json", shorter)
    SiglipModel(SiglipModel.config_class.from_pretrained(short)).save_pretrained(short)
    assert "padded to 16 tokens" in SiglipAdapter.describe(checkpoint(short)).text
    assert load(short).encode_text(["dog " * 99]).shape == (1, 32)


def test_scale_and_bias_of_the_logits_are_left_out(folder: Path, adapter: SiglipAdapter, tmp_path: Path) -> None:
    other = edited(folder, tmp_path / "scaled", "config.json", lambda it: None)
    model = SiglipModel.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        model.logit_scale.fill_(5)
        model.logit_bias.fill_(-12)
    model.save_pretrained(other)
    np.testing.assert_array_equal(load(other).encode_text(TEXTS), adapter.encode_text(TEXTS))


# ---------------------------------------------------------------------------------------------------- other details
def test_preprocessing_is_told_in_full(folder: Path) -> None:
    described = SiglipAdapter.describe(checkpoint(folder))
    assert described.image == "32x32 squash, bicubic (PIL)"
    assert "lower case" in described.text
    assert "padded to 64 tokens" in described.text
    assert dict(described.details)["image_std"] == "(0.5, 0.5, 0.5)"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("config.json", "has no config.json"),
        ("preprocessor_config.json", "has no preprocessor_config.json"),
        ("spiece.model", "has no spiece.model"),
        ("model.safetensors", "cannot be loaded as SiglipModel"),
    ],
)
def test_a_missing_file_is_named(folder: Path, tmp_path: Path, file: str, message: str) -> None:
    part = edited(folder, tmp_path / "part", file, None)
    with pytest.raises(CheckpointError, match=message):
        load(part)


def test_another_architecture_is_refused(folder: Path, tmp_path: Path) -> None:
    other = edited(folder, tmp_path / "clip", "config.json", lambda it: it.update(model_type="clip"))
    with pytest.raises(CheckpointError, match=r"holds a model of type 'clip', and 'siglip' is needed"):
        SiglipAdapter.describe(checkpoint(other))
