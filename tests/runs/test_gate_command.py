"""`evalkit gate` and `evalkit baseline`: exit codes, and what people and machines get to read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
from gated_runs import Answers, points, worse_by, write

from evalkit import store
from evalkit.cli import console, main
from evalkit.report import gate as rule
from evalkit.report.baseline import resampled_file

GOOD = points(0.8)
HOSTILE = "acc\u202e<b>|::error::`%\r\nx\x1b[31m\uffff"


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def evalkit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Command]:
    """The command in this process, in an empty folder, away from any CI."""
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)

    def command(*arguments: str) -> Done:
        console.stdout.cache_clear()
        console.stderr.cache_clear()
        monkeypatch.setattr(sys, "argv", ["evalkit", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Done(int(ended.value.code or 0), captured.out, captured.err)

    yield command
    console.stdout.cache_clear()
    console.stderr.cache_clear()


@pytest.fixture
def folder(tmp_path: Path, evalkit: Command) -> Path:
    """A baseline of two numbers, and a run a verdict."""
    old = Answers(points={"acc": GOOD, "other": GOOD})
    write(tmp_path / "old", old)
    assert evalkit("baseline", "save", "old", "-o", "base.json").code == 0
    worse = worse_by(GOOD, 40)
    write(tmp_path / "same", old)
    write(tmp_path / "worse", Answers(points={"acc": worse, "other": GOOD}))
    write(tmp_path / "part", Answers(points={"acc": GOOD[:10], "other": GOOD[:10]}, limit=10))
    write(tmp_path / "asked", Answers(points={"acc": GOOD, "other": GOOD}, prompt="a photo"))
    return tmp_path


@pytest.mark.parametrize(
    ("run", "code", "word"),
    [("same", 0, "pass"), ("worse", 1, "regressed"), ("part", 2, "cannot tell"), ("asked", 3, "not comparable")],
)
def test_the_exit_code_is_the_verdict(folder: Path, evalkit: Command, run: str, code: int, word: str) -> None:
    done = evalkit("gate", run, "--baseline", "base.json")
    assert (done.code, done.err) == (code, "")
    assert done.out.splitlines()[-1] == f"{word}: 1 {word}."
    assert done.out.splitlines()[2].startswith(word)


def test_a_verdict_in_a_process_of_its_own(folder: Path) -> None:
    command = [sys.executable, "-m", "evalkit", "gate", "worse", "--baseline", "base.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["same"], "Missing option '--baseline'"),
        (["--baseline", "base.json"], "Missing argument"),
        (["same", "--baseline", "base.json", "--magrin", "1"], "No such option"),
        (["same", "--baseline", "base.json", "--default-margin", "x"], "not a valid float"),
        (["same", "--baseline", "base.json", "--default-margin", "nan"], "makes no sense"),
        (["same", "--baseline", "base.json", "--format", "xml"], "is not one of"),
        (["same", "--baseline", "none.json"], "There is no file"),
        (["none", "--baseline", "base.json"], "There is no run"),
        (["same", "--baseline", "base.json", "--margin", "toy.axc=1"], "Did you mean"),
        (["same", "--baseline", "base.json", "--junit", "none/j.xml"], "is not there"),
        (["same", "--baseline", "base.json", "--junit", "base.json"], "is read"),
    ],
)
def test_trouble_is_no_verdict(folder: Path, evalkit: Command, arguments: list[str], problem: str) -> None:
    done = evalkit("gate", *arguments)
    assert done.code == 4
    assert problem in done.err
    assert "Traceback" not in done.err


def test_a_bug_is_no_verdict(folder: Path, evalkit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own exit code for it is 1, which would say that the release regressed."""
    monkeypatch.setattr(rule, "worse_p", None)
    done = evalkit("gate", "worse", "--baseline", "base.json")
    assert done.code == 4
    assert "TypeError" in done.err


