"""How often `evalkit gate` is wrong, and how much it sees: synthetic reruns through the real bootstrap and rule.

    python benchmarks/gate_simulation.py [--repeats 1000] [--seed 1]

Each gate holds a new model's answers against an old one's, over the same images with several questions each. Answers
of the two agree as latent values with correlation rho do; questions of an image, and measures of a question, are
correlated too. A model is worse by a true difference, in its population: what a sample shows varies.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import stats

from evalkit.metrics.bootstrap import ClusterBootstrap, DoubleArray, interval
from evalkit.report.gate import Gated, State, decide, exit_code
from evalkit.report.numbers import Number
from evalkit.report.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

QUESTIONS: Final = 3
"""Of an image, on average: 1 to 5."""
ACCURACY, SKEW, CIDER = 0.7, 0.6, 100.0
AT_ONCE: Final = 50
"""Gates that are resampled together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One line of the table."""

    name: str
    images: int
    metrics: int = 1
    rho: float = 0.9
    """Correlation of the two models' latent values."""
    worse: float = 0.0
    """True difference of the first measure, in points."""
    margin: float = 1.0
    skewed: bool = False
    """Scores like CIDEr's instead of right and wrong."""
    changed: float | None = None
    """In place of rho: the share of answers that are given anew; with `worse`, right ones become wrong only."""
    graded: bool = False
    """With `worse` and `changed`: they lose 20, 60 or 100 points."""


def scenarios() -> Iterator[Scenario]:
    """The lines of the table in order."""
    sizes = (200, 1000, 5000)
    for images in sizes:
        yield Scenario(name="equal answers", images=images, changed=0.0)
        yield Scenario(name="as good", images=images)
        yield Scenario(name="as good, 1 % of answers new", images=images, changed=0.01)
        yield Scenario(name="as good, 1 % of answers new", images=images, changed=0.01, margin=0.1)
        yield Scenario(name="as good, 0.2 % of answers new", images=images, changed=0.002, margin=0.1)
        yield Scenario(name="as good, 22 numbers", images=images, metrics=22)
        yield Scenario(name="as good, 22 numbers, another model", images=images, metrics=22, rho=0.5)
        yield Scenario(name="as good, 22 numbers, like CIDEr", images=images, metrics=22, skewed=True, margin=3.0)
        yield Scenario(name="as good, 22 numbers, 1 % of answers new", images=images, metrics=22, changed=0.01)
    for images in sizes:
        for times in (1, 2):
            name = f"worse by {times} x margin"
            yield Scenario(name=name, images=images, worse=times)
            yield Scenario(name=f"{name}, margin 3", images=images, worse=3 * times, margin=3)
            yield Scenario(name=f"{name}, like CIDEr", images=images, worse=3 * times, margin=3, skewed=True)
            yield Scenario(name=f"{name}, rare errors", images=images, worse=times, changed=times / 100)
            four = 4 * times * 100 / (QUESTIONS * images)  # points that four answers make
            few = Scenario(name=f"{name}, {4 * times} errors", images=images, changed=1)
            yield replace(few, worse=four, margin=four / times)
            few = Scenario(name=f"{name}, {4 * times} graded errors", images=images, changed=1, graded=True)
            yield replace(few, worse=0.6 * four, margin=0.6 * four / times)
            yield Scenario(name=f"one of 22 {name}", images=images, worse=times, metrics=22)


def latent(rng: np.random.Generator, shape: tuple[int, int, int], owners: np.ndarray) -> DoubleArray:
    """Standard normal values, (gates, questions, measures), correlated within an image and between measures."""
    gates, images, metrics = shape
    questions = len(owners)

    def part(measures: int) -> DoubleArray:
        of_image = rng.standard_normal((gates, images, measures))[:, owners]
        return np.sqrt(0.3) * of_image + np.sqrt(0.7) * rng.standard_normal((gates, questions, measures))

    whole: DoubleArray = np.sqrt(0.5) * part(1) + np.sqrt(0.5) * part(metrics)
    return whole


def scores(rng: np.random.Generator, case: Scenario, owners: np.ndarray, gates: int) -> tuple[DoubleArray, DoubleArray]:
    """(gates, questions, measures) of the old model and of the new one, in points."""
    shape = (gates, case.images, case.metrics)
    drop = np.zeros(case.metrics)
    drop[0] = case.worse
    common = latent(rng, shape, owners)
    if case.changed is not None:
        old = (common < stats.norm.ppf(ACCURACY)).astype(float)
        # of wrong ones only right answers can become; those that become wrong are drawn from the right ones
        share = drop / 100 / ACCURACY if case.worse else np.full(case.metrics, case.changed)
        touched = rng.random(common.shape) < share
        if case.graded:
            touched = rng.random(common.shape) < share / 0.6
            lost: DoubleArray = np.where(touched, rng.choice([0.2, 0.6, 1.0], common.shape), 0.0)
            new: DoubleArray = 100 * old * (1 - lost)
            return 100 * old, new
        again = np.zeros_like(old) if case.worse else (rng.random(common.shape) < ACCURACY).astype(float)
        return 100 * old, 100 * np.where(touched, again, old)
    one, other = (np.sqrt(case.rho) * common + np.sqrt(1 - case.rho) * latent(rng, shape, owners) for _ in range(2))
    if case.skewed:
        scale = CIDER / np.exp(SKEW**2 / 2)
        return scale * np.exp(SKEW * one), scale * np.exp(SKEW * other) * (1 - drop / CIDER)
    return (
        100.0 * (one < stats.norm.ppf(ACCURACY)),
        100.0 * (other < stats.norm.ppf(ACCURACY - drop / 100)),
    )


