"""The page that shows how to add a benchmark: what it shows is installed and run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from clockwork import install
from conftest import REPOSITORY
from PIL import Image

BLOCK = re.compile(r"^```(?:python|toml) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def blocks() -> dict[str, str]:
    return dict(BLOCK.findall((REPOSITORY / "docs" / "adding-a-benchmark.md").read_text("utf-8")))


@pytest.fixture
def installed(blocks: dict[str, str], tmp_path: Path) -> Path:
    """A folder for PYTHONPATH with a model and the page's package, by the page's own pyproject."""
    folder = tmp_path / "plugin"
    install(folder)
    project = tomllib.loads(blocks["pyproject.toml"])["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", "utf-8"
    )
    points = project["entry-points"]["evalkit.tasks"]
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[evalkit.tasks]\n{lines}", "utf-8")
    for name, content in blocks.items():
        if name.endswith(".py"):
            (folder / name).write_text(content, "utf-8")
    return folder


def photo(file: Path, number: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number in range(4):
        photo(tmp_path / "data" / "parking" / "photos" / f"{number:06d}.jpg", number)
        photo(tmp_path / "data" / "harbour" / "photos" / f"{number}.jpg", number)
    asked = [{"question_id": number, "image_id": number, "question": f"is {number} free?"} for number in range(3)]
    answered = [
        {
            "question_id": number,
            "answer_type": "yes/no",
            "question_type": "is",
            "answers": [{"answer": "yes" if place % 3 else "no", "answer_id": place} for place in range(10)],
        }
        for number in range(3)
    ]
    captions = {
        "images": [{"id": number, "file_name": f"{number}.jpg"} for number in range(4)],
        "annotations": [
            {"image_id": number, "id": number, "caption": "a man on a red bus with a dog"} for number in range(4)
        ],
    }
    (tmp_path / "data" / "parking" / "questions.json").write_text(json.dumps({"questions": asked}))
    (tmp_path / "data" / "parking" / "answers.json").write_text(json.dumps({"annotations": answered}))
    (tmp_path / "data" / "harbour" / "captions.json").write_text(json.dumps(captions))
    return tmp_path / "data"


def test_each_file_is_short(blocks: dict[str, str]) -> None:
    assert set(blocks) == {"parking.py", "harbour.py", "floors.py", "pyproject.toml"}
    assert all(len(content.splitlines()) < 80 for content in blocks.values())


@pytest.mark.parametrize(
    ("task", "protocol", "metric", "options"),
    [
        ("parking", "parking-val/generate", "accuracy", ["-o", "route=generate"]),
        ("parking_by_floor", "parking-val/generate", "accuracy", ["-o", "route=generate"]),
        ("harbour", "harbour-test/generate", "cider", []),
    ],
)
def test_what_the_page_shows_runs(
    installed: Path, data: Path, task: str, protocol: str, metric: str, options: list[str]
) -> None:
    folders = ["--data-dir", str(data), "--cache-dir", str(data / "cache"), "--runs-dir", str(data / "runs")]
    environment = os.environ | {"PYTHONPATH": f"{installed}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "evalkit", "run", "--model", "speaker", "--task", task, *folders, *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (run,) = (data / "runs").iterdir()
    values = {row["metric"]: row for row in json.loads((run / "metrics.json").read_text())}
    assert values[metric]["protocol"] == protocol
    assert values[metric]["n"] in (3, 4)
    assert metric in done.stdout
    groups = {
        "parking": ["answer type", "question type"],
        "parking_by_floor": ["answer type", "floor", "question type"],
        "harbour": [],
    }
    assert shown(run, data, environment) == [values[metric]["n"], sorted(groups[task]), True]


def shown(run: Path, data: Path, environment: dict[str, str]) -> object:
    """How many views a run has, what they are grouped by, and whether all are scored."""
    program = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from evalkit.reopening import views_of\n"
        "views = views_of(*map(Path, sys.argv[1:])).views\n"
        "groups = sorted({name for view in views for name in view.groups})\n"
        "print(json.dumps([len(views), groups, all(view.score is not None for view in views)]))\n"
    )
    command = [sys.executable, "-c", program, str(run), str(data)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