def test_an_output_that_nobody_reads_is_no_verdict(folder: Path) -> None:
    command = [sys.executable, "-m", "evalkit", "gate", "worse", "--baseline", "base.json"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait() == 4


def test_margins_choose_what_is_gated(folder: Path, evalkit: Command) -> None:
    assert evalkit("gate", "worse", "--baseline", "base.json", "--margin", "toy.other=1").code == 0
    (folder / "margins.toml").write_text('[margins]\n"*.acc" = 1\n', "utf-8")
    wide = ("gate", "worse", "--baseline", "base.json", "--margins", "margins.toml")
    assert evalkit(*wide).code == 1
    assert evalkit(*wide, "--margin", "*.acc=30").code == 0


def test_the_latest_run_of_a_folder_is_gated(folder: Path, evalkit: Command) -> None:
    write(folder / "same", Answers(points={"acc": worse_by(GOOD, 40)}, created="2026-02-02T03:04:05+00:00"))
    done = evalkit("gate", "same", "--baseline", "base.json")
    assert done.code == 1
    assert "Earlier runs of the same model and task that are left out: 1." in done.out


def test_json_has_everything(folder: Path, evalkit: Command) -> None:
    done = evalkit("gate", "worse", "--baseline", "base.json", "--format", "json")
    document = json.loads(done.out)
    assert (done.code, document["exit_code"]) == (1, 1)
    (number,) = document["numbers"]
    assert (number["state"], number["margin"], number["paired"]) == ("regressed", 1.0, True)
    assert number["difference"] == pytest.approx(-10)
    assert number["baseline"]["value"] == pytest.approx(80)


# -- machines ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("run", "child", "counted"),
    [
        ("same", "system-out", None),
        ("worse", "failure", "failures"),
        ("part", "skipped", "skipped"),
        ("asked", "error", "errors"),
    ],
)
def test_junit(folder: Path, evalkit: Command, run: str, child: str, counted: str | None) -> None:
    evalkit("gate", run, "--baseline", "base.json", "--junit", "junit.xml")
    suite = ElementTree.parse(folder / "junit.xml").getroot()[0]
    (case,) = suite.findall("testcase")
    assert (case.get("classname"), case.get("name")) == ("evalkit.toy.clip", "toy.acc")
    assert [one.tag for one in case] == [child]
    for name in ("failures", "errors", "skipped"):
        assert suite.get(name) == ("1" if name == counted else "0")


def test_github_gets_annotations_and_a_summary(folder: Path, evalkit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "summary.md"))
    (folder / "summary.md").write_text("before\n", "utf-8")
    done = evalkit("gate", "worse", "--baseline", "base.json")
    (command,) = [line for line in done.out.splitlines() if line.startswith("::")]
    assert command.startswith("::error title=regressed%3A toy.acc::baseline 80.00, new 70.00, difference -10.00 [")
    written = (folder / "summary.md").read_text("utf-8")
    assert written.startswith("before\n### evalkit gate: regressed: 1 regressed.\n")
    assert "| regressed | toy.acc | 80.00 | 70.00 | -10.00 |" in written
    assert "::warning title=cannot tell%3A toy.acc::" in evalkit("gate", "part", "--baseline", "base.json").out


def test_json_stays_json_on_github(folder: Path, evalkit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    done = evalkit("gate", "worse", "--baseline", "base.json", "--format", "json")
    assert json.loads(done.out)
    assert done.err.startswith("::error ")


def test_a_summary_that_cannot_be_written_changes_no_verdict(
    folder: Path, evalkit: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "none" / "summary.md"))
    done = evalkit("gate", "worse", "--baseline", "base.json")
    assert done.code == 1
    assert "cannot be written" in done.err


def test_hostile_names_are_inert_everywhere(tmp_path: Path, evalkit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    write(tmp_path / "old", Answers(points={HOSTILE: GOOD}))
    write(tmp_path / "new", Answers(points={HOSTILE: worse_by(GOOD, 40)}))
    assert evalkit("baseline", "save", "old", "-o", "base.json").code == 0
    done = evalkit("gate", "new", "--baseline", "base.json", "--junit", "junit.xml")
    assert done.code == 1
    commands = [line for line in done.out.splitlines() if line.lstrip().startswith("::")]
    assert len(commands) == 1
    assert re.fullmatch(r"::error title=[^:,\r\n]*::[^\r\n]*", commands[0])
    assert "\x1b" not in done.out + (tmp_path / "summary.md").read_text("utf-8")
    assert "\u202e" not in done.out
    rows = [
        line for line in (tmp_path / "summary.md").read_text("utf-8").splitlines() if line.startswith("| regressed")
    ]
    assert len(rows) == 1
    assert "<b>" not in rows[0]
    assert rows[0].count("|") == 9
    (case,) = ElementTree.parse(tmp_path / "junit.xml").getroot().iter("testcase")
    assert "<b>|::error::" in str(case.get("name"))
    evalkit("baseline", "show", "base.json")


# -- baselines ---------------------------------------------------------------------------------------------------------
def test_a_baseline_is_not_replaced_unasked(folder: Path, evalkit: Command) -> None:
    before = (folder / "base.json").read_bytes()
    refused = evalkit("baseline", "save", "worse", "-o", "base.json")
    assert (refused.code, (folder / "base.json").read_bytes()) == (2, before)
    assert "--update" in refused.err
    done = evalkit("baseline", "save", "worse", "-o", "base.json", "--update")
    assert "2 numbers, 0 of them new, 2 replaced" in done.err
    assert evalkit("gate", "worse", "--baseline", "base.json").code == 0


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
