"""`evalkit report`: which runs it shows, and what it writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from report_pages import Parsed, data_of, result
from typer.testing import CliRunner

from evalkit import store
from evalkit.cli import app
from evalkit.demo.running import demo_config
from evalkit.progress import SilentProgress
from evalkit.runner import RunConfig, run
from evalkit.types import Prediction


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Two runs whose data are nowhere."""
    for model in ("blip", "llava"):
        predictions = [Prediction(sample_id=f"q{number}", failure=None) for number in range(3)]
        store.write_run(tmp_path / "runs", result(model), predictions, tmp_path / "data")
    return tmp_path


def test_the_command_writes_a_page_without_the_data(stored: Path) -> None:
    page, plots = stored / "page.html", stored / "plots"
    arguments = ["report", "--runs-dir", str(stored / "runs"), "-o", str(page), "--plots", str(plots)]
    done = CliRunner().invoke(app, [*arguments, "--plot-format", "svg", "--title", "<b>Nightly</b>"])
    assert done.exit_code == 0, done.output
    assert "the page shows none of its samples" in " ".join(done.stderr.split())
    text = Parsed(page.read_text("utf-8")).text
    assert "<b>Nightly</b>" in text
    assert "There are no samples to show." in text
    assert [file.suffix for file in plots.iterdir()] == [".svg"]


def reported(page: Path, *arguments: str) -> tuple[Parsed, str]:
    done = CliRunner().invoke(app, ["report", *arguments, "-o", str(page)])
    assert done.exit_code == 0, done.output
    return Parsed(page.read_text("utf-8")), " ".join(done.stderr.split())


def test_a_damaged_run_of_a_folder_is_left_out_and_named(stored: Path) -> None:
    one, other = sorted((stored / "runs").iterdir())
    (one / "metrics.json").write_text("{", "utf-8")
    parsed, said = reported(stored / "page.html", "--runs-dir", str(stored / "runs"))
    assert other.name in parsed.text and one.name not in parsed.text
    assert "A run is not shown:" in said and "metrics.json is malformed" in said
    parsed, _ = reported(stored / "page.html", str(stored / "runs"))
    assert one.name not in parsed.text
    for arguments in ([str(one)], [str(stored / "runs"), str(one)]):
        done = CliRunner().invoke(app, ["report", *arguments, "-o", str(stored / "none.html")])
        assert "metrics.json is malformed" in str(done.exception)
    (other / "metrics.json").write_text("{", "utf-8")
    done = CliRunner().invoke(app, ["report", "--runs-dir", str(stored / "runs"), "-o", str(stored / "none.html")])
    assert "is malformed" in str(done.exception)
    assert not (stored / "none.html").exists()


def test_two_runs_of_one_id_stay_two(tmp_path: Path) -> None:
    """Two jobs that began in one second, in two folders."""
    predictions = [Prediction(sample_id=f"q{number}", failure=None) for number in range(3)]
    paths = [
        store.write_run(tmp_path / job / "runs", result("blip", value), predictions, tmp_path / "data")
        for job, value in (("job-1", 71.0), ("job-2", 52.0))
    ]
    parsed, _ = reported(tmp_path / "page.html", *map(str, paths))
    names = [f"{job}/runs/{paths[0].name}" for job in ("job-1", "job-2")]
    assert all(f"blip/miniature ({name})" in parsed.text for name in names)
    assert "71.0" in parsed.text and "52.0" in parsed.text
    assert re.search(r"71\.0\s*52\.0\s*-19\.00", parsed.text)  # the difference of the two, not of one with itself
    assert f"{tmp_path}/job" not in parsed.text
    # the same folder named twice is one run
    parsed, _ = reported(tmp_path / "page.html", str(paths[0]), str(paths[0].parent))
    assert "job-1" not in parsed.text


def test_the_command_replaces_nothing_that_it_reads(stored: Path) -> None:
    run = next((stored / "runs").iterdir())
    done = CliRunner().invoke(app, ["report", str(run), "-o", str(run / "run.json")])
    assert done.exit_code != 0
    assert "is read, so it is not written" in str(done.exception)
    assert store.read_run(run)


def test_without_runs_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    done = CliRunner().invoke(app, ["report", "--runs-dir", str(tmp_path / "none"), "-o", str(tmp_path / "page.html")])
    assert "There are no runs" in str(done.exception)
    assert not (tmp_path / "page.html").exists()


def test_a_demo_run_shows_its_samples(tmp_path: Path) -> None:
    config = RunConfig(
        model="clip",
        task="coco_retrieval",
        data_dir=Path(),
        cache_dir=tmp_path / "cache",
        runs_dir=tmp_path / "runs",
        device="cpu",
        limit=20,
    )
    run_dir = run(demo_config(config), SilentProgress())
    done = CliRunner().invoke(app, ["report", str(run_dir), "-o", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    parsed = Parsed((tmp_path / "page.html").read_text("utf-8"))
    (one,) = data_of(parsed)["sets"]
    assert len(one["ids"]) == 20  # type: ignore[arg-type] # as JSON has it
    assert all(place >= 0 for images in one["images"] for place in images)  # type: ignore[attr-defined] # likewise
    assert "ranks i2t" in parsed.text and "ranks t2i" in parsed.text
