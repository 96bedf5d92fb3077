"""Converters of BLIP's checkpoints, and the command that runs them."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from blip_reference import load, original_name
from safetensors.torch import load_file
from test_blip_nlvr2 import original_state
from tiny_checkpoints import randomize
from transformers import BlipConfig
from typer.testing import CliRunner

from evalkit import registry
from evalkit.cli.app import app
from evalkit.errors import CheckpointError, PluginError
from evalkit.testing import declarations
from evalkit.types import MatchRequest
from evalkit_adapters._blip_nlvr2 import BlipForNlvr2
from evalkit_adapters._blip_visdial import BlipForVisdial
from evalkit_adapters.blip_convert import convert_nlvr2, convert_visdial, restore_nlvr2, restore_visdial

SIZES = {"hidden_size": 128, "intermediate_size": 96, "num_attention_heads": 2}
"""64 dimensions a head, which an original file does not say."""
STATEMENTS = ("There are two dogs in the left image.", "dog")


def config(text_layers: int, image_size: int = 384) -> BlipConfig:
    return BlipConfig(
        text_config={**SIZES, "num_hidden_layers": text_layers, "max_position_embeddings": 64},
        vision_config={**SIZES, "num_hidden_layers": 1, "image_size": image_size, "patch_size": 96},
    )


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    model = BlipForNlvr2(config(text_layers=7))
    randomize(model, seed=5)
    return original_state(model)


@pytest.fixture
def original(state: dict[str, torch.Tensor], tmp_path: Path, shared_fixtures: Path) -> Path:
    shutil.copyfile(shared_fixtures / "tokenizers" / "bert" / "vocab.txt", tmp_path / "vocab.txt")
    torch.save({"model": state, "epoch": 5, "optimizer": {"lr": 3e-5}}, tmp_path / "model_base_nlvr.pth")
    return tmp_path / "model_base_nlvr.pth"


def check_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype, name
        assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_there_and_back_every_tensor_is_as_it_was(
    state: dict[str, torch.Tensor], dtype: torch.dtype, original: Path, tmp_path: Path
) -> None:
    stored = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    torch.save({"model": stored}, original)
    convert_nlvr2(original, tmp_path / "made" / "folder")
    restore_nlvr2(tmp_path / "made" / "folder", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert back.keys() == {"model"}
    check_same(stored, back["model"])


def test_a_folder_has_the_documented_layout_and_answers_as_the_file(original: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()  # an empty one is no obstacle
    convert_nlvr2(original, folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "vocab.txt",
    ]
    settings = json.loads((folder / "config.json").read_text("utf-8"))
    assert (settings["model_type"], settings["architectures"]) == ("blip", ["BlipForNlvr2"])
    names = {name.partition(".")[0] for name in load_file(folder / "model.safetensors")}
    assert names == {"vision_model", "text_encoder", "cls_head"}
    draw = np.random.default_rng(0)
    pair = tuple(draw.standard_normal((3, 384, 384), dtype=np.float32) for _ in range(2))
    (from_file,), (from_folder,) = (
        load(path, "nlvr2").match([MatchRequest(images=pair, texts=STATEMENTS)]) for path in (original, folder)
    )
    np.testing.assert_array_equal(from_file, from_folder)
    assert np.ptp(from_file) > 1e-3


def test_position_embeddings_of_another_size_are_kept_and_resampled_when_loaded(original: Path, tmp_path: Path) -> None:
    model = BlipForNlvr2(config(text_layers=7, image_size=480))
    randomize(model, seed=6)
    torch.save({"model": original_state(model)}, original)
    convert_nlvr2(original, tmp_path / "folder")
    restore_nlvr2(tmp_path / "folder", tmp_path / "back.pth")
    check_same(original_state(model), torch.load(tmp_path / "back.pth", weights_only=True)["model"])
    ours = [load(path, "nlvr2").network.model.state_dict() for path in (original, tmp_path / "folder")]
    assert ours[0]["vision_model.embeddings.position_embedding"].shape == (1, 1 + 4 * 4, 128)
    check_same(*ours)


def test_a_dialog_network_is_converted_likewise_and_back(tmp_path: Path, original: Path) -> None:
    model = BlipForVisdial(config(text_layers=2))
    randomize(model, seed=7)
    stored = {original_name(name): tensor for name, tensor in model.state_dict().items()}
    stored["text_encoder.embeddings.position_ids"] = torch.arange(64)[None]
    torch.save({"model": stored}, original)
    convert_visdial(original, tmp_path / "folder")
    check_same(dict(model.state_dict()), dict(load(tmp_path / "folder", "visdial").network.model.state_dict()))
    restore_visdial(tmp_path / "folder", tmp_path / "back.pth")
    check_same(stored, torch.load(tmp_path / "back.pth", weights_only=True)["model"])
    with pytest.raises(CheckpointError, match=r"weights of BLIP's NLVR2 model: missing cls_head"):
        restore_nlvr2(tmp_path / "folder", tmp_path / "other.pth")


@pytest.mark.parametrize("umask", [0o022, 0o007])
def test_what_is_written_has_the_rights_of_any_new_file(umask: int, original: Path, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        convert_nlvr2(original, tmp_path / "folder")
        restore_nlvr2(tmp_path / "folder", tmp_path / "back.pth")
    finally:
        os.umask(before)
    files = [*(tmp_path / "folder").iterdir(), tmp_path / "back.pth"]
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in files} == {
        path.name: 0o666 & ~umask for path in files
    }
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~umask


@pytest.mark.parametrize(
    "name", ["cls_head.0.bias", "text_encoder.encoder.layer.6.crossattention.output.merge_layer.bias"]
)
def test_missing_and_unexpected_weights_are_named_and_nothing_is_written(
    name: str, state: dict[str, torch.Tensor], original: Path, tmp_path: Path
) -> None:
    changed = {**state, "itm_head.bias": torch.zeros(2)}
    del changed[name]
    torch.save({"model": changed}, original)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CheckpointError, match=rf"{original} does not .*missing {name}; unexpected itm_head\.bias"):
        convert_nlvr2(original, tmp_path / "folder")
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_there_is_not_overwritten(original: Path, tmp_path: Path) -> None:
    convert_nlvr2(original, tmp_path / "folder")
    (tmp_path / "back.pth").write_bytes(b"mine")
    for convert, source, out in (
        (convert_nlvr2, original, tmp_path / "folder"),
        (convert_nlvr2, original, tmp_path / "back.pth"),
        (restore_nlvr2, tmp_path / "folder", tmp_path / "back.pth"),
    ):
        with pytest.raises(CheckpointError, match=f"{out} exists, and nothing is overwritten"):
            convert(source, out)
    assert (tmp_path / "back.pth").read_bytes() == b"mine"


def test_a_place_that_cannot_be_written_is_named(original: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"vocab\.txt/folder cannot be written"):
        convert_nlvr2(original, tmp_path / "vocab.txt" / "folder")


@pytest.mark.parametrize("damage", ["absent", "cut"])
def test_a_folder_without_sound_weights_is_not_restored(damage: str, original: Path, tmp_path: Path) -> None:
    convert_nlvr2(original, tmp_path / "folder")
    weights = tmp_path / "folder" / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    if damage == "cut":
        weights.write_bytes(content[:1000])
    with pytest.raises(CheckpointError, match=f"{weights} cannot be read"):
        restore_nlvr2(tmp_path / "folder", tmp_path / "back.pth")
    assert not (tmp_path / "back.pth").exists()


# -------------------------------------------------------------------------------------------------------- the command
def test_the_command_converts_and_says_what_for(original: Path, tmp_path: Path) -> None:
    out = tmp_path / "folder"
    done = CliRunner().invoke(app, ["convert", "blip-nlvr2", str(original), str(out)], env={"COLUMNS": "1000"})
    assert done.exit_code == 0, done.output
    assert f"--checkpoint {out}" in done.output
    assert (out / "model.safetensors").is_file()


def test_the_command_refuses_by_name(original: Path, tmp_path: Path) -> None:
    for words, error in (
        (["blip-nlvr", str(original), str(tmp_path / "x")], "no converter named 'blip-nlvr'. Did you mean blip-nlvr2"),
        (["blip-nlvr2", str(tmp_path / "absent.pth"), str(tmp_path / "x")], "absent.pth does not exist"),
        (["blip-nlvr2", str(original), str(tmp_path)], "exists, and nothing is overwritten"),
    ):
        done = CliRunner().invoke(app, ["convert", *words])
        assert isinstance(done.exception, PluginError | CheckpointError)
        assert error in str(done.exception)


def test_converters_are_found_by_entry_point_and_light() -> None:
    for name, convert in {
        "blip-nlvr2": convert_nlvr2,
        "blip-nlvr2-original": restore_nlvr2,
        "blip-visdial": convert_visdial,
        "blip-visdial-original": restore_visdial,
    }.items():
        assert registry.load_converter(name) is convert
    declarations.check_imports("evalkit_adapters.blip_convert")


def test_a_converter_must_be_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint, EntryPoints

    points = EntryPoints([EntryPoint(name="mine", value="evalkit.types:CAPABILITIES", group="evalkit.converters")])
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    with pytest.raises(PluginError, match="'mine' is not a function"):
        registry.load_converter("mine")
