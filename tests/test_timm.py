"""The adapter of timm's networks against timm's own loading, features and evaluation transform.

Where timm is not installed beside the other libraries, tests/test_timm_apart.py runs this file.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_checkpoints import tiny_timm

from evalkit.checkpoints import resolve
from evalkit.errors import CheckpointError
from evalkit.registry import missing_extra
from evalkit.testing import AdapterConformance
from evalkit.testing.inputs import sample_images
from evalkit.types import Checkpoint, CheckpointRef, Placement
from evalkit_adapters.timm import TimmAdapter
from evalkit_adapters.timm_folder import read_timm_folder

HERE = missing_extra(TimmAdapter.card) is None
needs_timm = pytest.mark.skipif(not HERE, reason="timm is not installed here: tests/test_timm_apart.py runs this")
CPU = Placement(device="cpu", dtype="float32")
SETTINGS = {  # of timm/resnet50.a1_in1k
    "input_size": [3, 224, 224],
    "test_input_size": [3, 288, 288],
    "fixed_input_size": False,
    "interpolation": "bicubic",
    "crop_pct": 0.95,
    "test_crop_pct": 1.0,
    "crop_mode": "center",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "num_classes": 1000,
    "pool_size": [7, 7],
    "first_conv": "conv1",
    "classifier": "fc",
}
CONFIG = {"architecture": "resnet50", "num_classes": 1000, "num_features": 2048, "global_pool": "avg"}


def described(folder: Path, pooling: str = "checkpoint", size: str = "train", **settings: object) -> Any:
    """What is read from a folder that has a configuration alone."""
    folder.mkdir(exist_ok=True)
    content = CONFIG | {"pretrained_cfg": SETTINGS | settings}
    (folder / "config.json").write_text(json.dumps(content), "utf-8")
    return read_timm_folder(folder, pooling, size)


def checkpoint(folder: Path, pooling: str = "checkpoint", size: str = "train") -> Checkpoint:
    settings = (("pooling", pooling), ("size", size))
    return replace(resolve(CheckpointRef(source=str(folder)), "default"), settings=settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not HERE:
        pytest.skip("timm is not installed here: tests/test_timm_apart.py runs this")
    return tiny_timm(tmp_path_factory.mktemp("timm"))


@needs_timm
class TestConformance(AdapterConformance):
    adapter = TimmAdapter

    @pytest.fixture
    def checkpoint(self, folder: Path) -> Checkpoint:
        return resolve(CheckpointRef(source=str(folder)), "default")


# ------------------------------------------------------------------------------------------------- timm, the reference
@pytest.mark.parametrize("pooling", ["checkpoint", "avg", "max", "avgmax", "catavgmax"])
def test_embeddings_are_timms_features(folder: Path, pooling: str) -> None:
    """One image at a time through timm's transform and the network that timm makes without a classifier."""
    import timm
    from timm.data import create_transform, resolve_model_data_config

    own = {} if pooling == "checkpoint" else {"global_pool": pooling}
    network = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0, **own).eval()
    transform = create_transform(**resolve_model_data_config(network), is_training=False)
    expected = []
    for image in sample_images():
        with torch.inference_mode():
            features = network(transform(image)[None])[0].double().numpy()
        expected.append(features / np.linalg.norm(features))
    adapter = TimmAdapter.load(checkpoint(folder, pooling), CPU)
    found = adapter.encode_image([adapter.prepare_image(image) for image in sample_images()])
    np.testing.assert_allclose(found, np.stack(expected), rtol=0, atol=1e-5)


