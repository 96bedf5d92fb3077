"""Published numbers in tables: which are shown, how they read, whom they compete with, what is said of them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from paper_runs import PaperRuns, made, ranks, rows

from evalkit.published import PublishedResult, read_published
from evalkit.report.board import Leaderboard, View
from evalkit.report.formats import to_markdown
from evalkit.report.html_table import html_table
from evalkit.report.latex import to_latex
from evalkit.report.leaderboard import leaderboard
from evalkit.report.paper_tables import paper_tables
from evalkit.report.published_rows import narrowed, published_records
from evalkit.report.records import all_records


def a_paper(value: float = 60.0, **changes: object) -> PublishedResult:
    whole = PublishedResult(
        paper="Somebody 2020",
        url="https://example.org",
        label="Theirs",
        task="nocaps",
        split="val",
        protocol="nocaps-val/generate",
        table="table 3",
        metrics={"cider": value, "cider_in": value + 1},
        note="as they say",
    )
    return replace(whole, **changes)  # type: ignore[arg-type]  # a test's short hand


def overall(board: Leaderboard) -> dict[str, str]:
    return ranks(board, 6)


def test_published_numbers_stand_between_ours_and_say_so(paper_runs: PaperRuns) -> None:
    ours = (paper_runs.one("a", 2, 70.0), paper_runs.one("b", 2, 50.0))
    board = made("captioning", *ours, published=(a_paper(),), intervals=True)
    assert list(rows(board)) == ["a/base", "Theirs (published)", "b/base"]
    row = rows(board)["Theirs (published)"]
    assert row.runs == () and row.numbers[6].interval == "" and row.numbers[6].n == ""
    (mark,) = row.numbers[6].marks
    assert f"[{mark}] published, Somebody 2020, table 3: nocaps-val/generate" in board.footnotes
    assert any("as they say" in note for note in board.footnotes)
    assert not any("Theirs" in source for source in board.sources)


def test_a_published_number_competes_where_id_and_prompt_agree(paper_runs: PaperRuns) -> None:
    ours = (paper_runs.one("a", 2, 55.0), paper_runs.one("b", 2, 50.0))
    assert overall(made("captioning", *ours, published=(a_paper(),)))["Theirs (published)"] == "best"
    for changes in ({"protocol": "nocaps-val/other"}, {"prompt": "another"}):
        board = made("captioning", *ours, published=(a_paper(**changes),))
        assert overall(board) == {"Theirs (published)": "", "a/base": "best", "b/base": "second"}
    other = paper_runs.one("c", 2, 40.0, prompt="another")
    for across in (False, True):
        board = made("captioning", *ours, other, published=(a_paper(),), across_protocols=across)
        assert overall(board)["Theirs (published)"] == "", "no telling which of the two protocols of this id it has"
    told = a_paper(prompt="another")
    across = overall(made("captioning", *ours, other, published=(told,), across_protocols=True))
    assert (across["Theirs (published)"], across["a/base"]) == ("best", "second")
    for changes in ({"protocol": "nocaps-val/other"}, {"prompt": "a third"}):
        board = made("captioning", *ours, other, published=(a_paper(**changes),), across_protocols=True)
        assert overall(board)["Theirs (published)"] == "", "published ones keep their rule"
    limited = made("captioning", *(replace(run, limit=3) for run in ours), published=(a_paper(),))
    assert overall(limited)["Theirs (published)"] == ""


def test_published_numbers_alone_do_not_compete(paper_runs: PaperRuns) -> None:
    papers = (a_paper(60.0), a_paper(50.0, label="Others"))
    board = made("captioning", paper_runs.one("a", 2, 55.0, named="own-val"), published=papers)
    assert {cell.rank for table in board.tables for row in table.rows for cell in row.numbers if cell} == {""}


def test_a_paper_may_have_two_rows_of_one_name(paper_runs: PaperRuns) -> None:
    papers = (a_paper(60.0), a_paper(50.0, table="table 6"))
    board = made("captioning", paper_runs.one("a", 2, 55.0), published=papers)
    assert [label for label in rows(board) if "Theirs" in label] == [
        "Theirs (published) (table table 3)",
        "Theirs (published) (table table 6)",
    ]


def test_two_papers_rows_of_one_name_say_whose_they_are(paper_runs: PaperRuns) -> None:
    papers = (a_paper(60.0), a_paper(50.0, paper="Others 2021"))
    board = made("captioning", paper_runs.one("a", 2, 55.0), published=papers)
    assert [label for label in rows(board) if "Theirs" in label] == [
        "Theirs (published) (paper Somebody 2020)",
        "Theirs (published) (paper Others 2021)",
    ]


PRINTED = {"78.25": 2, "78.24": 2, "78.5": 1, "80": 0, "57.940": 3}


@pytest.mark.parametrize("layout", ["vqa", "plain", "wide"])
def test_published_numbers_read_as_they_were_printed(paper_runs: PaperRuns, layout: str) -> None:
    papers = tuple(
        a_paper(
            label=text,
            task="vqav2",
            protocol="vqav2-val/generate",
            metrics={"accuracy": float(text)},
            decimals={"accuracy": decimals},
        )
        for text, decimals in PRINTED.items()
    )
    records = all_records([paper_runs.one("a", 4, 60.0)])
    shown = [*records, *published_records(papers, records)]
    view = View(intervals=False)
    board = leaderboard(shown, view) if layout == "plain" else paper_tables(shown, layout, view)
    found = {row.labels[0].split(" ")[0]: row.numbers[0] for row in board.tables[0].rows}
    assert {text: found[text].value for text in PRINTED if found[text]} == {text: text for text in PRINTED}
    for document in (to_markdown(board), to_latex(board), html_table(board)):
        assert all(re.search(rf"(?<![\d.]){re.escape(text)}(?![\d.])", document) for text in PRINTED)


@pytest.mark.parametrize("layout", ["vqa", "plain", "wide"])
def test_published_numbers_that_differ_are_no_tie(paper_runs: PaperRuns, layout: str) -> None:
    """78.25 and 78.24 would both be 78.2 to one decimal, and ours of 78.246 too."""
    papers = tuple(
        a_paper(
            label=text,
            task="vqav2",
            protocol="vqav2-val/generate",
            metrics={"accuracy": float(text)},
            decimals={"accuracy": 2},
        )
        for text in ("78.25", "78.24")
    )
    records = all_records([paper_runs.one("a", 4, 78.226)])
    shown = [*records, *published_records(papers, records)]
    view = View(intervals=False)
    board = leaderboard(shown, view) if layout == "plain" else paper_tables(shown, layout, view)
    assert [(row.numbers[0].value, row.numbers[0].rank) for row in board.tables[0].rows if row.numbers[0]] == [
        ("78.25", "best"),
        ("78.24", "second"),
        ("78.23", ""),
    ]


NARROW = tuple(
    a_paper(label=label, model=model)
    for label, model in (
        ("BLIP-B", "blip"),
        ("BLIP-B 14M", ""),
        ("BLIP-2 ViT-L", ""),
        ("BLIP-2 ViT-g", "blip2"),
        ("Qwen-VL", ""),
        ("VD-BERT", ""),
    )
)


@pytest.mark.parametrize(
    ("models", "labels", "want"),
    [
        (("blip",), (), ["BLIP-B", "BLIP-B 14M"]),
        (("blip2",), (), ["BLIP-2 ViT-L", "BLIP-2 ViT-g"]),
        (("qwen_vl", "clip"), (), ["Qwen-VL"]),
        (("clip",), (), []),
        (("clip",), ("blip-2", "bert"), ["BLIP-2 ViT-L", "BLIP-2 ViT-g", "VD-BERT"]),
        (("blip",), ("VIT-G",), ["BLIP-2 ViT-g"]),
    ],
)
def test_published_rows_are_of_the_models_shown_or_as_asked(
    paper_runs: PaperRuns, models: tuple[str, ...], labels: tuple[str, ...], want: list[str]
) -> None:
    measured = all_records([paper_runs.one(model, 2) for model in models])
    assert [row.label for row in narrowed(NARROW, measured, labels)] == want


def test_what_is_on_record_of_a_source_is_not_for_readers(paper_runs: PaperRuns) -> None:
    notes = {
        "zero-shot; the weights are not in the card: no revision of them is on record": "zero-shot",
        "the image-to-text numbers on COCO are to be checked against the paper": "",
    }
    for note, want in notes.items():
        board = made("captioning", paper_runs.one("a", 2), published=(a_paper(note=note),))
        printed = [one for one in board.footnotes if one.startswith("Theirs")]
        assert printed == [f"Theirs (published), nocaps: {want}"] * bool(want)
        assert any("on record" in one or "to be checked" in one for one in board.sources)
    twins = (a_paper(), a_paper(label="Others"))
    board = made("captioning", paper_runs.one("a", 2), published=twins)
    assert "Theirs (published), Others (published), nocaps: as they say" in board.footnotes, "once"


def test_every_published_row_of_the_project_keeps_its_note(paper_runs: PaperRuns) -> None:
    measured = all_records(paper_runs.every())
    for row in read_published():
        for record in published_records((row,), measured):
            words = sorted(re.findall(r"\w+", f"{record.note} {record.aside}"))
            assert words == sorted(re.findall(r"\w+", row.note)), "nothing is lost"
            assert not re.search("on record|to be checked|in the card", record.note)


def test_published_numbers_are_those_of_the_tasks_shown(paper_runs: PaperRuns) -> None:
    assert published_records((a_paper(),), all_records([paper_runs.one("a", 4)])) == []
    rank = a_paper(task="vqav2", metrics={"mean_rank": 3.0, "accuracy": 70.0})
    records = published_records((rank,), all_records([paper_runs.one("a", 4)]))
    assert [(record.unit, record.higher_is_better, record.main) for record in records] == [
        ("rank", False, False),
        ("%", True, True),
    ]
