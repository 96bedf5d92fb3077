"""The CLIP adapter against transformers' own processor and model, and each trap that changes its scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_checkpoints import tiny_clip
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

from evalkit.checkpoints import resolve
from evalkit.errors import CheckpointError
from evalkit.testing import AdapterConformance
from evalkit.types import Checkpoint, CheckpointRef, Placement
from evalkit_adapters.clip import ClipAdapter
from evalkit_adapters.hub_folder import ImageTransform, read_image_transform

CPU = Placement(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def tokenizer_dir(shared_fixtures: Path) -> Path:
    return shared_fixtures / "tokenizers" / "clip"


@pytest.fixture(scope="module")
def folder(tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("clip"), tokenizer_dir)


@pytest.fixture(scope="module")
def adapter(folder: Path) -> ClipAdapter:
    return load(folder)


@pytest.fixture(scope="module")
def photos(shared_fixtures: Path) -> list[Image.Image]:
    files = sorted((shared_fixtures / "photos" / "val2014").glob("*.jpg"))
    assert len(files) == 51
    return [Image.open(file).convert("RGB") for file in files]


@pytest.fixture(scope="module")
def captions(shared_fixtures: Path) -> list[str]:
    images = json.loads((shared_fixtures / "photos" / "dataset_coco.json").read_text("utf-8"))["images"]
    return [sentence["raw"] for image in images[:10] for sentence in image["sentences"]]


def checkpoint(folder: Path) -> Checkpoint:
    return resolve(CheckpointRef(source=str(folder)), "retrieval")


def load(folder: Path) -> ClipAdapter:
    return ClipAdapter.load(checkpoint(folder), CPU)


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
    adapter = ClipAdapter
    purpose = "retrieval"

    @pytest.fixture
    def checkpoint(self, folder: Path) -> Checkpoint:
        return checkpoint(folder)


# ----------------------------------------------------------------------------------------------------- the reference
def test_embeddings_are_those_of_transformers(
    folder: Path, adapter: ClipAdapter, photos: list[Image.Image], captions: list[str]
) -> None:
    """One photo and one caption at a time through CLIPProcessor and CLIPModel."""
    processor = CLIPProcessor(CLIPImageProcessorPil.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder))
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    expected_images, expected_texts = [], []
    for photo, caption in zip(photos, captions, strict=False):
        with torch.inference_mode():
            output = model(**processor(text=[caption], images=[photo], return_tensors="pt"))
        expected_images.append(output.image_embeds.numpy()[0])
        expected_texts.append(output.text_embeds.numpy()[0])
    count = len(expected_texts)
    assert count == 50
    images = adapter.encode_image([adapter.prepare_image(photo) for photo in photos[:count]])
    np.testing.assert_allclose(images, np.stack(expected_images), rtol=0, atol=1e-5)
    np.testing.assert_allclose(adapter.encode_text(captions), np.stack(expected_texts), rtol=0, atol=1e-5)


def test_images_are_resized_as_pillow_does_it(photos: list[Image.Image]) -> None:
    """At the real size, on real photos: transformers' Pillow processor, not its torchvision one."""
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    transform = ImageTransform(size=224, crop=224, mean=mean, std=std)
    processor = CLIPImageProcessorPil()
    tall = photos[0].rotate(90, expand=True).crop((0, 0, 97, 301))
    for image in (*photos, tall):
        expected = processor(image, return_tensors="np")["pixel_values"][0]
        np.testing.assert_allclose(transform.apply(image), expected, rtol=0, atol=1e-6)


def test_token_ids_are_exact(folder: Path, shared_fixtures: Path) -> None:
    expected = json.loads((shared_fixtures / "tokenizers" / "expected_token_ids.json").read_text("utf-8"))
    network = Spy()
    adapter = ClipAdapter(network, CLIPTokenizer.from_pretrained(folder), read_image_transform(folder))
    for text, ids in zip(expected["texts"], expected["clip_context77"], strict=True):
        adapter.encode_text([text])
        assert network.ids == [ids], text


