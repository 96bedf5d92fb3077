"""Tables: what shares a column, what is marked, what is left out, and that no text can do harm."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from evalkit import store
from evalkit.cli import console
from evalkit.cli.leaderboard import leaderboard as command
from evalkit.errors import ConfigError, StoreError
from evalkit.report.formats import to_markdown
from evalkit.report.leaderboard import Leaderboard, View, leaderboard
from evalkit.report.records import Record, all_records, latest_only
from evalkit.report.terminal import leaderboard_lines
from evalkit.types import Counts, MetricValue, Prediction, Preprocessing, Protocol, RunResult

MakeRun = Callable[..., RunResult]
MakeMetric = Callable[..., MetricValue]
MakeProtocol = Callable[..., Protocol]
PREDICTIONS = [Prediction(sample_id="1", failure=None)]


@pytest.fixture(autouse=True)
def fresh_consoles() -> Iterator[None]:
    """The consoles are made once a process, and pytest changes the streams with every test."""
    console.stdout.cache_clear()
    console.stderr.cache_clear()
    yield
    console.stdout.cache_clear()
    console.stderr.cache_clear()


def everything_default(record: Record) -> bool:
    return True


def board(*runs: RunResult, **view: object) -> Leaderboard:
    return leaderboard(all_records(runs), View(**{"is_default": everything_default, **view}))  # type: ignore[arg-type]  # a test's short hand


def text(made: Leaderboard, width: int = 200) -> str:
    return "\n".join(line.plain for line in leaderboard_lines(made, width=width))


def column(made: Leaderboard, place: int = 0, table: int = 0) -> list[str]:
    return [row.cells[place] for row in made.tables[table].rows]


def labels(made: Leaderboard, table: int = 0) -> list[tuple[str, ...]]:
    return [row.labels for row in made.tables[table].rows]


# ------------------------------------------------------------------------------------------------------- arrangement


def test_the_main_metric_stands_first_and_orders_the_rows(make_run: MakeRun, make_metric: MakeMetric) -> None:
    def scored(model: str, value: float) -> RunResult:
        return make_run(run_id=model, model=model, metrics=(make_metric("other", 1.0), make_metric(value=value)))

    made = board(scored("low", 10.0), scored("unknown", float("nan")), scored("high", 90.0), scored("mid", 50.0))
    (table,) = made.tables
    assert [heading.metric for heading in table.headings] == ["t2i_r@1", "other"]
    assert [row.labels[0] for row in table.rows] == [f"{m}/base-patch32" for m in ("high", "mid", "low", "unknown")]
    assert column(made) == ["90.0 [83.9, 96.4]", "50.0 [43.9, 56.4]", "10.0 [3.9, 16.4]", "n/a [n/a, n/a]"]


def test_where_less_is_better_the_least_stands_first(make_run: MakeRun, make_metric: MakeMetric) -> None:
    runs = [
        make_run(
            run_id=f"r{value}",
            model=f"m{value}",
            main_metric="rank",
            metrics=(make_metric("rank", value, unit="rank", higher_is_better=False),),
        )
        for value in (5.0, 1.0, 3.0)
    ]
    made = board(*runs)
    assert [row.labels[0] for row in made.tables[0].rows] == [f"m{value}/base-patch32" for value in (1.0, 3.0, 5.0)]
    assert made.tables[0].headings[0].title == "rank (rank, less is better)"
    assert "less is better" in text(made)


def test_numbers_of_different_protocol_names_splits_or_tasks_share_no_table(
    make_run: MakeRun, make_metric: MakeMetric, make_protocol: MakeProtocol
) -> None:
    small = make_protocol("photos-51")
    one = make_run(
        protocols=(small, make_protocol()),
        metrics=(
            make_metric("i2t_r@1", 1.0, protocol="photos-51/itc"),
            make_metric(value=2.0, split="test/5-fold-1k"),
            make_metric(value=3.0),
        ),
    )
    two = make_run(run_id="two", task="a_task", metrics=(make_metric(value=4.0),))
    made = board(one, two)
    assert [table.title for table in made.tables] == [
        "a_task: coco-karpathy-5k, split test",
        "coco_retrieval: coco-karpathy-5k, split test/5-fold-1k",
        "coco_retrieval: coco-karpathy-5k, split test",
        "coco_retrieval: photos-51, split test",
    ], "by task, and those with the main metric first"
    assert [len(table.rows) for table in made.tables] == [1, 1, 1, 1]


def test_a_route_is_a_row_and_a_protocol_a_note(
    make_run: MakeRun, make_metric: MakeMetric, make_protocol: MakeProtocol
) -> None:
    at_384 = Preprocessing(image="384x384 squash", text="35 tokens")
    itc, itm = (make_protocol(route=route, preprocessing=at_384) for route in ("itc", "itc+itm@256"))
    blip = make_run(
        run_id="b",
        model="blip",
        variant="base",
        protocols=(itc, itm),
        metrics=(make_metric(value=60.0), make_metric(value=80.0, protocol=itm.id)),
    )
    made = board(blip, make_run())
    assert labels(made) == [
        ("blip/base", "itc+itm@256 [1]"),
        ("blip/base", "itc [2]"),
        ("clip/base-patch32", "itc [3]"),
    ]
    assert [note for note in made.notes if note.startswith("[")] == [
        f"[1] coco-karpathy-5k/itc+itm@256, version 1, digest {itm.digest}: prompt: {{caption}}; image: 384x384 squash",
        f"[2] coco-karpathy-5k/itc, version 1, digest {itc.digest}: prompt: {{caption}}; image: 384x384 squash",
        f"[3] coco-karpathy-5k/itc, version 1, digest {make_protocol().digest}: prompt: {{caption}};"
        " image: 224x224 crop",
    ]
    assert made.protocols[2] == (
        f"protocol [3] coco-karpathy-5k/itc, version 1, digest {make_protocol().digest}: prompt: {{caption}};"
        " image: 224x224 crop; text: 77 tokens; details: pool=eos; ties: pessimistic"
    )
    assert len(made.protocols) == 3 and "ties: pessimistic" not in text(made) + to_markdown(made), "a page has them"


def test_every_number_has_its_n(make_run: MakeRun, make_metric: MakeMetric) -> None:
    made = board(
        make_run(), make_run(run_id="x", model="x", metrics=(make_metric(n=250), make_metric("i2t_r@1", n=51)))
    )
    table = made.tables[0]
    assert [(heading.metric, heading.n) for heading in table.headings] == [
        ("t2i_r@1", None),
        ("i2t_r@1", 51),
        ("t2i_mean_rank", 255),
    ]
    assert column(made) == ["39.2 [33.1, 45.6] n=255", "39.2 [33.1, 45.6] n=250"], "where they differ, each its own"
    assert column(made, 2) == ["4.5 [-1.6, 10.9]", ""], "a number that a run has not is empty"
    assert "n=51" in text(made) and "n=255" in to_markdown(made)


def test_what_intervals_are_clustered_by_is_said_of_every_task(make_run: MakeRun) -> None:
    """A sentence's cluster is a paragraph, a statement's a set of image pairs: neither is one image."""
    (note,) = (note for note in board(make_run()).notes if "interval" in note)
    assert "clustered by image or by what shares images (a set of image pairs, a paragraph)" in note


def test_without_intervals(make_run: MakeRun) -> None:
    made = board(make_run(), intervals=False)
    assert column(made) == ["39.2"]
    assert not any("interval" in note for note in made.notes)


def test_incomplete_and_limited_runs_are_marked_and_explained(make_run: MakeRun) -> None:
    counts = Counts(samples=51, failed=2, asked={}, from_cache={})
    made = board(
        make_run(),
        make_run(run_id="r2", model="broken", counts=counts),
        make_run(run_id="r3", model="short", limit=20),
        make_run(run_id="r4", model="both", limit=20, counts=counts),
    )
    assert {row[0] for row in labels(made)} == {
        "clip/base-patch32",
        "broken/base-patch32 *",
        "short/base-patch32 †",
        "both/base-patch32 *†",
    }
    for note in (
        "* incomplete: 2 of 51 samples failed (r2)",
        "† limited: only the first 20 samples were evaluated (r3)",
        "* incomplete: 2 of 51 samples failed (r4)",
        "† limited: only the first 20 samples were evaluated (r4)",
    ):
        assert note in made.notes
        assert note in text(made)
    assert not any(note.startswith(("*", "†")) for note in board(make_run()).notes)


def test_other_data_under_one_protocol_is_marked(make_run: MakeRun) -> None:
    same = board(make_run(), make_run(run_id="2", model="m"))
    assert same.tables[0].labels == ("model", "route")
    made = board(make_run(), make_run(run_id="2", model="m", data_fingerprint="cd" * 32))
    assert made.tables[0].labels == ("model", "route", "data")
    assert {row[-1] for row in labels(made)} == {"abababab", "cdcdcdcd"}
    assert any(note.startswith("data: rows with different values") for note in made.notes)


def test_precision_and_options_are_shown_where_they_differ(make_run: MakeRun) -> None:
    made = board(make_run(), make_run(run_id="2", environment={"dtype": "float16"}))
    assert made.tables[0].labels == ("model", "route", "dtype")
    other = make_run(run_id="3", options={"rerank_with": "none", "rerank_k": "128"})
    made = board(make_run(), other)
    assert made.tables[0].labels == ("model", "route", "options")
    assert [row[-1] for row in labels(made)] == ["rerank_k=256", "rerank_k=128"]


def test_weights_that_are_not_the_default_are_named(make_run: MakeRun) -> None:
    tuned = make_run(run_id="2", checkpoint="/models/" + "deep/" * 20 + "clip", checkpoint_digest="sha256:" + "1" * 64)
    again = replace(tuned, run_id="3", checkpoint_digest="sha256:" + "2" * 64)
    made = board(make_run(), tuned, again, is_default=lambda record: record.checkpoint.startswith("openai/"))
    assert made.tables[0].labels == ("model", "checkpoint", "route")
    assert sorted(row[1] for row in labels(made)) == [
        "/models/deep/deep/de…deep/deep/deep/clip (sha256:11111111)",
        "/models/deep/deep/de…deep/deep/deep/clip (sha256:22222222)",
        "default",
    ]
    assert "weights of clip/base-patch32: openai/clip-vit-base-patch32 (commit:" + "0123456789" * 4 + ")" in made.notes


def test_the_note_of_a_run_says_whose_row_it_is(make_run: MakeRun) -> None:
    """Two checkpoints, precisions or options of one model are two rows of one name and one protocol."""
    runs = [
        make_run(run_id=run_id, checkpoint=checkpoint, checkpoint_digest=f"sha256:{checkpoint}", environment=dtype)
        for run_id, checkpoint, dtype in (
            ("first", "./a", {"dtype": "float32"}),
            ("second", "./b", {"dtype": "float32"}),
            ("third", "./b", {"dtype": "float16"}),
        )
    ]
    made = board(*runs, is_default=lambda record: False, name_runs=True)
    assert [note for note in made.notes if note.startswith("run of")] == [
        "run of clip/base-patch32, ./a, itc [1], float32; coco_retrieval, test: first",
        "run of clip/base-patch32, ./b, itc [1], float32; coco_retrieval, test: second",
        "run of clip/base-patch32, ./b, itc [1], float16; coco_retrieval, test: third",
    ]


# ------------------------------------------------------------------------------------------------ repeated measurements


def test_the_latest_run_of_a_measurement_is_shown(make_run: MakeRun, make_metric: MakeMetric) -> None:
    old = make_run(run_id="run-10", created="2026-01-01T00:00:00+00:00", metrics=(make_metric(value=1.0),))
    tie_early = make_run(run_id="run-2", created="2026-01-02T00:00:00+00:00", metrics=(make_metric(value=2.0),))
    tie_late = make_run(run_id="run-10", created="2026-01-02T00:00:00+00:00", metrics=(make_metric(value=3.0),))
    records, left_out = latest_only([tie_late, replace(old, run_id="run-1"), tie_early])
    assert ([record.value for record in records], left_out) == ([3.0], 2)


@pytest.mark.parametrize(
    "change",
    [
        {"variant": "large"},
        {"checkpoint_digest": "sha256:1"},
        {"options": {"rerank_k": "128"}},
        {"limit": 20},
        {"data_fingerprint": "0"},
        {"environment": {"dtype": "float16"}},
        {"task": "other"},
    ],
)
def test_another_measurement_replaces_nothing(make_run: MakeRun, change: dict[str, object]) -> None:
    later = make_run(run_id="later", created="2027-01-01T00:00:00+00:00", **change)
    assert latest_only([make_run(), later])[1] == 0


def test_another_protocol_of_one_id_replaces_nothing(make_run: MakeRun, make_protocol: MakeProtocol) -> None:
    later = make_run(run_id="later", created="2027", protocols=(make_protocol(version=2),))
    records, left_out = latest_only([make_run(), later])
    assert left_out == 0 and len({record.protocol_digest for record in records}) == 2
    assert len({row[1] for row in labels(leaderboard(records, View()))}) == 1, "checkpoint"
    assert {row[2] for row in labels(leaderboard(records, View()))} == {"itc [1]", "itc [2]"}, "told apart by the note"


# ------------------------------------------------------------------------------------------------------------- command


@pytest.fixture
def runs_dir(tmp_path: Path, make_run: MakeRun, make_metric: MakeMetric) -> Path:
    folder = tmp_path / "runs"
    store.write_run(folder, make_run(), PREDICTIONS, tmp_path)
    newer = make_run(run_id="20260103T000000-clip-coco_retrieval", created="2026-01-03T00:00:00+00:00")
    store.write_run(folder, newer, PREDICTIONS, tmp_path)
    siglip = make_run(run_id="20260104T000000-siglip", model="siglip", metrics=(make_metric(value=54.2),))
    store.write_run(folder, siglip, PREDICTIONS, tmp_path)
    return folder


def shown(
    capsys: pytest.CaptureFixture[str], runs: Sequence[str | Path], runs_dir: Path, **options: object
) -> tuple[str, str]:
    command(runs, runs_dir=runs_dir, **options)  # type: ignore[arg-type]  # a test's short hand
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_the_command_shows_the_latest_of_all_runs(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = shown(capsys, [], runs_dir)
    rows = [line for line in out.splitlines() if " itc [" in line and not line.startswith("run of")]
    assert [row.split()[0] for row in rows] == ["siglip/base-patch32", "clip/base-patch32"]
    assert "39.2#2 [33.1, 45.6]" in rows[1]
    assert "Earlier runs of the same measurements that are not shown: 1 (--all-runs)." in out
    assert "\x1b" not in out and err == "", "plain where it is piped"
    out, _ = shown(capsys, [], runs_dir, all_runs=True, intervals=False)
    rows = [line.split() for line in out.splitlines() if " itc [" in line and not line.startswith("run of")]
    assert [row[5:] for row in rows[:3]] == [["54.2#1"], ["39.2#2", "23.5#1"], ["39.2#2", "23.5#1"]], "no intervals"
    assert {"20260102T030405-clip-coco_retrieval", "20260103T000000-clip-coco_retrieval"} == {
        row[4] for row in rows[1:3]
    }


def test_the_command_takes_runs_folders_and_names(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = runs_dir.parent / "none"
    everything, _ = shown(capsys, [], runs_dir, format="json", all_runs=True)
    assert len(json.loads(everything)) == 7
    for runs, base in (([runs_dir], elsewhere), ([str(runs_dir), *store.find_runs(runs_dir)], runs_dir)):
        assert shown(capsys, runs, base, format="json", all_runs=True)[0] == everything, "named twice is one run"
    out, _ = shown(capsys, ["20260104"], runs_dir, format="json")
    assert {one["run"] for one in json.loads(out)} == {"20260104T000000-siglip"}


def test_exports_are_only_the_export_on_stdout(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = shown(capsys, [], runs_dir, format="json")
    assert len(json.loads(out)) == 4
    assert "not listed: 1 (--all-runs)" in err
    out, _ = shown(capsys, [], runs_dir, format="csv")
    assert len(list(csv.DictReader(io.StringIO(out, newline="")))) == 4
    out, err = shown(capsys, [], runs_dir, format="md")
    assert out.startswith("### coco_retrieval: ") and out.count("\n| ") == 4
    assert err == ""


def test_no_runs_say_how_to_make_one(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StoreError, match=r"no runs in .*evalkit demo.*--runs-dir"):
            command([], runs_dir=folder)
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(StoreError, match=r"no runs in .*empty"):
            command([tmp_path / "empty"], runs_dir=folder)


def test_an_unknown_format_and_an_unknown_run(runs_dir: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"no table format 'xml'. Choose one of: rich, md, latex, html, csv, json, parquet"
    ):
        command([], format="xml", runs_dir=runs_dir)
    with pytest.raises(StoreError, match="no run '20260104T000000-siglap'. Did you mean 20260104T000000-siglip"):
        command(["20260104T000000-siglap"], runs_dir=runs_dir)


def test_a_broken_run_of_a_folder_is_named_and_the_others_are_shown(
    runs_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = runs_dir / "20260104T000000-siglip"
    (broken / "metrics.json").write_text("[")
    for runs in ([], [runs_dir]):
        out, err = shown(capsys, runs, runs_dir)
        assert "clip/base-patch32" in out and "siglip" not in out
        assert err.startswith("warning: a run is not shown: ") and "20260104T000000-siglip/metrics.json is malf" in err
        assert err.count("\n") == 1
    for name in (str(broken), broken.name):
        with pytest.raises(StoreError, match=r"20260104T000000-siglip/metrics.json is malformed"):
            command([name, runs_dir], runs_dir=runs_dir)
    for path in store.find_runs(runs_dir):
        (path / "metrics.json").write_text("[")
    with pytest.raises(StoreError, match="is malformed"):
        command([], runs_dir=runs_dir)


@pytest.mark.parametrize("format", ["rich", "md", "csv", "json"])
def test_an_output_that_cannot_hold_every_character(tmp_path: Path, make_run: MakeRun, format: str) -> None:
    store.write_run(tmp_path, make_run(model="猫\udce9", limit=3), PREDICTIONS, tmp_path)
    code = f"from evalkit.cli.leaderboard import leaderboard; leaderboard([{str(tmp_path)!r}], format={format!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        env={"PATH": "", "PYTHONIOENCODING": "ascii", "HOME": str(tmp_path)},
        cwd=tmp_path,
        check=True,
    )
    assert re.search(rb"\\u732b(\\|&#92;)udce9", done.stdout) and done.stdout.isascii()


def test_a_table_needs_neither_numpy_nor_pandas_nor_torch(runs_dir: Path) -> None:
    code = (
        "import sys; from evalkit.cli.leaderboard import leaderboard\n"
        f"leaderboard([], runs_dir=__import__('pathlib').Path({str(runs_dir)!r}))\n"
        "print([name for name in ('pandas', 'pyarrow', 'torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_card_says_which_weights_are_the_default(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from evalkit import checkpoints
    from evalkit.cli import default_weights as module
    from evalkit.errors import PluginError
    from evalkit.types import CheckpointRef

    class Plugin:
        card = "card"

    pinned = "0123456789" * 4

    def load(name: str) -> type[Plugin]:
        if name == "gone":
            raise PluginError("There is no model named 'gone'.")
        return Plugin

    monkeypatch.setattr(module, "load_adapter", load)
    monkeypatch.setattr(
        module, "load_task", lambda name: type("Task", (), {"card": type("Card", (), {"purpose": "p"})})
    )
    monkeypatch.setattr(
        checkpoints,
        "checkpoint_ref",
        lambda card, variant, purpose: CheckpointRef(
            source="org/name", revision=pinned if variant == "pinned" else None
        ),
    )
    for n, (model, variant, checkpoint, digest) in enumerate(
        [
            ("m", "pinned", "org/name", f"commit:{pinned}"),
            ("m", "pinned", "org/name", "commit:other"),
            ("m", "free", "org/name", "sha256:1"),
            ("m", "free", "/my/own", "sha256:1"),
            ("gone", "free", "org/name", "sha256:1"),
        ]
    ):
        run = make_run(run_id=f"r{n}", model=model, variant=variant, checkpoint=checkpoint, checkpoint_digest=digest)
        store.write_run(tmp_path, run, PREDICTIONS, tmp_path)
    out, _ = shown(capsys, [], tmp_path, all_runs=True)
    told = {
        run: checkpoint for checkpoint, run in re.findall(r"^\S+ +(\S+)(?: \(\S+\))? +itc \[1\] +(r\d) ", out, re.M)
    }
    assert told == {"r0": "default", "r1": "org/name", "r2": "default", "r3": "/my/own", "r4": "org/name"}


def test_intervals_over_few_are_said_to_be_so(make_run: MakeRun, make_metric: MakeMetric) -> None:
    def said(**changes: object) -> bool:
        notes = board(make_run(**changes)).notes
        return any("fewer than 10 samples, answers or clusters of them an interval is too" in note for note in notes)

    counts = Counts(samples=9, failed=0, asked={}, from_cache={})
    assert not said()
    assert said(counts=counts)
    assert said(counts=replace(counts, samples=12, failed=3))
    assert said(metrics=(make_metric(n=9),))
    assert said(metrics=(replace(make_metric(n=400), clusters=5),)), "400 statements of 5 sets of images"
    assert not any("fewer than" in note for note in board(make_run(counts=counts), intervals=False).notes)


def test_the_interval_of_a_correlation_is_described_as_what_it_is(make_run: MakeRun, make_metric: MakeMetric) -> None:
    spread = "of a correlation the spread of its 1,000 samples"
    with_it = board(make_run(metrics=(make_metric(), make_metric("sis_spearman", 0.5, unit="score"))))
    assert any(spread in note for note in with_it.notes)
    assert not any(spread in note for note in board(make_run()).notes)
