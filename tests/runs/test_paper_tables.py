"""Tables as papers print them: what stands in which column, who is best, what is marked, what is refused."""

from __future__ import annotations

import doctest
import math
from dataclasses import replace

import numpy as np
import pytest
from paper_runs import TASKS, PaperRuns, made, ranks, rows

from evalkit.report import layouts
from evalkit.report.board import Leaderboard, header
from evalkit.report.comparison import compare
from evalkit.report.difference_tests import tests_against_best as against_best
from evalkit.report.layouts import LAYOUTS
from evalkit.report.numbers import Number, difference_of
from evalkit.report.records import Record, all_records
from evalkit.types import Counts


def titles(board: Leaderboard) -> list[str]:
    return [heading.title for heading in board.tables[0].headings]


# ------------------------------------------------------------------------------------------------------------- columns


def test_every_layout_has_the_columns_that_papers_print(paper_runs: PaperRuns) -> None:
    runs = paper_runs.every()
    recall = [f"{kind} R@{k}" for kind in ("TR", "IR") for k in (1, 5, 10)]
    want = {
        "retrieval": [f"{data} {one} [{n}]" for n, data in ((1, "COCO"), (2, "Flickr30k")) for one in recall],
        "captioning": [
            *(f"nocaps val {d} {m} [1]" for d in ("in", "near", "out", "overall") for m in ("C", "S")),
            "COCO B@4 [2]",
            "COCO C [2]",
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
    assert [(heading.data, heading.metric) for heading in board.tables[0].headings] == [
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


def test_official_data_the_demos_and_others_are_tables_apart(paper_runs: PaperRuns) -> None:
    demo = paper_runs.one("clip", 0, 77.0, named="demo-world-coco_retrieval-200")
    photos = replace(paper_runs.one("clip", 0, 88.0, named="photos-51"), task="karpathy_retrieval")
    board = made("retrieval", photos, demo, paper_runs.one("clip", 0))
    assert [table.title for table in board.tables] == [
        "Image-text retrieval",
        "Image-text retrieval, demo world",
        "Image-text retrieval, other data",
    ]
    for table, data, value in zip(
        board.tables, ("COCO", "demo-world-coco_retrieval-200", "photos-51"), ("50.0", "77.0", "88.0"), strict=True
    ):
        assert {heading.data for heading in table.headings} == {data}
        assert [row.cells for row in table.rows] == [(value,) * 6]


@pytest.mark.parametrize(("layout", "place"), [(name, n) for n, name in ((0, "retrieval"), (2, "captioning"))])
def test_a_data_sets_name_stands_once_over_its_columns(paper_runs: PaperRuns, layout: str, place: int) -> None:
    (table,) = made(layout, paper_runs.one("a", place), paper_runs.one("a", place + 1)).tables
    data, groups = header(table.headings).levels
    assert [(span.name, span.mark, len(span.headings)) for span in data] == {
        "retrieval": [("COCO", "1", 6), ("Flickr30k", "2", 6)],
        "captioning": [("nocaps val", "1", 8), ("COCO", "2", 2)],
    }[layout]
    told = [(span.name, len(span.headings)) for span in groups]
    assert (
        told
        == {
            "retrieval": [("TR", 3), ("IR", 3)] * 2,
            "captioning": [("in", 2), ("near", 2), ("out", 2), ("overall", 2), ("", 2)],
        }[layout]
    )
    assert {heading.mark for heading in header(table.headings).headings} == {""}


def test_the_examples_of_the_layouts_are_right() -> None:
    failed, tried = doctest.testmod(layouts)
    assert tried and not failed


PARTS = [(place, f"{name}-subset-200") for place, (_, name, *_) in enumerate(TASKS) if place < len(TASKS) - 1]


@pytest.mark.parametrize(("place", "part"), PARTS, ids=[part for _, part in PARTS])
def test_a_part_of_a_split_never_stands_under_the_splits_name(paper_runs: PaperRuns, place: int, part: str) -> None:
    layout = next(name for name, one in LAYOUTS.items() if TASKS[place][0] in {data.task for data in one.sets})
    whole, cut = made(layout, paper_runs.one("a", place), paper_runs.one("b", place, named=part)).tables
    assert {heading.data for heading in cut.headings} == {part} and cut.title.endswith(", other data")
    assert {heading.data for heading in whole.headings} <= {
        *("COCO", "Flickr30k", "nocaps val", "VQAv2", "NLVR2", "VisDial 1.0 val")
    }
    assert [[row.labels[0] for row in table.rows] for table in (whole, cut)] == [["a/base"], ["b/base"]]
    assert len(made("wide", paper_runs.one("a", place), paper_runs.one("b", place, named=part)).tables) == 2


def test_splits_of_one_benchmark_are_told_apart(paper_runs: PaperRuns) -> None:
    run = paper_runs.one("a", 2, 55.0)
    other = replace(run, run_id="other", metrics=tuple(replace(one, split="val-server") for one in run.metrics))
    found = list(dict.fromkeys(heading.data for heading in made("captioning", run, other).tables[0].headings))
    assert found == ["nocaps val", "nocaps val (val-server)"]


def test_a_layout_that_shows_nothing_has_no_table(paper_runs: PaperRuns) -> None:
    assert made("visdial", paper_runs.one("clip", 0)).tables == ()


# ---------------------------------------------------------------------------------------------------------------- rows


def test_checkpoints_of_two_benchmarks_are_one_row(paper_runs: PaperRuns) -> None:
    coco = paper_runs.one("blip", 0, 80.0, route="itc+itm@256", changes={"checkpoint": "coco"})
    flickr = paper_runs.one("blip", 1, 97.0, route="itc+itm@128", changes={"checkpoint": "flickr"})
    board = made("retrieval", coco, flickr, is_default=_always)
    assert rows(board)["blip/base itc+itm"].runs == (coco.run_id, flickr.run_id)
    same = made("retrieval", coco, replace(flickr, protocols=(), metrics=()))
    assert list(rows(same)) == ["blip/base itc+itm@256"]


def _always(record: Record) -> bool:
    return True


@pytest.mark.parametrize("layout", ["captioning", "wide"])
def test_other_weights_and_precisions_are_rows_of_their_own(paper_runs: PaperRuns, layout: str) -> None:
    """Though each fills other columns: nobody would know which number is whose."""
    coco = paper_runs.one("blip", 3, 80.0, changes={"checkpoint": "org/A", "checkpoint_digest": "commit:a"})
    nocaps = paper_runs.one("blip", 2, 90.0, changes={"checkpoint": "org/B", "checkpoint_digest": "commit:b"})
    found = rows(made(layout, coco, nocaps))
    assert {label: row.runs for label, row in found.items()} == {
        "blip/base (checkpoint org/A)": (coco.run_id,),
        "blip/base (checkpoint org/B)": (nocaps.run_id,),
    }
    copied = replace(nocaps, checkpoint="org/A")
    assert set(rows(made(layout, coco, copied))) == {
        "blip/base (checkpoint org/A (commit:a))",
        "blip/base (checkpoint org/A (commit:b))",
    }
    alike = replace(nocaps, checkpoint="org/A", checkpoint_digest="commit:a")
    assert set(rows(made(layout, coco, alike))) == {"blip/base"}
    half = replace(alike, environment={"dtype": "float16"})
    assert set(rows(made(layout, coco, half))) == {"blip/base (dtype float32)", "blip/base (dtype float16)"}


@pytest.mark.parametrize("layout", ["captioning", "wide"])
def test_two_runs_of_one_name_lose_no_number(paper_runs: PaperRuns, layout: str) -> None:
    one = paper_runs.one("blip", 3, 80.0)
    other = replace(paper_runs.one("blip", 3, 60.0, changes={"checkpoint_digest": "commit:b"}), run_id=one.run_id)
    board = made(layout, one, other)
    assert sorted(row.numbers[-1].value for row in board.tables[0].rows if row.numbers[-1]) == ["60.0", "80.0"]
    copied = replace(other, checkpoint_digest=one.checkpoint_digest)
    assert len(made(layout, one, copied).tables[0].rows) == 2, "nothing tells them apart but their numbers"
    assert len(made(layout, one, one).tables[0].rows) == 1


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


def test_few_changed_answers_are_judged_as_compare_judges_them(paper_runs: PaperRuns) -> None:
    """Of 200 answers 4 changed, all for the better: t says p = 0.048, which compare does not take for shown."""
    drawn = np.random.default_rng(0).integers(0, 200, (1000, 200))
    old = np.repeat([100.0, 0.0], [150, 50])
    new = np.repeat([100.0, 0.0], [154, 46])
    values = {"a": new, "b": old}
    runs = [paper_runs.one(model, 4, float(one.mean())) for model, one in values.items()]
    a, b = (
        Number(record=replace(record, clusters=200), unanswered="", resampled=values[record.model][drawn].mean(1))
        for record in all_records(runs)
    )
    lookup = against_best(lambda record: a if record.model == "a" else b)
    (compared,) = compare([a], [b]).numbers
    assert difference_of(a, b).p < 0.05, "which would be significant"
    assert compared.difference and lookup([b.record], a.record) == [compared.difference.p]
    assert compared.state == "no difference shown"
    cell = rows(made("vqa", *runs, p_values=lookup))["b/base"].numbers[0]
    assert cell and cell.close


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
    assert not any("is significant" in note for note in board.footnotes), "nothing was tested"
    tied = made("captioning", *(paper_runs.one(f"m{n}", 2, 50.0) for n in range(2)), p_values=lambda records, best: [])
    assert not any("is significant" in note or "not tested" in note for note in tied.footnotes)


def test_significant_differences_are_said_to_be_so(paper_runs: PaperRuns) -> None:
    runs = [paper_runs.one(f"m{n}", 2, 50.0 - n) for n in range(2)]
    board = made("captioning", *runs, p_values=lambda records, best: [0.01] * len(records))
    assert any("Every tested difference to the best is significant" in note for note in board.footnotes)


def _none(record: Record) -> None:
    return None


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
        assert any(one.startswith("protocol [1] ") and "ties: pessimistic" in one for one in board.protocols)
        assert not any("ties: pessimistic" in note for note in board.notes)


def test_how_many_queries_is_said(paper_runs: PaperRuns) -> None:
    board = made("retrieval", *paper_runs.every())
    assert any("COCO TR 255; COCO IR 255; Flickr30k TR 255" in note for note in board.footnotes)
