"""What a gate decides, on runs made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gated_runs import IMAGES, Answers, numbers, points, worse_by

from evalkit.metrics.comparison import clusters_needed
from evalkit.report.gate import Gated, State, Verdict, decide, exit_code
from evalkit.report.gate_outputs import gate_lines
from evalkit.report.gate_table import gate_table, summary
from evalkit.report.numbers import Number

GOOD = points(0.8)


def judged(new: Answers, old: Answers, margin: float = 1.0) -> Verdict:
    """Of the first number of each."""
    (verdict,) = decide([Gated(old=numbers(old)[0], new=numbers(new)[0], margin=margin)])
    return verdict


def answers(values: np.ndarray = GOOD, name: str = "acc", **changes: Any) -> Answers:
    return Answers(points={name: values}, **changes)


# -- states ------------------------------------------------------------------------------------------------------------
def test_equal_answers_pass_with_any_margin() -> None:
    verdict = judged(answers(weights="2"), answers(), margin=0)
    assert (verdict.state, verdict.note) == (State.passed, "equal")


def test_one_answer_less_passes_within_the_margin() -> None:
    verdict = judged(answers(worse_by(GOOD, 1)), answers(), margin=2)
    assert verdict.state is State.passed
    assert verdict.difference is not None
    assert verdict.difference.value == pytest.approx(-100 / IMAGES)


def test_many_answers_less_are_a_regression() -> None:
    verdict = judged(answers(worse_by(GOOD, 20)), answers())
    assert verdict.state is State.regressed
    assert verdict.p < 1e-4
    assert verdict.note == "p < 0.0001"


def test_a_drop_that_is_within_the_margin_passes_and_says_so() -> None:
    verdict = judged(answers(worse_by(GOOD, 20)), answers(), margin=8)
    assert verdict.state is State.passed
    assert verdict.note == "worse, but within 8"


def test_more_answers_pass() -> None:
    assert judged(answers(GOOD), answers(worse_by(GOOD, 20))).state is State.passed


@pytest.mark.parametrize(("more", "state"), [(3.0, State.regressed), (-3.0, State.passed)])
def test_a_rank_that_grows_is_worse(more: float, state: State) -> None:
    ranks = np.tile([1.0, 5.0, 9.0, 20.0], 100)
    later = ranks + more + np.tile([0.0, 0.0, 1.0, -1.0], 100)
    assert judged(answers(later, "mean_rank"), answers(ranks, "mean_rank")).state is state


def test_three_answers_of_four_hundred_are_no_alarm() -> None:
    """Student's t alone says p = 0.04; a coin falls so one time in eight."""
    verdict = judged(answers(worse_by(GOOD, 3)), answers(), margin=1.0)
    assert verdict.state is State.cannot_tell


def test_it_says_how_many_samples_are_needed_and_what_these_see() -> None:
    flipped = GOOD.copy()
    flipped[:60] = 100 - flipped[:60]
    better = worse_by(flipped, 0)
    better[np.flatnonzero(better == 0)[: round((GOOD.sum() - better.sum()) / 100)]] = 100  # as many right ones
    verdict = judged(answers(better), answers())
    assert verdict.state is State.cannot_tell
    assert verdict.difference is not None
    needed = clusters_needed(1.0, verdict.difference.standard_error, IMAGES)
    assert verdict.samples_needed == needed > IMAGES
    assert f"about {needed:,} samples are needed; these 400 see " in verdict.note


def test_a_margin_of_nothing_needs_endless_samples() -> None:
    flipped = GOOD.copy()
    flipped[:4] = 100 - flipped[:4]
    verdict = judged(answers(flipped), answers(), margin=0)
    assert (verdict.state, verdict.samples_needed) == (State.cannot_tell, None)
    assert "a margin of 0" in verdict.note


def test_few_images_tell_nothing_unless_they_are_equal() -> None:
    few = points(0.5, 8)
    assert judged(answers(worse_by(few, 4)), answers(few)).state is State.cannot_tell
    assert judged(answers(few), answers(few)).state is State.passed


# -- --limit -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rate", [0.0, 0.8, 1.0])
def test_a_part_of_the_split_cannot_tell_whatever_it_shows(rate: float) -> None:
    verdict = judged(
        answers(points(rate, 10), limit=10, route="itc+itm@32:10"), answers(route="itc+itm@256"), margin=50
    )
    assert verdict.state is State.cannot_tell
    assert verdict.samples_needed == IMAGES
    assert verdict.note == "10 of 400 samples were evaluated, another set: all are needed"


def test_a_part_with_another_prompt_is_not_comparable() -> None:
    verdict = judged(answers(points(0.8, 10), limit=10, prompt="a photo"), answers())
    assert verdict.state is State.not_comparable


def test_a_whole_run_against_the_baseline_of_a_part() -> None:
    verdict = judged(answers(), answers(points(0.8, 10), limit=10))
    assert verdict.state is State.cannot_tell
    assert "save a whole one" in verdict.note


