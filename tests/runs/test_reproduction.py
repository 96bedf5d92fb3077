"""Verdicts on runs made by hand: what counts as reproduced, what cannot be compared, which causes are told."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from evalkit.published import Cause, PublishedResult, read_causes, read_published
from evalkit.report.attempts import Attempt, Obstacle, plan
from evalkit.report.records import records_of
from evalkit.report.reproduction import Reproduction, exit_code, judge, verdict_of
from evalkit.report.reproduction_formats import (
    attempt_lines,
    cells,
    obstacle_lines,
    terminal_lines,
    to_json,
    to_markdown,
)
from evalkit.types import MetricValue, Protocol, RunResult

PINNED = "0123456789" * 4
ROW = PublishedResult(
    paper="A paper",
    url="https://example.org",
    label="CLIP B/32",
    model="clip",
    variant="base-patch32",
    checkpoint="openai/clip-vit-base-patch32",
    task="coco_retrieval",
    split="test",
    protocol="coco-karpathy-5k/itc",
    table="table 1",
    metrics={"t2i_r@1": 39.2},
    decimals={"t2i_r@1": 1},
)
CAUSES = (
    Cause(id="any", text="x", effect="x", remedy="x", likelihood=2),
    Cause(id="seldom", text="x", effect="x", remedy="x", likelihood=3),
    Cause(id="dtype", text="x", effect="x", remedy="x", likelihood=3, sign="dtype"),
    Cause(id="prompt", text="x", effect="x", remedy="x", likelihood=1, sign="prompt"),
    Cause(id="small", text="x", effect="x", remedy="x", likelihood=3, shift=(-0.5, 0.5)),
    Cause(id="large", text="x", effect="x", remedy="x", likelihood=1, shift=(5.0, 30.0)),
    Cause(id="texts", text="x", effect="x", remedy="x", likelihood=1, metrics=("i2t_*",)),
    Cause(id="blip", text="x", effect="x", remedy="x", likelihood=1, models=("blip",)),
)


def judged(run: RunResult, row: PublishedResult = ROW, **more: Any) -> Reproduction:
    return judge(row, records_of(run), CAUSES, **{"pinned": PINNED, **more})


def ids(reproduction: Reproduction) -> list[str]:
    return [told.cause.id for told in reproduction.causes]


# -- verdicts ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("ours", "published", "decimals", "verdict"),
    [
        (57.940000000000005, 57.94, 2, "reproduced"),
        (57.944, 57.94, 2, "reproduced"),
        (57.946, 57.94, 2, "within noise"),
        (57.96, 57.9, 1, "within noise"),
        (57.95, 57.9, 1, "reproduced"),  # a tie, whichever way the source rounds
        (57.85, 57.9, 1, "reproduced"),
        (57.84, 57.9, 1, "within noise"),
        (57.4, 57.0, 0, "reproduced"),
        (3.204, 3.2, 2, "reproduced"),
        (3.206, 3.2, 2, "within noise"),
        (59.1, 57.9, 1, "off"),
        (math.nan, 57.9, 1, "not comparable"),
    ],
)
def test_a_number_is_judged_at_the_sources_precision(
    ours: float, published: float, decimals: int, verdict: str
) -> None:
    assert verdict_of(ours, published, decimals, ours - 1, ours + 1) == verdict


def test_without_an_interval_nothing_is_said_of_a_difference() -> None:
    assert verdict_of(78.26, 78.25, 2, math.nan, math.nan) == "not comparable"
    assert verdict_of(78.25, 78.25, 2, math.nan, math.nan) == "reproduced"


@pytest.mark.parametrize(
    ("ours", "published", "clusters", "verdict"),
    [
        (100.0, 99.9, 1000, "within noise"),
        (100.0, 99.7, 1000, "within noise"),
        (100.0, 99.6, 1000, "off"),
        (100.0, 99.9, 31000, "off"),
        (0.0, 0.2, 1000, "within noise"),
        (0.0, 0.4, 1000, "off"),
    ],
)
def test_a_number_without_a_single_error_has_the_interval_of_the_rule_of_three(
    make_run: Callable[..., RunResult],
    make_metric: Callable[..., MetricValue],
    ours: float,
    published: float,
    clusters: int,
    verdict: str,
) -> None:
    flat = make_metric(value=ours, low=ours, high=ours, n=5 * clusters, clusters=clusters)
    found = judged(make_run(metrics=(flat,)), replace(ROW, metrics={"t2i_r@1": published}))
    assert found.verdict == verdict
    (number,) = found.numbers
    assert number.low is not None
    assert number.high is not None
    assert 0 <= number.low <= ours <= number.high <= 100
    ranks = make_run(metrics=(replace(flat, unit="rank"),))
    assert judged(ranks, replace(ROW, metrics={"t2i_r@1": published})).verdict == "off"


def test_the_worst_number_decides(make_run: Callable[..., RunResult]) -> None:
    row = replace(ROW, metrics={"t2i_r@1": 39.2, "i2t_r@1": 25.0}, decimals={"t2i_r@1": 1, "i2t_r@1": 1})
    found = judged(make_run(), row)
    assert [one.verdict for one in found.numbers] == ["reproduced", "within noise"]
    assert found.verdict == "within noise"
    assert judged(make_run(), replace(row, metrics={"t2i_r@1": 39.2, "i2t_r@1": 80.0})).verdict == "off"
    missing = judged(make_run(), replace(row, metrics={"t2i_r@1": 39.2, "t2i_r@5": 80.0}))
    assert missing.verdict == "not comparable"
    assert missing.reasons == ()
    assert any("has no t2i_r@5" in note for note in missing.notes)


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        (["reproduced"], 0),
        (["reproduced", "within noise"], 0),
        (["within noise", "not comparable"], 3),
        (["off", "not comparable"], 1),
        (["reproduced", "off"], 1),
    ],
)
def test_exit_codes(verdicts: Any, code: int) -> None:
    assert exit_code(verdicts) == code


# -- what cannot be compared -------------------------------------------------------------------------------------------
def test_a_run_of_the_row_is_comparable(make_run: Callable[..., RunResult]) -> None:
    found = judged(make_run())
    assert (found.reasons, found.verdict, found.causes) == ((), "reproduced", ())
    assert any("none of the official data is on record" in note for note in found.notes)


@pytest.mark.parametrize(
    ("row", "run", "reason"),
    [
        ({"protocol": "coco-karpathy-5k/itc+itm@256"}, {}, "the protocol is coco-karpathy-5k/itc"),
        ({"prompt": "a photo of {caption}"}, {}, "the prompt is '{caption}'"),
        ({"split": "val"}, {}, "the split is test"),
        ({"task": "flickr30k_retrieval"}, {}, "the run is of clip on coco_retrieval"),
        ({"checkpoint": "openai/clip-vit-base-patch16"}, {}, "the weights are openai/clip-vit-base-patch32"),
        ({"checkpoint": ""}, {}, "not on record"),
        ({"data_fingerprint": "cd" * 32}, {}, "the data are other ones"),
        ({}, {"limit": 10}, "only the first 10 samples"),
    ],
)
def test_a_run_of_something_else_is_not(
    make_run: Callable[..., RunResult], row: dict[str, Any], run: dict[str, Any], reason: str
) -> None:
    found = judged(make_run(**run), replace(ROW, **row))
    assert found.verdict == "not comparable"
    assert any(reason in one for one in found.reasons), found.reasons
    assert {one.verdict for one in found.numbers} == {"not comparable"}


def test_an_incomplete_run_is_not_comparable(make_run: Callable[..., RunResult]) -> None:
    run = make_run()
    found = judged(replace(run, counts=replace(run.counts, failed=3)))
    assert (found.verdict, found.reasons) == ("not comparable", ("3 of 51 samples failed",))


def test_a_limited_run_shows_its_numbers_and_concludes_nothing(
    make_run: Callable[..., RunResult],
    make_protocol: Callable[..., Protocol],
    make_metric: Callable[..., MetricValue],
) -> None:
    part = make_protocol("coco-karpathy-5k-subset-10")
    run = make_run(limit=10, protocols=(part,), metrics=(make_metric(protocol=part.id),))
    (number,) = judged(run).numbers
    assert (number.ours, number.verdict) == (39.2, "not comparable")


def test_weights_that_the_user_takes_for_the_published_ones(make_run: Callable[..., RunResult]) -> None:
    run = make_run(checkpoint="/weights/clip", checkpoint_digest="sha256:ab")
    assert judged(run).verdict == "not comparable"
    found = judged(run, accepted_checkpoint="/weights/clip")
    assert found.verdict == "reproduced"
    assert any("which you take for the published ones" in note for note in found.notes)
    assert judged(run, accepted_checkpoint="/weights/other").verdict == "not comparable"


# -- causes ------------------------------------------------------------------------------------------------------------
def test_causes_come_by_what_the_run_shows_then_by_size_then_by_likelihood(make_run: Callable[..., RunResult]) -> None:
    noise = replace(ROW, metrics={"t2i_r@1": 39.0})
    assert ids(judged(make_run(), noise)) == ["small", "any", "seldom"]
    off = replace(ROW, metrics={"t2i_r@1": 20.0})
    assert ids(judged(make_run(), off)) == ["large", "any", "seldom"]
    run = make_run()
    half = replace(run, environment={**run.environment, "dtype": "float16"})
    found = judged(half, off)
    assert ids(found) == ["dtype", "large", "any", "seldom"]
    assert [told.why for told in found.causes] == ["the run shows it", "its size fits", "", ""]


def test_a_reproduced_run_has_no_causes_told_and_yet_says_what_it_is_of(make_run: Callable[..., RunResult]) -> None:
    run = make_run()
    half = judged(replace(run, environment={**run.environment, "dtype": "float16"}))
    assert (half.verdict, ids(half)) == ("reproduced", [])
    assert "precision: float16, and not float32" in half.notes
    other = judged(make_run(checkpoint_digest="commit:" + "f" * 40))
    assert other.verdict == "reproduced"
    assert f"weights: commit:{'f' * 40}, and the card pins commit:{PINNED}" in other.notes
    assert not any(note.startswith(("precision", "weights")) for note in judged(run).notes)
    assert not any(note.startswith("weights") for note in judged(run, pinned=None).notes)


def test_a_limit_above_the_split_leaves_nothing_out(make_run: Callable[..., RunResult]) -> None:
    assert judged(make_run(limit=52)).verdict == "reproduced"
    assert judged(make_run(limit=51)).verdict == "not comparable"


def test_of_a_run_that_cannot_be_compared_only_what_it_shows_is_told(make_run: Callable[..., RunResult]) -> None:
    assert ids(judged(make_run(), replace(ROW, prompt="a photo of {caption}", metrics={"t2i_r@1": 20.0}))) == ["prompt"]


def test_the_projects_causes_name_the_rank_rule_where_the_route_is_todays(
    make_run: Callable[..., RunResult],
    make_protocol: Callable[..., Protocol],
    make_metric: Callable[..., MetricValue],
) -> None:
    ranked = make_protocol("vqav2-test-dev", "rank")
    run = make_run(
        model="blip",
        task="vqav2",
        checkpoint="Salesforce/blip-vqa-base",
        protocols=(ranked,),
        metrics=(make_metric("accuracy", 77.42, split="test-dev", protocol=ranked.id),),
        main_metric="accuracy",
    )
    row = replace(
        ROW,
        model="blip",
        task="vqav2",
        split="test-dev",
        protocol="vqav2-test-dev/rank_paper",
        checkpoint="Salesforce/blip-vqa-base",
        metrics={"accuracy": 78.25},
        decimals={"accuracy": 2},
    )
    found = judge(row, records_of(run), read_causes(), pinned=PINNED)
    assert (found.verdict, [told.cause.id for told in found.causes]) == ("not comparable", ["vqa-rank-rule"])
    assert "rank_paper" in found.causes[0].cause.remedy
    paper = make_protocol("vqav2-test-dev", "rank_paper")
    same = replace(
        run,
        protocols=(paper,),
        metrics=(make_metric("accuracy", 77.42, split="test-dev", protocol=paper.id, low=77.1, high=77.8),),
    )
    found = judge(row, records_of(same), read_causes(), pinned=PINNED)
    assert found.verdict == "off"
    assert "vqa-rank-rule" not in [told.cause.id for told in found.causes]  # the run shows that it is not this
    assert "blip-vqa-384" in [told.cause.id for told in found.causes]


ZERO_SHOT = "flickr-zero-shot-checkpoint"


def causes_of(run: RunResult, row: PublishedResult) -> set[str]:
    """What the project says of a run of another protocol or of other weights."""
    found = judge(row, records_of(run), read_causes(), pinned=None)
    assert found.verdict == "not comparable"
    return {told.cause.id for told in found.causes}


def test_only_a_run_of_val_is_said_to_be_of_training_data(
    make_run: Callable[..., RunResult],
    make_protocol: Callable[..., Protocol],
    make_metric: Callable[..., MetricValue],
) -> None:
    row = next(row for row in read_published() if (row.label, row.split) == ("BLIP-B 129M", "test-dev"))
    for split, told in (("test-std", set()), ("val", {"vqav2-val-contaminated"})):
        protocol = make_protocol(f"vqav2-{split}", "rank_paper")
        run = make_run(
            model="blip",
            task="vqav2",
            checkpoint=row.checkpoint,
            protocols=(protocol,),
            metrics=(make_metric("accuracy", 80.0, split=split, protocol=protocol.id),),
        )
        assert causes_of(run, row) == told, split


def test_a_part_of_a_gallery_is_told(
    make_run: Callable[..., RunResult],
    make_protocol: Callable[..., Protocol],
    make_metric: Callable[..., MetricValue],
) -> None:
    part = make_protocol("coco-karpathy-5k-subset-200")
    run = make_run(protocols=(part,), metrics=(make_metric(protocol=part.id),))
    assert causes_of(run, ROW) == {"other-data"}
    assert "other-data" not in causes_of(make_run(checkpoint="laion/x"), ROW)


@pytest.mark.parametrize(
    ("route", "checkpoint", "told"),
    [
        (
            "itc+itm@128",
            "Salesforce/blip-itm-large-flickr",
            {"rerank-k", "other-weights", "flickr-zero-shot-checkpoint"},
        ),
        ("itc", "Salesforce/blip-itm-large-coco", set()),
        ("itc+itm@256", "demo:blip", {"other-weights"}),
    ],
)
def test_signs_are_of_what_the_cause_says(
    make_run: Callable[..., RunResult],
    make_protocol: Callable[..., Protocol],
    make_metric: Callable[..., MetricValue],
    route: str,
    checkpoint: str,
    told: set[str],
) -> None:
    zero_shot = next(row for row in read_published() if row.label == "BLIP-L, zero-shot")
    row = replace(zero_shot, protocol="flickr30k-karpathy-1k/itc+itm@256")
    protocol = make_protocol("flickr30k-karpathy-1k", route)
    run = make_run(
        model="blip",
        task="flickr30k_retrieval",
        checkpoint=checkpoint,
        protocols=(protocol,),
        metrics=(make_metric(protocol=protocol.id),),
    )
    assert causes_of(run, row) == told


def test_another_commit_of_the_weights_is_told(make_run: Callable[..., RunResult]) -> None:
    row = replace(ROW, metrics={"t2i_r@1": 20.0})
    assert "other-weights" not in [
        told.cause.id for told in judge(row, records_of(make_run()), read_causes(), pinned=PINNED).causes
    ]
    found = judge(row, records_of(make_run(checkpoint_digest="commit:" + "f" * 40)), read_causes(), pinned=PINNED)
    assert found.causes[0].cause.id == "other-weights"


@pytest.mark.parametrize(("images", "told"), [(417, True), (651, False)])
def test_nocaps_domains_of_other_sizes_are_told(
    make_run: Callable[..., RunResult],
    make_protocol: Callable[..., Protocol],
    make_metric: Callable[..., MetricValue],
    images: int,
    told: bool,
) -> None:
    generate = make_protocol("nocaps-val", "generate")
    number = make_metric("cider_in", 100.0, split="val", protocol=generate.id, n=images, low=99.0, high=101.0)
    run = make_run(
        model="blip",
        task="nocaps",
        checkpoint="Salesforce/blip-image-captioning-large",
        protocols=(generate,),
        metrics=(number,),
        main_metric="cider",
    )
    row = replace(
        ROW,
        model="blip",
        task="nocaps",
        split="val",
        protocol=generate.id,
        checkpoint="Salesforce/blip-image-captioning-large",
        metrics={"cider_in": 114.9},
        decimals={"cider_in": 1},
    )
    found = judge(row, records_of(run), read_causes(), pinned=PINNED)
    assert found.verdict == "off"
    assert ("nocaps-domain-sizes" in [each.cause.id for each in found.causes]) == told


# -- how it is written -------------------------------------------------------------------------------------------------
def test_cells_show_two_decimals_more_than_the_source(make_run: Callable[..., RunResult]) -> None:
    row = replace(ROW, metrics={"t2i_r@1": 39.0, "t2i_r@5": 60.0})
    first, second = judged(make_run(), row).numbers
    assert cells(first) == ("t2i_r@1", "39.0", "39.200", "+0.200", "[33.100, 45.600]", "within noise")
    assert cells(second) == ("t2i_r@5", "60", "", "", "", "not comparable")


def test_hostile_texts_are_inert(make_run: Callable[..., RunResult]) -> None:
    row = replace(ROW, label="<script>|*x*\x1b[31m", note="=cmd()\n## title", metrics={"t2i_r@1": 20.0})
    found = judged(make_run(), row)
    lines = list(terminal_lines(found))
    assert all(line.isprintable() for line in lines)
    page = to_markdown([found], [])
    assert "<script>" not in page
    assert "\n## title" not in page
    document = to_json([found], [])
    assert "<" not in document
    assert json.loads(document)["reproductions"][0]["row"]["label"] == row.label


def test_json_has_every_number_in_full(make_run: Callable[..., RunResult]) -> None:
    document = json.loads(to_json([judged(make_run(), replace(ROW, metrics={"t2i_r@1": 39.0}))], []))
    (found,) = document["reproductions"]
    assert found["verdict"] == "within noise"
    assert found["numbers"][0]["difference"] == pytest.approx(0.2)
    assert found["numbers"][0]["printed"] == "39.0"
    assert found["row"]["protocol"] == ROW.protocol
    assert found["causes"][0]["id"] == "small"


# -- from a row to a run -----------------------------------------------------------------------------------------------
def test_a_row_becomes_a_run() -> None:
    planned = plan(replace(ROW, prompt="a photo of {caption}"))
    assert isinstance(planned, Attempt)
    assert planned.options == {"rerank_with": "none", "prompt": "a photo of {caption}"}
    assert planned.revision == "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"
    assert planned.command() == (
        "evalkit run --model clip --task coco_retrieval --variant base-patch32"
        " --checkpoint openai/clip-vit-base-patch32"
        " --revision 3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268 -o rerank_with=none -o prompt='a photo of {caption}'"
    )
    assert any("evalkit data status coco_retrieval" in line for line in attempt_lines(planned))


def test_zero_shot_on_flickr_runs_the_weights_of_coco() -> None:
    row = replace(
        ROW,
        model="blip",
        variant="large",
        checkpoint="Salesforce/blip-itm-large-coco",
        task="flickr30k_retrieval",
        protocol="flickr30k-karpathy-1k/itc+itm@128",
    )
    planned = plan(row)
    assert isinstance(planned, Attempt)
    assert (planned.checkpoint, planned.options) == (row.checkpoint, {"rerank_with": "itm", "rerank_k": "128"})


def test_a_split_without_public_answers_is_refused_with_what_to_do() -> None:
    row = replace(
        ROW,
        model="blip",
        variant="base",
        checkpoint="Salesforce/blip-vqa-base",
        task="vqav2",
        split="test-std",
        protocol="vqav2-test-std/rank_paper",
        server="vqa",
        metrics={"accuracy": 78.17},
    )
    planned = plan(row)
    assert isinstance(planned, Obstacle)
    assert planned.kind == "server"
    assert planned.attempt is not None
    assert planned.steps() == (
        planned.attempt.command(),
        "evalkit export RUN --format vqa -o answers.json",
        "evalkit reproduce --run RUN --server-number test-std=VALUE",
    )
    assert planned.attempt.command().endswith("-o split=test-std -o route=rank_paper")
    dev = plan(replace(row, split="test-dev", protocol="vqav2-test-dev/rank_paper"))
    assert isinstance(dev, Obstacle)
    assert dev.attempt is not None
    assert dev.attempt.command() == planned.attempt.command()  # one file is for both of the server's phases
    assert dev.steps()[-1] == "evalkit reproduce --run RUN --server-number test-dev=VALUE"


def test_what_several_rows_share_is_told_once() -> None:
    rows = [row for row in read_published() if row.model in ("blip", "llava") and row.task == "vqav2"]
    plans = [one for one in map(plan, rows) if isinstance(one, Obstacle)]
    lines = list(obstacle_lines(plans))
    assert len(plans) == len(rows) == 10
    assert sum("evalkit run " in line for line in lines) == 8  # both phases of BLIP's by one run
    assert sum("not public" in line for line in lines) == sum("evalkit export" in line for line in lines) == 1
    assert lines[-1] == "    evalkit reproduce --run RUN --server-number test-dev=VALUE --server-number test-std=VALUE"
    assert not any("evalkit" in line and not line.startswith("    evalkit ") for line in lines)  # a command a line


def test_commands_are_safe_to_paste() -> None:
    planned = plan(replace(ROW, prompt="it's {caption}; $x"), checkpoint="/my weights/clip")
    assert isinstance(planned, Attempt)
    words = shlex.split(planned.command())
    assert words[words.index("--checkpoint") + 1] == "/my weights/clip"
    assert words[-1] == "prompt=it's {caption}; $x"


@pytest.mark.parametrize(
    ("changes", "kind", "problem"),
    [
        ({"model": "", "note": "not published"}, "no adapter", "not published"),
        ({"checkpoint": "", "note": "not in the card"}, "no weights", "not in the card"),
        ({"variant": "huge"}, "impossible", "no variant 'huge'"),
        ({"model": "clap"}, "impossible", "clap"),
        ({"task": "coco"}, "impossible", "coco"),
        ({"protocol": "coco-karpathy-5k/itc+itm@256"}, "impossible", "match"),
        ({"protocol": "coco/itc"}, "impossible", "measured by coco/itc, and a run here would be coco-karpathy-5k/itc"),
    ],
)
def test_what_no_run_can_reproduce_is_refused(changes: dict[str, Any], kind: str, problem: str) -> None:
    planned = plan(replace(ROW, **changes))
    assert isinstance(planned, Obstacle)
    assert planned.kind == kind
    assert problem in planned.problem


def test_named_weights_stand_in_for_those_that_no_card_has() -> None:
    planned = plan(replace(ROW, checkpoint="", note="x"), checkpoint="/weights", revision="r")
    assert isinstance(planned, Attempt)
    assert (planned.checkpoint, planned.revision) == ("/weights", "r")


def test_weights_without_a_variant_say_that_they_are_not_pinned() -> None:
    planned = plan(replace(ROW, variant="", checkpoint="laion/CLIP-ViT-B-32-laion2B-s34B-b79K"))
    assert isinstance(planned, Attempt)
    assert planned.variant is None
    assert "pins no revision" in planned.notes[0]