class Spy:
    """A network that only remembers the token ids it was given."""

    device = torch.device("cpu")
    dtype = torch.float32
    ids: list[list[int]]

    def get_text_features(self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> Any:
        self.ids = input_ids.tolist()
        return type("Output", (), {"pooler_output": torch.ones(len(input_ids), 2)})

    def get_image_features(self, *, pixel_values: torch.Tensor) -> Any:
        raise NotImplementedError


# ----------------------------------------------------------------------------------------------------------- traps
def test_a_long_text_is_cut_at_77_tokens_and_keeps_its_end_token(folder: Path) -> None:
    network = Spy()
    ClipAdapter(network, CLIPTokenizer.from_pretrained(folder), read_image_transform(folder)).encode_text(["dog " * 99])
    (ids,) = network.ids
    assert len(ids) == 77
    assert ids[0] == 49406
    assert ids[-1] == 49407
    assert ids[1:-1] == [1929] * 75


def test_padding_is_on_the_right_whatever_the_files_say(adapter: ClipAdapter, folder: Path, tmp_path: Path) -> None:
    wrong = edited(folder, tmp_path / "left", "tokenizer_config.json", lambda it: it.update(padding_side="left"))
    assert CLIPTokenizer.from_pretrained(wrong).padding_side == "left"
    texts = ["a dog", "a man rides a brown horse on the beach"]
    np.testing.assert_array_equal(load(wrong).encode_text(texts), adapter.encode_text(texts))


def test_the_wrong_end_token_of_openais_files_is_allowed_for(
    adapter: ClipAdapter, tokenizer_dir: Path, tmp_path: Path
) -> None:
    """Their text_config says 2; the end is then the largest id, which is the same position."""
    legacy = tiny_clip(tmp_path, tokenizer_dir, eos_token_id=2)
    texts = ["a dog", "a man rides a brown horse on the beach"]
    np.testing.assert_array_equal(load(legacy).encode_text(texts), adapter.encode_text(texts))


def with_gelu(config: dict[str, Any]) -> None:
    config["text_config"]["hidden_act"] = config["vision_config"]["hidden_act"] = "gelu"


def test_openais_weights_with_gelu_are_refused(folder: Path, tmp_path: Path) -> None:
    wrong = edited(folder, tmp_path / "gelu", "config.json", with_gelu)
    on_hub = Checkpoint(
        source="openai/clip-vit-base-patch32", revision="0" * 40, paths=(wrong,), digest="", purpose="retrieval"
    )
    for use in (ClipAdapter.describe, lambda it: ClipAdapter.load(it, CPU)):
        with pytest.raises(CheckpointError, match=r"OpenAI's weights need the activation quick_gelu.*Set hidden_act"):
            use(on_hub)

    def saved_again(config: dict[str, Any]) -> None:
        with_gelu(config)
        config["_name_or_path"] = "openai/clip-vit-base-patch32"

    copy = edited(folder, tmp_path / "copy", "config.json", saved_again)
    with pytest.raises(CheckpointError, match="quick_gelu"):
        ClipAdapter.describe(checkpoint(copy))


def test_the_activation_is_the_checkpoints_own_and_is_told(
    adapter: ClipAdapter, folder: Path, photos: list[Image.Image], tmp_path: Path
) -> None:
    """Reproductions of CLIP were trained with GELU; it changes the embeddings, and so is part of the protocol."""
    other = edited(folder, tmp_path / "gelu", "config.json", with_gelu)
    assert ("activation", "gelu") in ClipAdapter.describe(checkpoint(other)).details
    assert ("activation", "quick_gelu") in ClipAdapter.describe(checkpoint(folder)).details
    prepared = [adapter.prepare_image(photo) for photo in photos[:2]]
    assert np.abs(load(other).encode_image(prepared) - adapter.encode_image(prepared)).max() > 1e-3

    def one_tower(config: dict[str, Any]) -> None:
        config["text_config"]["hidden_act"] = "gelu"

    mixed = edited(folder, tmp_path / "mixed", "config.json", one_tower)
    assert ("activation", "gelu, quick_gelu") in ClipAdapter.describe(checkpoint(mixed)).details


def test_weights_stored_in_half_precision_run_in_the_precision_asked_for(folder: Path, tmp_path: Path) -> None:
    """The default of transformers 5 is the precision of the file."""
    half = edited(folder, tmp_path / "half", "config.json", lambda it: it.update(dtype="float16"))
    CLIPModel.from_pretrained(folder, dtype=torch.float16).save_pretrained(half)
    assert CLIPModel.from_pretrained(half).dtype == torch.float16
    expected = CLIPModel.from_pretrained(half, dtype=torch.float32).eval()
    tokens = CLIPTokenizer.from_pretrained(half)(["a dog"], return_tensors="pt")
    with torch.inference_mode():
        pooled = expected.get_text_features(**tokens).pooler_output
    unit = torch.nn.functional.normalize(pooled, dim=-1).numpy()
    np.testing.assert_allclose(load(half).encode_text(["a dog"]), unit, rtol=0, atol=1e-6)


# ------------------------------------------------------------------------------------------------------- describing
def test_preprocessing_is_told_in_full(folder: Path) -> None:
    described = ClipAdapter.describe(checkpoint(folder))
    assert described.image == "shortest side 32, bicubic (PIL), center crop 32x32"
    assert "77 tokens" in described.text
    assert dict(described.details)["image_mean"] == "(0.48145466, 0.4578275, 0.40821073)"


def test_settings_of_the_image_processor_are_read_in_every_form(folder: Path, tmp_path: Path) -> None:
    """Numbers (OpenAI's files), names (transformers 4), one file for the whole processor (transformers 5)."""

    def named(settings: dict[str, Any]) -> None:
        settings.update(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})

    expected = read_image_transform(folder)
    assert read_image_transform(edited(folder, tmp_path / "four", "preprocessor_config.json", named)) == expected
    five = edited(folder, tmp_path / "five", "preprocessor_config.json", None)
    CLIPProcessor(CLIPImageProcessorPil.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder)).save_pretrained(
        five
    )
    assert not (five / "preprocessor_config.json").exists()
    assert read_image_transform(five) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("resample", 2),
        ("do_resize", False),
        ("do_normalize", False),
        ("rescale_factor", 1.0),
        ("size", {"height": 32, "width": 32}),
        ("size", 16),
        ("crop_size", {"height": 32, "width": 16}),
        ("image_mean", [0.5]),
    ],
)
def test_what_the_adapter_does_not_do_to_images_is_refused(
    folder: Path, tmp_path: Path, name: str, value: object
) -> None:
    odd = edited(folder, tmp_path / "odd", "preprocessor_config.json", lambda it: it.update({name: value}))
    with pytest.raises(CheckpointError, match=r"is not something this adapter does"):
        ClipAdapter.describe(checkpoint(odd))


