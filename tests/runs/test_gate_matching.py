"""Which numbers of which runs a gate holds against which of a baseline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gated_runs import Answers, numbers, points

from evalkit.errors import ConfigError
from evalkit.report.baseline import Saved
from evalkit.report.gate import State, decide
from evalkit.report.gate_matching import Candidate, Matched, match
from evalkit.report.gate_table import labels
from evalkit.report.margins import Margins

GOOD = points(0.8)


def answers(values: np.ndarray = GOOD, name: str = "acc", **changes: Any) -> Answers:
    return Answers(points={name: values}, **changes)


def run(of: Answers, *, named: bool = True) -> Candidate:
    return Candidate(numbers=numbers(of), named=named)


def saved(*runs: Answers) -> list[Saved]:
    return [Saved(number=number, code="") for run in runs for number in numbers(run)]


def shown(matched: Matched) -> list[tuple[str, State]]:
    verdicts = decide(matched.gated)
    return list(zip(labels(verdicts), (verdict.state for verdict in verdicts), strict=True))


def states(runs: list[Answers], baseline: list[Saved], margins: Margins | None = None) -> list[tuple[str, State]]:
    return shown(match([run(one) for one in runs], baseline, margins or Margins()))


def test_without_margins_the_main_number_is_gated() -> None:
    both = Answers(points={"acc": GOOD, "other": GOOD})
    assert states([both], saved(both)) == [("toy.acc", State.passed)]


def test_new_weights_of_one_model_are_held_against_the_only_one() -> None:
    new = answers(model="finetuned", variant="custom", weights="2")
    assert states([new], saved(answers())) == [("toy.acc", State.passed)]


def test_of_several_models_the_own_one_is_taken() -> None:
    old = saved(answers(), answers(points(0.2), model="blip"))
    assert states([answers(points(0.2), model="blip", variant="custom")], old) == [("toy.acc", State.passed)]
    found = states([answers(), answers(points(0.2), model="blip")], old)
    assert found == [("toy.acc [clip base]", State.passed), ("toy.acc [blip base]", State.passed)]


def test_a_run_of_the_very_model_goes_before_others() -> None:
    """As in a folder with other runs of the same task."""
    other = answers(points(0.1), model="blip", data="cd")
    matched = match([run(other, named=False), run(answers(), named=False)], saved(answers()), Margins())
    assert shown(matched) == [("toy.acc", State.passed)]
    assert "held against nothing" in matched.notes[0]
    assert states([other], saved(answers())) == [("toy.acc", State.not_comparable)]


def test_a_worse_candidate_is_gated_beside_the_released_models_own_run() -> None:
    """As in `results/runs`: the released run is equal to itself, which says nothing of the candidate."""
    worse = answers(points(0.5), variant="custom", weights="2")
    found = match([run(answers(), named=False), run(worse, named=False)], saved(answers()), Margins())
    assert shown(found) == [("toy.acc [clip base]", State.passed), ("toy.acc [clip custom]", State.regressed)]


def test_a_run_of_another_family_that_is_named_is_gated() -> None:
    worse = answers(points(0.5), model="siglip", weights="2")
    assert [state for _, state in states([worse, answers()], saved(answers()))] == [State.regressed, State.passed]


def test_of_several_variants_one_must_be_said() -> None:
    old = saved(answers(), answers(points(0.2), variant="large"))
    new = run(answers(points(0.5), variant="custom", weights="2"), named=False)
    found = match([new], old, Margins())
    assert shown(found) == [("toy.acc", State.not_comparable)]
    (verdict,) = decide(found.gated)
    assert verdict.note == "the baseline has clip/base and clip/large: say which with --against"
    assert shown(match([new], old, Margins(), against="base")) == [("toy.acc", State.regressed)]
    assert shown(match([new], old, Margins(), against="clip/large")) == [("toy.acc", State.passed)]
    with pytest.raises(ConfigError, match="no 'huge' to hold .* It has clip/base, clip/large"):
        match([new], old, Margins(), against="huge")


def test_each_candidate_is_gated_and_told_apart() -> None:
    """Two checkpoints, and two runs of one of them."""
    worse = answers(points(0.5), variant="custom", weights="2")
    good = answers(variant="custom", weights="3", created="2027-01-02T03:04:05+00:00")
    found = states([worse, good], saved(answers()))
    assert found == [("toy.acc [sha256:2]", State.regressed), ("toy.acc [sha256:3]", State.passed)]
    again = replace(worse, created="2027-01-02T03:04:05+00:00")
    assert [label for label, _ in states([worse, again], saved(answers()))] == [
        "toy.acc [2026-01-02-clip-toy]",
        "toy.acc [2027-01-02-clip-toy]",
    ]


def test_long_prompts_that_differ_in_the_middle_are_told_apart() -> None:
    one, other = answers(prompt="x" * 500 + "1" + "x" * 500), answers(prompt="x" * 500 + "2" + "x" * 500)
    found = [label for label, _ in states([one, other], saved(one, other))]
    assert len(set(found)) == 2
    assert all(len(label) < 200 for label in found)


def test_a_run_of_another_split_misses_nothing_that_another_run_has() -> None:
    val = replace(answers(), split="val", options={"split": "val"})
    found = match([run(answers(), named=False), run(val, named=False)], saved(answers()), Margins())
    assert shown(found) == [("toy.acc", State.passed)]
    assert "no margin is of its numbers that other runs do not have" in found.notes[0]
    assert [state for _, state in states([answers(), val], saved(answers()))] == [State.passed, State.not_comparable]


def test_runs_of_one_candidate_have_their_numbers_together() -> None:
    """A model on two data sets of one task, which are two protocols."""
    small = answers(points(0.8, 100), data="cd")
    found = states([answers(), small], saved(answers(), small))
    assert [state for _, state in found] == [State.passed, State.passed]


def test_a_run_of_what_the_baseline_has_not_is_told() -> None:
    matched = match([run(answers()), run(answers(task="new"))], saved(answers()), Margins(named={"toy.acc": 1.0}))
    assert len(matched.gated) == 1
    assert "held against nothing: the baseline has no clip base on new" in matched.notes[0]
    with pytest.raises(ConfigError, match="Nothing is gated"):
        match([run(answers(task="new"))], saved(answers()), Margins())


def test_a_number_with_a_margin_that_no_run_has_is_missing() -> None:
    old = saved(answers(), answers(task="second"))
    assert states([answers()], old, Margins(named={"*.acc": 1.0})) == [
        ("toy.acc", State.passed),
        ("second.acc", State.not_comparable),
    ]


def test_a_margin_of_one_models_number_is_of_no_others() -> None:
    """A baseline of two models, and a job that runs one of them."""
    old = saved(answers(), answers(points(0.2), model="blip"))
    for name in ("toy.acc", "toy.test.acc", "*.acc", "clip:toy.acc", "clip/base:toy.acc", "clip:*.acc"):
        found = match([run(answers())], old, Margins(named={name: 1.0}))
        assert shown(found) == [("toy.acc", State.passed)], name
        assert found.absent == ("toy.acc (blip base)",)
    named = Margins(named={"toy.acc": 1.0, "blip:toy.acc": 2.0})
    assert [state for _, state in states([answers()], old, named)] == [State.passed, State.not_comparable]
    assert [one.margin for one in match([run(answers())], old, named).gated] == [1.0, 2.0]


def test_a_margin_that_no_run_has_at_all_is_missing_of_any_model() -> None:
    old = saved(answers(), answers(points(0.2), model="blip", task="second"))
    named = Margins(named={"toy.acc": 1.0, "second.acc": 1.0})
    assert [state for _, state in states([answers()], old, named)] == [State.passed, State.not_comparable]


def test_what_no_run_has_is_told_or_required() -> None:
    old = saved(answers(), Answers(points={"acc": GOOD, "other": GOOD}, task="second"))
    found = match([run(answers())], old, Margins())
    assert (shown(found), found.absent) == ([("toy.acc", State.passed)], ("second.acc (clip base)",))
    required = match([run(answers())], old, Margins(named={"toy.acc": 1.0}), require_all=True)
    assert [state for _, state in shown(required)] == [State.passed, State.not_comparable]
    assert required.absent == ()
    there = match([run(answers()), run(answers(task="second"))], old, Margins(named={"toy.acc": 1.0}), require_all=True)
    assert shown(there) == [("toy.acc", State.passed)], "it is there, though it is not gated"


def test_a_number_that_needs_more_samples_than_a_part_has_cannot_be_told() -> None:
    old = Answers(points={"acc": GOOD, "fold": GOOD})
    part = answers(points(0.8, 10), limit=10)
    assert states([part], saved(old), Margins(named={"toy.fold": 1.0})) == [("toy.fold", State.cannot_tell)]


def test_another_prompt_is_found_and_not_comparable() -> None:
    assert states([answers(prompt="a photo")], saved(answers())) == [("toy.acc", State.not_comparable)]


def test_of_two_prompts_the_own_one_is_taken() -> None:
    old = saved(answers(), answers(points(0.2), prompt="a photo"))
    assert states([answers(points(0.2), prompt="a photo")], old) == [("toy.acc", State.passed)]


def test_the_most_exact_margin_goes_first() -> None:
    named = {"*.acc": 9.0, "toy.acc": 3.0, "toy.test.acc": 2.0, "*.other": 5.0}
    both = Answers(points={"acc": GOOD, "other": GOOD})
    gated = match([run(both)], saved(both), Margins(named=named)).gated
    assert [one.margin for one in gated] == [2.0, 5.0]


def test_a_default_gates_main_numbers_beside_those_that_are_named() -> None:
    both = Answers(points={"acc": GOOD, "other": GOOD})
    gated = match([run(both)], saved(both), Margins(named={"toy.other": 3.0}, default=2.0)).gated
    assert [one.margin for one in gated] == [2.0, 3.0]


@pytest.mark.parametrize(("name", "near"), [("toy.ac", "toy.acc"), ("tyo.acc", "toy.acc"), ("*.acx", r"\*\.acc")])
def test_a_margin_of_no_number_is_an_error(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=rf"of no number of the baseline.*{near}"):
        match([run(answers())], saved(answers()), Margins(named={name: 1.0}))
