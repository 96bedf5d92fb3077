"""What BLIP-2 does to texts and how its checkpoint folders are read; what is looked up for which model."""

from __future__ import annotations

import doctest
import json
import shutil
from pathlib import Path

import pytest
from tiny_checkpoints import tiny_blip2_opt, tiny_blip2_retrieval

from evalkit.adapter import capabilities_of
from evalkit.checkpoints import checkpoint_ref
from evalkit.errors import CapabilityError, CheckpointError
from evalkit.task import ModelProfile
from evalkit.types import Checkpoint, Decoding, Placement, Turn
from evalkit_adapters import blip2_inputs
from evalkit_adapters.blip2 import Blip2Adapter
from evalkit_adapters.blip2_inputs import (
    clean_caption,
    clean_question,
    load_caption_tokenizer,
    load_language_tokenizer,
    prompt_of,
)


@pytest.fixture(scope="module")
def retrieval(tmp_path_factory: pytest.TempPathFactory, shared_fixtures: Path) -> Path:
    return tiny_blip2_retrieval(tmp_path_factory.mktemp("blip2"), shared_fixtures / "tokenizers" / "bert")


@pytest.fixture(scope="module")
def opt(tmp_path_factory: pytest.TempPathFactory, shared_fixtures: Path) -> Path:
    return tiny_blip2_opt(tmp_path_factory.mktemp("opt"), shared_fixtures / "tokenizers" / "opt")


def checkpoint(folder: Path, purpose: str = "default") -> Checkpoint:
    return Checkpoint(source=str(folder), revision=None, paths=(folder,), digest="sha256:0", purpose=purpose)


def user(*texts: str) -> list[Turn]:
    return [Turn(role=("user", "assistant")[number % 2], text=text) for number, text in enumerate(texts)]


def changed(folder: Path, copy: Path, file: str, **settings: object) -> Path:
    """A copy of a folder without weights, with other settings in a file."""
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.safetensors"))
    content = json.loads((copy / file).read_text("utf-8"))
    (copy / file).write_text(json.dumps({**content, **settings}), "utf-8")
    return copy


# ------------------------------------------------------------------------------------------------------------- texts
def test_the_examples_in_the_documentation_hold() -> None:
    results = doctest.testmod(blip2_inputs)
    assert results.attempted >= 6
    assert results.failed == 0


@pytest.mark.parametrize(
    ("caption", "cleaned"),
    [
        ('A "quoted" dog (left).', "a quoted dog left"),
        ("cat's well-made, cup?", "cat's well-made, cup?"),
        ("two  spaces\n", "two spaces"),
        ("...", ""),
        ("w " * 80, " ".join("w" * 50)),  # BLIP's own limit is 30
    ],
)
def test_captions_are_cleaned(caption: str, cleaned: str) -> None:
    assert clean_caption(caption) == cleaned


@pytest.mark.parametrize(
    ("question", "cleaned"),
    [
        ("What is the man's name?", "what is the man's name?"),
        ("Is it 3:30 p.m.?  ", "is it 330 pm?"),  # deleted, where a caption gets a space
        ("A  b", "a  b"),
        ("w " * 80, " ".join("w" * 50)),
    ],
)
def test_questions_are_cleaned(question: str, cleaned: str) -> None:
    assert clean_question(question) == cleaned


@pytest.mark.parametrize(
    ("turns", "prompt"),
    [
        (user("a photo of"), "a photo of"),
        (user(""), ""),
        (user("Describe It!"), "Describe It!"),
        (user("Question: What is It? Answer:"), "Question: what is it? Answer:"),
        (user("Question: What is It? Short answer:"), "Question: what is it? Short answer:"),
        (
            user("Question: Who? Answer: Bob. Question: Why? Answer:"),  # written out: as it stands
            "Question: Who? Answer: Bob. Question: Why? Answer:",
        ),
        (user("Which city?", "Singapore.", "Why?"), "Question: Which city? Answer: Singapore. Question: Why? Answer:"),
        (
            # in the template, as by a recipe: cleaned, as a question alone is
            user("Question: Which city? Short answer:", "Singapore", "Question: Why? Answer:"),
            "Question: which city? Answer: Singapore. Question: why? Answer:",
        ),
        ([Turn(role="system", text="a cat on a mat."), *user("Why?")], "a cat on a mat. Why?"),
        (
            [Turn(role="system", text="a cat."), *user("Who?", "Bob", "Why?")],
            "a cat. Question: Who? Answer: Bob. Question: Why? Answer:",
        ),
    ],
)
def test_turns_become_the_text_that_is_continued(turns: list[Turn], prompt: str) -> None:
    assert prompt_of(turns) == prompt


