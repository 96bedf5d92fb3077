"""A plugin that somebody else wrote is installed, found, conforms and runs, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parent / "third_party_plugin"
CONFORMANCE = """
from evalkit.registry import load_adapter
from evalkit.testing import AdapterConformance

class TestColorModel(AdapterConformance):
    adapter = load_adapter("third_party_model")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the plugin is installed into, built as any other package."""
    source = tmp_path_factory.mktemp("source") / "plugin"
    shutil.copytree(PLUGIN, source, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index"]
    command += ["--disable-pip-version-check", "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def python(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the plugin installed and nothing of the user's own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EVALKIT_")}
    environment |= {"PYTHONPATH": str(installed), "EVALKIT_CACHE": str(folder / "cache")}
    environment |= {"EVALKIT_RUNS": str(folder / "runs"), "EVALKIT_DATA": str(folder / "data"), "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=folder, env=environment
    )


def test_its_entry_points_are_found(installed: Path, tmp_path: Path) -> None:
    program = """
import json
from evalkit.registry import adapter_names, load_adapter, load_task, task_names
classes = [load_adapter("third_party_model"), load_task("third_party_task")]
print(json.dumps([adapter_names(), task_names(), [f"{it.__module__}:{it.__name__}" for it in classes]]))
"""
    done = python(installed, tmp_path, "-c", program)
    assert done.returncode == 0, done.stderr
    adapters, tasks, classes = json.loads(done.stdout)
    assert {"clip", "third_party_model"} <= set(adapters)
    assert {"coco_retrieval", "third_party_task"} <= set(tasks)
    assert classes == ["evalkit_third_party.model:ColorModel", "evalkit_third_party.task:ColorNaming"]


def test_its_adapter_conforms(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(CONFORMANCE, "utf-8")
    done = python(installed, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(tmp_path))
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_it_keeps_the_contracts_of_plugins(installed: Path, tmp_path: Path) -> None:
    contracts = Path(__file__).parent / "test_plugin_contracts.py"
    shutil.copyfile(contracts, tmp_path / contracts.name)
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "third_party", str(tmp_path)]
    done = python(installed, tmp_path, *command)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_it_is_listed(installed: Path, tmp_path: Path) -> None:
    done = python(installed, tmp_path, "-m", "evalkit", "list")
    assert done.returncode == 0, done.stderr
    assert "third_party_model" in done.stdout
    assert "third_party_task" in done.stdout


def test_its_model_runs_on_its_task(installed: Path, tmp_path: Path) -> None:
    command = ["-m", "evalkit", "run", "--model", "third_party_model", "--task", "third_party_task"]
    done = python(installed, tmp_path, *command)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    (metric,) = json.loads((run / "metrics.json").read_text("utf-8"))
    assert metric["metric"] == "accuracy"
    assert metric["value"] == 100.0
    assert metric["n"] == 4

    table = python(installed, tmp_path, "-m", "evalkit", "leaderboard", "--format", "csv")
    assert table.returncode == 0, table.stderr
    assert "third_party_model" in table.stdout
