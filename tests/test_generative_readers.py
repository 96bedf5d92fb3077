"""Readers of the official VQA, nocaps and COCO caption files, and of the hub's mirrors on local Parquet."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from evalkit.datasets.coco_captions import read_coco_captions
from evalkit.datasets.hub_parquet import hub_files, read_hub_images, read_hub_nocaps, read_hub_vqa
from evalkit.datasets.nocaps import read_nocaps
from evalkit.datasets.vqa import keep_listed, read_answer_list, read_vqa
from evalkit.errors import DataError
from evalkit.images import load_image

PATTERN = "COCO_val2014_{:012d}.jpg"


def write(file: Path, content: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


# -- VQA ---------------------------------------------------------------------------------------------------------------
def questions(count: int = 3) -> dict[str, Any]:
    return {
        "questions": [
            {"question_id": 42000 + number, "image_id": 42 + number // 2, "question": f"what is {number}?"}
            for number in range(count)
        ]
    }


def annotated(count: int = 3) -> dict[str, Any]:
    return {
        "annotations": [
            {
                "question_id": 42000 + number,
                "image_id": 42 + number // 2,
                "answer_type": "other",
                "question_type": "what is",
                "answers": [{"answer": f"a{place}", "answer_id": place} for place in range(10)],
            }
            for number in reversed(range(count))
        ]
    }


def test_the_official_vqa_form_is_read(shared_fixtures: Path) -> None:
    folder = shared_fixtures / "vqav2"
    asked = read_vqa(folder / "smallval_questions.json", folder / "smallval_annotations.json", PATTERN, Path("v"))
    assert len(asked) == 589
    assert len({each.image_id for each in asked}) == 100
    first = asked[0]
    assert (first.id, first.image_id, first.question) == ("42000", "42", "What color are the gym shoes?")
    assert first.image.source == Path("v/COCO_val2014_000000000042.jpg")
    assert first.answers[4] == "white and black"
    assert len(first.answers) == 10
    assert (first.answer_type, first.question_type) == ("other", "what color are the")
    assert asked[1].image is first.image
    assert len(keep_listed(asked, folder / "minival_ids.json")) == 77
    known = {line.strip() for line in (folder / "mscoco_question_types.txt").read_text().splitlines()}
    assert {each.question_type for each in asked} <= known | {"none of the above"}


def test_a_test_split_has_no_answers(tmp_path: Path) -> None:
    asked = read_vqa(write(tmp_path / "q.json", questions()), None, "COCO_test2015_{:012d}.jpg", tmp_path)
    assert [each.answers for each in asked] == [()] * 3
    assert asked[0].image.source == tmp_path / "COCO_test2015_000000000042.jpg"


def test_minival_by_question_image_or_record(tmp_path: Path) -> None:
    asked = read_vqa(write(tmp_path / "q.json", questions(6)), None, PATTERN, tmp_path)
    for name, ids, kept in (
        ("questions", [42001, 42005, 7], ["42001", "42005"]),
        ("images", [42, 44], ["42000", "42001", "42004", "42005"]),
        ("records", [{"question_id": 42003, "label": {}}], ["42003"]),
    ):
        assert [each.id for each in keep_listed(asked, write(tmp_path / f"{name}.json", ids))] == kept
    with pytest.raises(DataError, match="none of its 1 ids"):
        keep_listed(asked, write(tmp_path / "other.json", [1]))


@pytest.mark.parametrize(
    ("asked", "answered", "message"),
    [
        ({"questions": []}, annotated(), "holds no question"),
        ({"questions": questions()["questions"] * 2}, annotated(), "question 42000 occurs twice"),
        (questions(), annotated(2), "no annotation of question 42002"),
        (questions(), {"annotations": annotated()["annotations"] * 2}, "annotated twice"),
        ({"questions": [{"question_id": 1, "image_id": "x", "question": "?"}]}, annotated(), "not a number"),
        ({"questions": [{"question_id": 1, "question": "?"}]}, annotated(), "has no 'image_id'"),
        ({}, annotated(), "has no 'questions'"),
    ],
)
def test_malformed_vqa_is_named(tmp_path: Path, asked: Any, answered: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_vqa(write(tmp_path / "q.json", asked), write(tmp_path / "a.json", answered), PATTERN, tmp_path)


def test_answers_must_be_there(tmp_path: Path) -> None:
    answered = annotated()
    answered["annotations"][0]["answers"] = []
    with pytest.raises(DataError, match="has no answer"):
        read_vqa(write(tmp_path / "q.json", questions()), write(tmp_path / "a.json", answered), PATTERN, tmp_path)


def test_answer_lists(tmp_path: Path, shared_fixtures: Path) -> None:
    answers = read_answer_list(shared_fixtures / "vqav2" / "lxmert_trainval_label2ans.json")
    assert len(answers) == 3128  # of 3,129, the first of which is empty
    (tmp_path / "list.txt").write_text("yes\nno\n")
    assert read_answer_list(tmp_path / "list.txt") == ("yes", "no")
    for content, message in (([], "no answer"), (["a", "a"], "'a' occurs twice"), ([1], "entry 0 is not a text")):
        with pytest.raises(DataError, match=message):
            read_answer_list(write(tmp_path / "bad.json", content))
    with pytest.raises(DataError, match="cannot be read"):
        read_answer_list(tmp_path / "absent.txt")


# -- captions ----------------------------------------------------------------------------------------------------------
def test_coco_captions_are_read(shared_fixtures: Path) -> None:
    photos = read_coco_captions(shared_fixtures / "coco" / "captions_val2017.json", Path("val2017"))
    assert len(photos) == 5000
    assert sum(len(photo.references) for photo in photos) == 25014
    assert photos[0].domain is None
    assert str(photos[0].image.source).startswith("val2017/0")


def test_every_form_of_nocaps_gives_the_same_images(shared_fixtures: Path, tmp_path: Path) -> None:
    folder = shared_fixtures / "nocaps"
    info = read_nocaps(folder / "nocaps_val_image_info.json", Path("val"), corpus=folder / "nocaps_val_corpus.json")
    blip = read_nocaps(folder / "nocaps_val_blip.json", Path("val"), corpus=folder / "nocaps_val_corpus.json")
    assert [(photo.id, photo.image) for photo in info] == [(photo.id, photo.image) for photo in blip]
    assert [photo.references for photo in info] == [photo.references for photo in blip]
    counts = {domain: sum(photo.domain == domain for photo in info) for domain in ("in", "near", "out")}
    assert counts == {"in": 417, "near": 2670, "out": 1413}
    assert info[0].image.source == Path("val/0013ea2087020901.jpg")
    assert info[0].references[0] == "A baby is standing in front of a house."
    alone = read_nocaps(folder / "nocaps_val_blip.json", Path("val"))
    assert (alone[0].references, alone[0].domain) == ((), None)

    official = {
        "images": [{"id": 0, "file_name": "a.jpg", "domain": "near-domain"}, {"id": 1, "file_name": "b.jpg"}],
        "annotations": [{"id": number, "image_id": number % 2, "caption": f"c{number}"} for number in range(4)],
    }
    first, second = read_nocaps(write(tmp_path / "n.json", official), Path("val"))
    assert (first.domain, first.references, second.domain) == ("near", ("c0", "c2"), None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": [], "annotations": []}, "holds no image"),
        ({"images": [{"id": 1, "file_name": "a"}], "annotations": []}, "image 1 has no caption"),
        ({"images": [{"id": 1, "file_name": "a"}] * 2, "annotations": [{"image_id": 1, "caption": "c"}]}, "twice"),
        ({"images": [], "annotations": [{"image_id": 1, "caption": "c"}]}, "a caption is of image 1"),
        ({"images": [{"id": 1, "file_name": "../a"}]}, "not a file below"),
        ({"images": [{"id": 1, "file_name": "a", "domain": "far"}]}, "'far', not in-domain"),
        ([{"image": "val/a.jpg", "img_id": 0}] * 2, "image 0 occurs twice"),
        ([], "holds no image"),
    ],
)
def test_malformed_captions_are_named(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_nocaps(write(tmp_path / "n.json", content), tmp_path)


def test_a_corpus_must_have_every_image(tmp_path: Path) -> None:
    listed = write(tmp_path / "n.json", [{"image": "val/a.jpg", "img_id": 3}])
    corpus = write(tmp_path / "c.json", [{"split": "in_domain", "image_id": "0.jpg", "caption": ["c"]}])
    with pytest.raises(DataError, match=r"image 3 of n.json is not in it"):
        read_nocaps(listed, tmp_path, corpus=corpus)


# -- the hub's mirrors -------------------------------------------------------------------------------------------------
def jpeg(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, shade, shade)).save(stream, "JPEG")
    return stream.getvalue()


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
ANSWER = pa.list_(pa.struct([("answer", pa.string()), ("answer_confidence", pa.string()), ("answer_id", pa.int64())]))


def vqa_table(count: int, *, answered: bool = True) -> pa.Table:
    """The columns of lmms-lab/VQAv2; two questions an image."""
    answers = [{"answer": "yes", "answer_confidence": "yes", "answer_id": place} for place in range(1, 11)]
    columns = {
        "question_type": pa.array(["is the"] * count, pa.string()),
        "multiple_choice_answer": pa.array(["yes"] * count, pa.string()),
        "answers": pa.array([answers if answered else None] * count, ANSWER),
        "image_id": pa.array([7 + number // 2 for number in range(count)], pa.int64()),
        "answer_type": pa.array(["yes/no" if answered else None] * count, pa.string()),
        "question_id": pa.array([7000 + number for number in range(count)], pa.int64()),
        "question": pa.array([f"is it {number}?" for number in range(count)], pa.string()),
        "image": pa.array([{"bytes": jpeg(number // 2), "path": f"{number}.jpg"} for number in range(count)], IMAGE),
    }
    return pa.table(columns)


def test_a_mirror_of_vqav2(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    table = vqa_table(6)
    pq.write_table(table.slice(4), tmp_path / "data" / "validation-00001-of-00002.parquet")
    pq.write_table(table.slice(0, 4), tmp_path / "data" / "validation-00000-of-00002.parquet")
    files = hub_files(tmp_path, "validation")
    asked = read_hub_vqa(files, None)
    assert [each.id for each in asked] == [str(7000 + number) for number in range(6)]
    assert asked[0].image is asked[1].image  # held once
    assert asked[0].answers == ("yes",) * 10
    assert load_image(asked[4].image).getpixel((0, 0)) == (2, 2, 2)
    assert read_hub_vqa(files, 5) == asked[:5]
    assert hub_files(tmp_path, "test") == ()
    pq.write_table(vqa_table(1, answered=False), tmp_path / "t.parquet")
    assert read_hub_vqa([tmp_path / "t.parquet"], None)[0].answers == ()
    with pytest.raises(DataError, match="question 7000 occurs twice"):
        read_hub_vqa([files[0], files[0]], None)


def test_a_mirror_of_nocaps(tmp_path: Path) -> None:
    columns = {
        "image": pa.array([{"bytes": jpeg(number), "path": None} for number in range(3)], IMAGE),
        "image_id": pa.array(range(3), pa.int32()),
        "image_file_name": pa.array(["a.jpg", "b.jpg", "c.jpg"]),
        "annotations_captions": pa.array([[f"c{number}", "d"] for number in range(3)], pa.list_(pa.string())),
    }
    pq.write_table(pa.table(columns), tmp_path / "n.parquet")
    photos = read_hub_nocaps([tmp_path / "n.parquet"], 2)
    assert [(photo.id, photo.references, photo.domain) for photo in photos] == [
        ("0", ("c0", "d"), None),
        ("1", ("c1", "d"), None),
    ]
    with pytest.raises(DataError, match="image 0 occurs twice"):
        read_hub_nocaps([tmp_path / "n.parquet"] * 2, None)


def test_images_out_of_a_mirror_of_coco(tmp_path: Path) -> None:
    columns = {
        "id": pa.array([5, 6], pa.int64()),
        "image": pa.array([{"bytes": jpeg(number), "path": None} for number in (5, 6)], IMAGE),
    }
    pq.write_table(pa.table(columns), tmp_path / "v.parquet")
    images = read_hub_images([tmp_path / "v.parquet"], {"6"})
    assert list(images) == ["6"]
    assert load_image(images["6"]).getpixel((0, 0)) == (6, 6, 6)
    with pytest.raises(DataError, match=r"1 of 2 images .* the first is 9"):
        read_hub_images([tmp_path / "v.parquet"], ["6", "9"])


def test_a_damaged_mirror_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"x.parquet: it cannot be read"):
        read_hub_vqa([tmp_path / "x.parquet"], None)
    pq.write_table(pa.table({"id": [1]}), tmp_path / "y.parquet")
    with pytest.raises(DataError, match="no column question_id, image_id"):
        read_hub_vqa([tmp_path / "y.parquet"], None)
    pq.write_table(
        pa.table({"id": [1], "image": pa.array([{"bytes": None, "path": "p"}], IMAGE)}), tmp_path / "z.parquet"
    )
    with pytest.raises(DataError, match="image 1 has no bytes"):
        read_hub_images([tmp_path / "z.parquet"], ["1"])


def test_the_tasks_read_mirrors_where_the_official_files_are_not(tmp_path: Path) -> None:
    from evalkit.families.captioning import CaptionOptions
    from evalkit.families.question_answering import VqaOptions
    from evalkit_tasks.coco_caption import CocoCaption
    from evalkit_tasks.nocaps import Nocaps
    from evalkit_tasks.vqav2 import Vqav2

    for name in ("VQAv2", "NoCaps", "COCO-Caption"):
        (tmp_path / "lmms-lab" / name / "data").mkdir(parents=True)
    pq.write_table(vqa_table(4), tmp_path / "lmms-lab/VQAv2/data/validation-00000-of-00001.parquet")
    assert [one.id for one in Vqav2(VqaOptions()).samples(tmp_path, 3)] == ["7000", "7001", "7002"]
    write(tmp_path / "vqav2" / "minival_ids.json", [7002])
    assert [one.id for one in Vqav2(VqaOptions(split="minival")).samples(tmp_path, None)] == ["7002"]

    shades = [{"bytes": jpeg(number), "path": None} for number in (5, 6)]
    columns = {
        "id": pa.array([5, 6], pa.int64()),
        "image_id": pa.array([5, 6], pa.int64()),
        "annotations_captions": pa.array([["c"], ["d"]], pa.list_(pa.string())),
        "image": pa.array(shades, IMAGE),
    }
    pq.write_table(pa.table(columns), tmp_path / "lmms-lab/NoCaps/data/validation-00000-of-00001.parquet")
    pq.write_table(pa.table(columns), tmp_path / "lmms-lab/COCO-Caption/data/val-00000-of-00001.parquet")
    assert [one.references for one in Nocaps(CaptionOptions()).samples(tmp_path, None)] == [("c",), ("d",)]
    listed = [{"image": "val2014/COCO_val2014_000000000006.jpg", "caption": ["six"]}]
    write(tmp_path / "coco" / "annotations" / "coco_karpathy_test.json", listed)
    (sample,) = CocoCaption(CaptionOptions()).samples(tmp_path, None)
    assert (sample.id, sample.references) == ("6", ("six",))
    assert load_image(sample.image).getpixel((0, 0)) == (6, 6, 6)
