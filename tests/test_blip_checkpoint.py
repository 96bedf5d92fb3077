"""Loading BLIP: transformers folders, the original `.pth`, and what is refused."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from blip_reference import original_name
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from tiny_checkpoints import randomize, tiny_blip_retrieval
from transformers import BlipConfig, BlipForImageTextRetrieval

from evalkit.errors import CheckpointError
from evalkit.types import Checkpoint, MatchRequest, Placement
from evalkit_adapters._blip_checkpoint import check_architecture, read_stored, resample_positions
from evalkit_adapters._blip_kinds import convert_original
from evalkit_adapters.blip import BlipAdapter
from evalkit_adapters.blip_convert import convert_nlvr2

CPU = Placement(device="cpu", dtype="float32")
TEXTS = ("a cat on a mat", "dog", "two people and a long wooden boat on a lake")


def load(path: Path) -> BlipAdapter:
    return BlipAdapter.load(
        Checkpoint(source=str(path), revision=None, paths=(path,), digest="sha256:0", purpose="retrieval/coco"), CPU
    )


def failure(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert caught.value.remedy
    return caught.value


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, shared_fixtures: Path) -> Path:
    return tiny_blip_retrieval(tmp_path_factory.mktemp("blip"), shared_fixtures / "tokenizers" / "bert")


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pristine, tmp_path / "blip")


def edit(file: Path, *keys: str, value: object) -> None:
    document = json.loads(file.read_text("utf-8"))
    part = document
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    file.write_text(json.dumps(document), "utf-8")


# --------------------------------------------------------------------------------------------------------- the folder
def test_weights_of_a_folder_are_loaded_as_they_are(folder: Path) -> None:
    ours = load(folder).network.model.state_dict()
    stored = load_file(folder / "model.safetensors")
    assert ours.keys() == stored.keys()
    for name, tensor in stored.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=0)


def test_vision_layer_norms_have_the_original_epsilon(folder: Path) -> None:
    # as in the published configurations, which leave it to transformers' default of 1e-5
    assert json.loads((folder / "config.json").read_text("utf-8"))["vision_config"].get("layer_norm_eps", 1e-5) == 1e-5
    model = load(folder).network.model
    norms = [module for module in model.vision_model.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-6}
    assert len(norms) == 2 * 2 + 1
    text = [module for module in model.text_encoder.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert {norm.eps for norm in text} == {1e-12}


def test_eight_text_heads_are_refused() -> None:
    config = BlipConfig()  # transformers' defaults: BLIP-base but for the heads
    assert config.text_config.num_attention_heads == 8
    with pytest.raises(CheckpointError, match=r"text_config\.num_attention_heads is 8, must be 12"):
        check_architecture(config, 384, Path("blip"))


@pytest.mark.parametrize(("width", "heads"), [(768, 12), (1024, 16)])
def test_official_architectures_pass(width: int, heads: int) -> None:
    vision = {"hidden_size": width, "num_attention_heads": heads}
    check_architecture(BlipConfig(text_config={"num_attention_heads": 12}, vision_config=vision), 384, Path("blip"))
    vision["num_attention_heads"] = 8
    with pytest.raises(CheckpointError, match=rf"vision_config\.num_attention_heads is 8, must be {heads}"):
        check_architecture(BlipConfig(text_config={"num_attention_heads": 12}, vision_config=vision), 384, Path("b"))


def test_a_small_vocabulary_belongs_to_weights_of_its_size() -> None:
    def check(entries: int) -> None:
        text = {"num_attention_heads": 12, "vocab_size": entries}
        config = BlipConfig(text_config=text, vision_config={"hidden_size": 768, "num_attention_heads": 12})
        check_architecture(config, 384, Path("blip"), last_mark=195)

    check(196)
    for entries in (195, 30524):  # the official weights read other words by these ids
        with pytest.raises(CheckpointError, match=rf"vocab_size is {entries}, must be 196"):
            check(entries)


@pytest.mark.parametrize(
    ("keys", "value", "named"),
    [
        (("text_config", "hidden_size"), 768, "text_config.num_attention_heads is 4, must be 12"),
        (("vision_config", "layer_norm_eps"), 1e-3, "vision_config.layer_norm_eps is 0.001, must be 1e-06"),
        (("text_config", "vocab_size"), 30522, "text_config.vocab_size is 30522, must be 30524"),
        (("vision_config", "image_size"), 64, "vision_config.image_size is 64, the processor makes 32 pixels"),
        (("model_type",), "clip", "is of model type clip"),
    ],
)
def test_a_configuration_that_is_not_blips_is_refused(
    keys: tuple[str, ...], value: object, named: str, folder: Path
) -> None:
    edit(folder / "config.json", *keys, value=value)
    error = failure(folder)
    assert named in error.problem
    assert str(folder) in error.problem


@pytest.mark.parametrize(
    "content",
    [
        None,
        "{",
        "[]",
        pytest.param("[" * 100_000, id="nested"),
        '{"model_type": "blip", "text_config": [1]}',
        '{"model_type": "blip", "num_labels": "x"}',
        '{"model_type": "blip", "dtype": "nonsense"}',
    ],
)
def test_a_missing_or_broken_configuration_is_named(content: str | None, folder: Path) -> None:
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_text(content, "utf-8")
    assert str(folder / "config.json") in failure(folder).problem


@pytest.mark.parametrize("content", ["[1]", "{", pytest.param("[" * 100_000, id="nested")])
def test_a_generation_config_that_is_none_is_named(content: str, folder: Path) -> None:
    """transformers reads it beside the weights, though nothing here uses it."""
    (folder / "generation_config.json").write_text(content, "utf-8")
    assert str(folder / "generation_config.json") in failure(folder).problem


def test_missing_extra_and_misshapen_weights_are_named(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["itm_head.weight"], weights["itm_head.bias"]
    weights["text_decoder_of_something.weight"] = torch.zeros(1)
    weights["vision_proj.weight"] = torch.zeros(8, 64)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    problem = failure(folder).problem
    assert "missing itm_head.bias, itm_head.weight" in problem
    assert "unexpected text_decoder_of_something.weight" in problem
    assert "of the wrong shape vision_proj.weight" in problem
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")  # transformers' own report stays silent: the error says it all


def test_weights_may_be_in_the_older_file_format(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    ours = load(folder).network.model.state_dict()
    torch.testing.assert_close(ours["itm_head.weight"], weights["itm_head.weight"], rtol=0, atol=0)


def test_position_ids_of_older_files_are_no_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["text_encoder.embeddings.position_ids"] = torch.arange(64)[None]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    load(folder)


@pytest.mark.parametrize("damage", ["absent", "truncated"])
def test_absent_or_truncated_weights_are_an_error(damage: str, folder: Path) -> None:
    file = folder / "model.safetensors"
    content = file.read_bytes()
    file.unlink()
    if damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    assert str(folder) in failure(folder).problem


def test_a_folder_without_vocabulary_is_an_error(folder: Path) -> None:
    (folder / "vocab.txt").unlink()
    assert len(load(folder)._tokenize("a cat")) == 4  # tokenizer.json does as well
    (folder / "tokenizer.json").unlink()
    error = failure(folder)
    assert "no vocab.txt" in error.problem
    assert str(folder / "vocab.txt") in error.remedy


# --------------------------------------------------------------------------------------------------- the original file
def original_state(model: BlipForImageTextRetrieval) -> dict[str, torch.Tensor]:
    """All that `BLIP_Retrieval` of `salesforce/BLIP` saves."""
    state = {original_name(name): tensor for name, tensor in model.state_dict().items()}
    momentum = {}
    for name, tensor in state.items():
        module, _, rest = name.partition(".")
        if module != "itm_head":
            momentum[f"{module}_m.{rest}"] = torch.zeros_like(tensor)
    training = {
        "temp": torch.tensor(0.07),
        "image_queue": torch.zeros(16, 8),
        "text_queue": torch.zeros(16, 8),
        "idx_queue": torch.zeros(1, 8),
        "ptr_queue": torch.zeros(1),
        "text_encoder.embeddings.position_ids": torch.arange(64)[None],
        "text_encoder_m.embeddings.position_ids": torch.arange(64)[None],
    }
    return {**state, **momentum, **training}


@pytest.fixture(scope="module")
def model() -> BlipForImageTextRetrieval:
    """Like BLIP in what an original file does not say: 64 dimensions a head, 384 pixels."""
    config = BlipConfig(
        text_config={
            "hidden_size": 128,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 64,
        },
        vision_config={
            "hidden_size": 192,
            "intermediate_size": 80,
            "num_hidden_layers": 3,
            "num_attention_heads": 3,
            "image_size": 384,
            "patch_size": 32,
            "layer_norm_eps": 1e-6,
        },
        image_text_hidden_size=16,
    )
    made = BlipForImageTextRetrieval(config)
    randomize(made, seed=5)
    return made.eval()


@pytest.fixture
def original(model: BlipForImageTextRetrieval, tmp_path: Path, shared_fixtures: Path) -> Path:
    file = tmp_path / "model_retrieval.pth"
    torch.save({"model": original_state(model), "epoch": 5, "config": {"vit": "base"}}, file)
    shutil.copyfile(shared_fixtures / "tokenizers" / "bert" / "vocab.txt", tmp_path / "vocab.txt")
    return file


def rewrite(file: Path, change: str, *names: str) -> None:
    state = torch.load(file, weights_only=True)["model"]
    for name in names:
        if change == "remove":
            del state[name]
        elif change == "add":
            state[name] = torch.zeros(1)
        else:
            state[name] = state[name][:-1]
    torch.save({"model": state}, file)


@torch.inference_mode()
def test_an_original_file_gives_the_answers_of_its_weights(original: Path, model: BlipForImageTextRetrieval) -> None:
    adapter = load(original)
    image = np.random.default_rng(0).standard_normal((3, 384, 384), dtype=np.float32)
    rows = [adapter._tokenize(text) for text in TEXTS]
    ids = torch.tensor([[*row, *[0] * (35 - len(row))] for row in rows])
    mask, pixels = (ids != 0).long(), torch.from_numpy(image)[None].expand(3, -1, -1, -1)

    outputs = model(input_ids=ids, attention_mask=mask, pixel_values=pixels, use_itm_head=False)
    ours = adapter.encode_image([image]) @ adapter.encode_text(TEXTS).T
    np.testing.assert_allclose(ours[0], outputs.itm_score[0], atol=1e-5)

    ids[:, 0] = 30523
    expected = model(input_ids=ids, attention_mask=mask, pixel_values=pixels).itm_score[:, 1]
    (scores,) = adapter.match([MatchRequest(images=(image,), texts=TEXTS)])
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert expected.std() > 0.01


def test_every_weight_has_its_place(model: BlipForImageTextRetrieval) -> None:
    converted = convert_original(original_state(model))
    assert converted.keys() == model.state_dict().keys()


def test_positions_of_another_image_size_are_resampled(model: BlipForImageTextRetrieval, original: Path) -> None:
    state = original_state(model)
    small = torch.randn(1, 1 + 7 * 7, 192, generator=torch.Generator().manual_seed(0))  # 224 pixels
    torch.save({"model": {**state, "visual_encoder.pos_embed": small}}, original)
    ours = load(original).network.model.vision_model.embeddings.position_embedding.detach()
    assert ours.shape == (1, 1 + 12 * 12, 192)
    torch.testing.assert_close(ours[:, 0], small[:, 0])
    for channel in (0, 191):
        square = small[0, 1:, channel].view(1, 1, 7, 7)
        expected = torch.nn.functional.interpolate(square, size=(12, 12), mode="bicubic", align_corners=False)
        torch.testing.assert_close(ours[0, 1:, channel], expected.flatten())


def test_positions_of_the_right_size_stay() -> None:
    positions = torch.randn(1, 10, 4)
    assert resample_positions(positions, 3) is positions


@pytest.mark.parametrize(
    ("change", "name", "named"),
    [
        ("remove", "itm_head.weight", "missing itm_head.weight"),
        ("remove", "visual_encoder.pos_embed", "no vision_model.embeddings.position_embedding"),
        ("remove", "text_encoder.encoder.layer.0.intermediate.dense.weight", "intermediate.dense.weight"),
        ("remove", "visual_encoder.blocks.1.attn.qkv.bias", "missing vision_model.encoder.layers.1.self_attn.qkv.bias"),
        ("add", "cls_head.weight", "unexpected cls_head.weight"),
        ("cut", "itm_head.weight", "of the wrong shape itm_head.weight"),
    ],
)
def test_an_original_file_must_be_complete(change: str, name: str, named: str, original: Path) -> None:
    rewrite(original, change, name)
    error = failure(original)
    assert named in error.problem
    assert str(original) in error.problem


class Stowaway:
    """Something other than a tensor, which loading must not run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("code in a checkpoint was run",))


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "objects", "no model", "no tensors", "a list"])
def test_what_is_no_original_checkpoint_is_refused(kind: str, original: Path) -> None:
    content = original.read_bytes()
    match kind:
        case "text":
            original.write_text("<html>Not found</html>", "utf-8")
        case "empty":
            original.write_bytes(b"")
        case "truncated":
            original.write_bytes(content[: len(content) // 2])
        case "objects":
            torch.save({"model": Stowaway()}, original)
        case "no model":
            torch.save({"state_dict": {}}, original)
        case "no tensors":
            torch.save({"model": {"itm_head.weight": 3}}, original)
        case "a list":
            torch.save([1, 2], original)
    error = failure(original)
    assert str(original) in error.problem
    assert kind in ("no model", "no tensors", "a list") or f"Delete {original}" in error.remedy


@pytest.mark.parametrize("legacy", [False, True])
def test_a_damaged_file_is_an_error_whatever_its_bytes_are(legacy: bool, tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    state = {"itm_head.weight": torch.zeros(2, 3), "temp": torch.tensor(1.0)}
    torch.save({"model": state}, file, _use_new_zipfile_serialization=not legacy)
    content = file.read_bytes()
    draw = random.Random(1)
    found = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an unusual pickle protocol
        for _ in range(200):
            damaged = bytearray(content)
            damaged[draw.randrange(min(len(content), 500))] = draw.randrange(256)
            file.write_bytes(damaged)
            try:
                read_stored(file, "retrieval")
            except CheckpointError as error:  # any other is the defect
                found.add(type(error.__cause__).__name__)
    assert {"UnpicklingError", "UnicodeDecodeError", "RuntimeError"} & found
    assert len(found) > 4


@pytest.mark.parametrize(
    ("name", "tensor", "named"),
    [
        ("visual_encoder.pos_embed", torch.tensor(1.0), r"position_embedding as torch\.float32 of shape \(\)"),
        ("visual_encoder.pos_embed", torch.zeros(5), r"position_embedding as torch\.float32 of shape \(5,\)"),
        ("visual_encoder.pos_embed", torch.zeros(1, 145, 192).long(), r"position_embedding as torch\.int64"),
        ("visual_encoder.pos_embed", torch.zeros(1, 144, 192), "and an image 144 positions"),
        ("visual_encoder.pos_embed", torch.zeros(1, 1, 192), "and an image 1 positions"),
        ("text_encoder.embeddings.word_embeddings.weight", torch.zeros(3), r"of shape \(3,\)"),
        ("text_encoder.embeddings.word_embeddings.weight", torch.zeros(0, 128), r"of shape \(0, 128\)"),
        ("text_encoder.embeddings.word_embeddings.weight", torch.zeros(30524, 32), "widths 32 and 192"),
        ("visual_encoder.patch_embed.proj.weight", torch.zeros(192), r"of shape \(192,\)"),
        ("visual_encoder.patch_embed.proj.weight", torch.zeros(192, 3, 1, 400), "patches 400 pixels a side"),
        (7, torch.zeros(1), "no state dict under `model`"),
    ],
)
def test_weights_of_impossible_shapes_are_refused(
    name: object, tensor: torch.Tensor, named: str, model: BlipForImageTextRetrieval, original: Path
) -> None:
    torch.save({"model": {**original_state(model), name: tensor}}, original)
    with pytest.raises(CheckpointError, match=named) as caught:
        load(original)
    assert str(original) in caught.value.problem
    assert caught.value.remedy


def test_a_layer_number_beyond_the_others_is_a_layer_that_is_left_over(original: Path) -> None:
    rewrite(original, "add", "visual_encoder.blocks.999999999.norm1.bias")
    assert "layers.999999999.layer_norm1.bias" in failure(original).problem


def test_without_vocabulary_the_error_says_which_file_to_put_where(original: Path) -> None:
    vocabulary = original.parent / "vocab.txt"
    vocabulary.unlink()
    error = failure(original)  # the hub cannot be asked in tests
    assert str(original.parent) in error.problem
    assert "google-bert/bert-base-uncased" in error.remedy
    assert str(vocabulary) in error.remedy


def test_the_vocabulary_comes_from_the_hub_at_a_pinned_revision(
    original: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hub").mkdir()
    shutil.move(original.parent / "vocab.txt", tmp_path / "hub" / "vocab.txt")
    asked = []

    def download(repository: str, name: str, *, revision: str, local_files_only: bool = False) -> str:
        asked.append((repository, name, revision))
        if local_files_only:
            raise LocalEntryNotFoundError("not here")
        return str(tmp_path / "hub" / "vocab.txt")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert load(original)._tokenize("a cat") == (101, 1037, 4937, 102)
    assert asked == [("google-bert/bert-base-uncased", "vocab.txt", "86b5e0934494bd15c9632b12f734a8a67f723594")] * 2


def test_an_unreachable_hub_is_asked_once_and_before_the_weights_are_read(
    original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """huggingface_hub's own retries take half a minute."""

    class Session:
        def head(self, url: str, timeout: float) -> None:
            asked.append(url)
            raise OSError("the network is down")

    def download(repository: str, name: str, *, revision: str, local_files_only: bool = False) -> str:
        assert local_files_only
        raise LocalEntryNotFoundError("not here")

    asked: list[str] = []
    (original.parent / "vocab.txt").unlink()
    original.write_bytes(b"not read")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert "no vocab.txt" in failure(original).problem
    with pytest.raises(CheckpointError, match=r"no vocab\.txt"):
        convert_nlvr2(original, original.parent / "folder")
    assert asked == [constants.ENDPOINT] * 2
