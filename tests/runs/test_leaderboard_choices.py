"""`evalkit leaderboard`: which rows compete by default, which published ones are shown, and headings in a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from paper_runs import PaperRuns, made
from typer.testing import CliRunner

from evalkit import store
from evalkit.cli import console
from evalkit.cli.app import app
from evalkit.cli.demo import overview
from evalkit.errors import EvalkitError
from evalkit.report.board import View
from evalkit.report.leaderboard import leaderboard
from evalkit.report.records import all_records
from evalkit.report.terminal import leaderboard_lines
from evalkit.types import Prediction

pytestmark = pytest.mark.usefixtures("_fresh_consoles")


@pytest.fixture
def _fresh_consoles() -> Iterator[None]:
    yield
    for one in (console.stdout, console.stderr):
        one.cache_clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, paper_runs: PaperRuns) -> Path:
    """BLIP and CLIP on COCO retrieval and VQAv2, each by a prompt of its own."""
    place = tmp_path_factory.mktemp("choices")
    for model, value in (("blip", 60.0), ("clip", 50.0)):
        for task in (0, 4):
            run = paper_runs.one(model, task, value, prompt=f"{model}: {{caption}}")
            store.write_run(place / "runs", run, [Prediction(sample_id="1", failure=None)], place)
    return place / "runs"


def shown(folder: Path, *arguments: str) -> str:
    for one in (console.stdout, console.stderr):
        one.cache_clear()
    done = CliRunner().invoke(app, ["leaderboard", "--runs-dir", str(folder), "-f", "md", *arguments])
    if isinstance(done.exception, EvalkitError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize(
    ("arguments", "marked"),
    [
        (("-l", "vqa"), True),
        (("-l", "wide"), True),
        (("-l", "vqa", "--across-protocols"), True),
        (("-l", "vqa", "--same-protocol"), False),
        (("-l", "plain"), False),
        (("-l", "plain", "--same-protocol"), False),
        (("-l", "plain", "--across-protocols"), True),
        ((), False),
    ],
)
def test_papers_rank_across_protocols_and_plain_tables_within_one(
    folder: Path, arguments: tuple[str, ...], marked: bool
) -> None:
    out = shown(folder, *arguments)
    assert ("| **60" in out) == ("<ins>50" in out) == marked
    assert ("whatever their protocols" in out) == marked


def test_data_formats_take_neither(folder: Path) -> None:
    for flag in ("--across-protocols", "--same-protocol"):
        with pytest.raises(EvalkitError, match=flag):
            shown(folder, "-f", "csv", flag)


def published_in(out: str) -> set[str]:
    return set(re.findall(r"([\w/@.() -]+) \(published\)[^|]*\|", out))


def test_a_papers_table_has_the_published_rows_of_its_models(folder: Path) -> None:
    found = {name.strip() for name in published_in(shown(folder, "-l", "retrieval", "--published"))}
    assert "BLIP-L" in found and "CLIP B/32" in found
    assert not any(name.startswith(("SigLIP", "BLIP-2")) for name in found)
    plain = published_in(shown(folder, "-l", "plain", "--published"))
    assert any("SigLIP" in name for name in plain), "plain tables have all of the tasks"


def test_published_rows_are_chosen_by_their_labels(folder: Path) -> None:
    for layout in ("retrieval", "plain"):
        out = shown(folder, "-l", layout, "--published-label", "siglip b/16", "--published-label", "blip-2 vit-g")
        found = {name.strip() for name in published_in(out)}
        assert any("BLIP-2 ViT-g" in name for name in found) and any("SigLIP B/16" in name for name in found)
        assert not any(name.startswith(("CLIP", "BLIP-L")) for name in found)
    with pytest.raises(EvalkitError, match="No published row of these tasks has a label with 'nobody'"):
        shown(folder, "-l", "retrieval", "--published-label", "nobody")


@pytest.mark.parametrize("width", [300, 100, 40])
def test_a_terminal_has_a_data_sets_name_once_over_its_columns(paper_runs: PaperRuns, width: int) -> None:
    named = "demo-world-nocaps-270"
    board = made("captioning", paper_runs.one("a", 2, named=named), paper_runs.one("a", 3, named="demo-world-coco"))
    lines = [line.plain for line in leaderboard_lines(board, width=width)]
    tables = lines[: lines.index("", len(lines) - lines[::-1].index("") - 1)]
    heads = [line for line in tables if "demo-world" in line]
    parts = sum(line.startswith("Captioning") for line in tables)
    assert len([line for line in tables if line.startswith("a/base")]) == parts
    if width == 300:
        assert heads == [heads[0]] and heads[0].split() == [named, "[1]", "demo-world-coco", "[2]"]
        below = tables[tables.index(heads[0]) + 1]
        assert below.split() == ["in", "near", "out", "overall"]
        assert below.index("in") == heads[0].index(named)
    assert max(map(len, tables)) <= max(width, 48)
    told = re.sub(r"\s", "", "".join(tables))
    assert "demo-world" in told and "50.0" in told


def test_two_runs_of_one_name_are_two_rows_of_a_plain_table(paper_runs: PaperRuns) -> None:
    one = paper_runs.one("blip", 4, 80.0)
    changed = replace(paper_runs.one("blip", 4, 60.0), run_id=one.run_id)
    for other in (changed, replace(changed, checkpoint_digest="commit:b")):
        (table,) = leaderboard(all_records([one, other]), View()).tables
        assert [row.numbers[0].value for row in table.rows if row.numbers[0]] == ["80.0", "60.0"]
    assert len(leaderboard(all_records([one, one]), View()).tables[0].rows) == 1
    nothing = replace(one, metrics=tuple(replace(metric, value=float("nan")) for metric in one.metrics))
    assert len(leaderboard(all_records([nothing]), View()).tables[0].rows) == 1


def test_the_demos_overview_is_the_wide_layout_with_its_marks_explained(paper_runs: PaperRuns) -> None:
    runs = [
        paper_runs.one(model, 0, value, named="demo-world-coco_retrieval-200", prompt=model)
        for model, value in (("a", 50.0), ("b", 60.0), ("c", 40.0))
    ]
    board = overview(all_records(runs))
    (table,) = board.tables
    assert [(row.labels, row.numbers[0].rank, row.numbers[0].text) for row in table.rows if row.numbers[0]] == [
        (("b/base",), "best", "60.0"),
        (("a/base",), "second", "50.0"),
        (("c/base",), "", "40.0"),
    ]
    assert any("whatever their protocols" in note for note in board.footnotes)
    assert any("names every number's protocol" in note for note in board.footnotes), "protocols differ, and it is said"
