"""Small runs with real intervals, for tests of baselines and gates: one value an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from evalkit import store
from evalkit.metrics.bootstrap import ClusterBootstrap, DoubleArray, Table
from evalkit.report.numbers import Number, numbers_of
from evalkit.types import Counts, MetricValue, Prediction, Preprocessing, Protocol, RunResult

IMAGES = 400
LATER = "2026-02-02T03:04:05+00:00"


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


@dataclass(frozen=True)
class Answers:
    """A run of one model on one task, by what its answers are worth."""

    points: Mapping[str, DoubleArray]
    """Metric -> (images,); the first is the main one. Of a name with `rank` in it lower is better."""
    model: str = "clip"
    variant: str = "base"
    task: str = "toy"
    split: str = "test"
    route: str = "itc"
    prompt: str = "{caption}"
    limit: int | None = None
    failed: tuple[int, ...] = ()
    data: str = "ab"
    weights: str = "1"
    dtype: str = "float32"
    commit: str = "f" * 40
    created: str = "2026-01-02T03:04:05+00:00"
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def images(self) -> int:
        return len(next(iter(self.points.values())))

    @property
    def protocol(self) -> Protocol:
        return Protocol(
            name=f"{self.task}-{self.split}-{self.images}",
            version=1,
            route=self.route,
            prompt=self.prompt,
            preprocessing=Preprocessing(image="224x224 crop", text="77 tokens", details=()),
            decoding="",
            tie_rule="pessimistic",
        )


def points(rate: float, images: int = IMAGES) -> DoubleArray:
    """So many right answers, spread evenly, 100 points each."""
    return 100.0 * (np.floor(np.arange(1, images + 1) * rate) > np.floor(np.arange(images) * rate))


def worse_by(old: DoubleArray, count: int) -> DoubleArray:
    """The first right answers become wrong ones."""
    new = old.copy()
    new[np.flatnonzero(old)[:count]] = 0
    return new


def result_of(answers: Answers) -> RunResult:
    count = answers.images
    table, bootstrap = Table(protocol=answers.protocol.id, split=answers.split), ClusterBootstrap(count)
    metrics = tuple(_metric(table, bootstrap, name, values) for name, values in answers.points.items())
    return RunResult(
        run_id=f"{answers.created[:10]}-{answers.model}-{answers.task}",
        model=answers.model,
        variant=answers.variant,
        checkpoint="weights/folder",
        checkpoint_digest=f"sha256:{answers.weights}",
        task=answers.task,
        options={"prompt": answers.prompt, **answers.options},
        protocols=(answers.protocol,),
        metrics=metrics,
        main_metric=next(iter(answers.points)),
        data_fingerprint=f"{answers.data}-{count}",
        limit=answers.limit,
        counts=Counts(samples=count, failed=len(answers.failed), asked={}, from_cache={}),
        assistants={},
        notes=(),
        seconds={},
        environment={"dtype": answers.dtype, "git_commit": answers.commit},
        created=answers.created,
    )


def _metric(table: Table, bootstrap: ClusterBootstrap, name: str, values: DoubleArray) -> MetricValue:
    count = len(values)
    resampled = bootstrap.ratio(values, np.ones(count))
    make = table.rank if "rank" in name else table.percent
    return make(name, float(values.mean()), resampled, count, count)


def numbers(answers: Answers) -> tuple[Number, ...]:
    """As if the run had been stored and read."""
    result = result_of(answers)
    resampled = {(one.metric, one.split, one.protocol): one.resampled for one in result.metrics}
    return numbers_of(result, resampled, [f"{place}.jpg" for place in answers.failed])


def write(runs_dir: Path, answers: Answers) -> Path:
    """Store it."""
    predictions = [
        Prediction(sample_id=f"{place}.jpg", failure="truncated" if place in answers.failed else None)
        for place in range(answers.images)
    ]
    return store.write_run(runs_dir, result_of(answers), predictions, runs_dir / "data")


def two_weights(folder: Path, **changes: object) -> list[Path]:
    """A candidate that is worse, and a later one, by default of other weights, that is not."""
    worse = Answers(points={"acc": worse_by(points(0.8), 40)}, variant="custom", weights="2")
    later = replace(worse, **{"points": {"acc": points(0.8)}, "created": LATER, "weights": "3", **changes})  # type: ignore[arg-type] # of its fields
    return [write(folder / "two", one) for one in (worse, later)]
