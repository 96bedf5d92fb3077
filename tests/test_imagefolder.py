"""Class folders and ImageNet's layouts: what is read, and every error of one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalkit.datasets.imagefolder import (
    ImageClass,
    class_folders,
    fill,
    has_slot,
    interleaved,
    read_classes,
    read_image_folder,
    read_templates,
)
from evalkit.datasets.imagenet import read_imagenet_classes, read_imagenet_val
from evalkit.errors import DataError
from evalkit.families.classification import ClassPrediction, ZeroShotOptions
from evalkit.families.knn_probe import KnnOptions
from evalkit.types import Preprocessing
from evalkit_tasks.imagefolder_knn import ImagefolderKnn
from evalkit_tasks.imagefolder_zeroshot import ImagefolderZeroshot


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            file.write_bytes(b"picture")
        else:
            file.mkdir()
    return root


def json_file(file: Path, content: object) -> Path:
    file.write_text(json.dumps(content), "utf-8")
    return file


# -- folders -----------------------------------------------------------------------------------------------------------
def test_images_are_read_class_by_class_in_order(tmp_path: Path) -> None:
    folder_of(tmp_path, "b/2.jpg", "b/10.PNG", "a/z.webp", "c/1.jpeg", ".git/x.jpg", "a/.DS_Store", "classes.json")
    images = read_image_folder(tmp_path)
    assert [image.id for image in images] == ["a/z.webp", "b/10.PNG", "b/2.jpg", "c/1.jpeg"]
    assert [image.label for image in images] == ["a", "b", "b", "c"]
    assert images[1].image.source == tmp_path / "b" / "10.PNG"
    assert [image.id for image in interleaved(images)] == ["a/z.webp", "b/10.PNG", "c/1.jpeg", "b/2.jpg"]


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("a/1.jpg", "b/"), "class folder .*b is empty"),
        (("a/1.jpg", "b/.DS_Store"), "class folder .*b is empty"),
        (("a/1.jpg", "b/notes.txt"), "notes.txt is no image file"),
        (("a/1.jpg", "a/more/2.jpg"), "more is a folder, and a class folder holds images only"),
        (("a/1.jpg", "2.jpg"), "2.jpg lies in no class folder"),
        (("readme.txt",), "holds no class folder"),
    ],
)
def test_folders_that_cannot_be_meant(tmp_path: Path, names: tuple[str, ...], problem: str) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        read_image_folder(folder_of(tmp_path, *names))
    assert caught.value.remedy


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent cannot be read .*No such file"):
        class_folders(tmp_path / "absent")


# -- names -------------------------------------------------------------------------------------------------------------
def test_names_by_folder_in_order_and_from_the_folders(tmp_path: Path) -> None:
    folders = ["n1", "n2", "old_car"]
    plain = tuple(
        ImageClass(id=name, names=(text,)) for name, text in zip(folders, ["n1", "n2", "old car"], strict=True)
    )
    assert read_classes(tmp_path, folders) == plain
    file = json_file(tmp_path / "classnames.json", ["cat", ["dog", "hound"], "car"])
    expected = tuple(
        ImageClass(id=name, names=names)
        for name, names in zip(folders, [("cat",), ("dog", "hound"), ("car",)], strict=True)
    )
    assert read_classes(tmp_path, folders) == expected
    file.unlink()
    json_file(tmp_path / "classes.json", {"old_car": "car", "n2": ["dog", "hound"], "n1": "cat"})
    assert read_classes(tmp_path, folders) == expected


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (["cat"], r"lists 1 names, and there are 2 class folders \(a, b\)"),
        ({"a": "cat"}, "has no name for the class folder b"),
        ({"a": "cat", "b": "dog", "c": "bird"}, "it names c, and there is no such class folder"),
        ({"a": "cat", "b": " "}, "the class b has a name that is blank"),
        ({"a": "cat", "b": []}, "the class b has a name that is blank or no text, or no name at all"),
        ({"a": "cat", "b": ["dog", 3]}, "the class b has a name that is blank or no text"),
        ({"a": "cat", "b": 3}, "the name of b is 3, not a list"),
        ({"a": "cat", "b": "cat"}, "the classes a and b are both called 'cat'"),
        ("cat", "the file is the text"),
    ],
)
def test_names_that_cannot_be_used(tmp_path: Path, content: object, problem: str) -> None:
    file = json_file(tmp_path / "classes.json", content)
    with pytest.raises(DataError, match=problem) as caught:
        read_classes(tmp_path, ["a", "b"])
    assert str(file) in str(caught.value)
    assert caught.value.remedy


def test_two_files_of_names(tmp_path: Path) -> None:
    for name in ("classes.json", "classnames.json"):
        json_file(tmp_path / name, ["cat", "dog"])
    with pytest.raises(DataError, match=r"both classes.json and classnames.json"):
        read_classes(tmp_path, ["a", "b"])


# -- templates ---------------------------------------------------------------------------------------------------------
def test_templates(tmp_path: Path) -> None:
    assert read_templates(json_file(tmp_path / "t.json", ["a {c}", "the {}."])) == ("a {c}", "the {}.")
    several = json_file(tmp_path / "t.json", {"imagenet1k": ["a {c}"], "cars": ["{c}"]})
    assert read_templates(several, "imagenet1k") == ("a {c}",)
    assert fill("{c}, a {c}", r"\1 {c}") == r"\1 {c}, a \1 {c}"
    assert has_slot("a {}")
    assert not has_slot("a {class}")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([], "holds no template"),
        (["a {c}", "a photo"], r"template 1 is 'a photo': it has no \{c\}"),
        ([3], "template 0 is 3"),
        ({"cars": ["{c}"]}, "an object without 'imagenet1k'"),
        ("{c}", "not a list"),
    ],
)
def test_templates_that_cannot_be_used(tmp_path: Path, content: object, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        read_templates(json_file(tmp_path / "t.json", content), "imagenet1k")


# -- ImageNet ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def zeroshot(shared_fixtures: Path) -> Path:
    return shared_fixtures / "zeroshot"


def test_imagenets_real_names(zeroshot: Path) -> None:
    classes = read_imagenet_classes(zeroshot / "imagenet_class_index.json", zeroshot / "en_classnames.json")
    assert len(classes) == 1000
    assert classes[0] == ImageClass(id="n01440764", names=("tench",))
    assert classes[281] == ImageClass(id="n02123045", names=("tabby cat",))
    assert classes[-1] == ImageClass(id="n15075141", names=("toilet paper",))
    templates = read_templates(zeroshot / "en_zeroshot_classification_templates.json", "imagenet1k")
    assert len(templates) == 80
    assert templates[0] == "a bad photo of a {c}."


def test_kaggles_list_of_classes_gives_the_same_order(zeroshot: Path, tmp_path: Path) -> None:
    index = json.loads((zeroshot / "imagenet_class_index.json").read_text("utf-8"))
    mapping = tmp_path / "LOC_synset_mapping.txt"
    mapping.write_text("".join(f"{index[str(n)][0]} {index[str(n)][1]}, etc\n" for n in range(1000)), "utf-8")
    names = zeroshot / "en_classnames.json"
    assert read_imagenet_classes(mapping, names) == read_imagenet_classes(zeroshot / "imagenet_class_index.json", names)
    mapping.write_text(mapping.read_text("utf-8").replace("n01443537", "n01440764"), "utf-8")
    with pytest.raises(DataError, match="does not list 1,000 WordNet ids"):
        read_imagenet_classes(mapping, names)


WNIDS = ["n01440764", "n01443537"]
SOLUTION = (
    "ImageId,PredictionString\n"
    "ILSVRC2012_val_00000003,n01440764 85 1 499 272 \n"
    "ILSVRC2012_val_00000001,n01443537 1 2 3 4 n01443537 5 6 7 8 \n"
    "ILSVRC2012_val_00000002,n01440764 1 1 2 2 \n"
)


def test_both_layouts_give_the_same_images_in_the_same_order(tmp_path: Path) -> None:
    name = "ILSVRC2012_val_0000000{}.JPEG".format
    sorted_in = folder_of(tmp_path / "a", f"{WNIDS[0]}/{name(3)}", f"{WNIDS[1]}/{name(1)}", f"{WNIDS[0]}/{name(2)}")
    flat = folder_of(tmp_path / "b", name(1), name(2), name(3))
    solution = tmp_path / "LOC_val_solution.csv"
    solution.write_text(SOLUTION, "utf-8")
    by_folder, by_file = read_imagenet_val(sorted_in, None, WNIDS), read_imagenet_val(flat, solution, WNIDS)
    assert [(image.id, image.label) for image in by_folder] == [
        ("ILSVRC2012_val_00000001", WNIDS[1]),
        ("ILSVRC2012_val_00000002", WNIDS[0]),
        ("ILSVRC2012_val_00000003", WNIDS[0]),
    ]
    assert [(image.id, image.label) for image in by_file] == [(image.id, image.label) for image in by_folder]
    assert [image.image.source for image in by_file] == [flat / name(number) for number in (1, 2, 3)]


def test_imagenet_layouts_that_cannot_be_used(tmp_path: Path) -> None:
    flat = folder_of(tmp_path / "flat", "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(DataError, match=r"no folders named by WordNet id .* no LOC_val_solution.csv"):
        read_imagenet_val(flat, None, WNIDS)
    unknown = folder_of(tmp_path / "unknown", f"{WNIDS[0]}/1.JPEG", "n99999999/2.JPEG")
    with pytest.raises(DataError, match=r"n99999999 is the folder of none of ImageNet-1k's classes"):
        read_imagenet_val(unknown, None, WNIDS)
    twice = folder_of(tmp_path / "twice", *(f"{wnid}/1.JPEG" for wnid in WNIDS))
    with pytest.raises(DataError, match="Two images are called 1"):
        read_imagenet_val(twice, None, WNIDS)
    solution = tmp_path / "LOC_val_solution.csv"
    for content, problem in (
        (SOLUTION.replace("n01443537 1", "n00000001 1"), "line 3 is 'ILSVRC2012_val_00000001,n00000001 1 2"),
        ("ImageId,PredictionString\nx\n", "line 2 is 'x', not an image and a class"),
        ("ImageId,PredictionString\n", "it labels no image"),
    ):
        solution.write_text(content, "utf-8")
        with pytest.raises(DataError, match=problem):
            read_imagenet_val(flat, solution, WNIDS)


# -- which split -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("names", "split", "first"),
    [
        (("train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg", "val/b/2.jpg", "test/a/3.jpg"), "val", "val/a/2.jpg"),
        (("train/a/1.jpg", "train/b/1.jpg", "test/a/3.jpg", "test/b/3.jpg"), "test", "test/a/3.jpg"),
    ],
)
def test_both_tasks_read_the_same_split_and_name_it(
    tmp_path: Path, names: tuple[str, ...], split: str, first: str
) -> None:
    folder_of(tmp_path, *names)
    for task in (ImagefolderKnn(KnnOptions()), ImagefolderZeroshot(ZeroShotOptions())):
        samples = task.samples(tmp_path, None)
        assert samples[0].image.source == tmp_path / first
        assert task.split == split
        found = [
            ClassPrediction(sample_id=one.id, failure=None, classes=("a", "b"), scores=(1.0, 0.0)) for one in samples
        ]
        route = task.card.routes[0]
        protocols = task.protocols(samples, route, Preprocessing(image="squash", text="raw"))
        assert {value.split for value in task.score(samples, found, protocols)} == {split}


def test_classes_at_the_top_may_be_called_like_a_split(tmp_path: Path) -> None:
    folder_of(tmp_path, "test/1.jpg", "cat/1.jpg", "train/1.jpg")
    task = ImagefolderZeroshot(ZeroShotOptions())
    task.samples(tmp_path, None)
    assert [each.id for each in task.classes] == ["cat", "test", "train"]


def test_nobody_is_told_to_remove_class_folders(tmp_path: Path) -> None:
    folder_of(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg")
    with pytest.raises(DataError, match="cat is a folder") as caught:
        ImagefolderZeroshot(ZeroShotOptions()).samples(tmp_path, None)
    assert "Remove" not in caught.value.remedy
    assert "--data-dir" in caught.value.remedy
    assert "looked for in val, in test, and then at the top" in caught.value.remedy