# ---------------------------------------------------------------------------------------------------- broken folders
@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("config.json", "has no config.json"),
        ("preprocessor_config.json", "has no preprocessor_config.json"),
        ("vocab.json", "has no CLIP vocabulary"),
        ("model.safetensors", "cannot be loaded as CLIPModel"),
    ],
)
def test_a_missing_file_is_named(folder: Path, tmp_path: Path, file: str, message: str) -> None:
    part = edited(folder, tmp_path / "part", file, None)
    with pytest.raises(CheckpointError, match=message):
        load(part)


def test_weights_that_are_cut_off_are_refused(folder: Path, tmp_path: Path) -> None:
    part = edited(folder, tmp_path / "part", "config.json", lambda it: None)
    weights = part / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="cannot be loaded as CLIPModel"):
        load(part)


def test_weights_that_lack_a_layer_are_refused(folder: Path, tmp_path: Path) -> None:
    def deeper(config: dict[str, Any]) -> None:
        config["text_config"]["num_hidden_layers"] = 3

    part = edited(folder, tmp_path / "deeper", "config.json", deeper)
    with pytest.raises(CheckpointError, match=r"lack 16 tensors of CLIPModel, text_model\.encoder\.layers\.2"):
        load(part)


def test_another_architecture_is_refused(folder: Path, tmp_path: Path) -> None:
    other = edited(folder, tmp_path / "blip", "config.json", lambda it: it.update(model_type="blip"))
    with pytest.raises(CheckpointError, match=r"holds a model of type 'blip', and 'clip' is needed.*--model"):
        ClipAdapter.describe(checkpoint(other))


def test_a_file_is_no_checkpoint_of_clip(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not a folder"):
        ClipAdapter.describe(checkpoint(folder / "model.safetensors"))


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_malformed_configuration_is_named(folder: Path, tmp_path: Path, content: str) -> None:
    part = edited(folder, tmp_path / "part", "config.json", lambda it: None)
    (part / "config.json").write_text(content, "utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json (is not JSON|holds no settings)"):
        ClipAdapter.describe(checkpoint(part))
