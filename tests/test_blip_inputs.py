"""BLIP's image transform, caption cleaning and tokenizer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit.errors import CheckpointError
from evalkit.types import Checkpoint
from evalkit_adapters import blip_inputs
from evalkit_adapters.blip import BlipAdapter
from evalkit_adapters.blip_inputs import (
    MAX_TOKENS,
    OFFICIAL_MEAN,
    OFFICIAL_STD,
    ImageTransform,
    clean_caption,
    load_tokenizer,
    load_word_pieces,
    read_image_transform,
    statement_ids,
)

PHOTO = "COCO_val2014_000000039769.jpg"


# ----------------------------------------------------------------------------------------------------------- captions
@pytest.mark.parametrize(
    ("caption", "cleaned"),
    [
        ("A man riding a wave.", "a man riding a wave"),
        ('"Two" (big) *dogs* #1: a; ~b~!', "two big dogs 1 a b"),
        ("well-made, isn't it? 50% & more", "well-made, isn't it? 50% & more"),
        ("a   b \t c", "a b c"),
        ("one\ttab stays", "one\ttab stays"),
        ("  ends  \n", "ends"),
        ("last one \n\n", "last one"),
        ("...", ""),
        ("", ""),
        ("Ünïcode É.", "ünïcode é"),
    ],
)
def test_captions_are_cleaned_as_officially(caption: str, cleaned: str) -> None:
    assert clean_caption(caption) == cleaned


def test_a_caption_keeps_thirty_words() -> None:
    assert clean_caption(" ".join(f"w{number}" for number in range(31))).split(" ") == [f"w{n}" for n in range(30)]


# ---------------------------------------------------------------------------------------------------------- tokenizer
@pytest.fixture(scope="module")
def bert(shared_fixtures: Path) -> Path:
    return shared_fixtures / "tokenizers" / "bert"


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json"])
def test_token_ids_are_those_of_bert(name: str, bert: Path, shared_fixtures: Path) -> None:
    expected = json.loads((shared_fixtures / "tokenizers" / "expected_token_ids.json").read_text("utf-8"))
    tokenize = load_tokenizer(bert / name)
    compared = 0
    for text, ids in zip(expected["texts"], expected["bert_base_uncased"], strict=True):
        if not set(text) & set('.!"()*#:;~') and len(ids) <= MAX_TOKENS and len(text.split(" ")) <= 30:
            assert list(tokenize(text)) == ids, text
            compared += 1
    assert compared > 50


def test_a_text_is_cut_to_35_tokens_and_keeps_its_end_mark(bert: Path) -> None:
    ids = load_tokenizer(bert / "vocab.txt")("incomprehensibilities " * 30)
    assert len(ids) == 35
    assert (ids[0], ids[-1]) == (101, 102)


def test_the_empty_caption_has_tokens(bert: Path) -> None:
    assert load_tokenizer(bert / "vocab.txt")("") == (101, 102)


def test_a_vocabulary_may_go_on_after_bert(bert: Path, tmp_path: Path) -> None:
    longer = tmp_path / "vocab.txt"
    longer.write_text((bert / "vocab.txt").read_text("utf-8") + "[DEC]\n[ENC]\n", "utf-8")
    assert load_tokenizer(longer)("a cat") == load_tokenizer(bert / "vocab.txt")("a cat")


@pytest.mark.parametrize(
    "change", ["shorter", "swapped", "not json", "other json", "nested json", "T5's json", "binary"]
)
def test_another_vocabulary_is_refused_by_name(change: str, bert: Path, tmp_path: Path) -> None:
    words = (bert / "vocab.txt").read_text("utf-8").split("\n")
    file = tmp_path / ("tokenizer.json" if "json" in change else "vocab.txt")
    if change == "shorter":
        file.write_text("\n".join(words[:28996]), "utf-8")
    elif change == "swapped":  # right size, right special tokens, two words exchanged
        words[2000], words[2001] = words[2001], words[2000]
        file.write_text("\n".join(words), "utf-8")
    elif change == "not json":
        file.write_text('{"model":', "utf-8")
    elif change == "other json":
        file.write_text('{"model": {}}', "utf-8")
    elif change == "nested json":
        file.write_text("[" * 100_000, "utf-8")
    elif change == "T5's json":
        file.write_text('{"model": {"type": "Unigram", "vocab": [["<pad>", 0.0], ["</s>", 0.0]]}}', "utf-8")
    else:
        file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError) as caught:
        load_tokenizer(file)
    assert str(file) in caught.value.problem
    assert caught.value.remedy


OWN = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "ring", "##s", "?", "[DEC]", "[ENC]")


def test_a_network_trained_from_scratch_may_have_a_small_vocabulary(tmp_path: Path) -> None:
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join(OWN) + "\n", "utf-8")
    pieces = load_word_pieces(file)
    assert pieces.encode("A red rings?") == (2, 5, 6, 7, 8, 9, 3)
    assert pieces.encode("a red rings ?", 4) == (2, 5, 6, 3)
    assert pieces.decode((10, 11, 5, 6, 7, 8, 9, 3, 0)) == "a red rings?"
    assert (pieces.sep, pieces.dec, pieces.enc) == (3, 10, 11)
    assert statement_ids("a ring", pieces, 20) == (11, 5, 7, 3)


@pytest.mark.parametrize("change", ["no mark", "padding elsewhere", "more behind"])
def test_a_small_vocabulary_without_blips_marks_is_refused(change: str, tmp_path: Path) -> None:
    words = {
        "no mark": OWN[:-1],
        "padding elsewhere": (*OWN[1:-1], OWN[0], OWN[-1]),
        "more behind": (*OWN, "blue"),
    }[change]
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join(words) + "\n", "utf-8")
    with pytest.raises(CheckpointError, match="is not the vocabulary of bert-base-uncased"):
        load_word_pieces(file)


# ------------------------------------------------------------------------------------------------------------- images
def test_pixels_are_those_of_the_official_transform(shared_fixtures: Path) -> None:
    with Image.open(shared_fixtures / "photos" / "val2014" / PHOTO) as file:
        photo = file.convert("RGB")
    assert photo.width != photo.height  # so that squashing and cropping differ
    pixels = ImageTransform(size=384, mean=OFFICIAL_MEAN, std=OFFICIAL_STD).apply(photo)

    # torchvision's Resize((384, 384), BICUBIC), ToTensor, Normalize on a PIL image, spelled out
    square = np.asarray(photo.resize((384, 384), Image.Resampling.BICUBIC))
    for channel, (mean, std) in enumerate(
        zip((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), strict=True)
    ):
        expected = (square[:, :, channel].astype(np.float64) / 255 - mean) / std
        np.testing.assert_allclose(pixels[channel], expected, atol=1e-6)
    assert (pixels.dtype, pixels.shape, pixels.flags.c_contiguous) == (np.float32, (3, 384, 384), True)

    cropped = np.asarray(photo.resize((384, 384), Image.Resampling.BICUBIC, box=(0, 0, *[min(photo.size)] * 2)))
    assert np.abs(cropped.astype(int) - square).max() > 50  # the check above would see a crop


def write_processor(folder: Path, name: str = "preprocessor_config.json", **changes: object) -> Path:
    settings = {"do_resize": True, "resample": 3, "size": {"height": 48, "width": 48}, **changes}
    document = {"image_processor": settings} if name == "processor_config.json" else settings
    (folder / name).write_text(json.dumps(document), "utf-8")
    return folder


@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
def test_the_size_and_normalization_come_from_the_processor_file(name: str, tmp_path: Path) -> None:
    write_processor(tmp_path, name, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6])
    assert read_image_transform(tmp_path) == ImageTransform(size=48, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))


def test_an_original_file_has_the_official_transform(tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    file.touch()
    assert read_image_transform(file) == ImageTransform(size=384, mean=OFFICIAL_MEAN, std=OFFICIAL_STD)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"resample": 2}, "resample"),
        ({"do_resize": False}, "do_resize"),
        ({"do_normalize": False}, "do_normalize"),
        ({"size": {"height": 48, "width": 32}}, "size"),
        ({"size": {"shortest_edge": 48}}, "size"),
        ({"image_mean": [0.5]}, "image_mean"),
        ({"image_mean": 0.5}, "image_mean"),
        ({"image_std": ["0.5"] * 3}, "image_std"),
    ],
)
def test_another_preprocessing_is_refused(changes: dict[str, object], named: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=named) as caught:
        read_image_transform(write_processor(tmp_path, **changes))
    assert "preprocessor_config.json" in caught.value.problem


@pytest.mark.parametrize("content", [None, "{", "[]", pytest.param("[" * 100_000, id="nested")])
def test_a_missing_or_broken_processor_file_is_named(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "preprocessor_config.json").write_text(content, "utf-8")
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json"):
        read_image_transform(tmp_path)


# -------------------------------------------------------------------------------------------------------- description
def test_the_description_says_what_is_done(tmp_path: Path) -> None:
    checkpoint = Checkpoint(
        source="x", revision=None, paths=(write_processor(tmp_path),), digest="sha256:0", purpose="retrieval"
    )
    preprocessing = BlipAdapter.describe(checkpoint)
    assert preprocessing.image == "48x48 squash, bicubic (PIL)"
    assert preprocessing.text == "BLIP caption cleaning, 30 words, 35 tokens"
    assert ("first_token", "encode_text [CLS], match [ENC]") in preprocessing.details


def test_card_and_description_load_no_heavy_library(tmp_path: Path) -> None:
    write_processor(tmp_path)
    code = f"""
import sys
from pathlib import Path
from evalkit.types import Checkpoint
from evalkit_adapters.blip import BlipAdapter
folder = Path({str(tmp_path)!r})
for purpose in ("retrieval", "captioning", "vqa"):
    BlipAdapter.describe(Checkpoint(source="x", revision=None, paths=(folder,), digest="d", purpose=purpose))
print(sorted({{"torch", "transformers", "numpy", "PIL", "tokenizers"}} & sys.modules.keys()))
"""
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "[]"


def test_the_documented_example_holds() -> None:
    import doctest

    results = doctest.testmod(blip_inputs)
    assert (results.failed, results.attempted) == (0, 2)
