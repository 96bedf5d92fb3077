"""The workflows of the documentation are valid, and their gate steps do what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from gated_runs import Answers, points, worse_by, write

EXAMPLES = Path(__file__).parent.parent.parent / "docs" / "examples"
IN_A_CLONE = "(in a clone: the name on PyPI is another project's)"
GOOD = points(0.8)
RUNS = {
    0: Answers(points={"acc": GOOD}),
    1: Answers(points={"acc": worse_by(GOOD, 40)}),
    2: Answers(points={"acc": GOOD[:10]}, limit=10),
    3: Answers(points={"acc": GOOD}, prompt="a photo"),
}
"""Exit code -> a run that the gate exits so with."""


def read(name: str) -> Any:
    return yaml.safe_load((EXAMPLES / name).read_text("utf-8"))


def shell(place: Path, script: str, runs: str) -> subprocess.CompletedProcess[str]:
    """As GitHub's runner: bash, stopping at the first error; `evalkit` is that of this environment."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "EVALKIT_RUNS": str(place / runs),
        "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": str(place / "output"),
        "GITHUB_STEP_SUMMARY": str(place / "summary.md"),
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a baseline and margins, and a folder of runs for each exit code."""
    place = tmp_path_factory.mktemp("repository")
    (place / "baselines").mkdir()
    (place / "baselines" / "release.toml").write_text('[margins]\n"toy.acc" = 1.0\n', "utf-8")
    write(place / "old", RUNS[0])
    done = shell(place, "evalkit baseline save old -o baselines/release.json", "old")
    assert done.returncode == 0, done.stderr
    for code, answers in RUNS.items():
        write(place / f"runs{code}", answers)
    return place


def gate_step() -> str:
    (script,) = [step["run"] for step in read("evalkit-gate.yml")["jobs"]["gate"]["steps"] if step.get("id") == "gate"]
    return str(script)


@pytest.mark.parametrize(
    ("code", "ends", "said"),
    [
        (0, 0, ""),
        (1, 1, "::error title=regressed%3A toy.acc::baseline 80.00, new 70.00, difference -10.00"),
        (2, 0, "::warning title=cannot tell%3A toy.acc::"),
        (3, 3, "::error title=not comparable%3A toy.acc::"),
    ],
)
def test_the_step_of_the_github_workflow(place: Path, code: int, ends: int, said: str) -> None:
    for name in ("output", "summary.md", "gate.xml"):
        (place / name).unlink(missing_ok=True)
    done = shell(place, gate_step(), f"runs{code}")
    assert done.returncode == ends, done.stdout + done.stderr
    assert (place / "output").read_text("utf-8") == f"code={code}\n"
    commands = [line for line in done.stdout.splitlines() if line.startswith("::")]
    assert len(commands) == bool(said)
    assert all(line.startswith(said) for line in commands)
    assert (place / "summary.md").read_text("utf-8").startswith("### evalkit gate: ")
    assert ElementTree.parse(place / "gate.xml").getroot().get("tests") == "1"


def test_trouble_stops_the_github_workflow(place: Path) -> None:
    done = shell(place, gate_step(), "no-such-folder")
    assert done.returncode == 4
    assert "error:" in done.stderr
    assert "::error title=evalkit gate%3A no verdict::There is no run" in done.stderr
    assert ElementTree.parse(place / "gate.xml").getroot().get("errors") == "1"


def test_a_forgotten_run_stops_every_example(place: Path) -> None:
    """Though its number has no margin."""
    write(place / "second", Answers(points={"acc": GOOD}, task="second"))
    done = shell(place, "evalkit baseline save second -o baselines/release.json --update", "second")
    assert done.returncode == 0, done.stderr
    try:
        job = read("evalkit-gate.gitlab-ci.yml")["evalkit-gate"]
        (repository,) = read("evalkit-gate.pre-commit.yml")["repos"]
        entry = repository["hooks"][0]["entry"].replace("results/runs", "runs0")
        for script in (gate_step(), job["script"][-1], entry):
            assert shell(place, script, "runs0").returncode == 3
    finally:
        done = shell(place, "rm baselines/release.*json; evalkit baseline save old -o baselines/release.json", "old")
        assert done.returncode == 0, done.stderr


def test_nothing_tells_anybody_to_install_evalkit_from_pypi() -> None:
    """The name belongs to another project there: a stranger's code would run beside weights and secrets."""
    root = EXAMPLES.parent.parent
    files = [root / "README.md", *(root / "docs").rglob("*.*"), *(root / "evalkit").rglob("*.py")]
    texts = {file: file.read_text("utf-8") for file in files if file.suffix in {".md", ".py", ".yml"}}
    pattern = re.compile(r"pip3? install[^\n#]*['\" ]evalkit(\[|['\"` ]|$)", re.MULTILINE)
    assert pattern.search("pip install 'evalkit[conse]'")
    assert pattern.search("run: pip install evalkit\n")
    assert not [str(file) for file, text in texts.items() if pattern.search(text.replace(IN_A_CLONE, ""))]
    assert "another project" in texts[root / "README.md"]
    for name in ("evalkit-gate.yml", "evalkit-gate.gitlab-ci.yml"):
        assert "COMMIT" in texts[EXAMPLES / name]
        assert "pip install -c .evalkit-source/constraints.txt -e ./.evalkit-source" in texts[EXAMPLES / name]


def test_the_github_workflow_is_whole() -> None:
    workflow = read("evalkit-gate.yml")
    assert set(workflow) == {"name", True, "permissions", "jobs"}  # YAML 1.1 reads `on` as a truth value
    for step in workflow["jobs"]["gate"]["steps"]:
        assert ("run" in step) != ("uses" in step)


@pytest.mark.parametrize("code", RUNS)
def test_the_last_line_of_the_gitlab_job(place: Path, code: int) -> None:
    job = read("evalkit-gate.gitlab-ci.yml")["evalkit-gate"]
    assert shell(place, job["script"][-1], f"runs{code}").returncode == code
    assert job["allow_failure"] == {"exit_codes": [2]}


@pytest.mark.parametrize("code", RUNS)
def test_the_pre_commit_hook(place: Path, code: int) -> None:
    (repository,) = read("evalkit-gate.pre-commit.yml")["repos"]
    (hook,) = repository["hooks"]
    entry = hook["entry"].replace("results/runs", f"runs{code}")
    assert f"runs{code}" in entry
    assert shell(place, entry, "").returncode == code
