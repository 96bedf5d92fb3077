"""`evalkit gate` and `evalkit baseline`: exit codes, and what people and machines get to read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from gated_runs import LATER, Answers, Command, points, two_weights, worse_by, write

from evalkit import store
from evalkit.report import gate as rule

GOOD = points(0.8)
HOSTILE = "acc\u202e<b>|::error::`%\r\nx\x1b[31m\uffff"


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


def test_the_runs_of_a_number_are_named(folder: Path, evalkit: Command) -> None:
    done = evalkit("gate", "worse", "--baseline", "base.json", "--junit", "gate.xml")
    (new,), (old,) = ([path.name for path in (folder / name).iterdir()] for name in ("worse", "old"))
    told = f"run {new} against the baseline's {old}"
    assert f"Compared: {told}." in done.out
    assert told in (folder / "gate.xml").read_text("utf-8")


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
    assert "Earlier runs of the same measurement that are left out: 2026-01-02-clip-toy." in done.out


@pytest.mark.parametrize(
    "changes", [{}, {"weights": "2", "options": {"prefix": "x"}}, {"weights": "2", "dtype": "float16"}]
)
def test_runs_of_other_weights_options_or_precision_are_each_gated(
    folder: Path, evalkit: Command, changes: dict[str, object]
) -> None:
    names = [str(path) for path in two_weights(folder, **changes)]
    for named in (["two"], names):
        done = evalkit("gate", *named, "--baseline", "base.json")
        assert (done.code, done.out.splitlines()[-1]) == (1, "regressed: 1 regressed, 1 pass."), done.out


def test_a_run_that_is_named_is_never_left_out(folder: Path, evalkit: Command) -> None:
    names = [str(path) for path in two_weights(folder, weights="2")]
    assert evalkit("gate", "two", "--baseline", "base.json").code == 0, "the later of one measurement"
    done = evalkit("gate", *names, "--baseline", "base.json")
    assert (done.code, done.out.splitlines()[-1]) == (1, "regressed: 1 regressed, 1 pass.")


def test_a_whole_run_goes_before_a_later_part(folder: Path, evalkit: Command) -> None:
    """As `--limit 10` in a folder that others use too."""
    part = write(folder / "worse", Answers(points={"acc": GOOD[:10]}, limit=10, created=LATER))
    done = evalkit("gate", "worse", "--baseline", "base.json")
    assert (done.code, done.out.splitlines()[-1]) == (1, "regressed: 1 regressed.")
    assert f"Runs with --limit of what a whole run is of that are left out: {part.name}." in done.out
    saved = evalkit("baseline", "save", "worse", "-o", "worse.json")
    assert saved.code == 0
    assert part.name in saved.err
    assert evalkit("gate", str(part), "--baseline", "base.json").code == 2, "named, it is gated"


def test_what_no_run_has_is_told(folder: Path, evalkit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "summary.md"))
    tasks = [f"task{place}" for place in range(8)]
    for task in tasks:
        write(folder / "more", Answers(points={"acc": GOOD}, task=task))
    assert evalkit("baseline", "save", "old", "more", "-o", "more.json").code == 0
    done = evalkit("gate", "same", "--baseline", "more.json")
    line = "Main numbers of the baseline that no run has: task0.acc (clip base), "
    assert done.code == 0
    assert line in done.out
    assert "and 2 more. With --require-all they do not pass." in done.out
    assert "task0.acc (clip base), task1" in (folder / "summary.md").read_text("utf-8")
    document = json.loads(evalkit("gate", "same", "--baseline", "more.json", "--format", "json").out)
    assert document["absent"] == [f"{task}.acc (clip base)" for task in tasks]
    done = evalkit("gate", "same", "--baseline", "more.json", "--margin", "toy.acc=1", "--require-all", "-f", "json")
    assert (done.code, json.loads(done.out)["absent"]) == (3, [])
    assert json.loads(done.out)["numbers"][-1]["margin"] is None


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


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["same", "--baseline", "none.json"], "There is no file none.json"),
        (["same", "--baseline", "base.json", "--margin", "toy.axc=1"], "The margin 'toy.axc' is of no number"),
        (["same", "--baseline", "base.json", "--magrin", "1"], "No such option"),
        (["same"], "Missing option '--baseline'"),
    ],
)
def test_trouble_is_told_to_machines(
    folder: Path, evalkit: Command, monkeypatch: pytest.MonkeyPatch, arguments: list[str], problem: str
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "summary.md"))
    assert evalkit("gate", "same", "--baseline", "base.json", "--junit", "junit.xml").code == 0
    for place, junit in enumerate((["--junit", "junit.xml"], ["--junit=new.xml"])):
        done = evalkit("gate", *arguments, *junit, "--format", "json")
        assert (done.code, done.out) == (4, "")
        (command,) = [line for line in done.err.splitlines() if line.startswith("::")]
        assert command.startswith("::error title=evalkit gate%3A no verdict::" + problem)
        last = (folder / "summary.md").read_text("utf-8").split("### ")[-1]
        assert last.startswith("evalkit gate: no verdict\n\n" + problem[:8])
        (case,) = ElementTree.parse(folder / ("junit.xml", "new.xml")[place]).getroot().iter("testcase")
        assert [one.tag for one in case] == ["error"], "not what passed before"
        assert problem in str(case[0].text)


def test_a_bug_is_told_to_machines(folder: Path, evalkit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setattr(rule, "worse_p", None)
    assert "no verdict::TypeError: " in evalkit("gate", "worse", "--baseline", "base.json").err


def test_trouble_replaces_nothing_but_results(folder: Path, evalkit: Command) -> None:
    before = (folder / "base.json").read_bytes()
    assert evalkit("gate", "none", "--baseline", "base.json", "--junit", "base.json").code == 4
    assert (folder / "base.json").read_bytes() == before


@pytest.mark.parametrize("name", ["run.json", "metrics.json", "predictions.parquet"])
def test_no_file_of_a_run_is_replaced(folder: Path, evalkit: Command, name: str) -> None:
    (run,) = store.find_runs(folder / "same")
    before = (run / name).read_bytes()
    done = evalkit("gate", "same", "--baseline", "base.json", "--junit", str(run / name))
    assert (done.code, (run / name).read_bytes()) == (4, before)
    assert "is read" in done.err


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