@needs_timm
@pytest.mark.parametrize("size", ["train", "test"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"interpolation": "bilinear", "crop_pct": 0.875},
        {"crop_mode": "squash", "crop_pct": 1.0},
        {"crop_mode": "squash", "crop_pct": 0.9},
        {"input_size": [3, 299, 299], "test_input_size": None, "crop_pct": 0.875, "mean": [0.5] * 3, "std": [0.5] * 3},
        {name: None for name in ("crop_pct", "crop_mode", "interpolation", "mean", "std", "input_size")},
    ],
    ids=lambda it: "-".join(it) or "resnet50",
)
def test_images_are_prepared_as_timm_does_it(
    shared_fixtures: Path, tmp_path: Path, settings: dict[str, object], size: str
) -> None:
    """At real sizes, on real photos, with sides that do not divide."""
    from timm.data import create_transform, resolve_data_config

    transform = described(tmp_path / "folder", size=size, **settings).transform
    config = resolve_data_config(pretrained_cfg=SETTINGS | settings, use_test_size=size == "test")
    reference = create_transform(**config, is_training=False)
    files = sorted((shared_fixtures / "photos" / "val2014").glob("*.jpg"))[:4]
    photos = [Image.open(file).convert("RGB") for file in files]
    for image in (*photos, photos[0].crop((0, 0, 97, 301)), photos[1].crop((0, 0, 301, 98)), *sample_images()):
        np.testing.assert_allclose(transform.apply(image), reference(image).numpy(), rtol=0, atol=1e-6)


@needs_timm
@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["resnet50", "inception_v3", "inception_v4", "inception_resnet_v2"])
def test_the_networks_of_the_classics_load_and_pool(architecture: str, tmp_path: Path) -> None:
    import timm
    from timm.models import save_for_hf

    save_for_hf(timm.create_model(architecture, pretrained=False), tmp_path, safe_serialization=True)
    network = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=0).eval()
    adapter = TimmAdapter.load(checkpoint(tmp_path), CPU)
    prepared = adapter.prepare_image(sample_images()[0])
    with torch.inference_mode():
        features = network(torch.from_numpy(prepared[None]))[0].numpy()
    assert len(features) == {"resnet50": 2048, "inception_v3": 2048}.get(architecture, 1536)
    expected = features / np.linalg.norm(features)
    np.testing.assert_allclose(adapter.encode_image([prepared])[0], expected, rtol=0, atol=1e-5)


def test_weights_that_are_missing_are_refused_and_never_random(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path / "part")
    weights = load_file(tmp_path / "part" / "model.safetensors")
    gone = next(name for name in weights if name.startswith("layer4") and name.endswith("weight"))
    del weights[gone]
    save_file(weights, tmp_path / "part" / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"cannot be loaded by timm, .*: Error.* Missing key.* \"{gone}\""):
        TimmAdapter.load(checkpoint(tmp_path / "part"), CPU)
    save_file(weights | {gone: torch.zeros(1), "odd.weight": torch.zeros(1)}, tmp_path / "part" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r'Unexpected key.* "odd\.weight"'):
        TimmAdapter.load(checkpoint(tmp_path / "part"), CPU)
    (tmp_path / "part" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no weights: looked for model\.safetensors"):
        TimmAdapter.load(checkpoint(tmp_path / "part"), CPU)


@pytest.mark.parametrize("told", [{"num_classes": 7}, {"in_chans": 1}, {"checkpoint_path": "other.pth"}], ids=str)
def test_arguments_that_would_load_loosely_or_elsewhere_are_refused(
    folder: Path, tmp_path: Path, told: dict[str, object]
) -> None:
    shutil.copytree(folder, tmp_path / "odd")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (tmp_path / "odd" / "config.json").write_text(json.dumps(config | {"model_args": told}), "utf-8")
    with pytest.raises(CheckpointError, match="cannot be loaded by timm"):
        TimmAdapter.load(checkpoint(tmp_path / "odd"), CPU)


def test_a_bin_gives_the_same_vectors_and_so_does_a_folder_with_a_mark_in_its_name(
    folder: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    shutil.copytree(folder, marked := tmp_path / "net #1?")
    weights = load_file(marked / "model.safetensors")
    (marked / "model.safetensors").unlink()
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in weights.items()}}, marked / "pytorch_model.bin"
    )
    own, other = TimmAdapter.load(checkpoint(folder), CPU), TimmAdapter.load(checkpoint(marked), CPU)
    images = [own.prepare_image(image) for image in sample_images()]
    np.testing.assert_array_equal(other.encode_image(images), own.encode_image(images))


class Evil:
    """What is pickled as a call, which loading runs."""

    def __init__(self, proof: Path) -> None:
        self._proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._proof,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "other.pth"])
