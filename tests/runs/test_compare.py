"""Two runs side by side: the numbers' states, and the samples that flipped."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit.metrics.bootstrap import ClusterBootstrap, interval
from evalkit.metrics.comparison import holm
from evalkit.report.comparison import Comparison, compare, flips
from evalkit.report.comparison_text import Compare, change, p_value, tell
from evalkit.report.numbers import Number, numbers_of
from evalkit.types import ImageRef, MetricValue, Protocol, RunResult, SampleView, SampleViews

MakeRun = Callable[..., RunResult]
MakeMetric = Callable[..., MetricValue]
MakeProtocol = Callable[..., Protocol]

IMAGES = 200


# -- numbers -----------------------------------------------------------------------------------------------------------
def of_values(values: np.ndarray, make_metric: MakeMetric, name: str, **changes: Any) -> MetricValue:
    resampled = ClusterBootstrap(len(values)).ratio(values, np.ones(len(values)))
    ends = interval(resampled)
    return make_metric(
        name,
        float(values.mean()),
        low=ends.low,
        high=ends.high,
        n=len(values),
        clusters=len(values),
        resampled=tuple(resampled.tolist()),
        **changes,
    )


def numbers(result: RunResult) -> tuple[Number, ...]:
    resampled = {(one.metric, one.split, one.protocol): one.resampled for one in result.metrics if one.resampled}
    return numbers_of(result, resampled, [])


@pytest.fixture
def two(make_run: MakeRun, make_metric: MakeMetric) -> tuple[RunResult, RunResult]:
    """An old run, and one that is better in one number, worse in two, alike in one and the same in one."""
    rng = np.random.default_rng(0)
    old = {name: rng.normal(50, 10, IMAGES) for name in ("up", "down", "rank_up", "alike", "same")}
    new = {
        "up": old["up"] + rng.normal(3, 5, IMAGES),
        "down": old["down"] - rng.normal(3, 5, IMAGES),
        "rank_up": old["rank_up"] + rng.normal(3, 5, IMAGES),
        "alike": old["alike"] + rng.permutation(np.repeat([-4.0, 4.0], IMAGES // 2)),
        "same": old["same"],
    }
    rank = {"unit": "rank", "higher_is_better": False}

    def result(values: Mapping[str, np.ndarray], run_id: str) -> RunResult:
        metrics = tuple(
            of_values(each, make_metric, name, **(rank if name == "rank_up" else {})) for name, each in values.items()
        )
        return make_run(metrics=metrics, run_id=run_id)

    return result(new, "new"), result(old, "old")


def states(found: Comparison) -> dict[str, str]:
    return {one.new.metric: one.state for one in found.numbers}


def test_better_is_what_the_metric_says_is_better(two: tuple[RunResult, RunResult]) -> None:
    new, old = (numbers(one) for one in two)
    told = {"up": "better", "down": "worse", "rank_up": "worse", "alike": "no difference shown", "same": "equal"}
    assert states(compare(new, old)) == told
    other_way = {**told, "up": "worse", "down": "better", "rank_up": "better"}
    assert states(compare(old, new)) == other_way


def test_the_correction_is_over_all_numbers(two: tuple[RunResult, RunResult]) -> None:
    found = compare(*(numbers(one) for one in two))
    apart = [one.difference for one in found.numbers]
    assert [one.adjusted_p for one in found.numbers] == holm([one.p for one in apart if one is not None])
    assert found.tested == 5
    assert [math.isnan(one.smallest) for one in found.numbers] == [False] * 4 + [True]
    for one in found.numbers[:4]:
        assert one.difference is not None
        assert one.smallest == pytest.approx(2.81 * one.difference.standard_error, rel=0.01)


def test_a_difference_that_only_luck_among_many_found_is_not_shown(make_run: MakeRun, make_metric: MakeMetric) -> None:
    rng = np.random.default_rng(1)
    metrics: list[list[MetricValue]] = [[], []]
    for place in range(40):
        old = rng.normal(50, 10, IMAGES)
        for values, run_metrics in zip((old, old + rng.normal(0, 4, IMAGES)), metrics, strict=True):
            run_metrics.append(of_values(values, make_metric, f"m{place}"))
    found = compare(*(numbers(make_run(metrics=tuple(each))) for each in metrics))
    assert any(one.difference is not None and one.difference.p < 0.05 for one in found.numbers)
    assert set(states(found).values()) == {"no difference shown"}


def test_a_run_compared_with_itself_is_equal(two: tuple[RunResult, RunResult]) -> None:
    found = compare(numbers(two[0]), numbers(two[0]))
    assert found.equal
    assert not compare(*(numbers(one) for one in two)).equal
    assert not compare((), ()).equal


def test_nothing_is_dropped(make_run: MakeRun, make_metric: MakeMetric, make_protocol: MakeProtocol) -> None:
    reranked = make_protocol(route="itc+itm@256")
    old = make_run(metrics=(make_metric("a"), make_metric("b")))
    new = make_run(
        protocols=(make_protocol(), reranked),
        metrics=(make_metric("a"), make_metric("c"), make_metric("a", protocol=reranked.id)),
    )
    found = compare(numbers(new), numbers(old))
    assert [(one.new.metric, one.new.route) for one in found.numbers] == [("a", "itc")]
    assert [(one.metric, one.route) for one in found.new_only] == [("c", "itc"), ("a", "itc+itm@256")]
    assert [one.metric for one in found.old_only] == ["b"]


def test_numbers_of_other_protocols_are_put_side_by_side_and_say_why(
    make_run: MakeRun, make_metric: MakeMetric, make_protocol: MakeProtocol
) -> None:
    reranked = make_protocol(route="itc+itm@256")
    old = make_run(metrics=(make_metric("a"),))
    new = make_run(protocols=(reranked,), metrics=(make_metric("a", 50.0, protocol=reranked.id),))
    (one,) = compare(numbers(new), numbers(old)).numbers
    assert one.state == "not comparable"
    assert one.difference is None
    assert math.isnan(one.adjusted_p)
    assert one.why == (
        "the protocols differ: protocol 'coco-karpathy-5k/itc' and 'coco-karpathy-5k/itc+itm@256'"  # the old one first
    )
    (one,) = compare(numbers(new), numbers(old), across_protocols=True).numbers
    assert one.difference is not None
    assert one.across_protocols
    assert one.difference.value == pytest.approx(50.0 - 39.2)


def test_across_protocols_main_numbers_of_other_routes_are_compared(
    make_run: MakeRun, make_metric: MakeMetric, make_protocol: MakeProtocol
) -> None:
    """One run only embeds, the other reranks too: what each is known for is compared, first of all."""
    rng = np.random.default_rng(0)
    embedded, reranked = make_protocol(preprocessing=make_protocol().preprocessing), make_protocol(route="itc+itm@256")
    base = rng.normal(50, 10, IMAGES)

    def metrics(better: float, protocol: Protocol) -> list[MetricValue]:
        return [
            of_values(base + better + rng.normal(0, 1, IMAGES), make_metric, name, protocol=protocol.id)
            for name in ("mean_recall", "i2t_r@1")
        ]

    clip = make_run(metrics=tuple(metrics(0, embedded)))
    both = (*metrics(-10, embedded), *metrics(10, reranked))
    blip = make_run(protocols=(embedded, reranked), metrics=both)

    def told(new: RunResult, old: RunResult, **options: Any) -> list[tuple[str, str, str, str]]:
        found = compare(numbers(new), numbers(old), **options)
        if options:
            assert (found.new_only, found.old_only) == ((), ())
            p = [one.difference.p for one in found.numbers if one.difference is not None]
            assert [one.adjusted_p for one in found.numbers] == holm(p)
        return [(one.new.metric, one.old.route, one.new.route, one.state) for one in found.numbers]

    names = ("mean_recall", "i2t_r@1")
    assert told(blip, clip, across_protocols=True) == [
        *((name, "itc", "itc+itm@256", "better") for name in names),
        *((name, "itc", "itc", "worse") for name in names),
    ]
    assert told(clip, blip, across_protocols=True) == [
        *((name, "itc+itm@256", "itc", "worse") for name in names),
        *((name, "itc", "itc", "better") for name in names),
    ]
    assert told(blip, clip) == [(name, "itc", "itc", "worse") for name in names]
    assert len(told(blip, blip, across_protocols=True)) == 4  # of one main protocol: each number once


def test_main_protocols_of_other_data_are_not_put_together(
    make_run: MakeRun, make_metric: MakeMetric, make_protocol: MakeProtocol
) -> None:
    other = make_protocol(name="flickr30k-1k", route="itc+itm@256")
    old = make_run(metrics=(make_metric("mean_recall"),))
    both = (make_metric("mean_recall"), make_metric("mean_recall", protocol=other.id))
    new = make_run(protocols=(make_protocol(), other), metrics=both)
    found = compare(numbers(new), numbers(old), across_protocols=True)
    assert [one.new.route for one in found.numbers] == ["itc"]
    assert [one.route for one in found.new_only] == ["itc+itm@256"]


def test_it_is_told_where_p_is_the_sign_tests(make_run: MakeRun, make_metric: MakeMetric) -> None:
    old = np.full(IMAGES, 100.0)
    few, many = old.copy(), np.random.default_rng(0).normal(50, 10, IMAGES)
    few[:1] = 0
    new = make_run(metrics=(of_values(few, make_metric, "few"), of_values(many, make_metric, "many")))
    before = make_run(metrics=(of_values(old, make_metric, "few"), of_values(many + 1, make_metric, "many")))
    found = compare(numbers(new), numbers(before))
    assert [(one.new.metric, one.by_signs) for one in found.numbers] == [("few", True), ("many", False)]
    told = tell(Compare(old=before, new=new, comparison=found, flips=None), show=0)
    few_row, many_row = told.grids[0].rows
    assert few_row[5].endswith("*") and not many_row[5].endswith("*")
    assert any(note.startswith("* few answers differ: p is what a sign test") for note in told.notes)
    assert any("So an interval may exclude 0 where no difference is shown." in note for note in told.notes)


def test_of_one_image_nothing_can_be_told(make_run: MakeRun, make_metric: MakeMetric) -> None:
    new, old = (numbers(make_run(metrics=(of_values(np.array([value]), make_metric, "a"),))) for value in (100.0, 0.0))
    assert states(compare(new, old)) == {"a": "cannot tell"}


def test_numbers_as_texts() -> None:
    assert change(math.nan, "%") == "n/a"
    assert change(-0.001, "%") == "0.00"
    assert change(0.00123, "score") == "+0.0012"
    assert p_value(0.0009) == "<0.001"


# -- samples -----------------------------------------------------------------------------------------------------------
def view(name: str, answer: str = "", **changes: Any) -> SampleView:
    whole = SampleView(
        id=name,
        images=(ImageRef(id=name, source=Path(f"/data/{name}.jpg")),),
        asked=f"what is {name}?",
        references=("this", "that"),
        answer=answer,
        failure=None,
        score=None,
        right=None,
    )
    return replace(whole, **changes)


def views(*each: SampleView, metric: str = "accuracy") -> SampleViews:
    return SampleViews(metric=metric, unit="%", higher_is_better=True, views=each)


def test_what_flipped_and_what_moved() -> None:
    old = views(
        view("a", "x", score=100.0, right=True),
        view("b", "x", score=0.0, right=False),
        view("c", "x", score=30.0, right=False),
        view("d", "x", score=90.0, right=True),
        view("e", "x", score=90.0, right=True),
        view("gone", "x", score=90.0, right=True),
        view("failed", "x", score=90.0, right=True),
    )
    new = views(
        view("e", "other words", score=90.0, right=True),
        view("a", "y", score=0.0, right=False),
        view("b", "y", score=60.0, right=True),
        view("c", "y", score=0.0, right=False),
        view("d", "x", score=90.0, right=True),
        view("failed", failure="out of memory"),
        view("added", "x", score=1.0, right=False),
    )
    found = flips(new, old)
    assert [one.new.id for one in found.lost] == ["a"]
    assert [one.new.id for one in found.gained] == ["b"]
    assert [(one.new.id, one.change) for one in found.moved] == [("a", -100.0), ("b", 60.0), ("c", -30.0)]
    assert (found.compared, found.left_out, found.other_answers) == (5, 3, 4)
    assert not found.none
    assert flips(old, old).none


def test_scores_by_different_measures_are_not_subtracted() -> None:
    found = flips(views(view("a", "x", score=5.0), metric="mrr"), views(view("a", "y", score=1.0), metric="ndcg"))
    assert found.moved == ()
    assert found.other_answers == 1


def test_rank_changes_by_direction() -> None:
    old = views(
        view("a", ranks={"i2t": (1,), "t2i": (1, 4, 101)}),
        view("b", ranks={"i2t": (3,), "t2i": (2, 2)}),
        view("c", ranks={"i2t": (3,), "t2i": ()}),
    )
    new = views(
        view("a", ranks={"i2t": (10,), "t2i": (1, 2, 110)}),
        view("b", ranks={"i2t": (1,), "t2i": (2, 1)}),
        view("c", ranks={"i2t": (3,), "t2i": (7,)}),
    )
    i2t, t2i = flips(new, old).ranks
    assert (i2t.direction, i2t.improved, i2t.worsened, i2t.stayed) == ("i2t", 1, 1, 1)
    assert [(one.new.id, one.old_rank, one.new_rank) for one in i2t.moves] == [("a", 1, 10), ("b", 3, 1)]
    assert (t2i.improved, t2i.worsened, t2i.stayed) == (2, 1, 2)
    assert [(one.new.id, one.query) for one in t2i.moves] == [("a", 1), ("b", 1), ("a", 2)]
