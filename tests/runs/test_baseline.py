"""Baseline files and margins files: what is kept, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gated_runs import Answers, numbers, points

from evalkit.errors import ConfigError, StoreError
from evalkit.report.baseline import Saved, merged, read_baseline, resampled_file, write_baseline
from evalkit.report.margins import Margins, read_margins

RUN = Answers(points={"acc": points(0.8, 40), "mean_rank": np.arange(40.0)})


def saved(run: Answers = RUN) -> list[Saved]:
    return [Saved(number=number, code="f" * 40) for number in numbers(run)]


def put(file: Path, of: list[Saved]) -> Path:
    files = write_baseline(of)
    file.write_bytes(files.document)
    if files.resampled is not None:
        resampled_file(file).write_bytes(files.resampled)
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return put(tmp_path / "base.json", saved())


def test_what_is_written_is_read(file: Path) -> None:
    for one, other in zip(read_baseline(file), saved(), strict=True):
        assert one.number.record == other.number.record
        assert (one.code, one.number.unanswered) == (other.code, other.number.unanswered)
        assert one.number.resampled is not None
        assert np.array_equal(one.number.resampled, other.number.resampled)


def test_equal_numbers_give_equal_bytes_a_line_a_number(file: Path) -> None:
    assert write_baseline(saved()) == write_baseline(saved())
    lines = file.read_text("utf-8").splitlines()
    assert sum('"metric": ' in line for line in lines) == len(saved())
    assert lines[5].startswith('{"task": "toy", "model": "clip", "variant": "base", "split": "test", "metric": "acc"')


def test_a_hostile_name_is_ascii(tmp_path: Path) -> None:
    file = put(tmp_path / "base.json", saved(Answers(points={"acc\x1b[31m\u202e": points(0.8, 40)})))
    assert file.read_bytes().isascii()
    assert b"\x1b" not in file.read_bytes()
    assert read_baseline(file)[0].number.record.metric == "acc\x1b[31m\u202e"


def test_newer_numbers_take_the_place_of_those_of_the_same_measurement() -> None:
    new = saved(Answers(points={"acc": points(0.5, 40)}, weights="2"))
    found = merged(saved(), new)
    assert {one.number.record.metric: one.number.record.value for one in found} == {"acc": 50.0, "mean_rank": 19.5}
    assert len(merged(saved(), saved(Answers(points=RUN.points, model="blip")))) == 4


def test_two_numbers_of_one_measurement_are_not_written() -> None:
    with pytest.raises(ValueError, match="same measurement"):
        write_baseline([*saved(), *saved()])


def test_numbers_without_resamples(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    bare = [
        Saved(number=type(one.number)(record=one.number.record, unanswered="", resampled=None), code="")
        for one in saved()
    ]
    file = put(tmp_path / "base.json", bare)
    assert not resampled_file(file).exists()
    assert all(one.number.resampled is None for one in read_baseline(file))


def text(change: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda file: file.write_text(change(file.read_text("utf-8")), "utf-8") and None


def edited(change: Callable[[dict], object]) -> Callable[[Path], None]:  # type: ignore[type-arg] # any JSON
    def apply(file: Path) -> None:
        document = json.loads(file.read_text("utf-8"))
        change(document)
        file.write_text(json.dumps(document), "utf-8")

    return apply


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda file: file.unlink(), "There is no file"),
        (lambda file: resampled_file(file).unlink(), "There is no file"),
        (lambda file: resampled_file(file).write_bytes(b"PAR1"), "does not belong to base.json"),
        (text(lambda text: text[:-20]), "is malformed"),
        (text(lambda text: "[]"), "no baseline"),
        (text(lambda text: "\ud7ff\0"), "is malformed"),
        (edited(lambda one: one.update(format_version=2)), "newer evalkit"),
        (edited(lambda one: one.update(format_version="1")), "format_version is '1'"),
        (edited(lambda one: one.update(more=1)), "its fields are"),
        (edited(lambda one: one.pop("drawn")), "its fields are"),
        (edited(lambda one: one.update(numbers={})), "numbers is no list"),
        (edited(lambda one: one.update(resampled_sha256="0")), "does not belong"),
        (edited(lambda one: one["numbers"].append(1)), r"numbers\[2\] is no object"),
        (edited(lambda one: one["numbers"][0].pop("value")), r"numbers\[0\] lacks value"),
        (edited(lambda one: one["numbers"][0].pop("code")), r"numbers\[0\] lacks unanswered or code"),
        (edited(lambda one: one["numbers"][0].update(odd=1)), r"numbers\[0\] has the unknown field odd"),
        (edited(lambda one: one["numbers"][0].update(value="x")), r"numbers\[0\].value is text"),
        (edited(lambda one: one["numbers"].pop()), "its numbers are not those of base.json"),
        (edited(lambda one: one["numbers"].append(one["numbers"][0])), "same measurement"),
    ],
)
def test_a_damaged_file_is_an_error(file: Path, damage: Callable[[Path], None], problem: str) -> None:
    damage(file)
    with pytest.raises(StoreError, match=problem) as found:
        read_baseline(file)
    assert found.value.remedy


def test_a_folder_is_no_baseline(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        read_baseline(tmp_path)


def test_resamples_that_another_numpy_drew_are_not_paired(file: Path) -> None:
    edited(lambda one: one.update(drawn="0" * 12))(file)
    assert all(one.number.resampled is None for one in read_baseline(file))
    with pytest.raises(StoreError, match="another version of numpy"):
        read_baseline(file, to_update=True)


def test_resamples_of_another_baseline_are_refused(file: Path, tmp_path: Path) -> None:
    other = put(tmp_path / "other.json", saved(Answers(points={"acc": points(0.5, 40)})))
    shutil.copy(resampled_file(other), resampled_file(file))
    with pytest.raises(StoreError, match="does not belong"):
        read_baseline(file)


# -- margins -----------------------------------------------------------------------------------------------------------
def test_margins_of_a_file_and_of_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "margins.toml"
    file.write_text('default = 2\n[margins]\n"toy.acc" = 0.5\n"*.mean_rank" = 1\n', "utf-8")
    assert read_margins(["toy.acc=3", "toy.t2i_r@1=4"], file, None) == Margins(
        named={"toy.acc": 3.0, "*.mean_rank": 1.0, "toy.t2i_r@1": 4.0}, default=2.0
    )
    assert read_margins([], file, 5.0).default == 5.0
    assert read_margins([], None, None) == Margins()


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["acc=1"], "names no number"),
        (["toy.acc"], "names no number"),
        (["toy.acc=much"], "no number after"),
        (["toy.acc=-1"], "makes no sense"),
        (["toy.acc=nan"], "makes no sense"),
        (["toy.acc=1", "toy.acc=2"], "given twice"),
    ],
)
def test_a_bad_margin_is_an_error(flags: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read_margins(flags, None, None)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("margins = 1", "margins is no table"),
        ("[margin]", "unknown field margin"),
        ("[margins]\ntoy.acc = 1", "toy is a table"),
        ('[margins]\n"toy.acc" = "1"', "no number"),
        ('[margins]\n"toy.acc" = true', "no number"),
        ('[margins]\n"toy.acc" = inf', "makes no sense"),
        ("default = -1", "makes no sense"),
        ("[", "cannot be read as TOML"),
    ],
)
def test_a_bad_margins_file_is_an_error(tmp_path: Path, content: str, problem: str) -> None:
    file = tmp_path / "margins.toml"
    file.write_text(content, "utf-8")
    with pytest.raises(ConfigError, match=problem):
        read_margins([], file, None)


def test_a_margins_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_margins([], tmp_path / "none.toml", None)