def test_code_in_a_file_of_weights_is_never_run(
    folder: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by timm below 1.0.26 either, which loads a file without `weights_only`."""
    from timm.models import _builder

    def reads_unsafely(path: object, *_: object, **__: object) -> Any:
        return torch.load(next(Path(str(path)).glob("*.[bp]*")), weights_only=False)

    monkeypatch.setattr(_builder, "load_state_dict_from_path", reads_unsafely)
    shutil.copytree(folder, tmp_path / "evil")
    (tmp_path / "evil" / "model.safetensors").unlink()
    torch.save({"state_dict": {"conv1.weight": Evil(tmp_path / "ran")}}, tmp_path / "evil" / name)
    with pytest.raises(CheckpointError, match=rf"{name} cannot be read as a checkpoint of tensors \(Unpick"):
        TimmAdapter.load(checkpoint(tmp_path / "evil"), CPU)
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_no_file_of_tensors_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "odd")
    (tmp_path / "odd" / "model.safetensors").write_bytes(b"<html>")
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read as a file of tensors"):
        TimmAdapter.load(checkpoint(tmp_path / "odd"), CPU)
    (tmp_path / "odd" / "model.safetensors").unlink()
    torch.save({"model": {"epoch": 3}}, tmp_path / "odd" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin holds other things than weights"):
        TimmAdapter.load(checkpoint(tmp_path / "odd"), CPU)


def test_an_unknown_architecture_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "odd")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (tmp_path / "odd" / "config.json").write_text(json.dumps(config | {"architecture": "resnet5000"}), "utf-8")
    with pytest.raises(CheckpointError, match=r"Unknown model \(resnet5000\)"):
        TimmAdapter.load(checkpoint(tmp_path / "odd"), CPU)


# ------------------------------------------------------------------------------------------ what needs no timm: reading
def test_preprocessing_is_told_in_full(tmp_path: Path) -> None:
    described(tmp_path)
    told = TimmAdapter.describe(checkpoint(tmp_path))
    assert told.image.startswith("shortest side 235, bicubic (PIL), center crop 224x224")
    assert told.text == ""
    details = dict(told.details)
    assert (details["pooling"], details["size"], details["architecture"]) == ("avg", "train", "resnet50")
    other = TimmAdapter.describe(checkpoint(tmp_path, "max", "test"))
    assert other.image.startswith("shortest side 288, bicubic (PIL), center crop 288x288")
    assert (dict(other.details)["pooling"], dict(other.details)["size"]) == ("max", "test")


def test_a_folder_that_names_no_pooling_needs_one(tmp_path: Path) -> None:
    content = {"architecture": "resnet50", "pretrained_cfg": SETTINGS}
    (tmp_path / "config.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(CheckpointError, match=r"names no global_pool.* Choose one: -m pooling=avg"):
        read_timm_folder(tmp_path, "checkpoint", "train")
    assert read_timm_folder(tmp_path, "avg", "train").pooling == "avg"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input_size", [3, 224, 256]),
        ("input_size", [1, 28, 28]),
        ("crop_pct", 1.1),
        ("crop_pct", "all"),
        ("crop_mode", "border"),
        ("interpolation", "lanczos"),
        ("interpolation", "random"),
        ("mean", [0.5]),
        ("std", 0.5),
    ],
)
def test_what_the_adapter_does_not_do_to_images_is_refused(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=f"the {name} .* is not something this adapter does"):
        described(tmp_path, **{name: value})


def test_a_size_that_the_network_cannot_take_is_refused(tmp_path: Path) -> None:
    assert described(tmp_path, fixed_input_size=True).transform.crop == 224
    with pytest.raises(CheckpointError, match=r"the test_input_size \[3, 288, 288\] .* or -m size=train"):
        described(tmp_path, size="test", fixed_input_size=True)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json of timm's"):
        read_timm_folder(tmp_path, "checkpoint", "train")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}), "utf-8")
    with pytest.raises(CheckpointError, match=r"has no config\.json of timm's"):
        read_timm_folder(tmp_path, "checkpoint", "train")
    with pytest.raises(CheckpointError, match="is not a folder"):
        read_timm_folder(tmp_path / "config.json", "checkpoint", "train")