def test_a_limit_that_left_nothing_out_is_whole() -> None:
    for limit in (IMAGES, 10 * IMAGES):
        assert judged(answers(limit=limit), answers(), margin=0).state is State.passed


@pytest.mark.parametrize(("margin", "state"), [(0.7, State.cannot_tell), (0.8, State.passed)])
def test_equal_answers_on_a_part_say_no_more_than_the_rule_of_three(margin: float, state: State) -> None:
    """3 of 400 are 0.75 points."""
    verdict = judged(answers(limit=400), answers(limit=400), margin=margin)
    assert verdict.state is state
    if state is State.cannot_tell:
        assert verdict.samples_needed == 429


def test_equal_ranks_on_a_part_say_nothing() -> None:
    ranks = np.ones(400)
    verdict = judged(answers(ranks, "mean_rank", limit=400), answers(ranks, "mean_rank", limit=400), margin=5)
    assert verdict.state is State.cannot_tell


# -- not comparable ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"prompt": "a photo of {caption}"}, "protocols differ: prompt 'a photo of {caption}' and '{caption}'"),
        ({"data": "cd"}, "the data differ"),
        ({"failed": (1, 2)}, "2 and 0 of them failed"),
    ],
)
def test_what_cannot_be_compared_is_not(changes: dict[str, Any], reason: str) -> None:
    verdict = judged(answers(**changes), answers())
    assert verdict.state is State.not_comparable
    assert reason in verdict.note


def test_a_number_that_is_undefined_is_not_comparable() -> None:
    (number,) = numbers(answers())
    broken = replace(number, record=replace(number.record, value=float("nan")))
    (verdict,) = decide([Gated(old=number, new=broken, margin=1.0)])
    assert verdict.state is State.not_comparable
    assert "undefined" in verdict.note


def test_without_resamples_it_is_not_paired_and_says_so() -> None:
    (old,), (new,) = numbers(answers()), numbers(answers())
    (verdict,) = decide([Gated(old=replace(old, resampled=None), new=new, margin=1.0)])
    assert verdict.state is State.cannot_tell
    assert "not paired" in verdict.note


# -- several numbers ---------------------------------------------------------------------------------------------------
def test_an_alarm_of_one_number_must_hold_for_all() -> None:
    """A drop at p = 0.02 is an alarm alone, and none among twenty numbers that did not move."""
    odd = worse_by(GOOD, 11)
    odd[np.flatnonzero(GOOD == 0)[:2]] = 100
    gated = Gated(old=numbers(answers())[0], new=numbers(answers(odd))[0], margin=1.0)
    (alone,) = decide([gated])
    assert alone.state is State.regressed
    still = points(0.8)
    still[:40] = 100 - still[:40]
    other = Gated(old=numbers(answers())[0], new=numbers(answers(still[::-1].copy()))[0], margin=30.0)
    assert decide([gated, *[other] * 20])[0].state is State.cannot_tell


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ([State.passed], 0),
        ([State.passed, State.cannot_tell], 2),
        ([State.cannot_tell, State.not_comparable], 3),
        ([State.not_comparable, State.regressed, State.cannot_tell], 1),
    ],
)
def test_the_exit_code_is_that_of_the_worst(states: list[State], code: int) -> None:
    (number,) = numbers(answers())
    gated = Gated(old=number, new=number, margin=1.0)
    assert exit_code([Verdict(gated=gated, state=state, note="") for state in states]) == code


# -- the table ---------------------------------------------------------------------------------------------------------
def test_what_passes_is_counted_where_there_is_much() -> None:
    passed = Gated(old=numbers(answers())[0], new=numbers(answers())[0], margin=1.0)
    broken = Gated(old=numbers(answers())[0], new=None, margin=1.0)
    verdicts = decide([*[passed] * 30, broken])
    table = gate_table(verdicts)
    assert ([row.state for row in table.rows], table.passed, table.others) == ([State.not_comparable], 30, 0)
    assert summary(verdicts) == "not comparable: 1 not comparable, 30 pass."


def test_a_long_list_of_trouble_fits_on_a_screen() -> None:
    missing = [Gated(old=numbers(answers(task=f"task{place}"))[0], new=None, margin=1.0) for place in range(40)]
    table = gate_table(decide(missing))
    assert (len(table.rows), table.others) == (15, 25)
    assert len(list(gate_lines(decide(missing), ["a note"]))) <= 40


def number_of(run: Answers) -> Number:
    return numbers(run)[0]


def test_the_worst_stand_first() -> None:
    gated = [
        Gated(old=number_of(answers()), new=number_of(answers()), margin=1.0),
        Gated(old=number_of(answers()), new=number_of(answers(worse_by(GOOD, 20))), margin=1.0),
    ]
    assert [row.state for row in gate_table(decide(gated)).rows] == [State.regressed, State.passed]
