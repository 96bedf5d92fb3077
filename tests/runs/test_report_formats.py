"""Terminal, Markdown, CSV, JSON and frame: nothing cut, nothing lost, and no text can do harm."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import fields

import pytest
from hostile_texts import HOSTILE, STEERING

from evalkit.report.formats import to_csv, to_json, to_markdown
from evalkit.report.frame import results_frame
from evalkit.report.leaderboard import Leaderboard, View, leaderboard
from evalkit.report.records import COLUMNS, Record, all_records
from evalkit.report.terminal import leaderboard_lines
from evalkit.types import Counts, MetricValue, Preprocessing, Protocol, RunResult

MakeRun = Callable[..., RunResult]
MakeMetric = Callable[..., MetricValue]
MakeProtocol = Callable[..., Protocol]


def board(*runs: RunResult) -> Leaderboard:
    return leaderboard(all_records(runs), View(is_default=lambda record: True))


def text(made: Leaderboard, width: int = 200) -> str:
    return "\n".join(line.plain for line in leaderboard_lines(made, width=width))


def test_a_table_too_wide_is_split_and_no_number_is_cut(make_run: MakeRun, make_metric: MakeMetric) -> None:
    metrics = tuple(make_metric(f"metric_{n}", 10.0 + n) for n in range(12))
    made = board(make_run(metrics=metrics, main_metric="metric_0"))
    for width in (20, 60, 80, 120):
        shown = text(made, width)
        assert all(cell in shown for row in made.tables[0].rows for cell in row.cells)
        assert "…" not in shown
        assert shown.count("clip/base-patch32  itc [1]") == shown.count("coco_retrieval: ") > 1
        if width > 40:
            assert all(
                len(line) <= width for line in shown.splitlines() if not line.startswith(("[1]", "weights", "Aft"))
            )
    assert text(made, 500).count("coco_retrieval: ") == 1


def test_the_best_stand_out_in_a_terminal(make_run: MakeRun, make_metric: MakeMetric) -> None:
    runs = [make_run(run_id=f"r{n}", model="猫" * n, metrics=(make_metric(value=9.0 + n),)) for n in range(3)]
    styled = {
        str(span.style): line.plain[span.start : span.end]
        for line in leaderboard_lines(board(*runs), width=200)
        for span in line.spans
    }
    assert styled == {"bold": "11.0", "underline": "10.0"}


def test_wide_characters_keep_the_columns_straight(make_run: MakeRun) -> None:
    from rich.cells import cell_len

    made = board(make_run(model="猫猫猫"), make_run(run_id="2", model="abc"))
    rows = [line for line in text(made).splitlines() if "39.2" in line]
    assert len({cell_len(line[: line.index("39.2")]) for line in rows}) == 1


def test_json_and_csv_have_every_field_of_every_number(make_run: MakeRun) -> None:
    records = all_records(
        [make_run(), make_run(run_id="2", limit=20, counts=Counts(samples=20, failed=1, asked={}, from_cache={}))]
    )
    names = list(COLUMNS)
    assert sorted(names) == sorted(field.name for field in fields(Record))
    read = json.loads(to_json(records))
    assert [list(one) for one in read] == [names] * 6
    assert [Record(**one) for one in read] == records
    written = to_csv(records)
    assert written.count("\r\n") == 7 and "\n" not in written.replace("\r\n", "")
    rows = list(csv.DictReader(io.StringIO(written, newline="")))
    assert list(rows[0]) == names
    for row, record in zip(rows, records, strict=True):
        assert float(row["value"]) == record.value and row["value"] == repr(record.value)
        assert (int(row["n"]), row["complete"], row["limit"]) == (
            record.n,
            str(record.complete).lower(),
            "" if record.limit is None else "20",
        )


def test_numbers_that_are_not_finite(make_run: MakeRun, make_metric: MakeMetric) -> None:
    records = all_records([make_run(metrics=(make_metric(value=float("nan"), low=float("-inf")),))])
    (one,) = json.loads(to_json(records))
    assert one["value"] is None and one["low"] is None
    (row,) = csv.DictReader(io.StringIO(to_csv(records), newline=""))
    assert (row["value"], row["low"]) == ("", "-inf")


def test_the_frame_has_the_same_columns_and_types(make_run: MakeRun) -> None:
    frame = results_frame([make_run(), make_run(run_id="2", limit=20)])
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 6 and frame["value"].tolist()[:3] == [23.529411764705884, 39.2, 4.5]
    assert frame["limit"].isna().tolist() == [True] * 3 + [False] * 3
    empty = results_frame([])
    assert len(empty) == 0 and (empty.dtypes == frame.dtypes).all()
    best = frame[frame["main"] & frame["complete"]].set_index(["model", "protocol"])["value"]
    assert best.loc[("clip", "coco-karpathy-5k/itc")] == 39.2


# ------------------------------------------------------------------------------------------------------- hostile texts


def hostile_run(make_run: MakeRun, make_metric: MakeMetric, make_protocol: MakeProtocol, bad: str) -> RunResult:
    protocol = make_protocol(
        name=bad,
        prompt=bad,
        route=bad,
        tie_rule=bad,
        preprocessing=Preprocessing(image=bad, text=bad, details=((bad, bad),)),
    )
    return make_run(
        run_id=bad,
        model=bad,
        variant=bad,
        checkpoint=bad,
        checkpoint_digest=bad,
        task=bad,
        options={bad: bad},
        protocols=(protocol,),
        metrics=(make_metric(bad, split=bad, protocol=protocol.id),),
        main_metric=bad,
        counts=Counts(samples=3, failed=1, asked={}, from_cache={}),
        environment={"dtype": bad},
    )


@pytest.mark.parametrize("bad", HOSTILE)
def test_hostile_texts_are_inert(
    make_run: MakeRun, make_metric: MakeMetric, make_protocol: MakeProtocol, bad: str
) -> None:
    run = hostile_run(make_run, make_metric, make_protocol, bad)
    records, made = all_records([run]), leaderboard(all_records([run]), View(run_column=True))
    shown = text(made)
    assert not STEERING.search(shown)
    assert all(not line.spans for line in leaderboard_lines(made, width=200)), "no mark-up is parsed"
    document = to_markdown(made)
    assert not STEERING.search(document)
    assert_markdown_is_inert(document, rows=1)
    table = to_csv(records)
    assert not STEERING.search(table.replace("\r\n", ""))
    (row,) = csv.DictReader(io.StringIO(table, newline=""))
    for name, cell in row.items():
        if name not in ("value", "low", "high"):
            assert not cell.lstrip().startswith(("=", "+", "-", "@", "\uff1d")), name
    assert float(row["value"]) == 39.2
    written = to_json(records)
    assert written.isascii() and "<" not in written and not STEERING.search(written)
    assert json.loads(written)[0]["model"] == bad


def assert_markdown_is_inert(document: str, rows: int) -> None:
    """By the rules of the format, without an implementation of it: what stands unescaped is only what we put there."""
    lines = document.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + rows
    assert len({line.count("|") for line in table}) == 1, "every row has as many cells"
    assert "`" not in document
    assert not re.search(r"<(?!!-- -->)", document), "no tag"
    plain = re.sub(r"\\[*_\[\]~#!$]", "", document)
    body = [line.removeprefix("### ").removeprefix("- ") for line in plain.splitlines()]
    assert not any(re.search(r"[*\[\]~!$\\]", line.replace("<!-- -->", "")) for line in body)
    assert not any(re.search(r"(?<!&)#", line) for line in body), "no heading, no issue's number"
    assert not re.search(r"(?i)(https?|ftp)://|www\.", document), "no link"
    assert not re.search(r"(?<!\w)@\w", document), "no mention"
    assert all(line.startswith(("### ", "|", "- ")) or not line for line in lines), "no line of a text's own making"


def test_markdown_shows_what_it_was_given() -> None:
    import markdown_it  # rich brings it

    from evalkit.report.text import inert, markdown

    parser = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"])
    for bad in HOSTILE:
        if not bad.strip():
            continue
        tokens = parser.parse(f"| head | last |\n| --- | --- |\n| {markdown(bad)} | end |\n")
        cells = [token for token in tokens if token.type == "inline"]
        assert len(cells) == 4
        kinds = {child.type for child in cells[2].children}
        assert kinds <= {"text", "text_special", "html_inline"}
        assert {child.content for child in cells[2].children if child.type == "html_inline"} <= {"<!-- -->"}
        told = "".join(child.content for child in cells[2].children if child.type != "html_inline")
        assert told == inert(bad).strip()


def test_long_names_are_elided_in_tables_and_whole_in_exports(make_run: MakeRun) -> None:
    run = make_run(model="m" * 5000, checkpoint="c" * 5000)
    made = leaderboard(all_records([run]), View())
    assert max(len(line) for line in text(made, 120).splitlines()) < 250
    assert max(len(line) for line in to_markdown(made).splitlines()) < 350
    assert "m" * 5000 in to_csv(all_records([run]))
