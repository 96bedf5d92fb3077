"""Readers of annotation files: the real files whole, every malformed one as an error of one line."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import pytest

from evalkit.datasets.annotation_json import read_json
from evalkit.datasets.blip_json import read_blip_json
from evalkit.datasets.captioned import CaptionedImage, check_captioned
from evalkit.datasets.karpathy import read_karpathy
from evalkit.datasets.locate import find, locate
from evalkit.errors import DataError
from evalkit.types import DataFile, ImageRef

ROOT = Path("/images")


def write(folder: Path, content: object, name: str = "dataset_coco.json") -> Path:
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return file


def record(number: int, split: str = "test", captions: tuple[str, ...] = ("a cat", "a dog")) -> dict[str, object]:
    return {
        "filepath": "val2014",
        "filename": f"COCO_val2014_{number:012d}.jpg",
        "imgid": number,
        "split": split,
        "cocoid": number,
        "sentids": [number * 10 + k for k in range(len(captions))],
        "sentences": [
            {"tokens": text.split(), "raw": text, "imgid": number, "sentid": number * 10 + k}
            for k, text in enumerate(captions)
        ],
    }


def karpathy(*records: object) -> dict[str, object]:
    return {"images": list(records), "dataset": "coco"}


def without(key: str, source: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in source.items() if name != key}


def one_line(caught: pytest.ExceptionInfo[DataError], file: Path) -> str:
    text = str(caught.value)
    assert "\n" not in text
    assert str(file) in text
    assert caught.value.remedy
    return text


# ------------------------------------------------------------------------------------------------------ real files
def test_the_51_photos(shared_fixtures: Path) -> None:
    folder = shared_fixtures / "photos"
    images = read_karpathy(folder / "dataset_coco.json", ("test",), folder)
    assert len(images) == 51
    assert sum(len(image.captions) for image in images) == 255
    first = images[0]
    assert first.id == first.image.id == "2592"
    assert first.image.source == folder / "val2014" / "COCO_val2014_000000002592.jpg"
    assert first.captions[2] == "a white mug  showing pirate skull and bones and a large knife on a counter top."
    assert first.caption_ids == ("0", "1", "2", "3", "4")
    assert all(isinstance(image.image.source, Path) and image.image.source.is_file() for image in images)


def test_the_5000_images_and_25010_captions(shared_fixtures: Path) -> None:
    file = shared_fixtures / "coco" / "coco_karpathy_test.json"
    images = read_blip_json(file, ROOT)
    assert len(images) == 5000
    assert sum(len(image.captions) for image in images) == 25010
    assert sum(len(image.captions) == 6 for image in images) == 10
    first = images[0]
    assert first.id == "391895"
    assert first.image.source == ROOT / "val2014" / "COCO_val2014_000000391895.jpg"
    assert (
        first.captions[0] == "A man with a red helmet on a small moped on a dirt road. "
    )  # as it stands, space and all
    assert first.caption_ids == ("391895#0", "391895#1", "391895#2", "391895#3", "391895#4")


# -------------------------------------------------------------------------------------------------------- karpathy
def test_karpathy_splits(tmp_path: Path) -> None:
    records = [record(1, "train"), record(2, "restval"), record(3, "test"), record(4, "val"), record(5, "train")]
    file = write(tmp_path, karpathy(*records))
    assert [image.id for image in read_karpathy(file, ("test",), ROOT)] == ["3"]
    assert [image.id for image in read_karpathy(file, ("train", "restval"), ROOT)] == ["1", "2", "5"]


def test_karpathy_flickr30k_has_neither_filepath_nor_cocoid(tmp_path: Path) -> None:
    flickr = without("filepath", without("cocoid", record(1))) | {"filename": "1000092795.jpg"}
    file = write(tmp_path, {"images": [flickr], "dataset": "flickr30k"})
    (image,) = read_karpathy(file, ("test",), ROOT)
    assert (image.id, image.image.source) == ("1000092795", ROOT / "1000092795.jpg")


def test_karpathy_keeps_a_sixth_caption(tmp_path: Path) -> None:
    captions = tuple(f"caption {k}" for k in range(6))
    (image,) = read_karpathy(write(tmp_path, karpathy(record(1, captions=captions))), ("test",), ROOT)
    assert image.captions == captions
    assert image.caption_ids == ("10", "11", "12", "13", "14", "15")


def test_captions_may_repeat_within_an_image(tmp_path: Path) -> None:
    (image,) = read_karpathy(write(tmp_path, karpathy(record(1, captions=("same", "same")))), ("test",), ROOT)
    assert image.captions == ("same", "same")


GOOD = record(7)
SENTENCE = {"raw": "a cat", "sentid": 1}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([GOOD], r"the file is a list of 1, not an object"),
        ({"dataset": "coco"}, r"the file has no 'images'"),
        ({"images": {}}, r"'images' of the file is an object, not a list"),
        (karpathy(GOOD, 5), r"images\[1\] is 5, not an object"),
        (karpathy(without("split", GOOD)), r"images\[0\] has no 'split'"),
        (karpathy(GOOD | {"split": 3}), r"'split' of images\[0\] is 3, not a text"),
        (karpathy(without("filename", GOOD)), r"images\[0\] has no 'filename'"),
        (karpathy(GOOD | {"filename": None}), r"'filename' of images\[0\] is null, not a text"),
        (karpathy(GOOD | {"filename": "../../secret.jpg"}), r"which is not a file below the images' folder"),
        (karpathy(GOOD | {"filepath": "/etc"}), r"which is not a file below the images' folder"),
        (karpathy(without("cocoid", GOOD)), r"images\[0\] \(COCO_val2014_000000000007.jpg\) has no 'cocoid'"),
        (karpathy(GOOD | {"cocoid": [1]}), r"'cocoid' of images\[0\] .* is a list of 1, not an id"),
        (karpathy(GOOD | {"cocoid": True}), r"'cocoid' of images\[0\] .* is true, not an id"),
        (karpathy(without("sentences", GOOD)), r"images\[0\] \(COCO_val2014_000000000007.jpg\) has no 'sentences'"),
        (karpathy(GOOD | {"sentences": "x"}), r"is the text \"x\", not a list"),
        (karpathy(GOOD | {"sentences": ["x"]}), r"sentences\[0\] of images\[0\] .* is the text \"x\", not an object"),
        (karpathy(GOOD | {"sentences": [{"sentid": 1}]}), r"sentences\[0\] of images\[0\] .* has no 'raw'"),
        (karpathy(GOOD | {"sentences": [{"raw": "a"}]}), r"sentences\[0\] of images\[0\] .* has no 'sentid'"),
        (karpathy(GOOD | {"sentences": []}), r"image 7 has no caption"),
        (karpathy(GOOD | {"sentences": [SENTENCE | {"raw": " \n"}]}), r"caption 1 of image 7 is blank"),
        (karpathy(GOOD | {"sentences": [SENTENCE, SENTENCE]}), r"caption id 1 occurs twice, .* on image 7"),
        (karpathy(GOOD, GOOD), r"image 7 occurs twice"),
        (karpathy(), r"the split 'test' is empty; the file has: none at all"),
        (
            karpathy(record(1, "train"), record(2, "val"), record(3, "val")),
            r"empty; the file has: train \(1\), val \(2\)",
        ),
    ],
)
def test_malformed_karpathy_files(tmp_path: Path, content: object, expected: str) -> None:
    file = write(tmp_path, content)
    with pytest.raises(DataError, match=expected) as caught:
        read_karpathy(file, ("test",), ROOT)
    one_line(caught, file)


HALF = {
    "a caption": (
        GOOD | {"sentences": [SENTENCE | {"raw": "a \ud800cat"}]},
        r"'raw' of sentences\[0\] of images\[1\] \(",
    ),
    "an id": (GOOD | {"cocoid": "7\udfff"}, r"'cocoid' of images\[1\] \("),
    "a name": (GOOD | {"filename": "\udce9.jpg"}, r"'filename' of images\[1\] "),
}


@pytest.mark.parametrize("case", HALF)
def test_half_a_surrogate_pair_is_refused_where_it_is_read(tmp_path: Path, case: str) -> None:
    """JSON can spell it, and nothing could tokenize, print or store it."""
    bad, where = HALF[case]
    file = write(tmp_path, karpathy(record(6), bad))
    with pytest.raises(DataError, match=where) as caught:
        read_karpathy(file, ("test",), ROOT)
    text = one_line(caught, file)
    assert "has half a surrogate pair, \\ud" in text
    text.encode()


def test_half_a_surrogate_pair_in_blips_list_of_captions_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, blip(COCO_7 | {"caption": ["a", "b\udc00"]}))
    with pytest.raises(DataError, match=r"entry 1 of 'caption' of record 0 .* pair, \\udc00, at 1\.") as caught:
        read_blip_json(file, ROOT)
    one_line(caught, file)


def test_a_whole_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    file = write(tmp_path, karpathy(record(1, captions=("\U0001f600",))))
    assert "\\ud83d\\ude00" in file.read_text("utf-8")
    assert read_karpathy(file, ("test",), ROOT)[0].captions == ("\U0001f600",)


def test_records_of_other_splits_do_not_matter(tmp_path: Path) -> None:
    file = write(tmp_path, karpathy(GOOD, {"split": "train"}))
    assert len(read_karpathy(file, ("test",), ROOT)) == 1


# ------------------------------------------------------------------------------------------------------------ blip
def blip(*records: object) -> list[object]:
    return list(records)


COCO_7 = {"image": "val2014/COCO_val2014_000000000007.jpg", "caption": ["a cat", "a dog"]}


def test_blip_ids(tmp_path: Path) -> None:
    names = ["val2014/COCO_val2014_000000000007.jpg", "val2017/000000000139.jpg", "flickr30k-images/1007129816.jpg"]
    file = write(tmp_path, [{"image": name, "caption": ["x"]} for name in names])
    images = read_blip_json(file, ROOT)
    assert [image.id for image in images] == ["7", "139", "1007129816"]
    assert [image.image.source for image in images] == [ROOT / name for name in names]


def test_blip_without_the_folder(tmp_path: Path) -> None:
    file = write(tmp_path, [{"image": "flickr30k-images/1007129816.jpg", "caption": ["x"]}])
    (image,) = read_blip_json(file, ROOT / "renamed", keep_folder=False)
    assert image.image.source == ROOT / "renamed" / "1007129816.jpg"


def test_blip_training_form_collects_the_captions_of_an_image(tmp_path: Path) -> None:
    name = "train2014/COCO_train2014_{:012d}.jpg"
    rows = [(7, "one"), (9, "two"), (7, "three")]
    file = write(tmp_path, [{"image": name.format(n), "caption": c, "image_id": f"coco_{n}"} for n, c in rows])
    images = read_blip_json(file, ROOT)
    assert [(image.id, image.captions) for image in images] == [("7", ("one", "three")), ("9", ("two",))]
    assert images[0].caption_ids == ("7#0", "7#1")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"images": []}, r"the file is an object, not a list"),
        ([], r"the split is empty"),
        (blip(COCO_7, "x"), r"record 1 is the text \"x\", not an object"),
        (blip({"caption": ["x"]}), r"record 0 has no 'image'"),
        (blip({"image": 3, "caption": ["x"]}), r"'image' of record 0 is 3, not a text"),
        (blip({"image": "", "caption": ["x"]}), r"record 0 names '', which is not a file"),
        (blip(without("caption", COCO_7)), r"record 0 \(val2014/COCO_val2014_000000000007.jpg\) has no 'caption'"),
        (blip(COCO_7 | {"caption": None}), r"'caption' of record 0 .* is null, not a list"),
        (blip(COCO_7 | {"caption": ["a", None]}), r"caption 2 of record 0 \(val2014/.*\) is not a text"),
        (blip(COCO_7 | {"caption": []}), r"image 7 has no caption"),
        (blip(COCO_7 | {"caption": ["a", "  "]}), r"caption 2 of image 7 is blank"),
        (blip(COCO_7, COCO_7), r"record 1: image 7 \(val2014/COCO_val2014_000000000007.jpg\) occurs twice"),
        (blip(COCO_7, COCO_7 | {"caption": "x"}), r"record 1: image 7 .* occurs twice"),
    ],
)
def test_malformed_blip_files(tmp_path: Path, content: object, expected: str) -> None:
    file = write(tmp_path, content)
    with pytest.raises(DataError, match=expected) as caught:
        read_blip_json(file, ROOT)
    one_line(caught, file)


# ------------------------------------------------------------------------------------------------------------ json
@pytest.mark.parametrize("keep", range(1, 60, 4))
def test_truncated_json_names_line_and_column(tmp_path: Path, keep: int) -> None:
    whole = '{\n "images": [\n  {"a": "text", "b": [1, 2], "c": {"d": "e"}}\n ]\n}'
    file = write(tmp_path, whole[:keep])
    with pytest.raises(DataError, match=r"the JSON is truncated at line \d+, column \d+ \(") as caught:
        read_json(file)
    one_line(caught, file)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{\n "a": 1,\n "b": oops\n}', r"the JSON is malformed at line 3, column 7 \(Expecting value\)"),
        ('{"a": 1} trailing', r"the JSON is malformed at line 1, column 10 \(Extra data\)"),
        ("[1, 2,, 3]", r"the JSON is malformed at line 1, column 7"),
        ("<!DOCTYPE html>", r"the JSON is malformed at line 1, column 1"),
        ("", r"the file is empty"),
        (" \n", r"the file is empty"),
        ("[" * 100_000 + "]" * 100_000, r"the JSON is malformed: nested too deeply"),
    ],
)
def test_malformed_json(tmp_path: Path, content: str, expected: str) -> None:
    file = write(tmp_path, content)
    with pytest.raises(DataError, match=expected) as caught:
        read_json(file)
    one_line(caught, file)


def test_json_that_is_not_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "latin.json"
    file.write_bytes(b'{"a": "caf\xe9"}')
    with pytest.raises(DataError, match=r"not UTF-8 at byte 10"):
        read_json(file)


def test_json_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "bom.json"
    file.write_bytes(b'\xef\xbb\xbf{"a": "caf\xc3\xa9"}')
    assert read_json(file) == {"a": "café"}


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.json: there is no such file\. Correct its name; .*`evalkit data prepare"):
        read_json(tmp_path / "no.json")
    with pytest.raises(DataError, match=r"cannot be read: Is a directory"):
        read_json(tmp_path)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_as_it_was(tmp_path: Path, enabled: bool) -> None:
    was = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        read_json(write(tmp_path, "[1]"))
        with pytest.raises(DataError):
            read_json(write(tmp_path, "[1"))
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was else gc.disable)()


# ---------------------------------------------------------------------------------------------------------- checks
def captioned(image_id: str, captions: tuple[str, ...], caption_ids: tuple[str, ...]) -> CaptionedImage:
    ref = ImageRef(id=image_id, source=ROOT / image_id)
    return CaptionedImage(id=image_id, image=ref, captions=captions, caption_ids=caption_ids)


def test_check_captioned_accepts_sound_data() -> None:
    check_captioned([captioned("1", ("a", "b"), ("x", "y")), captioned("2", ("a",), ("z",))], Path("f.json"))


def test_check_captioned_refuses_ids_that_do_not_count_up() -> None:
    with pytest.raises(DataError, match=r"f\.json: image 1 has 2 captions but 1 caption ids"):
        check_captioned([captioned("1", ("a", "b"), ("x",))], Path("f.json"))


def test_check_captioned_refuses_a_caption_id_of_two_images() -> None:
    with pytest.raises(DataError, match=r"caption id x occurs twice, the second time on image 2"):
        check_captioned([captioned("1", ("a",), ("x",)), captioned("2", ("b",), ("x",))], Path("f.json"))


# ---------------------------------------------------------------------------------------------------------- locate
FILE = DataFile(
    path="coco/a.json", about="COCO captions", alternatives=("./a.json", "b.json"), url="http://example.org/a.json"
)


def test_locate_takes_the_first_that_exists(tmp_path: Path) -> None:
    assert find(FILE, tmp_path) is None
    (tmp_path / "b.json").touch()
    assert locate(FILE, tmp_path, "coco_retrieval") == tmp_path / "b.json"
    (tmp_path / "a.json").touch()
    assert locate(FILE, tmp_path, "coco_retrieval") == tmp_path / "a.json"


def test_locate_lists_every_place_and_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        locate(FILE, tmp_path, "coco_retrieval")
    text = one_line(caught, tmp_path)
    assert f"COCO captions not found below {tmp_path}: looked for coco/a.json, a.json, b.json." in text
    assert "Run `evalkit data prepare coco_retrieval`." in text
    assert "--data-dir or EVALKIT_DATA" in text


def test_locate_gives_instructions_where_a_form_must_be_signed(tmp_path: Path) -> None:
    signed = DataFile(path="images", about="Flickr30k images", instructions="Fill in the form.")
    with pytest.raises(DataError, match=r"Fill in the form\. If you have it elsewhere") as caught:
        locate(signed, tmp_path, "flickr30k_retrieval")
    assert "evalkit data prepare" not in str(caught.value)


def test_locate_says_that_the_root_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"The data root .*/nowhere does not exist \(wanted there: COCO captions\)"):
        locate(FILE, tmp_path / "nowhere", "coco_retrieval")
