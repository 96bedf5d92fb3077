"""Stored runs, with the task and the samples they were made on: to score them again, and to look at their samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalkit import registry, store
from evalkit.errors import DataError, remedies_for
from evalkit.options import parse_options
from evalkit.task import ShowsSamples
from evalkit.types import Prediction, RunResult, Sample

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from evalkit.types import MetricValue, SampleViews


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run that was read back, with the task and the samples it was made on."""

    result: RunResult
    task: Any
    """A `Task` with the run's options."""
    samples: Sequence[Sample]
    predictions: Sequence[Prediction]


def reopen(run_dir: Path, data_dir: Path, options: Mapping[str, str] | None = None) -> StoredRun:
    """Read a run, and the samples it was made on; no image is read.

    Samples are known by their ids alone, as the run's fingerprint of the data is of the images too: texts of the
    annotations that were changed since are taken as they are now.

    Args:
        run_dir: A run's directory.
        data_dir: The data root with the annotations the run was made on.
        options: Options of the task that take the place of the run's own.

    Raises:
        ConfigError: An option that the task has not.
        DataError: The data under `data_dir` has other samples than the run.
    """
    result = store.read_run(run_dir)
    task_class = registry.load_task(result.task)
    task = task_class(parse_options(task_class.options_type, {**result.options, **(options or {})}, result.task))
    with remedies_for(result.task):
        samples = task.samples(data_dir, result.limit)
    predictions = store.read_predictions(run_dir, task_class.prediction_type)
    if [sample.id for sample in samples] != [prediction.sample_id for prediction in predictions]:
        raise DataError(
            f"The data under {data_dir} does not hold the samples of the run {run_dir.name}.",
            "Name the data root the run was made with (`evalkit show` prints it) with --data-dir.",
        )
    return StoredRun(result=result, task=task, samples=samples, predictions=predictions)


def rescore(run_dir: Path, data_dir: Path, options: Mapping[str, str] | None = None) -> tuple[MetricValue, ...]:
    """Score a stored run again, without a model.

    Args:
        run_dir: A run's directory.
        data_dir: The data root with the annotations the run was made on; images are not read.
        options: Options of scoring that take the place of the run's own: `{"backend": "pycocoevalcap"}`.

    Raises:
        DataError: The data under `data_dir` has other samples than the run.
    """
    run = reopen(run_dir, data_dir, options)
    metrics: tuple[MetricValue, ...] = run.task.score(run.samples, run.predictions, run.result.protocols)
    return metrics


def views_of(run_dir: Path, data_dir: Path) -> SampleViews | None:
    """A stored run's samples as a reader sees them; None where its task shows none.

    Args:
        run_dir: A run's directory.
        data_dir: The data root with the annotations the run was made on.

    Raises:
        DataError: The data under `data_dir` has other samples than the run.
    """
    if not isinstance(registry.load_task(store.read_run(run_dir).task), ShowsSamples):
        return None
    run = reopen(run_dir, data_dir)
    views: SampleViews = run.task.views(run.samples, run.predictions, run.result.protocols)
    return views
