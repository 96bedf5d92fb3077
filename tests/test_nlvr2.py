"""NLVR2: its files, its official numbers, and the task."""

from __future__ import annotations

import csv
import doctest
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from evalkit.datasets import nlvr2 as reader
from evalkit.datasets.nlvr2 import read_nlvr2
from evalkit.errors import DataError
from evalkit.families import statement_verdicts
from evalkit.families.statements import StatementOptions, StatementPrediction, StatementSample
from evalkit.metrics import nlvr2 as measures
from evalkit.metrics.nlvr2 import accuracy, consistency, group_of, is_right
from evalkit.types import ImageRef, MetricValue, Preprocessing, Protocol
from evalkit_tasks.nlvr2 import Nlvr2

SETS = ("always_true", "noisy80_seed7", "first_validator")
IMAGES = Path("images") / "dev"


def record(identifier: str, label: Any = "True", **fields: Any) -> dict[str, Any]:
    _, number, pair, sentence = identifier.split("-")
    return {
        "identifier": identifier,
        "sentence": f"Statement {sentence} of set {number}.",
        "label": label,
        "left_url": f"https://l/{number}-{pair}.jpg",
        "right_url": f"https://r/{number}-{pair}.jpg",
        **fields,
    }


def lines(file: Path, *records: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{json.dumps(each)}\n" for each in records))
    return file


def entry(pair: str, sentence: str, label: str = "True", folder: str = "dev/") -> dict[str, Any]:
    """A record of BLIP's list."""
    return {
        "sentence": sentence,
        "label": label,
        "images": [f"{folder}{pair}-img0.png", f"{folder}{pair}-img1.png"],
    }


# -- official numbers --------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def folder(shared_fixtures: Path) -> Path:
    return shared_fixtures / "nlvr2"


@pytest.fixture(scope="module")
def dev(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[StatementSample, ...]:
    root = tmp_path_factory.mktemp("root")
    (root / "nlvr2" / "dev").mkdir(parents=True)
    (root / "nlvr2" / "dev.json").symlink_to(folder / "dev.json")
    return Nlvr2(StatementOptions()).samples(root, None)


def answers_of(folder: Path, name: str) -> dict[str, str]:
    with (folder / f"pred_dev_{name}.csv").open() as opened:
        return {identifier: answer for identifier, answer in csv.reader(opened)}


@pytest.mark.parametrize("module", [measures, reader, statement_verdicts], ids=lambda module: module.__name__)
def test_examples_in_docstrings(module: ModuleType) -> None:
    results = doctest.testmod(module)
    assert results.attempted >= 1
    assert results.failed == 0


@pytest.mark.parametrize("name", SETS)
def test_the_measures_are_the_official_ones(folder: Path, name: str) -> None:
    expected = json.loads((folder / "expected_metrics.json").read_text())[f"dev/{name}"]
    answers, rows = answers_of(folder, name), list(map(json.loads, (folder / "dev.json").read_text().splitlines()))
    right = [is_right(answers[row["identifier"]], row["label"]) for row in rows]
    groups = [group_of(row["identifier"]) for row in rows]
    assert (accuracy(right).of, consistency(groups, right).of) == (expected["n"], 2018)
    assert accuracy(right).fraction == expected["accuracy"]
    assert consistency(groups, right).fraction == expected["consistency"]


@pytest.mark.parametrize("name", SETS)
def test_the_task_gives_the_official_numbers(folder: Path, dev: tuple[StatementSample, ...], name: str) -> None:
    expected = json.loads((folder / "expected_metrics.json").read_text())[f"dev/{name}"]
    answers = answers_of(folder, name)
    predictions = [StatementPrediction(sample_id=one.id, failure=None, answer=answers[one.id]) for one in dev]
    values = numbers(dev, predictions)
    assert values["accuracy"].value == 100.0 * expected["accuracy"]
    assert values["consistency"].value == 100.0 * expected["consistency"]
    assert values["accuracy_balanced"].value == float(expected["balanced"])
    assert values["accuracy_unbalanced"].value == float(expected["unbalanced"])
    # as many as in the official files of the subsets
    assert {name: value.n for name, value in values.items()} == {
        "accuracy": 6982,
        "consistency": 2018,
        "accuracy_balanced": 2300,
        "consistency_balanced": 1116,
        "accuracy_unbalanced": 3562,
        "consistency_unbalanced": 1526,
    }
    assert all(value.low <= value.value <= value.high for value in values.values())


def test_a_cluster_holds_whole_groups_and_image_pairs(dev: tuple[StatementSample, ...]) -> None:
    assert len({one.cluster for one in dev}) == 1054
    for key in ("group", "images"):
        owners: dict[Any, set[str]] = {}
        for one in dev:
            owners.setdefault(getattr(one, key), set()).add(one.cluster)
        assert all(len(clusters) == 1 for clusters in owners.values())


def numbers(samples: tuple[StatementSample, ...], predictions: list[StatementPrediction]) -> dict[str, MetricValue]:
    task = Nlvr2(StatementOptions())
    preprocessing = Preprocessing(image="i", text="t")
    protocol = Protocol(
        name="nlvr2-dev", version=1, route="match", prompt="", preprocessing=preprocessing, decoding="", tie_rule=""
    )
    return {value.metric: value for value in task.score(samples, predictions, [protocol])}


# -- files -------------------------------------------------------------------------------------------------------------
def test_the_official_file(folder: Path) -> None:
    found = read_nlvr2(folder / "dev.json", IMAGES)
    assert len(found) == 6982
    first = found[0]
    assert (first.id, first.group, first.image_set, first.label) == ("dev-850-0-0", "dev-850--0", "dev-850", "False")
    assert first.sentence.startswith("The right image shows a curving walkway")
    assert first.images == (
        ImageRef(id="dev-850-0-img0", source=IMAGES / "dev-850-0-img0.png"),
        ImageRef(id="dev-850-0-img1", source=IMAGES / "dev-850-0-img1.png"),
    )
    assert all(one.group == group_of(one.id) for one in found)


def test_subsets_go_by_the_urls_of_a_pair_in_the_whole_file(tmp_path: Path) -> None:
    same = {"left_url": "https://l", "right_url": "https://r"}
    file = lines(
        tmp_path / "dev.json",
        record("dev-1-0-0", "True", **same),
        record("dev-2-3-0", "False", **same),
        record("dev-1-1-0", "true"),
        record("dev-1-1-1", "True"),
        record("dev-1-2-0", "False"),
        record("dev-9-2-0", None),
        record("dev-9-2-1", None),
    )
    found = read_nlvr2(file, IMAGES)
    assert [one.subset for one in found] == ["balanced"] * 2 + ["unbalanced"] * 2 + [""] * 3
    assert [one.label for one in found[2:]] == ["True", "True", "False", "", ""]


def test_training_examples_name_their_directory(tmp_path: Path) -> None:
    file = lines(tmp_path / "train.json", record("train-1-0-0", directory=11), record("train-1-1-0", directory="7"))
    found = read_nlvr2(file, Path("train"))
    assert [one.images[1].source for one in found] == [
        Path("train/11/train-1-0-img1.png"),
        Path("train/7/train-1-1-img1.png"),
    ]


def test_blips_list_says_the_same_but_the_identifiers(tmp_path: Path) -> None:
    official = read_nlvr2(
        lines(
            tmp_path / "dev.json",
            record("dev-1-0-1", "True"),
            record("dev-1-0-0", "False"),
            record("dev-1-3-1", "True"),
        ),
        IMAGES,
    )
    sentences = ("Statement 1 of set 1.", "Statement 0 of set 1.")
    listed = [
        entry("dev-1-0", sentences[0]),
        entry("dev-1-0", sentences[1], "False"),
        entry("dev-1-3", sentences[0]),
        entry("train-1-3", sentences[0], folder="images/train/12/"),
    ]
    (tmp_path / "nlvr_dev.json").write_text(json.dumps(listed))
    found = read_nlvr2(tmp_path / "nlvr_dev.json", IMAGES)
    for one, other in zip(found, official, strict=False):
        assert (one.sentence, one.label, one.subset) == (other.sentence, other.label, other.subset)
        assert (one.images, one.image_set) == (other.images, other.image_set)
    assert [one.id for one in found] == ["dev-1-0-s1", "dev-1-0-s2", "dev-1-3-s1", "train-1-3-s1"]
    assert [one.group for one in found] == ["dev-1--s1", "dev-1--s2", "dev-1--s1", "train-1--s1"]
    assert found[3].images[0].source == IMAGES / "12" / "train-1-3-img0.png"


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([record("dev-1-0-0") | {"identifier": "dev-1-0"}], "record 0.*not of the form split-set-pair-sentence"),
        ([record("dev-1-0-0") | {"identifier": "../x-1-0-0"}], "not of the form"),
        ([record("dev-1-0-0"), record("dev-1-0-0")], "dev-1-0-0 occurs twice"),
        ([record("dev-1-0-0", "maybe")], "label of record 0 .dev-1-0-0. is 'maybe', neither True nor False"),
        ([record("dev-1-0-0", directory="../..")], "the directory of record 0 .* not a number"),
        ([{"identifier": "dev-1-0-0"}], "has no 'sentence'"),
        ([7], "record 0 is 7, not an object"),
        ([[]], "holds no statement"),
        ([[entry("dev-1-0", "a") | {"images": ["dev-1-0-img0.png"]}]], "not the two of one pair"),
        ([[entry("dev-1-0", "a") | {"images": ["dev-1-0-img0.png", "dev-1-1-img1.png"]}]], "not the two of one pair"),
        ([[entry("dev-1-0", "a") | {"images": ["dev-1-0-img1.png", "dev-1-0-img0.png"]}]], "not first the left one"),
    ],
)
def test_malformed_files(tmp_path: Path, records: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_nlvr2(lines(tmp_path / "dev.json", *records), IMAGES)


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    file = lines(tmp_path / "dev.json", record("dev-1-0-0"), record("dev-1-1-0"))
    file.write_text(f"{file.read_text()}\n{json.dumps(record('dev-1-2-0'))[:40]}")
    with pytest.raises(DataError, match="truncated at line 4, column"):
        read_nlvr2(file, IMAGES)
    with pytest.raises(DataError, match="there is no such file"):
        read_nlvr2(tmp_path / "absent.json", IMAGES)


# -- layouts -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("split", "file", "images"),
    [
        ("dev", "nlvr2/dev.json", "nlvr2/dev"),
        ("dev", "nlvr2/data/dev.json", "nlvr2/images/dev"),
        ("dev", "nlvr/nlvr2/data/dev.json", "images/dev"),
        ("test-P", "nlvr2/data/test1.json", "NLVR2/test1"),
        ("test-U", "nlvr2/test2.json", "nlvr2/test2"),
    ],
)
def test_layouts(tmp_path: Path, split: str, file: str, images: str) -> None:
    name = Path(file).stem
    lines(tmp_path / file, record(f"{name}-1-0-0"), record(f"{name}-1-0-1", "False"))
    (tmp_path / images).mkdir(parents=True)
    samples = Nlvr2(StatementOptions(split=split)).samples(tmp_path, 1)
    assert [one.id for one in samples] == [f"{name}-1-0-0"]
    assert samples[0].subset == "balanced"  # of the whole file, not of the one sample
    assert samples[0].images[0].source == tmp_path / images / f"{name}-1-0-img0.png"


def test_blips_layout(tmp_path: Path) -> None:
    (tmp_path / "annotation").mkdir()
    (tmp_path / "annotation" / "nlvr_test.json").write_text(json.dumps([entry("test1-1-0", "a", folder="test1/")]))
    (tmp_path / "NLVR2" / "test1").mkdir(parents=True)
    (sample,) = Nlvr2(StatementOptions(split="test-P")).samples(tmp_path, None)
    assert sample.images[1].source == tmp_path / "NLVR2" / "test1" / "test1-1-0-img1.png"


def test_another_splits_file_and_missing_images_are_refused(tmp_path: Path) -> None:
    lines(tmp_path / "nlvr2" / "test1.json", record("dev-1-0-0"))
    with pytest.raises(DataError, match=r"NLVR2 test-P images not found.*Fill in the form.*nlvr2/test1"):
        Nlvr2(StatementOptions(split="test-P")).samples(tmp_path, None)
    (tmp_path / "nlvr2" / "test1").mkdir()
    with pytest.raises(DataError, match="dev-1-0-0 is not of test-P, whose identifiers begin with test1"):
        Nlvr2(StatementOptions(split="test-P")).samples(tmp_path, None)
