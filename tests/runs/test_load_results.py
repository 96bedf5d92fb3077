"""`evalkit.load_results`: stored runs as a tidy frame."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import evalkit
from evalkit import store
from evalkit.errors import StoreError
from evalkit.report.formats import to_csv
from evalkit.report.frame import results_frame
from evalkit.report.records import COLUMNS, all_records, latest_only
from evalkit.types import MetricValue, Prediction, RunResult

MakeRun = Callable[..., RunResult]
MakeMetric = Callable[..., MetricValue]

OLD, NEW = "20260102T030405-clip-coco_retrieval", "20260103T000000-clip-coco_retrieval"


@pytest.fixture
def runs_dir(tmp_path: Path, make_run: MakeRun, make_metric: MakeMetric) -> Path:
    folder = tmp_path / "runs"
    runs = [
        make_run(run_id="20260104T000000-siglip", model="siglip", created="2026-01-04T00:00:00+00:00", limit=20),
        make_run(
            run_id=NEW, created="2026-01-03T00:00:00+00:00", metrics=(make_metric(value=41.0), make_metric("x", 1 / 3))
        ),
        make_run(),
    ]
    for run in runs:
        store.write_run(folder, run, [Prediction(sample_id="1", failure=None)], tmp_path)
    return folder


def test_it_is_the_leaderboards_csv(runs_dir: Path) -> None:
    frame = evalkit.load_results(runs_dir)
    assert frame["run"].drop_duplicates().tolist() == [OLD, NEW, "20260104T000000-siglip"], "oldest first"
    done = subprocess.run(
        [sys.executable, "-m", "evalkit", "leaderboard", "-f", "csv", "--all-runs", "--runs-dir", str(runs_dir)],
        capture_output=True,
        check=True,
    )
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode(), newline="")))
    assert list(frame.columns) == list(COLUMNS) == list(rows[0])
    assert len(frame) == len(rows) == 8
    assert frame["value"].tolist() == [float(row["value"]) for row in rows]
    for name in ("model", "metric", "run", "protocol_digest", "data_fingerprint", "options"):
        assert frame[name].tolist() == [row[name] for row in rows]
    assert frame["limit"].isna().tolist() == [not row["limit"] for row in rows]
    assert frame["main"].map({True: "true", False: "false"}).tolist() == [row["main"] for row in rows]


def test_repeated_runs_or_the_latest_alone(runs_dir: Path) -> None:
    assert set(evalkit.load_results(runs_dir)["run"]) >= {OLD, NEW}
    latest = evalkit.load_results(runs_dir, latest=True)
    kept, left_out = latest_only([store.read_run(path) for path in store.find_runs(runs_dir)])
    assert left_out == 1
    assert to_csv(kept).count("\r\n") == len(latest) + 1
    assert set(latest["run"]) == {NEW, "20260104T000000-siglip"}
    assert latest.index.tolist() == list(range(len(latest)))
    assert latest["value"].tolist()[:2] == [41.0, 1 / 3], "every digit"


def test_runs_by_folder_name_and_beginning(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALKIT_RUNS", str(runs_dir))
    whole = evalkit.load_results(runs_dir)
    pd.testing.assert_frame_equal(evalkit.load_results(), whole)
    pd.testing.assert_frame_equal(evalkit.load_results(str(runs_dir)), whole)
    one = evalkit.load_results(runs_dir / NEW)
    assert set(one["run"]) == {NEW}
    pd.testing.assert_frame_equal(evalkit.load_results(NEW), one)
    pd.testing.assert_frame_equal(evalkit.load_results(["20260103", runs_dir / NEW]), one)
    pd.testing.assert_frame_equal(evalkit.load_results([runs_dir, NEW]), whole)
    with pytest.raises(StoreError, match="There is no run 'nowhere'"):
        evalkit.load_results("nowhere")
    with pytest.raises(StoreError, match="2 runs begin with|3 runs begin with"):
        evalkit.load_results("2026010")


def test_no_run_gives_a_frame_with_the_columns(tmp_path: Path, runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALKIT_RUNS", str(tmp_path / "not there yet"))
    (tmp_path / "empty").mkdir()
    whole = evalkit.load_results(runs_dir)
    for frame in (
        evalkit.load_results(),
        evalkit.load_results([]),
        evalkit.load_results(tmp_path / "empty", latest=True),
        results_frame([]),
    ):
        assert len(frame) == 0
        assert frame.dtypes.to_dict() == whole.dtypes.to_dict()


def test_a_damaged_run_of_a_folder_is_left_out_with_a_warning_that_names_it(runs_dir: Path) -> None:
    (runs_dir / NEW / "metrics.json").write_text("{")
    with pytest.warns(evalkit.DamagedRunWarning, match=f"A run is left out: .*{NEW}.*malformed") as told:
        frame = evalkit.load_results(runs_dir)
    assert [one.filename for one in told] == [__file__]
    assert set(frame["run"]) == {OLD, "20260104T000000-siglip"}


def test_a_damaged_run_that_was_named_is_an_error(runs_dir: Path) -> None:
    (runs_dir / NEW / "metrics.json").write_text("{")
    for named in (runs_dir / NEW, [runs_dir, runs_dir / NEW], [str(runs_dir / NEW), runs_dir]):
        with pytest.raises(StoreError, match=f"{NEW}.*malformed"):
            evalkit.load_results(named)


def test_the_order_of_rows_is_that_of_the_records(runs_dir: Path) -> None:
    results = [store.read_run(runs_dir / name) for name in (OLD, NEW)]
    frame = evalkit.load_results([runs_dir / NEW, runs_dir / OLD])
    assert frame["metric"].tolist() == [record.metric for record in all_records(results)]


def test_evalkit_itself_imports_no_pandas() -> None:
    code = "import sys, evalkit; print(sorted({'pandas', 'numpy', 'torch', 'evalkit.api'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
