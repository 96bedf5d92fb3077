"""Damaged, foreign and newer run directories: one line that names the file, never a wrong value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evalkit import store
from evalkit.errors import StoreError
from evalkit.types import Prediction, RunResult

MakeRun = Callable[..., RunResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked(Prediction):
    rank: int | None
    top: tuple[float, ...]


RANKED = [
    Ranked(sample_id="1", failure=None, rank=0, top=(0.5, 0.25)),
    Ranked(sample_id="2", failure="2.jpg is missing", rank=None, top=()),
]


@pytest.fixture
def run_dir(tmp_path: Path, make_run: MakeRun) -> Path:
    return store.write_run(tmp_path, make_run(), RANKED, tmp_path / "data")


def edit(file: Path, change: Callable[[Any], Any]) -> None:
    value = json.loads(file.read_text())
    changed = change(value)
    file.write_text(json.dumps(value if changed is None else changed))


def test_a_newer_format_asks_for_an_upgrade(run_dir: Path) -> None:
    edit(run_dir / "run.json", lambda run: run.update(format_version=2, something_new=[1]))
    readers: list[Callable[[Path], object]] = [
        store.read_run,
        store.read_data_dir,
        lambda path: store.read_predictions(path, Ranked),
        lambda path: store.replace_metrics(path, ()),
    ]
    for read in readers:
        with pytest.raises(StoreError, match=r"run.json was written by a newer evalkit \(format 2.*Upgrade"):
            read(run_dir)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("run.json", lambda run: run.update(format_version=0), "format_version is 0"),
        ("run.json", lambda run: run.update(format_version="1"), "format_version is '1'"),
        ("run.json", lambda run: run.update(format_version=True), "format_version is True"),
        ("run.json", lambda run: run.pop("format_version") and None, "format_version is None"),
        ("run.json", lambda run: run.pop("data_dir") and None, "data_dir or predictions_sha256 is no text"),
        ("run.json", lambda run: run.update(predictions_sha256=1), "data_dir or predictions_sha256 is no text"),
        ("run.json", lambda run: run.update(surprise=1), "run has the unknown field 'surprise'"),
        ("run.json", lambda run: run.update(metrics=[]), "run has the unknown field 'metrics'"),
        ("run.json", lambda run: run.pop("model") and None, "run lacks model"),
        ("run.json", lambda run: run.update(model=3), r"run\.model is a number, not text"),
        ("run.json", lambda run: run.update(limit=1.5), r"run\.limit is a number"),
        ("run.json", lambda run: run.update(limit=True), r"run\.limit is a truth value, not a number"),
        ("run.json", lambda run: run.update(options=[]), r"run\.options is a list, not an object"),
        ("run.json", lambda run: run.update(options={"k": 256}), r"run\.options\.k is a number, not text"),
        ("run.json", lambda run: run.update(seconds={"data": "1"}), r"run\.seconds\.data is text, not a number"),
        ("run.json", lambda run: run.update(protocols={}), r"run\.protocols is an object, not a list"),
        (
            "run.json",
            lambda run: run["protocols"][0]["preprocessing"].update(details=[["a"]]),
            r"run\.protocols\[0\]\.preprocessing\.details\[0\] has 1 items, not 2",
        ),
        (
            "run.json",
            lambda run: run["protocols"].append(run["protocols"][0]),
            "metrics.json is malformed: two protocols",
        ),
        ("run.json", lambda run: [], "it is no object"),
        ("metrics.json", lambda metrics: {}, "metrics is an object, not a list"),
        ("metrics.json", lambda metrics: metrics[1].update(value=None), r"metrics\[1\]\.value is null, not a number"),
        ("metrics.json", lambda metrics: metrics[1].update(value="NaN"), r"metrics\[1\]\.value is text, not a number"),
        (
            "metrics.json",
            lambda metrics: metrics[0].update(value=10**400),
            r"metrics\[0\]\.value is a number too large",
        ),
        ("metrics.json", lambda metrics: metrics[0].update(n=51.0), r"metrics\[0\]\.n is a number"),
        (
            "metrics.json",
            lambda metrics: metrics[0].update(unit="furlong"),
            r"unit is 'furlong', not one of '%', 'points', 'rank'",
        ),
        ("metrics.json", lambda metrics: metrics[0].update(unit=[]), r"unit is \[\], not one of"),
        ("metrics.json", lambda metrics: metrics[0].update(protocol="x/y"), "names the protocol 'x/y'"),
    ],
)
def test_a_malformed_value_is_named(run_dir: Path, file: str, change: Callable[[Any], Any], message: str) -> None:
    edit(run_dir / file, change)
    with pytest.raises(StoreError, match=message) as caught:
        store.read_run(run_dir)
    assert str(run_dir) in caught.value.problem and caught.value.remedy


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"a": 1, "a": 2}',
        b'{"format_version": NaN}',
        b"9" * 5000,
        b"null",
        b"<html>",
        b"\x00",
    ],
)
def test_what_is_no_json_of_ours_is_malformed(run_dir: Path, text: bytes) -> None:
    for file in ("metrics.json", "run.json"):
        (run_dir / file).write_bytes(text)
        with pytest.raises(StoreError, match=rf"{file} is malformed"):
            store.read_run(run_dir)


@pytest.mark.parametrize("file", ["run.json", "metrics.json"])
def test_json_that_ends_too_early_is_malformed(run_dir: Path, file: str) -> None:
    whole = (run_dir / file).read_bytes()
    for length in range(0, len(whole) - 1, 5):  # the last byte is a line end
        (run_dir / file).write_bytes(whole[:length])
        with pytest.raises(StoreError, match=rf"{file} is malformed"):
            store.read_run(run_dir)


def test_parquet_that_ends_too_early_is_malformed(run_dir: Path) -> None:
    file = run_dir / "predictions.parquet"
    whole = file.read_bytes()
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        with pytest.raises(StoreError, match=r"predictions\.parquet is malformed"):
            store.read_predictions(run_dir, Ranked)
        with pytest.raises(StoreError, match=r"predictions\.parquet is malformed"):
            store.read_failures(run_dir)


def test_a_flipped_bit_in_the_data_is_found(tmp_path: Path, make_run: MakeRun) -> None:
    many = [Ranked(sample_id=str(n), failure=None, rank=n * n % 97, top=(n / 7, n / 3)) for n in range(300)]
    run_dir = store.write_run(tmp_path, make_run(), many, tmp_path)
    file = run_dir / "predictions.parquet"
    whole = file.read_bytes()
    for place in range(0, len(whole), 31):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        with pytest.raises(StoreError, match=r"predictions\.parquet is malformed: its SHA-256 is not the"):
            store.read_predictions(run_dir, Ranked)


def test_predictions_of_another_type_are_refused(run_dir: Path) -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Other(Prediction):
        rank: float

    with pytest.raises(StoreError, match=r"not those of Other: .*rank \(int64\).*, not .*rank \(double not null\)"):
        store.read_predictions(run_dir, Other)
    with pytest.raises(StoreError, match="columns are not those of Prediction"):
        store.read_predictions(run_dir, Prediction)


def put_predictions(run_dir: Path, data: bytes) -> None:
    """As another program would that keeps to the format."""
    (run_dir / "predictions.parquet").write_bytes(data)
    edit(run_dir / "run.json", lambda run: run.update(predictions_sha256=hashlib.sha256(data).hexdigest()))


def test_a_table_that_is_none_of_ours(run_dir: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": [1]}), sink)
    put_predictions(run_dir, sink.getvalue().to_pybytes())
    with pytest.raises(StoreError, match=r"predictions\.parquet is malformed: it holds no predictions"):
        store.read_failures(run_dir)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"\xff" * 64 + b"PAR1", b"{}"])
def test_a_file_that_is_no_parquet(run_dir: Path, data: bytes) -> None:
    put_predictions(run_dir, data)
    for read in (store.read_failures, lambda path: store.read_predictions(path, Ranked)):
        with pytest.raises(StoreError, match=r"predictions\.parquet is malformed"):
            read(run_dir)


def test_a_damaged_parquet_never_escapes_as_another_error(tmp_path: Path) -> None:
    from evalkit.store.table import MalformedTable, from_parquet, to_parquet

    whole = to_parquet(RANKED)
    outcomes = set()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        try:
            from_parquet(bytes(damaged), Ranked)
            outcomes.add("read")
        except MalformedTable:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize("file", ["run.json", "metrics.json", "predictions.parquet"])
def test_a_missing_file_is_named_and_the_run_still_found(run_dir: Path, file: str) -> None:
    (run_dir / file).unlink()
    assert store.find_runs(run_dir.parent) == [run_dir]
    with pytest.raises(StoreError, match=rf"is not a whole run: {file} is missing"):
        store.read_run(run_dir)
        store.read_predictions(run_dir, Ranked)


def test_a_path_that_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(StoreError, match="is no run directory"):
            store.read_run(path)
