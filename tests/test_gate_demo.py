"""The gate on real runs of the demo: an unchanged model, one that was spoiled on purpose, a part, another prompt."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from evalkit.demo.miniatures import FOLDER
from evalkit.demo.running import demo_config
from evalkit.progress import SilentProgress
from evalkit.runner import RunConfig, run

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
NOISE = 0.3
"""Of a matrix's own spread."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gate")


def config(place: Path, runs: str) -> RunConfig:
    """CLIP's miniature on retrieval."""
    return demo_config(
        RunConfig(
            model="clip",
            task="coco_retrieval",
            data_dir=Path(),
            cache_dir=place / "cache",
            runs_dir=place / runs,
            device="cpu",
            threads=1,
        )
    )


@pytest.fixture(scope="module")
def baseline(place: Path) -> Path:
    run(config(place, "old"), SilentProgress())
    done = evalkit(place, "baseline", "save", "old", "-o", "base.json")
    assert done.returncode == 0, done.stderr
    return place / "base.json"


def evalkit(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "evalkit", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=place)


def noisy(source: Path, copy: Path) -> None:
    command = [sys.executable, str(ROOT / "examples/noisy_weights.py"), str(source), str(copy), "--noise", str(NOISE)]
    subprocess.run(command, check=True)


def gate(place: Path, run_dir: Path, baseline: Path) -> subprocess.CompletedProcess[str]:
    return evalkit(place, "gate", str(run_dir), "--baseline", str(baseline), "--default-margin", "2")


def test_an_unchanged_model_passes(place: Path, baseline: Path) -> None:
    again = replace(config(place, "new"), cache_dir=place / "other-cache", data_dir=config(place, "new").data_dir)
    done = gate(place, run(again, SilentProgress()), baseline)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal" in done.stdout


def test_a_spoiled_model_regressed(place: Path, baseline: Path) -> None:
    asked = config(place, "new")
    assert asked.checkpoint is not None
    folder = place / "spoiled"
    noisy(FOLDER / asked.checkpoint.partition(":")[2], folder)
    done = gate(place, run(replace(asked, checkpoint=str(folder)), SilentProgress()), baseline)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.splitlines()[2].startswith("regressed"), done.stdout


def test_ten_samples_cannot_tell(place: Path, baseline: Path) -> None:
    done = gate(place, run(replace(config(place, "new"), limit=10), SilentProgress()), baseline)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "10 of 200 samples were evaluated, another set: all are needed" in done.stdout


def test_another_prompt_is_not_comparable(place: Path, baseline: Path) -> None:
    asked = replace(config(place, "new"), options={"prompt": "a photo of {caption}"})
    done = gate(place, run(asked, SilentProgress()), baseline)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "the protocols differ: prompt 'a photo of {caption}'" in done.stdout


def test_what_the_documentation_tries_out_comes_out_so(tmp_path: Path) -> None:
    """As printed, in a clone: the commands of "Try it", each with the exit code that its remark says, else 0."""
    section = (ROOT / "docs" / "gates.md").read_text("utf-8").split("## Try it")[1]
    lines = section.split("```")[1].splitlines()[1:]
    for name in ("evalkit", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "EVALKIT_CACHE": str(tmp_path / "cache")}
    said = []
    for line in filter(None, lines):
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        word, code = re.search(r"# (.*?), (?:exit code )?(\d)$", line).groups() if "#" in line else ("", "0")  # type: ignore[union-attr] # a failure is one
        assert done.returncode == int(code), line + done.stdout + done.stderr
        assert not word or done.stdout.splitlines()[-1].startswith(f"{word}: ")
        said.append(word)
    assert {"pass", "regressed", "cannot tell"} <= set(said)
