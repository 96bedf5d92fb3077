"""The adapter of image-only vision transformers against transformers' own processors and networks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_checkpoints import tiny_vit
from transformers import BitImageProcessorPil, ViTImageProcessorPil

from evalkit.checkpoints import resolve
from evalkit.errors import CheckpointError
from evalkit.testing import AdapterConformance
from evalkit.testing.inputs import sample_images
from evalkit.types import Checkpoint, CheckpointRef, Placement
from evalkit_adapters.hub_folder import ImageTransform
from evalkit_adapters.vit import VitAdapter

CPU = Placement(device="cpu", dtype="float32")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("vit")
    return {
        "vit": tiny_vit(root / "vit", model_type="vit"),
        "vit_pooler": tiny_vit(root / "pooler", model_type="vit", head="pooler"),
        "vit_classifier": tiny_vit(root / "classifier", model_type="vit", head="classifier"),
        "dinov2": tiny_vit(root / "dinov2"),
        "dinov2_with_registers": tiny_vit(root / "registers", model_type="dinov2_with_registers", registers=4),
    }


def checkpoint(folder: Path, pooling: str = "cls") -> Checkpoint:
    return replace(resolve(CheckpointRef(source=str(folder)), "default"), settings=(("pooling", pooling),))


def load(folder: Path, pooling: str = "cls") -> VitAdapter:
    return VitAdapter.load(checkpoint(folder, pooling), CPU)


def edited(folder: Path, target: Path, file: str, change: Any) -> Path:
    shutil.copytree(folder, target)
    content = json.loads((target / file).read_text("utf-8"))
    change(content)
    (target / file).write_text(json.dumps(content), "utf-8")
    return target


class TestConformance(AdapterConformance):
    adapter = VitAdapter

    @pytest.fixture(params=["vit_pooler", "dinov2", "dinov2_with_registers"])
    def checkpoint(self, folders: dict[str, Path], request: pytest.FixtureRequest) -> Checkpoint:
        return resolve(CheckpointRef(source=str(folders[request.param])), "default")


# ----------------------------------------------------------------------------------------------------- the reference
@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        ("vit", "cls"),
        ("vit", "mean"),
        ("vit_pooler", "cls"),
        ("vit_pooler", "mean"),
        ("vit_pooler", "pooler"),
        ("vit_classifier", "cls"),
        ("vit_classifier", "mean"),
        ("dinov2", "cls"),
        ("dinov2", "mean"),
        ("dinov2_with_registers", "cls"),
        ("dinov2_with_registers", "mean"),
    ],
)
def test_embeddings_are_transformers_tokens_pooled(folders: dict[str, Path], name: str, pooling: str) -> None:
    """One image at a time through the processor and the network of transformers, pooled in float64."""
    folder = folders[name]
    processor_class = ViTImageProcessorPil if name.startswith("vit") else BitImageProcessorPil
    processor, network = processor_class.from_pretrained(folder), reference(folder, name)
    expected = []
    for image in sample_images():
        with torch.inference_mode():
            output = network(**processor(image, return_tensors="pt"))
        tokens = output.last_hidden_state[0].double().numpy()
        first_patch = {"dinov2_with_registers": 5}.get(name, 1)
        assert len(tokens) == first_patch + 16
        pooled = {
            "cls": lambda tokens=tokens: tokens[0],
            "mean": lambda tokens=tokens, first=first_patch: tokens[first:].mean(axis=0),
            "pooler": lambda output=output: output.pooler_output[0].double().numpy(),
        }[pooling]()
        expected.append(pooled / np.linalg.norm(pooled))
    adapter = load(folder, pooling)
    found = adapter.encode_image([adapter.prepare_image(image) for image in sample_images()])
    np.testing.assert_allclose(found, np.stack(expected), rtol=0, atol=1e-5)


def reference(folder: Path, name: str) -> Any:
    from transformers import Dinov2Model, Dinov2WithRegistersModel, ViTForImageClassification, ViTModel

    classes: dict[str, Any] = {"dinov2": Dinov2Model, "dinov2_with_registers": Dinov2WithRegistersModel}
    if name == "vit_classifier":
        return ViTForImageClassification.from_pretrained(folder).vit.eval()
    if name == "vit":
        return ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()
    return classes.get(name, ViTModel).from_pretrained(folder).eval()


def test_poolings_differ(folders: dict[str, Path]) -> None:
    embeddings = []
    for pooling in ("cls", "mean", "pooler"):
        adapter = load(folders["vit_pooler"], pooling)
        embeddings.append(adapter.encode_image([adapter.prepare_image(sample_images()[0])])[0])
    assert max(float(one @ other) for one, other in pairwise(embeddings)) < 0.9


def test_images_are_resized_as_pillow_does_it(shared_fixtures: Path) -> None:
    """At the real sizes, on real photos, with the settings of the hub's files."""
    files = sorted((shared_fixtures / "photos" / "val2014").glob("*.jpg"))[:8]
    photos = [Image.open(file).convert("RGB") for file in files]
    half = (0.5, 0.5, 0.5)
    google = ImageTransform(size=224, crop=None, mean=half, std=half, filter="bilinear")
    dinov2 = ImageTransform(size=256, crop=224, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    crop = {"height": 224, "width": 224}
    pairs: list[tuple[ImageTransform, Any]] = [
        (google, ViTImageProcessorPil()),
        (
            dinov2,
            BitImageProcessorPil(
                size={"shortest_edge": 256}, crop_size=crop, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD
            ),
        ),
    ]
    for transform, processor in pairs:
        for photo in photos:
            expected = processor(photo, return_tensors="np")["pixel_values"][0]
            np.testing.assert_allclose(transform.apply(photo), expected, rtol=0, atol=1e-6)


# ----------------------------------------------------------------------------------------------------------- poolers
def test_a_pooler_that_the_weights_lack_is_refused_and_never_random(folders: dict[str, Path]) -> None:
    for name in ("vit", "vit_classifier", "dinov2", "dinov2_with_registers"):
        with pytest.raises(CheckpointError, match=r"has no pooler: .*Leave -m pooling=pooler out, or give another\."):
            load(folders[name], "pooler")
    with pytest.raises(CheckpointError, match="has no pooler"):  # known from the configuration
        VitAdapter.describe(checkpoint(folders["dinov2"], "pooler"))


def test_weights_that_lack_a_layer_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    deeper = edited(folders["vit"], tmp_path / "deeper", "config.json", lambda it: it.update(num_hidden_layers=3))
    with pytest.raises(CheckpointError, match=r"lack 16 tensors of ViTModel, layers\.2"):
        load(deeper)


# ------------------------------------------------------------------------------------------------------- describing
def test_preprocessing_is_told_in_full(folders: dict[str, Path]) -> None:
    dinov2 = VitAdapter.describe(checkpoint(folders["dinov2"]))
    assert dinov2.image == "shortest side 37, bicubic (PIL), center crop 32x32"
    assert dinov2.text == ""
    assert dict(dinov2.details)["pooling"].startswith("cls: class token")
    assert dict(dinov2.details)["image_mean"] == str(IMAGENET_MEAN)
    vit = VitAdapter.describe(checkpoint(folders["vit"], "mean"))
    assert vit.image == "32x32 squash, bilinear (PIL)"
    assert dict(vit.details)["pooling"].startswith("mean: mean of the patch tokens")


def test_every_pooling_is_another_protocol(folders: dict[str, Path]) -> None:
    described = {VitAdapter.describe(checkpoint(folders["vit_pooler"], each)) for each in ("cls", "mean", "pooler")}
    assert len(described) == 3


def test_a_filter_that_is_not_named_is_the_processors_default(folders: dict[str, Path], tmp_path: Path) -> None:
    for name, expected in (("vit", "bilinear"), ("dinov2", "bicubic")):
        part = edited(folders[name], tmp_path / name, "preprocessor_config.json", lambda it: it.pop("resample"))
        assert expected in VitAdapter.describe(checkpoint(part)).image


@pytest.mark.parametrize("resample", [0, 1, [3]])
def test_another_filter_is_refused(folders: dict[str, Path], tmp_path: Path, resample: object) -> None:
    odd = edited(folders["vit"], tmp_path / "odd", "preprocessor_config.json", lambda it: it.update(resample=resample))
    with pytest.raises(CheckpointError, match="resample = .* is not something this adapter does"):
        VitAdapter.describe(checkpoint(odd))


def test_images_of_another_size_than_the_network_takes_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    def larger(settings: dict[str, Any]) -> None:
        settings["size"] = {"height": 48, "width": 48}

    odd = edited(folders["vit"], tmp_path / "odd", "preprocessor_config.json", larger)
    with pytest.raises(CheckpointError, match=r"come out at 48 pixels, and the network takes 32\. Set size in"):
        VitAdapter.describe(checkpoint(odd))


def test_another_architecture_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    other = edited(folders["vit"], tmp_path / "clip", "config.json", lambda it: it.update(model_type="clip"))
    with pytest.raises(CheckpointError, match="of type 'clip', and 'vit' or 'dinov2' or 'dinov2_with_registers'"):
        VitAdapter.describe(checkpoint(other))