def test_a_conversation_is_that_of_lavis_demonstration() -> None:
    context = [("which city is this?", "singapore"), ("why?", "it has a statue of a merlion")]
    question = "where is the name merlion coming from?"
    # as examples/blip2_instructed_generation.ipynb writes it
    template = "Question: {} Answer: {}."
    past = " ".join(template.format(context[number][0], context[number][1]) for number in range(len(context)))
    official = past + " Question: " + question + " Answer:"
    said = [text for turns in context for text in turns]
    assert prompt_of(user(*said, question)) == official
    recipe = ModelProfile(
        card=Blip2Adapter.card, variant=Blip2Adapter.card.variants[0], capabilities=capabilities_of(Blip2Adapter)
    ).recipe("vqa/visdial")
    assert recipe is not None
    asked = [recipe.prompt.format(question=text) if number % 2 == 0 else text for number, text in enumerate(said)]
    assert prompt_of(user(*asked, recipe.prompt.format(question=question))) == official


@pytest.mark.parametrize(
    "turns", [[], user("a", "b"), [Turn(role="assistant", text="a")], [*user("a"), *user("b"), *user("c")]]
)
def test_a_conversation_that_the_template_does_not_hold_is_refused(turns: list[Turn]) -> None:
    with pytest.raises(CapabilityError, match="user speaks first and last"):
        prompt_of(turns)


# ------------------------------------------------------------------------------------------------------------ tokens
def test_tokens_are_the_real_ones(retrieval: Path, opt: Path, shared_fixtures: Path) -> None:
    expected = json.loads((shared_fixtures / "tokenizers" / "expected_token_ids.json").read_text("utf-8"))
    caption, language = load_caption_tokenizer(retrieval), load_language_tokenizer(opt)
    seen = 0
    for text, bert, byte_pairs in zip(
        expected["texts"], expected["bert_base_uncased"], expected["opt_bpe_no_bos"], strict=True
    ):
        assert language.encode(text) == byte_pairs
        if clean_caption(text) == text.lower() and len(bert) <= 35:
            assert list(caption(text)) == bert
            seen += 1
    assert seen > 20


def test_another_vocabulary_is_refused(retrieval: Path, tmp_path: Path) -> None:
    words = (retrieval / "vocab.txt").read_text("utf-8").split("\n")
    (tmp_path / "vocab.txt").write_text("\n".join(words[1:]), "utf-8")
    with pytest.raises(CheckpointError, match="not that of bert-base-uncased"):
        load_caption_tokenizer(tmp_path)
    with pytest.raises(CheckpointError, match=r"vocab\.txt or tokenizer\.json"):
        load_caption_tokenizer(tmp_path / "nowhere")


def test_tokenizer_json_alone_will_do(retrieval: Path, tmp_path: Path) -> None:
    shutil.copyfile(retrieval / "tokenizer.json", tmp_path / "tokenizer.json")
    assert load_caption_tokenizer(tmp_path)("A dog.") == load_caption_tokenizer(retrieval)("A dog.")


# ----------------------------------------------------------------------------------------------------------- folders
def test_a_description_says_how_inputs_are_treated(retrieval: Path, opt: Path) -> None:
    described = Blip2Adapter.describe(checkpoint(retrieval, "retrieval/flickr30k"))
    assert described.image == "32x32 squash, bicubic (PIL)"
    assert described.text == "BLIP-2 caption cleaning, 50 words, 35 tokens"
    assert dict(described.details)["match"] == "mean over 8 queries"
    assert dict(described.details)["image_mean"] == "(0.48145466, 0.4578275, 0.40821073)"
    text = Blip2Adapter.describe(checkpoint(opt, "vqa/vqav2"))
    assert text.image == "32x32 squash, bicubic (PIL)"
    assert dict(text.details)["language_model"] == "opt"
    assert dict(text.details)["end"] == "newline"
    assert '"Question: {} Answer: {}." a round' in dict(text.details)["conversation"]