def gates_of(case: Scenario, repeats: int, seed: int) -> Iterator[list[Gated]]:
    """The numbers of each gate."""
    rng = np.random.default_rng([seed, case.images])
    owners = np.repeat(np.arange(case.images), rng.integers(1, 2 * QUESTIONS, case.images))
    sizes = np.bincount(owners).astype(float)
    bootstrap = ClusterBootstrap(case.images)  # as in real runs: with the one seed
    starts = np.flatnonzero(np.r_[True, np.diff(owners) > 0])
    at_once = max(1, min(AT_ONCE, 2_000_000 // (len(owners) * case.metrics)))
    for start in range(0, repeats, at_once):
        both = scores(rng, case, owners, min(at_once, repeats - start))
        sides = []
        for each in both:
            sums = np.add.reduceat(each, starts, axis=1)  # (gates, images, measures)
            flat = sums.transpose(1, 0, 2).reshape(case.images, -1)
            resampled = bootstrap.ratio(flat, sizes[:, None]).reshape(-1, len(each), case.metrics)
            sides.append((each.mean(axis=1), resampled))
        (old_values, old_resampled), (new_values, new_resampled) = sides
        for gate, old_row in enumerate(old_values):
            yield [
                Gated(
                    old=number(case, len(owners), place, old_row[place], old_resampled[:, gate, place]),
                    new=number(case, len(owners), place, new_values[gate, place], new_resampled[:, gate, place]),
                    margin=case.margin,
                )
                for place in range(case.metrics)
            ]


def number(case: Scenario, questions: int, place: int, value: float, resampled: DoubleArray) -> Number:
    """One number of a run."""
    ends = interval(resampled)
    record = replace(
        TEMPLATE,
        metric=f"{'cider' if case.skewed else 'accuracy'}_{place}",
        value=float(value),
        low=ends.low,
        high=ends.high,
        n=questions,
        clusters=case.images,
        samples=case.images,
    )
    return Number(record=record, unanswered="", resampled=resampled)


TEMPLATE: Final = Record(
    **dict.fromkeys(("protocol", "protocol_name", "route", "protocol_digest", "prompt", "image_preprocessing"), "x"),
    **dict.fromkeys(("text_preprocessing", "preprocessing_details", "decoding", "tie_rule", "task", "split"), "x"),
    **dict.fromkeys(
        ("model", "variant", "checkpoint", "metric", "run", "created", "options", "checkpoint_digest"), "x"
    ),
    data_fingerprint="x",
    dtype="float32",
    unit="%",
    protocol_version=1,
    higher_is_better=True,
    main=True,
    value=0.0,
    low=0.0,
    high=0.0,
    n=1,
    clusters=1,
    complete=True,
    samples=1,
    failed=0,
    limit=None,
)
CODES: Final = {0: State.passed, 1: State.regressed, 2: State.cannot_tell}


def shares(case: Scenario, repeats: int, seed: int) -> tuple[dict[State, float], float]:
    """Of whole gates the share of each state; where one number is worse, of that number. And its spread's median."""
    counts: Counter[State] = Counter()
    errors = []
    for gated in gates_of(case, repeats, seed):
        verdicts = decide(gated)
        counts[verdicts[0].state if case.worse else CODES[exit_code(verdicts)]] += 1
        difference = verdicts[0].difference
        assert difference is not None
        errors.append(difference.standard_error)
    return {state: counts[state] / counts.total() for state in State}, float(np.median(errors))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--repeats", type=int, default=1000, help="gates a line; 0.4 of them where they have 22 numbers"
    )
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    started = time.monotonic()
    print("| images | scenario | margin | standard error | pass | cannot tell | regressed |")
    print("|---:|:---|---:|---:|---:|---:|---:|")
    for case in scenarios():
        repeats = asked.repeats if case.metrics == 1 else asked.repeats * 2 // 5
        found, error = shares(case, repeats, asked.seed)
        cells = [f"{case.images:,}", case.name, f"{case.margin:.2g}", f"{error:.2f}"]
        cells += [f"{100 * found[state]:.1f} %" for state in (State.passed, State.cannot_tell, State.regressed)]
        print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\n{asked.repeats} gates a line, seed {asked.seed}, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
