"""Tables as papers print them: what stands in which column, who is best, what is marked, what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from paper_runs import PaperRuns

from evalkit.published import PublishedResult
from evalkit.report.board import Leaderboard, Row, View
from evalkit.report.difference_tests import tests_against_best as against_best
from evalkit.report.layouts import LAYOUTS
from evalkit.report.numbers import Number
from evalkit.report.paper_tables import paper_tables
from evalkit.report.published_rows import published_records
from evalkit.report.records import Record, all_records
from evalkit.types import Counts, RunResult


def made(layout: str, *runs: RunResult, published: tuple[PublishedResult, ...] = (), **view: object) -> Leaderboard:
    records = all_records(runs)
    asked = View(**{"intervals": False, "name_runs": True, **view})  # type: ignore[arg-type]  # a test's short hand
    return paper_tables([*records, *published_records(published, records)], layout, asked)


def titles(board: Leaderboard) -> list[str]:
    return [heading.title for heading in board.tables[0].headings]


def rows(board: Leaderboard, table: int = 0) -> dict[str, Row]:
    return {" ".join(row.labels): row for row in board.tables[table].rows}


def ranks(board: Leaderboard, place: int = 0) -> dict[str, str]:
    return {row.labels[0]: row.numbers[place].rank for row in board.tables[0].rows if row.numbers[place]}


# ------------------------------------------------------------------------------------------------------------- columns


def test_every_layout_has_the_columns_that_papers_print(paper_runs: PaperRuns) -> None:
    runs = paper_runs.every()
    recall = [f"{kind} R@{k}" for kind in ("TR", "IR") for k in (1, 5, 10)]
    want = {
        "retrieval": [f"{data} {one} [{n}]" for n, data in ((1, "COCO"), (2, "Flickr30k")) for one in recall],
        "captioning": [
            *(f"nocaps val {d} {m} [1]" for d in ("in", "near", "out", "overall") for m in ("CIDEr", "SPICE")),
            "COCO B@4 [2]",
            "COCO CIDEr [2]",
        ],
        "vqa": ["VQAv2 test-dev [1]", "VQAv2 val [2]"],
        "nlvr2": ["NLVR2 dev [1]", "NLVR2 test-P [2]"],
        "visdial": [
            *(f"VisDial 1.0 val {one} [1]" for one in ("MRR", "R@1", "R@5", "R@10")),
            "VisDial 1.0 val Mean (less is better) [1]",
            "VisDial 1.0 val NDCG [1]",
        ],
    }
    assert set(want) == set(LAYOUTS) - {"wide"}
    for layout, columns in want.items():
        board = made(layout, *runs)
        assert titles(board) == columns
        (table,) = board.tables
        assert all(cell is not None for row in table.rows for cell in row.numbers), "one row a model"
        assert len(table.rows) == 2


def test_wide_has_every_tasks_main_metric(paper_runs: PaperRuns) -> None:
    board = made("wide", *paper_runs.every())
    assert [(heading.group, heading.metric) for heading in board.tables[0].headings] == [
        ("coco_caption", "cider"),
        ("coco_retrieval", "mean_recall"),
        ("flickr30k_retrieval", "mean_recall"),
        ("imagefolder_knn", "acc1"),
        ("nlvr2 nlvr2-dev dev", "accuracy"),
        ("nlvr2 nlvr2-test-p test-P", "accuracy"),
        ("nocaps", "cider"),
        ("visdial", "mrr"),
        ("vqav2 vqav2-val val", "accuracy"),
        ("vqav2 vqav2-test-dev test-dev", "accuracy"),
    ]
    assert list(rows(board)) == ["blip/base", "clip/base"]


def test_wide_takes_the_main_protocol_of_a_run_which_is_the_last(paper_runs: PaperRuns) -> None:
    run = paper_runs.one("blip", 0, 60.0)
    itm = paper_runs.protocol("coco-karpathy-5k", route="itc+itm@256")
    main = paper_runs.metric("mean_recall", 80.0, protocol=itm.id)
    both = replace(run, protocols=(*run.protocols, itm), metrics=(*run.metrics, main))
    assert rows(made("wide", both))["blip/base"].cells == ("80.0",)


def test_auto_shows_what_fits_and_plain_tables_of_the_rest(paper_runs: PaperRuns) -> None:
    board = made("auto", *paper_runs.every())
    assert [table.title for table in board.tables] == [
        "Image-text retrieval",
        "Captioning",
        "Visual question answering",
        "NLVR2",
        "Visual dialog",
        "imagefolder_knn: photos-60, split val",
    ]
    numbers = [note.split()[0] for note in board.footnotes if note.startswith("[")]
    assert numbers == [f"[{n}]" for n in range(1, len(numbers) + 1)], "one numbering"


def test_data_of_ones_own_stand_in_columns_of_their_own(paper_runs: PaperRuns) -> None:
    own = paper_runs.one("clip", 0, 77.0, named="demo-world-coco_retrieval-200")
    board = made("retrieval", paper_runs.one("clip", 0), own)
    groups = list(dict.fromkeys(heading.group for heading in board.tables[0].headings))
    assert groups == ["COCO TR", "COCO IR", "demo-world-coco_retrieval-200 TR", "demo-world-coco_retrieval-200 IR"]
    assert rows(board)["clip/base itc"].cells == ("50.0",) * 6 + ("77.0",) * 6
    folder = made("retrieval", replace(own, task="karpathy_retrieval"))
    assert titles(folder)[0] == "demo-world-coco_retrieval-200 TR R@1 [1]"


def test_a_layout_that_shows_nothing_has_no_table(paper_runs: PaperRuns) -> None:
    assert made("visdial", paper_runs.one("clip", 0)).tables == ()


# ---------------------------------------------------------------------------------------------------------------- rows


def test_checkpoints_of_two_benchmarks_are_one_row(paper_runs: PaperRuns) -> None:
    coco = paper_runs.one("blip", 0, 80.0, route="itc+itm@256", changes={"checkpoint": "coco"})
    flickr = paper_runs.one("blip", 1, 97.0, route="itc+itm@128", changes={"checkpoint": "flickr"})
    board = made("retrieval", coco, flickr)
    assert rows(board)["blip/base itc+itm"].runs == (coco.run_id, flickr.run_id)
    same = made("retrieval", coco, replace(flickr, protocols=(), metrics=()))
    assert list(rows(same)) == ["blip/base itc+itm@256"]


def test_several_numbers_for_a_cell_are_rows_that_say_in_what_they_differ(paper_runs: PaperRuns) -> None:
    runs = [
        paper_runs.one("clip", place, value, prompt=prompt)
        for prompt, value in (("{caption}", 50.0), ("a photo of {caption}", 60.0))
        for place in (0, 1)
    ]
    found = rows(made("retrieval", *runs))
    assert list(found) == ["clip/base (prompt a photo of {caption}) itc", "clip/base (prompt {caption}) itc"]
    assert [row.cells[0][:4] for row in found.values()] == ["60.0", "50.0"]
    assert all(None not in row.numbers for row in found.values()), "both data sets in each"


def test_repeated_runs_are_rows_by_number(paper_runs: PaperRuns) -> None:
    runs = [paper_runs.one("clip", 0, value) for value in (50.0, 51.0)]
    assert list(rows(made("retrieval", *runs))) == ["clip/base (run 2) itc", "clip/base itc"]


# ------------------------------------------------------------------------------------------------------ best and second


def test_only_numbers_of_one_protocol_compete(paper_runs: PaperRuns) -> None:
    runs = [
        paper_runs.one("a", 2, 50.0),
        paper_runs.one("b", 2, 40.0),
        paper_runs.one("c", 2, 30.0),
        paper_runs.one("other", 2, 90.0, prompt="another"),
    ]
    board = made("captioning", *runs)
    assert ranks(board) == {"other/base": "", "a/base": "best", "b/base": "second", "c/base": ""}
    assert [row.cells[0] for row in board.tables[0].rows] == ["90.0[2]", "50.0[1]", "40.0[1]", "30.0[1]"]
    assert board.tables[0].headings[0].mark == "", "each number says its own"
    across = made("captioning", *runs, across_protocols=True)
    assert ranks(across) == {"other/base": "best", "a/base": "second", "b/base": "", "c/base": ""}
    assert any("whatever their protocols" in note for note in across.footnotes)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"data_fingerprint": "other"}, "on other samples"),
        ({"limit": 5}, "fewer samples"),
        ({"counts": Counts(samples=51, failed=1, asked={}, from_cache={})}, "some failed"),
    ],
)
def test_numbers_over_other_samples_do_not_compete_and_are_marked(
    paper_runs: PaperRuns, changes: dict[str, object], what: str
) -> None:
    runs = [paper_runs.one("a", 2, 50.0), paper_runs.one("b", 2, 40.0), paper_runs.one("c", 2, 90.0, changes=changes)]
    for across in (False, True):
        board = made("captioning", *runs, across_protocols=across)
        assert ranks(board)["c/base"] == "", what
        assert ranks(board)["a/base"] == "best"
        mark = rows(board)["c/base"].numbers[0].marks[-1]
        assert any(note.startswith(mark) for note in board.footnotes)


def test_ties_are_what_reads_the_same(paper_runs: PaperRuns) -> None:
    def of(*values: float) -> list[str]:
        board = made("captioning", *(paper_runs.one(f"m{n}", 2, value) for n, value in enumerate(values)))
        return [ranks(board)[f"m{n}/base"] for n in range(len(values))]

    assert of(50.01, 49.99, 40.0) == ["best", "best", ""], "no second where the best are two"
    assert of(50.0, 40.01, 39.99, 30.0) == ["best", "second", "second", ""]
    assert of(50.0, 50.0) == ["best", "best"]
    assert of(50.0) == [""], "nothing to compare with"
    assert of(50.0, math.nan) == ["", ""]
    assert of(50.0, math.nan, 40.0) == ["best", "", "second"]


def test_where_less_is_better_the_least_is_best(paper_runs: PaperRuns) -> None:
    board = made("visdial", paper_runs.one("a", 8, 3.0), paper_runs.one("b", 8, 2.0))
    assert (ranks(board, 0)["a/base"], ranks(board, 4)["b/base"]) == ("best", "best")


def test_two_decimals_decide_where_two_are_shown(paper_runs: PaperRuns) -> None:
    board = made("vqa", paper_runs.one("a", 4, 78.25), paper_runs.one("b", 4, 78.24))
    assert [row.cells for row in board.tables[0].rows] == [("78.25",), ("78.24",)]
    assert ranks(board) == {"a/base": "best", "b/base": "second"}


# -------------------------------------------------------------------------------------------------------- significance


def resampled(record: Record, spread: float, seed: int) -> Number:
    shared = np.random.default_rng(0).normal(0, 5, 1000)
    own = np.random.default_rng(seed).normal(0, spread, 1000)
    return Number(record=record, unanswered="", resampled=record.value + shared + own)


def test_what_is_not_significantly_worse_than_the_best_is_marked(paper_runs: PaperRuns) -> None:
    """Paired: the shared spread of 5 hides nothing, and the interval of each alone would cover all of them."""
    runs = [paper_runs.one(model, 2, value) for model, value in (("a", 50.0), ("b", 49.0), ("c", 40.0))]
    seeds = {run.run_id: seed for seed, run in enumerate(runs, 1)}
    lookup = against_best(lambda record: resampled(record, 1.0, seeds[record.run]))
    board = made("captioning", *runs, p_values=lookup)
    assert [(row.labels[0], row.numbers[0].text) for row in board.tables[0].rows] == [
        ("a/base", "50.0"),
        ("b/base", "49.0≈"),
        ("c/base", "40.0"),
    ]
    assert any(note.startswith("≈ not significantly different") for note in board.footnotes)


def test_holm_is_over_the_column(paper_runs: PaperRuns) -> None:
    """p = 0.03 alone is significant; as the smallest of three it is 0.09."""
    runs = [paper_runs.one(f"m{n}", 2, 50.0 - n) for n in range(4)]

    def p_values(records: list[Record], best: Record) -> list[float]:
        from evalkit.metrics.comparison import holm

        assert best.model == "m0" and [record.model for record in records] == ["m1", "m2", "m3"]
        return holm([0.03, 0.5, 0.5])

    board = made("captioning", *runs, p_values=p_values)
    assert [row.numbers[0].close for row in board.tables[0].rows] == [False, True, True, True]


def test_p_values_are_adjusted_and_only_of_what_may_be_compared(paper_runs: PaperRuns) -> None:
    runs = [paper_runs.one(f"m{n}", 2, 50.0 - n) for n in range(4)]
    best, *others = (all_records([run])[0] for run in runs)
    p_values = against_best(lambda record: resampled(record, 1.5, int(record.value)))
    together = p_values(others, best)
    alone = [p_values([other], best)[0] for other in others]
    assert together[2] == pytest.approx(3 * alone[2]) and together[1] == pytest.approx(2 * alone[1])
    assert together == sorted(together, reverse=True)
    (foreign,) = p_values([replace(others[0], data_fingerprint="other")], best)
    assert math.isnan(foreign), "other samples"
    (routed,) = p_values([replace(others[0], protocol_digest="other", prompt="another")], best)
    assert routed == alone[0], "protocols are the table's to compare or not"


def test_what_cannot_be_tested_is_said(paper_runs: PaperRuns) -> None:
    board = made("captioning", *(paper_runs.one(f"m{n}", 2, 50.0 - n) for n in range(2)), p_values=against_best(_none))
    assert not any(cell.close for row in board.tables[0].rows for cell in row.numbers if cell)
    assert any("were not tested" in note for note in board.footnotes)


def _none(record: Record) -> None:
    return None


# ----------------------------------------------------------------------------------------------------------- published


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
    board = made("captioning", *ours, other, published=(a_paper(),))
    assert overall(board)["Theirs (published)"] == "", "no telling which of the two protocols of this id it has"
    limited = made("captioning", *(replace(run, limit=3) for run in ours), published=(a_paper(),))
    assert overall(limited)["Theirs (published)"] == ""


def test_published_numbers_alone_do_not_compete(paper_runs: PaperRuns) -> None:
    papers = (a_paper(60.0), a_paper(50.0, label="Others"))
    board = made("captioning", paper_runs.one("a", 2, 55.0, named="own-val"), published=papers)
    assert {row.numbers[6].rank for row in board.tables[0].rows if row.numbers[6]} == {""}


def test_a_paper_may_have_two_rows_of_one_name(paper_runs: PaperRuns) -> None:
    papers = (a_paper(60.0), a_paper(50.0, table="table 6"))
    board = made("captioning", paper_runs.one("a", 2, 55.0), published=papers)
    assert [label for label in rows(board) if "Theirs" in label] == [
        "Theirs (published) (table table 3)",
        "Theirs (published) (table table 6)",
    ]


def test_splits_of_one_benchmark_are_told_apart(paper_runs: PaperRuns) -> None:
    run = paper_runs.one("a", 2, 55.0)
    other = replace(run, run_id="other", metrics=tuple(replace(one, split="val-server") for one in run.metrics))
    groups = list(dict.fromkeys(heading.group for heading in made("captioning", run, other).tables[0].headings))
    assert groups[0] == "nocaps val in" and groups[4] == "nocaps val (val-server) in"


def test_published_numbers_are_those_of_the_tasks_shown(paper_runs: PaperRuns) -> None:
    assert published_records((a_paper(),), all_records([paper_runs.one("a", 4)])) == []
    rank = a_paper(task="vqav2", metrics={"mean_rank": 3.0, "accuracy": 70.0})
    records = published_records((rank,), all_records([paper_runs.one("a", 4)]))
    assert [(record.unit, record.higher_is_better, record.main) for record in records] == [
        ("rank", False, False),
        ("%", True, True),
    ]


# -------------------------------------------------------------------------------------------------------- where from


def test_every_row_names_its_runs(paper_runs: PaperRuns) -> None:
    runs = paper_runs.every()
    for layout in (*LAYOUTS, "auto"):
        board = made(layout, *runs)
        for table in board.tables:
            for row in table.rows:
                assert row.runs
                assert all(any(run in source for source in board.sources) for run in row.runs)
        assert any("evalkit show RUN" in source for source in board.sources)
        assert any(source.startswith("protocol [1] ") and "ties: pessimistic" in source for source in board.sources)


def test_how_many_queries_is_said(paper_runs: PaperRuns) -> None:
    board = made("retrieval", *paper_runs.every())
    assert any("COCO TR 255; COCO IR 255; Flickr30k TR 255" in note for note in board.footnotes)
