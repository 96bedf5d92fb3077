"""`evalkit leaderboard`: formats, files, layouts, what is refused, and that every number leads to its run."""

from __future__ import annotations

import csv
import io
import json
import re
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
    ours = [line for line in out.splitlines() if line.startswith("| blip/base ")]
    assert len(ours) == 1 and "**" in ours[0]
    assert "\\[4" not in ours[0] and "\\[5" not in ours[0], "no intervals in a paper's layout"
    code, out, _ = run_command(folder, "-l", "captioning", "--intervals", "-f", "md")
    assert "\\[" in next(line for line in out.splitlines() if line.startswith("| blip/base "))


def test_data_formats_refuse_what_is_of_tables(folder: Path) -> None:
    for arguments in (("-l", "wide"), ("--name", "a=b"), ("--significance",), ("--across-protocols",)):
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
def test_a_paper_leaves_partial_runs_out_and_refuses_those_that_are_named(
    folder: Path, paper_runs: PaperRuns, tmp_path: Path, changes: dict[str, object]
) -> None:
    partial = paper_runs.one("short", 8, 99.0, changes=changes)
    partial = replace(partial, created="2030-01-01T00:00:00+00:00")
    name = store.write_run(folder, partial, [Prediction(sample_id="1", failure="x")], tmp_path).name
    for arguments in (("-f", "latex"), ("-l", "visdial"), ("-l", "visdial", "-f", "html")):
        code, out, err = run_command(folder, *arguments)
        told = f"Limited or incomplete runs that are left out (1; --incomplete shows them): {name}."
        assert code == 0 and err == f"{told}\n" and told in out.replace("\\_", "_"), "on stderr and in the notes"
        assert out.count(name) == 1 and "blip/base" in out and "short/base" not in out
        for named in ((name,), (str(folder), name)):
            code, out, err = run_command(folder, *arguments, *named)
            assert code != 0 and out == "" and name in err and "--incomplete" in err
        code, out, err = run_command(folder, *arguments, "--incomplete")
        assert err == ""
        assert code == 0 and ("†" in out or "*" in out or "dagger" in out)
    for arguments in ((), ("-f", "latex", "-l", "plain")):
        code, out, _ = run_command(folder, *arguments)
        assert code == 0 and name in out
        assert "only the first 3" in out or "1 of 5 samples failed" in out, "marked"
    assert run_command(folder, "-l", "vqa")[::2] == (0, ""), "a table that does not show it is not concerned"


def test_a_whole_run_is_shown_whatever_failed_later(folder: Path, paper_runs: PaperRuns, tmp_path: Path) -> None:
    """A later run of the same measurement, with failures, is left out: the whole one before it stands."""
    failed = paper_runs.one(
        "clip",
        8,
        9.0,
        changes={
            "created": "2030-01-01T00:00:00+00:00",
            "run_id": "later",
            "counts": Counts(samples=5, failed=1, asked={}, from_cache={}),
        },
    )
    store.write_run(folder, failed, [Prediction(sample_id="1", failure="x")], tmp_path)
    code, out, err = run_command(folder, "-l", "visdial", "-f", "md")
    assert code == 0 and "later" in err
    assert "58.00" in next(line for line in out.splitlines() if line.startswith("| clip/base"))


def test_only_partial_runs_are_said_to_be_so(folder: Path, paper_runs: PaperRuns, tmp_path: Path) -> None:
    few = tmp_path / "few"
    for number in range(2):
        one = paper_runs.one("short", 8, 90.0 + number, changes={"limit": 3, "created": f"2030-01-0{number + 1}"})
        store.write_run(few, one, [Prediction(sample_id="1", failure=None)], tmp_path)
    code, out, err = run_command(few, "-l", "visdial")
    assert code != 0 and out == "" and "left out (2; --incomplete shows them)" in err


def test_no_file_of_a_run_is_replaced(folder: Path) -> None:
    run = store.find_runs(folder)[0]
    before = {file: file.read_bytes() for file in run.iterdir()}
    for runs in ((), (run.name,), (str(folder),)):
        for file in before:
            code, _, err = run_command(folder, *runs, "-f", "md", "-o", str(file))
            assert code != 0 and "is read, so it is not written" in err
    assert {file: file.read_bytes() for file in run.iterdir()} == before


