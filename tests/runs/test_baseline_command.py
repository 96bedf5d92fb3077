"""`evalkit baseline`: what is kept, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from gated_runs import Answers, Command, points, two_weights, worse_by, write

from evalkit import store
from evalkit.report.baseline import resampled_file

GOOD = points(0.8)


@pytest.fixture
def folder(tmp_path: Path, evalkit: Command) -> Path:
    """A baseline of two numbers, and runs that are equal and worse."""
    old = Answers(points={"acc": GOOD, "other": GOOD})
    write(tmp_path / "old", old)
    assert evalkit("baseline", "save", "old", "-o", "base.json").code == 0
    write(tmp_path / "same", old)
    write(tmp_path / "worse", Answers(points={"acc": worse_by(GOOD, 40), "other": GOOD}))
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "named", "why"),
    [
        ({}, False, "they differ in weights"),
        ({"weights": "2", "dtype": "float16"}, False, "they differ in precision"),
        ({"weights": "2"}, True, "the same was measured twice"),
    ],
)
def test_a_baseline_is_of_one_run_a_measurement(
    folder: Path, evalkit: Command, changes: dict[str, object], named: bool, why: str
) -> None:
    one, other = two_weights(folder, **changes)
    done = evalkit("baseline", "save", *([str(one), str(other)] if named else ["two"]), "-o", "two.json")
    assert done.code == 2
    for told in (one.name, other.name, why):
        assert told in done.err
    assert not (folder / "two.json").exists()


def test_a_baseline_is_not_replaced_unasked(folder: Path, evalkit: Command) -> None:
    before = (folder / "base.json").read_bytes()
    refused = evalkit("baseline", "save", "worse", "-o", "base.json")
    assert (refused.code, (folder / "base.json").read_bytes()) == (2, before)
    assert "--update" in refused.err
    done = evalkit("baseline", "save", "worse", "-o", "base.json", "--update")
    assert "2 numbers, 0 of them new, 2 replaced" in done.err
    assert evalkit("gate", "worse", "--baseline", "base.json").code == 0


def test_the_folder_of_a_baseline_is_made(folder: Path, evalkit: Command) -> None:
    assert evalkit("baseline", "save", "none", "-o", "new/none/base.json").code == 2
    assert not (folder / "new").exists()
    assert evalkit("baseline", "save", "old", "-o", "new/folder/base.json").code == 0
    assert evalkit("gate", "same", "--baseline", "new/folder/base.json").code == 0
    assert "cannot be made" in evalkit("baseline", "save", "old", "-o", "base.json/x/base.json").err


def test_code_that_nobody_can_make_again_is_told(tmp_path: Path, evalkit: Command) -> None:
    write(tmp_path / "old", Answers(points={"acc": GOOD}, commit="f" * 40 + "+changes"))
    assert "changes that are in no commit" in evalkit("baseline", "save", "old", "-o", "base.json").err
    assert evalkit("baseline", "show", "base.json").out.rstrip().endswith(" ffffffffffff+changes")


def test_neither_data_nor_the_old_run_is_needed(folder: Path, evalkit: Command) -> None:
    for file in sorted((folder / "old").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    assert evalkit("gate", "worse", "--baseline", "base.json").code == 1


@pytest.mark.parametrize(
    ("flags", "count"),
    [((), 2), (("--main-only",), 1), (("--metric", "other"), 1), (("--metric", "toy.acc", "--metric", "other"), 2)],
)
def test_what_is_saved(folder: Path, evalkit: Command, flags: tuple[str, ...], count: int) -> None:
    done = evalkit("baseline", "save", "old", "-o", "some.json", *flags)
    assert f"some.json: {count} numbers" in done.err
    assert len(evalkit("baseline", "show", "some.json").out.splitlines()) == 1 + count


def test_a_metric_that_no_run_has(folder: Path, evalkit: Command) -> None:
    done = evalkit("baseline", "save", "old", "-o", "some.json", "--metric", "toy.axc")
    assert done.code == 2
    assert "Did you mean toy.acc" in done.err
    assert not (folder / "some.json").exists()


@pytest.mark.parametrize(
    ("changes", "why"), [({"limit": 10}, "--limit 10"), ({"failed": (1,)}, "1 of its samples failed")]
)
def test_incomplete_runs_are_refused(tmp_path: Path, evalkit: Command, changes: dict[str, object], why: str) -> None:
    write(tmp_path / "runs", Answers(points={"acc": GOOD[:10]}, **changes))  # type: ignore[arg-type] # of two fields
    refused = evalkit("baseline", "save", "runs", "-o", "base.json")
    assert refused.code == 2
    assert why in refused.err
    assert not (tmp_path / "base.json").exists()
    assert evalkit("baseline", "save", "runs", "-o", "base.json", "--allow-incomplete").code == 0


def test_runs_without_resamples_leave_no_stale_file(folder: Path, evalkit: Command) -> None:
    (run,) = store.find_runs(folder / "old")
    (run / "resampled.parquet").unlink()
    assert evalkit("baseline", "save", "old", "-o", "base.json", "--update").code == 0
    assert not resampled_file(folder / "base.json").exists()
    assert "not paired" in evalkit("gate", "same", "--baseline", "base.json").out
