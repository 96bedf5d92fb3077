"""`evalkit leaderboard`: formats, files, layouts, what is refused, and that every number leads to its run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hostile_texts import HOSTILE
from paper_runs import TASKS, PaperRuns, hostile_runs
from typer.testing import CliRunner

from evalkit import store
from evalkit.cli import console
from evalkit.cli.app import app
from evalkit.report.frame import to_parquet
from evalkit.report.records import COLUMNS, all_records
from evalkit.types import Counts, Prediction

FORMATS = ("rich", "md", "latex", "html", "csv", "json")


@pytest.fixture(autouse=True)
def fresh_consoles() -> Iterator[None]:
    for one in (console.stdout, console.stderr):
        one.cache_clear()
    yield
    for one in (console.stdout, console.stderr):
        one.cache_clear()


@pytest.fixture
def folder(tmp_path: Path, paper_runs: PaperRuns) -> Path:
    for number, run in enumerate(paper_runs.every()):
        spread = tuple(one.value + (step + number) % 7 / 10 for step in range(40) for one in run.metrics[:1])
        metrics = tuple(replace(metric, resampled=spread, clusters=40) for metric in run.metrics)
        store.write_run(
            tmp_path / "runs", replace(run, metrics=metrics), [Prediction(sample_id="1", failure=None)], tmp_path
        )
    return tmp_path / "runs"


def run_command(folder: Path, *arguments: str) -> tuple[int, str, str]:
    from evalkit.errors import EvalkitError

    console.stdout.cache_clear()
    console.stderr.cache_clear()
    done = CliRunner().invoke(app, ["leaderboard", "--runs-dir", str(folder), *arguments])
    told = str(done.exception) if isinstance(done.exception, EvalkitError) else ""
    return done.exit_code, done.stdout, done.stderr + told


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_leads_to_the_runs(folder: Path, format: str) -> None:
    names = {path.name for path in store.find_runs(folder)}
    layouts = ["auto", "plain", "wide"] if format not in ("csv", "json") else ["auto"]
    for layout in layouts:
        code, out, err = run_command(folder, "--format", format, "--layout", layout)
        assert code == 0 and err == ""
        plain = out.replace("\\_", "_")
        assert all(name in plain for name in names)


def test_the_suffix_tells_the_format(folder: Path, tmp_path: Path) -> None:
    starts = {
        "a.md": b"### ",
        "a.tex": b"% In the preamble",
        "a.HTML": b"<!doctype",
        "a.csv": b"task,",
        "a.json": b"[\n",
        "a.parquet": b"PAR1",
    }
    for name, start in starts.items():
        code, out, _ = run_command(folder, "-o", str(tmp_path / name))
        assert (code, out) == (0, "")
        assert (tmp_path / name).read_bytes().startswith(start)
    code, _, err = run_command(folder, "-o", str(tmp_path / "a.xls"))
    assert code != 0 and "does not say which format" in err and not (tmp_path / "a.xls").exists()
    code, _, _ = run_command(folder, "-f", "rich", "-o", str(tmp_path / "a.txt"))
    assert code == 0 and "blip/base" in (tmp_path / "a.txt").read_text("utf-8")
    code, _, err = run_command(folder, "-f", "parquet")
    assert code != 0 and "--output" in err


def test_parquet_is_the_frame(folder: Path, tmp_path: Path) -> None:
    run_command(folder, "-o", str(tmp_path / "a.parquet"))
    code, out, _ = run_command(folder, "-f", "csv")
    assert code == 0
    frame, rows = pd.read_parquet(tmp_path / "a.parquet"), list(csv.DictReader(io.StringIO(out, newline="")))
    assert list(frame.columns) == list(COLUMNS) and len(frame) == len(rows) == 2 * sum(
        len(metrics) for *_, metrics in TASKS
    )
    assert frame["value"].tolist() == [float(row["value"]) for row in rows]
    assert frame["run"].tolist() == [row["run"] for row in rows]
    assert frame["limit"].isna().all() and frame["complete"].all()


def test_hostile_texts_in_data_files(paper_runs: PaperRuns) -> None:
    records = all_records(hostile_runs(paper_runs))
    frame = pd.read_parquet(io.BytesIO(to_parquet(records)))
    told = {text.encode("utf-8", "backslashreplace").decode() for text in HOSTILE}
    assert set(frame["model"]) == told, "a data file has them whole"
    assert len(frame) == len(records)


def test_layouts_marks_and_papers_go_together(folder: Path) -> None:
    code, out, _ = run_command(folder, "-l", "captioning", "--significance", "--published", "-f", "md")
    assert code == 0
    assert "BLIP-L (published)" in out and "published, BLIP (Li et al. 2022), table 7" in out
    ours = [line for line in out.splitlines() if line.startswith("| blip/base |")]
    assert len(ours) == 1 and "**" in ours[0]
    assert "[" not in ours[0].replace("\\[", ""), "no intervals in a paper's layout"
    code, out, _ = run_command(folder, "-l", "captioning", "--intervals", "-f", "md")
    assert "\\[" in next(line for line in out.splitlines() if line.startswith("| blip/base |"))


def test_data_formats_refuse_what_is_of_tables(folder: Path) -> None:
    for arguments in (("-l", "wide"), ("--published",), ("--significance",), ("--across-protocols",)):
        code, _, err = run_command(folder, "-f", "csv", *arguments)
        assert code != 0 and arguments[0].replace("-l", "--layout") in err
    code, _, err = run_command(folder, "--standalone")
    assert code != 0 and "--standalone is of LaTeX" in err
    code, out, _ = run_command(folder, "-f", "latex", "--standalone")
    assert code == 0 and out.startswith("\\documentclass")


def test_a_layout_without_numbers_says_what_to_choose(folder: Path, paper_runs: PaperRuns, tmp_path: Path) -> None:
    one = paper_runs.one("vit", 9)
    store.write_run(tmp_path / "few", one, [Prediction(sample_id="1", failure=None)], tmp_path)
    code, _, err = run_command(tmp_path / "few", "-l", "visdial")
    assert code != 0 and "--layout wide" in err


@pytest.mark.parametrize(
    "changes", [{"limit": 3}, {"counts": Counts(samples=5, failed=1, asked={}, from_cache={})}], ids=["limit", "failed"]
)
def test_a_paper_takes_no_partial_run_unless_told(
    folder: Path, paper_runs: PaperRuns, tmp_path: Path, changes: dict[str, object]
) -> None:
    partial = paper_runs.one("short", 8, 99.0, changes=changes)
    name = store.write_run(folder, partial, [Prediction(sample_id="1", failure="x")], tmp_path).name
    for arguments in (("-f", "latex"), ("-l", "visdial"), ("-l", "visdial", "-f", "html")):
        code, out, err = run_command(folder, *arguments)
        assert code != 0 and out == "" and name in err and "--incomplete" in err
        code, out, _ = run_command(folder, *arguments, "--incomplete")
        assert code == 0 and ("†" in out or "*" in out or "dagger" in out)
    for arguments in ((), ("-f", "latex", "-l", "plain")):
        code, out, _ = run_command(folder, *arguments)
        assert code == 0 and name in out
        assert "only the first 3" in out or "1 of 5 samples failed" in out, "marked"
    assert run_command(folder, "-l", "vqa")[0] == 0, "a table that does not show it is not concerned"


def test_a_damaged_resample_file_is_a_warning(folder: Path) -> None:
    (store.find_runs(folder)[0] / "resampled.parquet").write_bytes(b"PAR1")
    code, out, err = run_command(folder, "-l", "wide", "--significance")
    assert code == 0 and "warning: its numbers are not tested" in err and "blip/base" in out


def test_the_command_line_names_every_layout() -> None:
    from evalkit.cli.leaderboard import FORMATS, LAYOUTS
    from evalkit.cli.results import TableFormat, TableLayout

    assert [one.value for one in TableLayout] == ["auto", "plain", *LAYOUTS]
    assert [one.value for one in TableFormat] == list(FORMATS)


def test_show_tells_the_code_version(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from evalkit.cli.show import show

    run = store.find_runs(folder)[0]
    console.stdout.cache_clear()
    show(str(run), format="json")
    told = json.loads(capsys.readouterr().out)
    assert told["environment"]["git_commit"] == "f" * 40
    assert told["data_fingerprint"] and told["protocols"][0]["digest"]