@pytest.mark.parametrize(
    ("file", "settings", "message"),
    [
        ("config.json", {"model_type": "blip"}, "needed"),
        ("config.json", {"architectures": ["Blip2Model"]}, "Blip2Model"),
        ("config.json", {"text_config": {"model_type": "llama"}}, "'llama'"),
        ("preprocessor_config.json", {"size": {"height": 64, "width": 64}}, "64x64 squash.*32 pixels"),
        ("preprocessor_config.json", {"resample": 2}, "resample"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    opt: Path, tmp_path: Path, file: str, settings: dict[str, object], message: str
) -> None:
    folder = changed(opt, tmp_path / "copy", file, **settings)
    with pytest.raises(CheckpointError, match=message):
        Blip2Adapter.describe(checkpoint(folder))


@pytest.mark.parametrize("purpose", ["retrieval", "retrieval/coco"])
def test_a_language_model_does_not_serve_retrieval(opt: Path, purpose: str) -> None:
    with pytest.raises(CheckpointError, match=f"does not serve '{purpose}'"):
        Blip2Adapter.describe(checkpoint(opt, purpose))


def test_a_vocabulary_of_another_kind_is_named(tmp_path: Path) -> None:
    t5 = '{"model": {"type": "Unigram", "vocab": [["<pad>", 0.0], ["</s>", 0.0]]}, "added_tokens": []}'
    for content in (
        t5,
        "[" * 100_000,
        "[]",
        "{}",
        '{"model": {"type": "BPE", "vocab": [3], "merges": []}, "added_tokens": []}',
    ):
        (tmp_path / "tokenizer.json").write_text(content, "utf-8")
        with pytest.raises(CheckpointError, match=rf"{tmp_path / 'tokenizer.json'} "):
            load_caption_tokenizer(tmp_path)
        if content is not t5:
            with pytest.raises(CheckpointError, match=rf"{tmp_path / 'tokenizer.json'} "):
                load_language_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_text("[]", "utf-8")
    with pytest.raises(CheckpointError, match=rf"{tmp_path / 'vocab.json'} cannot be read as a tokenizer"):
        load_language_tokenizer(tmp_path)


def test_a_generation_config_that_is_none_is_named(opt: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(opt, tmp_path / "blip2")
    (folder / "generation_config.json").write_text("[1]", "utf-8")
    with pytest.raises(CheckpointError, match=r"generation_config\.json holds no settings"):
        Blip2Adapter.load(checkpoint(folder), Placement(device="cpu", dtype="float32"))


@pytest.mark.parametrize("part", ["text_config", "vision_config"])
def test_a_part_of_the_configuration_that_holds_no_settings_is_named(part: str, opt: Path, tmp_path: Path) -> None:
    folder = changed(opt, tmp_path / "blip2", "config.json", **{part: [1]})
    with pytest.raises(CheckpointError, match=rf"config\.json: {part} holds no settings"):
        Blip2Adapter.describe(checkpoint(folder))


# ----------------------------------------------------------------------------------------------------------- recipes
def test_the_default_variant_serves_every_purpose() -> None:
    card = Blip2Adapter.card
    for purpose, source in (
        ("retrieval/coco", "blip2-itm-vit-g-coco"),
        ("retrieval/flickr30k", "blip2-itm-vit-g-coco"),  # papers' zero-shot Flickr30k
        ("captioning/nocaps", "blip2-opt-6.7b-coco"),
        ("vqa/vqav2", "blip2-opt-6.7b"),
    ):
        assert checkpoint_ref(card, None, purpose).source == f"Salesforce/{source}"
    with pytest.raises(CheckpointError, match="captioning"):
        checkpoint_ref(card, "flan-t5-xxl", "captioning/coco")


def test_each_language_model_has_its_own_recipes() -> None:
    for variant, least, question in (("opt-6.7b", 4, "Answer:"), ("flan-t5-xl", 7, "Short answer:")):
        chosen = next(entry for entry in Blip2Adapter.card.variants if entry.name == variant)
        profile = ModelProfile(card=Blip2Adapter.card, variant=chosen, capabilities=capabilities_of(Blip2Adapter))
        caption, answer = profile.recipe("captioning/nocaps"), profile.recipe("vqa/vqav2")
        assert caption is not None
        assert answer is not None
        assert caption.prompt == "a photo of"
        assert caption.decoding == Decoding(
            max_new_tokens=30, min_new_tokens=least, num_beams=5, length_penalty=0.0, repetition_penalty=1.15
        )
        dialog = profile.recipe("vqa/visdial")
        assert dialog is not None
        assert dialog.prompt == "Question: {question} Answer:"  # FlanT5 too
        assert answer.prompt == f"Question: {{question}} {question}"
        assert answer.decoding == Decoding(max_new_tokens=10, num_beams=5, length_penalty=-1.0)