def test_published_numbers_as_data(folder: Path, tmp_path: Path) -> None:
    code, out, _ = run_command(folder, "-f", "csv", "--published")
    rows = list(csv.DictReader(io.StringIO(out, newline="")))
    assert code == 0 and list(rows[0]) == [*COLUMNS, "source"]
    ours, theirs = [row for row in rows if row["run"]], [row for row in rows if not row["run"]]
    assert ours and {row["source"] for row in ours} == {""} and all(row["n"] and row["complete"] for row in ours)
    assert {row["task"] for row in theirs} <= {task for task, *_ in TASKS}
    blip = [row for row in theirs if row["source"] == "BLIP (Li et al. 2022), table 7" and row["model"] == "BLIP-L"]
    assert float(next(row["value"] for row in blip if row["metric"] == "cider" and row["task"] == "nocaps")) > 100
    assert all(row[name] == "" for row in theirs for name in ("n", "samples", "failed", "low", "complete", "limit"))
    told = json.loads(run_command(folder, "-f", "json", "--published")[1])
    assert [one["source"] for one in told] == [row["source"] for row in rows]
    assert {(one["n"], one["low"], one["complete"]) for one in told if one["source"]} == {(None, None, None)}
    assert run_command(folder, "--published", "-o", str(tmp_path / "a.parquet"))[0] == 0
    frame = pd.read_parquet(tmp_path / "a.parquet")
    assert frame["source"].tolist() == [row["source"] for row in rows]
    assert frame["n"].isna().tolist() == [row["n"] == "" for row in rows]
    assert frame["complete"].isna().tolist() == [row["complete"] == "" for row in rows]


def test_rows_have_the_names_that_the_user_gives(folder: Path, paper_runs: PaperRuns, tmp_path: Path) -> None:
    clip = next(path.name for path in store.find_runs(folder) if "-clip-nocaps-val" in path.name)
    names = ("--name", "blip/base=BLIP, ours", "--name", f"{folder / clip}=CLIP_2", "--name", "BLIP-L=Theirs")
    code, out, err = run_command(folder, "-l", "captioning", "-f", "latex", "--published", *names)
    assert code == 0 and err == ""
    rows = [line.split(" & ")[0].partition(r"\textsuperscript")[0] for line in out.splitlines() if " & " in line]
    assert "BLIP, ours" in rows and r"CLIP\_2" in rows and "clip/base" in rows, "the other data set keeps its row"
    assert "Theirs (published)" in rows and "blip/base" not in out
    assert f"% run of CLIP_2: {clip} (nocaps, val)" in out, "the notes call it so too"
    code, out, _ = run_command(folder, "-l", "plain", *names[:2])
    assert code == 0 and "BLIP, ours" in out and "blip/base" not in out
    code, out, _ = run_command(folder, "-l", "wide", "--name", "blip/base=clip/base", "-f", "md")
    assert code == 0, "two rows of one name"


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("blip/bass=x",), "no run and no row is called 'blip/bass'. The tables have, for example: blip/base"),
        (("2026=x",), "20 runs begin with '2026'"),
        (("=x",), "not RUN=TEXT"),
        (("blip/base",), "not RUN=TEXT"),
        (("blip/base= ",), "not RUN=TEXT"),
        (("blip/base=a", "blip/base=b"), "names 'blip/base' twice"),
        (("blip/base=" + "x" * 41,), "has 41 characters"),
    ],
)
def test_names_that_cannot_be_given(folder: Path, names: tuple[str, ...], told: str) -> None:
    code, out, err = run_command(folder, "-l", "wide", *(part for name in names for part in ("--name", name)))
    assert code != 0 and out == "" and told in err


def test_local_weights_stand_without_their_folders_where_others_read(
    folder: Path, paper_runs: PaperRuns, tmp_path: Path
) -> None:
    for number, place in enumerate(("/home/me/secret/a_1", "../secret/b/a_1/", "secret\\c_2", "org/hub_3")):
        changes = {
            "checkpoint": place,
            "checkpoint_digest": f"commit:{number}" if place == "org/hub_3" else f"sha256:{number}",
            "run_id": f"tuned-{number}",
        }
        one = paper_runs.one("clip", 2, 40.0 + number, changes=changes)
        store.write_run(folder, one, [Prediction(sample_id="1", failure=None)], tmp_path)
    for arguments in (("-f", "latex"), ("-f", "html"), ("-f", "latex", "-l", "plain"), ("-f", "html", "-l", "wide")):
        code, out, _ = run_command(folder, *arguments)
        out = out.replace("\\_", "_")
        assert code == 0 and "secret" not in out and "org/hub_3" in out and "c_2" in out
        assert "sha256:0" in out and "sha256:1" in out, "two of one name are told apart"
    for arguments in ((), ("-f", "md"), ("-f", "csv")):
        assert "secret" in run_command(folder, *arguments)[1], "these are the user's own"


def test_ranks_are_signs_where_no_style_is_shown(folder: Path, tmp_path: Path) -> None:
    arguments = ("-l", "captioning", "--across-protocols")
    piped = run_command(folder, *arguments)[1]
    assert run_command(folder, *arguments, "-f", "rich", "-o", str(tmp_path / "a.txt"))[0] == 0
    for out in (piped, (tmp_path / "a.txt").read_text("utf-8")):
        assert re.search(r"blip/base +59\.0#1 ", out) and re.search(r"clip/base +52\.0#2 ", out)
        assert "#1: the best of the numbers of a column" in out and "; #2: the second." in out
        assert "Bold" not in out and "underlined" not in out


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
